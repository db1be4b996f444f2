"""The embedded model itself: messages in, completion text out.

For each output field, in order:

- a field with options (`Literal`, enum, bool): the nearest demonstrations vote, and what the instructions say of each
  option is added as a prior; without demonstrations the prior alone decides; ties go to the option listed first;
- a number: copied from the input where the demonstrations copy theirs or where there are none, else voted on;
- free text: an extract of the input where the demonstrations' answers are extracts of theirs or where there are none;
  a vote where short answers repeat; else the nearest demonstration's answer;
- lists, dictionaries and models: the nearest demonstration's answer; without demonstrations it refuses.

Votes count only where the demonstrations predict one another better than chance (`trust.py`).

Pure CPU work, no waiting. Equal messages give equal answers in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dspy_actors.lm.embedded.features import Bag, bag, count_pieces
from dspy_actors.lm.embedded.fields import answer_field
from dspy_actors.lm.embedded.limits import check_layout, refuse
from dspy_actors.lm.embedded.prompt import Demo, Layout, PromptLayout, UnreadablePrompt, read_system
from dspy_actors.lm.embedded.reading import Reading
from dspy_actors.messages import Message, TextPart


class Engine:
    """One embedded model with its own bounded memory of prompts it has read; may be used from several threads.

    The memories hold what follows from the text alone (256 system messages, 4096 demonstrations, 64 whole prefixes,
    least recently used first out), so they change how fast an answer comes and never which.
    """

    def __init__(self, model: str = "knn") -> None:
        self.model = model
        self._system = lru_cache(maxsize=256)(self._read_system)
        self._demo = lru_cache(maxsize=4096)(self._read_demo)
        self._prefix = lru_cache(maxsize=64)(self._read_prefix)

    def answer(self, messages: Sequence[Message]) -> tuple[str, int]:
        """The completion for a prompt, and an estimate of the prompt's size in tokens.

        Raises `LMUnsupportedFeatureError` for whatever this model does not do, a prompt in an unknown layout included.
        """
        texts = [self._text(message) for message in messages]
        roles = [message.role for message in messages]
        if len(roles) < 2 or roles != ["system", *["user", "assistant"] * ((len(roles) - 2) // 2), "user"]:
            raise refuse("read this prompt: it wants a system message, pairs of turns and a question last", self.model)
        try:
            reading = self._prefix(tuple(texts[:-1]))
            values = reading.form.read_request(reading.layout, texts[-1])
        except UnreadablePrompt as error:
            raise refuse(f"read this prompt: {error}. It knows the chat adapter's layout only", self.model) from None
        words = bag("\n".join(values.values()))
        answers = [
            (field.name, answer_field(reading, field, values, words, self.model)) for field in reading.layout.outputs
        ]
        return reading.form.write_answer(answers), reading.pieces + count_pieces(texts[-1])

    def _text(self, message: Message) -> str:
        parts = message.parts
        if len(parts) == 1 and isinstance(parts[0], TextPart):
            return parts[0].text
        if any(not isinstance(part, TextPart) for part in parts):
            raise refuse("look at images or files", self.model)
        return message.text

    def _read_prefix(self, texts: tuple[str, ...]) -> Reading:
        form, layout, pieces = self._system(texts[0])
        demos = []
        for question, reply in zip(texts[1::2], texts[2::2], strict=True):
            demo, words, more = self._demo(texts[0], question, reply)
            demos.append((demo, words))
            pieces += more
        return Reading(form, layout, demos, pieces)

    def _read_system(self, text: str) -> tuple[PromptLayout, Layout, int]:
        form, layout = read_system(text)
        check_layout(layout, self.model)
        return form, layout, count_pieces(text)

    def _read_demo(self, system: str, question: str, reply: str) -> tuple[Demo, Bag, int]:
        form, layout, _ = self._system(system)
        demo = form.read_demo(layout, question, reply)
        return demo, bag("\n".join(demo.inputs.values())), count_pieces(question) + count_pieces(reply)
