"""A streamed answer of the responses API, put together. Its events have types; there is no `[DONE]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dspy_actors.errors import LMStreamAssemblyError
from dspy_actors.lm.providers.dialect import Read, arguments_text, event_data, objects, refusal_in, text_or, unexpected
from dspy_actors.lm.providers.surrogates import added, joined, left_over
from dspy_actors.lm.sse import Event
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.pieces import Piece, TextPiece, ToolCallPiece


class _Item:
    """An item of the output: a message's text and refusal, or a call and its arguments.

    `half` is what has come of a character that the server has cut in two.
    """

    __slots__ = ("call", "data", "half", "refusal", "said")

    def __init__(self) -> None:
        self.said: list[str] = []
        self.refusal: list[str] = []
        self.half = ""
        self.call: int | None = None
        self.data: Mapping[str, object] = {}

    def whole(self) -> dict[str, object]:
        """The item as it stands in an answer in one piece."""
        if self.call is not None:
            return {**self.data, "type": "function_call", "arguments": "".join(self.said)}
        content: list[object] = [{"type": "output_text", "text": "".join(self.said)}] if self.said else []
        if self.refusal:
            content.append({"type": "refusal", "refusal": joined(self.refusal)})
        kind = text_or(self.data.get("type"), "message")
        return {**self.data, "type": "message" if content else kind, "content": content}


class ResponsesAssembler:
    """See `dialect.Assembler`. A server that sends whole items without their deltas is read too.

    The answer is whole with `response.completed` or `response.incomplete`. A `[DONE]`, which relays send all the same,
    ends the stream and completes nothing.
    """

    __slots__ = ("_calls", "_count", "_final", "_items", "_read", "_request", "done", "size")

    def __init__(self, request: LMRequest, read: Read, count_tokens: Callable[[object], Usage | None]) -> None:
        """`read` and `count_tokens` are the dialect's own, for the answer in one piece."""
        self._request = request
        self._read = read
        self._count = count_tokens
        self._items: dict[object, _Item] = {}
        self._calls = 0
        self._final: Mapping[str, object] | None = None
        self.done = False
        self.size = 0

    @property
    def ended(self) -> bool:
        """See `Assembler.ended`."""
        return self._final is not None

    @property
    def usage(self) -> Usage | None:
        """See `Assembler.usage`."""
        return None if self._final is None else self._count(self._final.get("usage"))

    @property
    def text(self) -> str:
        """See `Assembler.text`."""
        return "".join("".join(item.said) for item in self._items.values() if item.call is None)

    def take(self, event: Event) -> Sequence[Piece]:
        """See `Assembler.take`. Events of other types, of which there are many, say nothing that is not said again."""
        if event.data == "[DONE]":
            self.done = True
            return ()
        data = event_data(event)
        kind = text_or(data.get("type"), event.event)
        if kind == "response.output_text.delta":
            return self._said(data, data.get("delta"))
        if kind == "response.function_call_arguments.delta":
            begun = self._begin_call(self._item(_key(data)), data)
            return [*begun, *self._said(data, data.get("delta"))]
        if kind in ("response.output_item.added", "response.output_item.done"):
            pieces = self._take_item(_key(data), data.get("item"))
            return pieces if kind.endswith("added") else [*pieces, *self._end(self._item(_key(data)))]
        if kind == "response.refusal.delta":
            self._item(_key(data)).refusal.append(text_or(data.get("delta"), ""))
        elif kind in ("response.completed", "response.incomplete"):
            return self._complete(data.get("response"))
        elif kind == "error" or kind == "response.failed" or data.get("error"):
            response = data.get("response")
            error = (response.get("error") if isinstance(response, dict) else data.get("error")) or data
            raise refusal_in(event, error)
        return ()

    def response(self, request_id: str | None) -> LMResponse:
        """See `Assembler.response`."""
        if self._final is None:
            raise LMStreamAssemblyError("the stream ended before the answer was whole: no response.completed")
        output = [item.whole() for item in self._items.values()]
        return self._read({**self._final, "output": output}, self._request, request_id)

    def _item(self, key: object) -> _Item:
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item()
        return item

    def _said(self, data: Mapping[str, object], said: object) -> Sequence[Piece]:
        if not isinstance(said, str):
            raise unexpected("a delta that is no text")
        return self._add(self._item(_key(data)), said)

    def _add(self, item: _Item, said: str) -> Sequence[Piece]:
        return self._show(item, added(item, said))

    def _end(self, item: _Item) -> Sequence[Piece]:
        return self._show(item, left_over(item))

    def _show(self, item: _Item, said: str) -> Sequence[Piece]:
        if not said:
            return ()
        self.size += len(said)
        item.said.append(said)
        return (TextPiece(said),) if item.call is None else (ToolCallPiece(item.call, "", "", said),)

    def _take_item(self, key: object, data: object) -> list[Piece]:
        """What a whole item, or the beginning of one, adds to what is known of it."""
        if not isinstance(data, dict):
            raise unexpected("an output item that is no object")
        item = self._item(key)
        item.data = {**item.data, **data}
        pieces: list[Piece] = []
        whole = ""
        if data.get("type") == "function_call":
            pieces += self._begin_call(item, data)
            whole = arguments_text(data.get("arguments"))
        elif data.get("type") == "message":
            whole, refusal = said_in(data)
            if refusal:
                item.refusal[:] = [refusal]
        known = "".join(item.said)
        if len(whole) > len(known) and whole.startswith(known):
            item.half = ""  # it is told again
            pieces += self._add(item, whole[len(known) :])
        return pieces

    def _begin_call(self, item: _Item, data: Mapping[str, object]) -> Sequence[Piece]:
        if item.call is not None:
            return ()
        item.call, self._calls = self._calls, self._calls + 1
        call_id = text_or(data.get("call_id"), text_or(data.get("id"), ""))
        return (ToolCallPiece(item.call, call_id, text_or(data.get("name"), "")),)

    def _complete(self, data: object) -> Sequence[Piece]:
        if not isinstance(data, dict):
            raise unexpected("a completed response that is no object")
        pieces: list[Piece] = []
        for index, item in enumerate(objects(data.get("output")) or ()):
            pieces += self._take_item(index, item)
        for known in self._items.values():
            pieces += self._end(known)
        self._final = data
        self.done = True
        return pieces


def said_in(message: Mapping[str, object]) -> tuple[str, str]:
    """The text of a message's item, and what the model refused with; some servers send a plain text as its content."""
    content = message.get("content")
    if isinstance(content, str):
        return content, ""
    parts = objects(content) or ()
    said = joined([text_or(part.get("text"), "") for part in parts])
    return said, joined([text_or(part.get("refusal"), "") for part in parts])


def _key(data: Mapping[str, object]) -> object:
    """Which item an event is about: its place in the output, or its id for servers that count nothing."""
    index = data.get("output_index")
    return index if isinstance(index, int) else data.get("item_id")
