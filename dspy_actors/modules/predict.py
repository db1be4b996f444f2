"""`Predict`: one question to a model, from a signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from dspy_actors.adapters.own_adapter import formatted, read
from dspy_actors.errors import (
    AdapterParseError,
    BudgetExceeded,
    InputError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMUnsupportedFeatureError,
    SignatureError,
)
from dspy_actors.example import Example, Prediction
from dspy_actors.lm.falling_back import MAY_ANSWER
from dspy_actors.lm.lm import LM, Fallback
from dspy_actors.lm.options import check_options
from dspy_actors.lm.providers.table import formats_of
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, LMResponse, Message
from dspy_actors.modules.asking import asked
from dspy_actors.modules.module import Module
from dspy_actors.modules.own_inputs import elsewhere
from dspy_actors.modules.sink import Voice
from dspy_actors.modules.truncated_answer import read_truncated
from dspy_actors.runner import Frame, checkpoint, require_frame
from dspy_actors.signature.inputs import validate_inputs
from dspy_actors.signature.signature import Signature, ensure_signature
from dspy_actors.state import PredictorState


class Predict(Module):
    """Asks a model for the outputs of `signature`, given its inputs.

    Args:
        signature: a `Signature` class or its string form, as `"question -> answer: int"`.
        lm: the model of this predictor alone; otherwise the runtime's.
        instructions: replaces the signature's instructions.
        config: options of the model for this predictor, as `temperature=0.7`; `LMConfigurationError` as for `LM`.

    What an optimizer may change: `signature` (its instructions), `demos` and `lm`. `demos` is a tuple of mappings;
    assign a new one, it is never changed in place. A demonstration that is no mapping, or that has none of the
    signature's fields, is an `InputError`; an empty one is left out of prompts, as is one without input or output.

    An answer that does not hold the outputs is asked for again, with what was wrong, as often as the runtime's
    `parse_retries` says (once) and the budgets allow; then `AdapterParseError` is raised. A stream that has shown
    some of an answer asks no second time. What could not be read is no answer to an equal call: the cache forgets it.

    An answer that the provider cut off, at its limit of tokens or by its content filter, is read as far as it goes, and
    the prediction's `truncated` says so. Where an output is missing or broken it is not asked for again: the limit
    stands and so does the filter, the question would be longer by the cut answer, and two answers would be paid for
    where DSPy, which asks by another adapter, mostly gets a second cut one. The `AdapterParseError` says at which limit
    it was cut off; `max_tokens` is what to raise.
    """

    native: ClassVar[bool] = True
    is_predictor: ClassVar[bool] = True

    def __init__(
        self,
        signature: str | type[Signature],
        *,
        lm: LM | None = None,
        instructions: str | None = None,
        **config: Any,
    ) -> None:
        made = ensure_signature(signature)
        if not made.output_fields:
            msg = f"the signature {made.signature!r} has no output; write 'question -> answer'"
            raise SignatureError(msg)
        self.signature: type[Signature] = made if instructions is None else made.with_instructions(instructions)
        self.lm = lm
        check_options("Predict", config)
        self.config: Mapping[str, Any] = dict(config)
        self._demos: tuple[Mapping[str, Any], ...] = ()
        self._kept: PredictorState | None = None

    @property
    def demos(self) -> tuple[Mapping[str, Any], ...]:
        """The demonstrations shown to the model, in order."""
        return self._demos

    @demos.setter
    def demos(self, demos: Iterable[Mapping[str, Any]]) -> None:
        self._demos = _checked_demos(self.signature, demos)

    def reset(self) -> None:
        """Forget demos and LM; the signature stays."""
        self._demos = ()
        self.lm = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Everything a predictor holds is frozen or replaced as a whole, so a shallow copy shares nothing that changes.
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.config = dict(self.config)
        memo[id(self)] = made
        return made

    async def steps(self, inputs: dict[str, Any]) -> Prediction:
        frame = require_frame("Predict")
        try:
            values = validate_inputs(self.signature, inputs)
        except InputError as error:
            told = elsewhere(error, self.signature.input_fields)
            if told is None:
                raise
            raise told from None
        lm, options = self._for_call(self._model(frame), frame)
        messages = formatted(frame.settings.adapter, self.signature, self._demos, values)
        assert frame.envelope is not None
        request = LMRequest(lm.model, messages, options, frame.envelope.sample)
        voice: Voice | None = None if frame.sink is None else frame.sink.voice(self, frame.settings.adapter)
        checkpoint(frame)
        answer = await asked(lm, request, frame, voice)
        unread: AdapterParseError | None = None
        try:
            prediction = self._read(answer, lm, frame)
        except AdapterParseError as error:
            unread = error
        if unread is not None:
            prediction = await self._corrected(lm, request, frame, voice, answer, unread)
        if voice is not None:
            await voice.tell_rest(prediction)
        scope = frame.scope
        if scope is not None and scope.trace is not None:
            scope.trace.append((self, values, prediction))
        return prediction

    async def _corrected(
        self, lm: LM, request: LMRequest, frame: Frame, voice: Voice | None, answer: Answer, unread: AdapterParseError
    ) -> Prediction:
        """The outputs of the first answer after `answer` that can be read. Raises what the last one ended with.

        Then the cache forgets what could not be read. Before a correction that was read it is kept: an equal call
        finds both and sends nothing.
        """
        answers = [answer]
        try:
            for _ in range(frame.settings.parse_retries):
                if voice is not None and voice.spoke:  # what was shown cannot be taken back
                    break
                if unread.truncated is not None:  # what cut this one off would cut off the next
                    break
                request = _with_correction(request, answer.response, unread)
                checkpoint(frame)
                try:
                    answer = await asked(lm, request, frame, voice)
                except (LMInvalidRequestError, LMUnsupportedFeatureError, BudgetExceeded) as error:
                    # the model cannot be asked a second time: the first answer is what is wrong
                    unread.add_note(f"not asked again: {error.message}")
                    raise unread from error
                try:
                    return self._read(answer, lm, frame)
                except AdapterParseError as error:
                    answers.append(answer)
                    unread = error
            raise unread
        except Exception:  # no other end: a finalizer's may take no lock
            for each in answers:
                frame.runner.forget(each)
            raise

    def _model(self, frame: Frame) -> LM:
        lm = self.lm or frame.settings.lm
        if lm is None:
            msg = "no LM: write Runtime(lm='openai/gpt-4o-mini') or Predict(..., lm=LM(...))"
            raise LMNotConfiguredError(msg)
        return lm

    def _for_call(self, lm: LM, frame: Frame) -> tuple[LM, Mapping[str, object]]:
        """The model and the call's options: the adapter's, above them the model's, the predictor's, the block's."""

        def asked(provider: str) -> Mapping[str, object]:
            return frame.settings.adapter.options(self.signature, formats_of(provider))

        return lm.for_call({**self.config, **frame.settings.options}, asked)

    def _read(self, answer: Answer, lm: LM, frame: Frame) -> Prediction:
        """The outputs of every choice; what the answer has cost is the call's, whether it can be read or not."""
        scope = frame.scope
        assert scope is not None
        if answer.met is not None:  # another model answered: what that one makes of the input says little of it
            scope.met(answer.met)
        usage = answer.response.usage if answer.source == "model" else None
        scope.book(answer.model or lm.name, attempts=answer.attempts, cached=answer.source == "cache", usage=usage)
        adapter, response = frame.settings.adapter, answer.response
        if response.truncated is not None:
            return read_truncated(adapter, self.signature, answer, scope)
        return _prediction([read(adapter, self.signature, text) for text in response.texts])

    # -- state --------------------------------------------------------------------------------------------------

    def dump_state_record(self) -> PredictorState:
        """The state as a record; `Module.save` writes it."""
        lm = None if self.lm is None else self.lm.to_state()
        if self._kept is not None:  # what DSPy keeps in a file and we have no use for goes back as it came
            return replace(self._kept, signature=self.signature, demos=self._demos, lm=lm)
        return PredictorState(signature=self.signature, demos=self._demos, lm=lm)

    def load_state_record(self, state: PredictorState) -> None:
        """Take over a record that `Module.load` has read and checked."""
        self.signature = state.signature
        self._demos = tuple(dict(demo.items()) for demo in state.demos)
        self._kept = state
        if state.lm is not None:
            self.lm = lm_from_state(state.lm)

    def __repr__(self) -> str:
        return f"Predict({self.signature.signature!r}, demos={len(self._demos)})"


def lm_from_state(state: Mapping[str, Any]) -> LM:
    """The LM that a state file names. Endpoints are not taken from files: a file must not redirect a key."""
    kept = {"model", "cache", "num_retries", "fallbacks", "on"}
    dropped = {"_dspy_lm_class", "model_type", "api_base", "base_url", "model_list"}
    dropped |= {"finetuning_model", "launch_kwargs", "train_kwargs", "api_key"}
    options = {k: v for k, v in state.items() if k not in kept | dropped and v is not None}
    if state.get("model_type") == "responses":  # "chat" is what an LM is without it
        options["model_type"] = "responses"
    return LM(
        str(state["model"]),
        cache=bool(state.get("cache", True)),
        num_retries=int(state.get("num_retries", 3)),
        fallbacks=[_fallback_from_state(each) for each in state.get("fallbacks") or ()],
        **options,
    )


def _fallback_from_state(state: str | Mapping[str, Any]) -> Fallback:
    if isinstance(state, str):  # LiteLLM's short form, which DSPy hands on
        return Fallback(state)
    return Fallback(lm_from_state(state), state.get("on", MAY_ANSWER))


def _checked_demos(signature: type[Signature], demos: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(demos, Iterable) or isinstance(demos, (str, Mapping, Example)):
        msg = f"demos is a list of demonstrations, as [{{'question': ..., 'answer': ...}}], not {type(demos).__name__}"
        raise InputError(msg, field="demos")
    kept = tuple(demos)
    for index, demo in enumerate(kept):
        if not isinstance(demo, (Mapping, Example)):
            msg = f"demos[{index}] is a {type(demo).__name__}; a demonstration is a dict or an Example of fields"
            raise InputError(msg, field="demos")
        names = [*demo.keys()]
        if names and not any(name in signature.fields for name in names):
            known = ", ".join(signature.fields)
            has = ", ".join(map(str, names))
            msg = f"demos[{index}] has none of the fields of {signature.label} ({known}); it has {has}"
            raise InputError(msg, field="demos")
    return kept


def _prediction(outputs: list[dict[str, Any]]) -> Prediction:
    return Prediction.of(outputs[0]) if len(outputs) == 1 else Prediction.from_completions(outputs)


def _with_correction(request: LMRequest, response: LMResponse, error: AdapterParseError) -> LMRequest:
    """The request again, followed by the answer that could not be read and what was wrong with it."""
    correction = (
        f"That answer could not be read: {error.message} "
        "Answer again, with every output field, in the layout described above."
    )
    turns = (Message.of("assistant", response.texts[0] or "(empty)"), Message.of("user", correction))
    return LMRequest(request.model, (*request.messages, *turns), request.options, request.sample)
