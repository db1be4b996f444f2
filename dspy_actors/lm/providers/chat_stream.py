"""A streamed chat completion, put together. Of a server nothing is required that only OpenAI sends.

Every server says why a choice has ended, and nobody says it before it has. `[DONE]` says less: relays put it behind
whatever they got, an answer that was cut short too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dspy_actors.errors import LMStreamAssemblyError
from dspy_actors.lm.providers.dialect import (
    Read,
    arguments_text,
    check_choice,
    count,
    event_data,
    objects,
    refusal_in,
    unexpected,
)
from dspy_actors.lm.providers.surrogates import added, joined, left_over
from dspy_actors.lm.sse import Event
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.pieces import Piece, ToolCallPiece, text_piece

_MANY = 512


class _Call:
    """A tool call of which pieces have come; `half` as in `_Choice`."""

    __slots__ = ("arguments", "half", "id", "name", "number", "shown")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.half = ""
        self.shown = False


class _Choice:
    """A choice of which pieces have come. `calls` by the server's index, `order` as they began.

    `half` is what has come of a character that the server has cut in two.
    """

    __slots__ = ("calls", "finish", "half", "order", "refusal", "texts", "whole")

    def __init__(self) -> None:
        self.whole: list[str] = []
        self.texts: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[object, _Call] = {}
        self.order: list[_Call] = []
        self.finish: str | None = None
        self.half = ""

    def text(self) -> str:
        return "".join(self.whole) + "".join(self.texts)

    def add(self, text: str) -> None:
        """Add to the text; many short pieces are kept as one, which takes a tenth of their memory."""
        self.texts.append(text)
        if len(self.texts) >= _MANY:
            self.whole.append("".join(self.texts))
            self.texts.clear()


class ChatAssembler:
    """See `dialect.Assembler`. Whole is what has a finish_reason for every choice, with `[DONE]` or without."""

    __slots__ = ("_choices", "_count", "_head", "_read", "_request", "_usage", "done", "size")

    def __init__(self, request: LMRequest, read: Read, count_tokens: Callable[[object], Usage | None]) -> None:
        """`read` and `count_tokens` are the dialect's own, for the answer in one piece."""
        self._request = request
        self._read = read
        self._count = count_tokens
        self._choices: dict[int, _Choice] = {}
        self._head: dict[str, object] = {}
        self._usage: object = None
        self.done = False
        self.size = 0

    @property
    def ended(self) -> bool:
        """See `Assembler.ended`. After `[DONE]` no more choices will come, though more were asked for."""
        choices = self._choices
        wanted = 1 if self.done else max(1, count(self._request.options.get("n")))
        return len(choices) >= wanted and all(choice.finish is not None for choice in choices.values())

    @property
    def usage(self) -> Usage | None:
        """See `Assembler.usage`."""
        return self._count(self._usage)

    @property
    def text(self) -> str:
        """See `Assembler.text`."""
        return self._choices[0].text() if 0 in self._choices else ""

    def take(self, event: Event) -> Sequence[Piece]:
        """See `Assembler.take`."""
        if event.data == "[DONE]":
            self.done = True
            return ()
        chunk = event_data(event)
        if chunk.get("error"):
            raise refusal_in(event, chunk["error"])
        if event.event == "error" or chunk.get("object") == "error":
            raise refusal_in(event, chunk)
        usage = chunk.get("usage")
        if usage:
            self._usage = usage
        choices = chunk.get("choices")
        if not choices:
            return ()
        if not isinstance(choices, list):
            raise unexpected("a chunk whose choices are no list")
        if not self._head:
            self._head = {"id": chunk.get("id"), "model": chunk.get("model")}
        pieces: list[Piece] = []
        for choice in choices:
            if not isinstance(choice, dict):
                raise unexpected("a chunk with a choice that is no object")
            self._take_choice(choice, pieces)
        return pieces

    def response(self, request_id: str | None) -> LMResponse:
        """See `Assembler.response`."""
        if not self.ended:
            last = "with [DONE], but" if self.done else "without [DONE], and"
            msg = f"the stream ended before the answer was whole: {last} no finish_reason for every choice"
            raise LMStreamAssemblyError(msg)
        choices = [
            {"index": index, "message": _message(choice), "finish_reason": choice.finish}
            for index, choice in sorted(self._choices.items())
        ]
        return self._read({**self._head, "choices": choices, "usage": self._usage}, self._request, request_id)

    def _take_choice(self, data: dict[str, object], pieces: list[Piece]) -> None:
        index = data.get("index")
        if type(index) is not int:
            index = 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        delta = data["delta"] if "delta" in data else data.get("message")
        if isinstance(delta, dict):
            content = delta.get("content")
            if content:
                text = added(choice, content if isinstance(content, str) else _text_of(content))
                if text:
                    self.size += len(text)
                    choice.add(text)
                    pieces.append(text_piece((text, index)))
            if delta.get("tool_calls"):
                self.size += _take_calls(choice, index, delta["tool_calls"], pieces)
            refusal = delta.get("refusal")
            if isinstance(refusal, str):
                choice.refusal.append(refusal)
        elif delta is not None:
            raise unexpected("a chunk whose delta is no object")
        finish = data.get("finish_reason")
        if isinstance(finish, str) and finish:
            check_choice(data)
            choice.finish = finish
            self._take_halves(choice, index, pieces)

    def _take_halves(self, choice: _Choice, index: int, pieces: list[Piece]) -> None:
        """The choice has ended: the other halves do not come."""
        if choice.half:
            half = left_over(choice)
            self.size += len(half)
            choice.add(half)
            pieces.append(text_piece((half, index)))
        for call in choice.order:
            if call.half:
                half = left_over(call)
                self.size += len(half)
                call.arguments.append(half)
                pieces.append(ToolCallPiece(call.number, "", "", half, index))


def _take_calls(choice: _Choice, index: int, data: object, pieces: list[Piece]) -> int:
    """Add the deltas' pieces; how many characters of arguments they hold."""
    size = 0
    found = objects(data)
    if found is None:
        raise unexpected("tool calls that are no list of objects")
    for one in found:
        call = _call_of(choice, one)
        function = one.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(one.get("id"), str):
            call.id = call.id or str(one["id"])
        if isinstance(name, str):
            call.name = call.name or name
        said = added(call, arguments_text(arguments))
        if said:
            size += len(said)
            call.arguments.append(said)
        if not call.shown:
            call.shown = True
            pieces.append(ToolCallPiece(call.number, call.id, call.name, said, index))
        elif said:
            pieces.append(ToolCallPiece(call.number, "", "", said, index))
    return size


def _call_of(choice: _Choice, data: Mapping[str, object]) -> _Call:
    """The call that a delta belongs to: by `index`; of servers that send none, a new id begins a new call."""
    key: object = data.get("index")
    if not isinstance(key, int):
        given = data.get("id")
        last = choice.order[-1] if choice.order else None
        if last is not None and (not given or given == last.id):
            return last
        key = given if isinstance(given, str) else ""
    call = choice.calls.get(key)
    if call is None:
        call = choice.calls[key] = _Call(len(choice.order))
        choice.order.append(call)
    return call


def _message(choice: _Choice) -> dict[str, object]:
    """The choice's message as it stands in an answer in one piece."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
        for call in choice.order
    ]
    message: dict[str, object] = {"role": "assistant", "content": choice.text()}
    if choice.refusal:
        message["refusal"] = joined(choice.refusal)
    if calls:
        message["tool_calls"] = calls
    return message


def _text_of(content: object) -> str:
    """The text of content that comes in parts; thinking among them is none."""
    found = objects(content)
    if found is None:
        raise unexpected("a chunk whose content is neither text nor a list of parts")
    parts = (part.get("text") for part in found)
    return joined([part for part in parts if isinstance(part, str)])
