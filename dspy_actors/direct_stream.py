"""`stream_prompt`: an answer in pieces straight from a model, without a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast, get_args

from dspy_actors.envelope import Scope
from dspy_actors.errors import DspyActorsError, InputError, LMNotConfiguredError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.options import check_options
from dspy_actors.lm.work import Answer
from dspy_actors.messages import ANSWERING, CALLING, LMRequest, Message, Role, wrong_turn
from dspy_actors.runner import Settings, checkpoint, current_frame, new_envelope
from supervisors.reply import Reply

if TYPE_CHECKING:
    from dspy_actors.hosting import RuntimeHost

Prompt: TypeAlias = str | Sequence[Message | Mapping[str, object]]
"""A user's turn, or a conversation; a turn may be written as `{"role": "user", "content": "text"}`."""

_NAME = "Runtime.stream"


def stream_prompt(
    host: RuntimeHost, settings: Settings, prompt: Prompt, lm: LM | str | None, options: Mapping[str, object]
) -> LMStream:
    """Begin a stream as a call of its own. Made from inside of another call it ends with that one, at the latest.

    Raises `InputError`, `LMConfigurationError`, `ShuttingDown`; what the model does is raised to the stream's reader.
    """
    turns = turns_of(prompt)
    check_options("Runtime.stream", options)
    found = LM(lm) if isinstance(lm, str) else lm or settings.lm
    if found is None:
        msg = "no LM: write Runtime(lm='openai/gpt-4o-mini') or rt.stream(..., lm=LM(...))"
        raise LMNotConfiguredError(msg)
    outer = current_frame()
    if outer is not None:
        checkpoint(outer)
    model, asked = found.for_call({**settings.options, **options})
    request = LMRequest(model.model, turns, asked, settings.sample)
    host.begin_call(_NAME)
    envelope = new_envelope((_NAME,), settings, host.clock, outer)
    scope = Scope(None, None if outer is None else outer.scope)
    try:
        stream = host.stream(model, request, envelope)
    except BaseException:
        scope.close(envelope)
        host.end_call()
        raise
    scope.enter(stream.flow)

    def over(reply: Reply[Answer]) -> None:
        _book(scope, model, reply)
        scope.close(envelope)
        host.end_call()

    stream.add_done_callback(over)
    return stream


def _book(scope: Scope, model: LM, reply: Reply[Answer]) -> None:
    """Add the stream to what the call around it has cost, met and read, whole or cut off."""
    error = reply.exception()
    if isinstance(error, DspyActorsError) and error.infrastructure:
        scope.met(error)
    if error is None:
        answer = reply.take()
        truncated = answer.response.truncated
        if truncated is not None:
            scope.note_truncated(truncated)
        usage = answer.response.usage if answer.source == "model" else None
        scope.book(answer.model or model.name, attempts=answer.attempts, cached=answer.source == "cache", usage=usage)


def turns_of(prompt: Prompt) -> tuple[Message, ...]:
    """The conversation that a prompt is. Raises `InputError` for what is none."""
    if isinstance(prompt, str):
        if not prompt.strip():
            msg = "an empty prompt asks nothing; give a text, or messages of which the last is the user's"
            raise InputError(msg, field="prompt")
        return (Message.of("user", prompt),)
    given: object = prompt
    if not isinstance(given, Sequence):
        msg = f"a prompt is a text or a list of messages, not {prompt!r:.80}"
        raise InputError(msg, field="prompt")
    turns = tuple(_turn(turn) for turn in prompt)
    if not turns:
        msg = "an empty conversation asks nothing; give a text, or messages of which the last is the user's"
        raise InputError(msg, field="prompt")
    return turns


def _turn(given: object) -> Message:
    if isinstance(given, Message):
        wrong = wrong_turn(given)
        if wrong is not None:
            msg = f"a turn of the prompt {wrong}"
            raise InputError(msg, field="prompt")
        return given
    turn: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    role, content = turn.get("role"), turn.get("content")
    if turn.get("tool_calls"):
        write = CALLING
    elif role == "tool":
        write = ANSWERING
    elif role in get_args(Role) and isinstance(content, str):
        return Message.of(cast("Role", role), content)
    else:
        write = "Message('user', (TextPart('text'), ImagePart('https://...')))"
    msg = (
        f"a turn is {{'role': 'user', 'content': 'text'}} or a Message of dspy_actors.messages, here {write}, "
        f"not {given!r:.100}"
    )
    raise InputError(msg, field="prompt")
