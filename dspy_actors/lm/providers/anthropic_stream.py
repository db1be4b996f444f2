"""A streamed message of Anthropic's, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from dspy_actors.errors import LMStreamAssemblyError
from dspy_actors.lm.providers.dialect import Read, count, event_data, refusal_in, text_or, unexpected
from dspy_actors.lm.providers.surrogates import added, left_over
from dspy_actors.lm.sse import Event
from dspy_actors.messages import LMRequest, LMResponse, ToolCall, Usage
from dspy_actors.pieces import Piece, TextPiece, ToolCallPiece


class _Block:
    """A block of the content: text, a call of a tool, or one that is not shown, such as thinking.

    `half` is what has come of a character that the server has cut in two.
    """

    __slots__ = ("call", "data", "half", "said")

    def __init__(self, data: dict[str, object], call: int | None) -> None:
        self.data = data
        self.call = call
        self.said: list[str] = []
        self.half = ""

    def input(self) -> dict[str, object] | None:
        """A tool's input; `None` where the model wrote no JSON object."""
        said = "".join(self.said)
        try:
            read = json.loads(said) if said else self.data.get("input") or {}
        except (ValueError, RecursionError):
            return None
        return read if isinstance(read, dict) else None

    def whole(self) -> dict[str, object]:
        """The block as it stands in an answer in one piece."""
        if self.call is not None:
            return {**self.data, "input": self.input() or {}}
        return {**self.data, "text": "".join(self.said)} if self.data.get("type") == "text" else self.data


class MessageAssembler:
    """See `dialect.Assembler`. Counts of tokens are cumulative: the last one of each name counts.

    What the beginning says of the output is no count of it. Where none comes later, as of relays that count nothing,
    the answer has no usage: whoever reads the stream estimates it, from what this has of the prompt.

    The answer is whole when its stop_reason has come, with a `message_stop` or without, which may be a relay's own.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_count",
        "_counted",
        "_head",
        "_read",
        "_request",
        "_stopped",
        "_usage",
        "done",
        "size",
    )

    def __init__(self, request: LMRequest, read: Read, count_tokens: Callable[[object], Usage | None]) -> None:
        """`read` and `count_tokens` are the dialect's own, for the answer in one piece."""
        self._request = request
        self._read = read
        self._count = count_tokens
        self._head: dict[str, object] = {}
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._usage: dict[str, object] = {}
        self._stopped: dict[str, object] = {}
        self._counted = False
        self.done = False
        self.size = 0

    @property
    def ended(self) -> bool:
        """See `Assembler.ended`."""
        return bool(self._stopped.get("stop_reason"))

    @property
    def usage(self) -> Usage | None:
        """See `Assembler.usage`."""
        return self._count(self._usage or None)

    @property
    def text(self) -> str:
        """See `Assembler.text`."""
        return "".join("".join(b.said) for b in self._blocks.values() if b.data.get("type") == "text")

    def take(self, event: Event) -> Sequence[Piece]:
        """See `Assembler.take`. Pings, thinking, signatures and types that are not known add nothing."""
        if event.data == "[DONE]":  # the last word of another dialect, which relays add to an answer that has its own
            return ()
        data = event_data(event)
        kind = text_or(data.get("type"), event.event)
        if kind == "content_block_delta":
            return self._delta(data)
        if kind == "content_block_start":
            return self._start(data)
        if kind == "content_block_stop":
            return self._stop(data)
        if kind == "message_start":
            message = data.get("message")
            if not isinstance(message, dict):
                raise unexpected("a message_start without a message")
            self._head = message
            self._count_in(message.get("usage"))
        elif kind == "message_delta":
            self._count_in(usage := data.get("usage"))
            self._counted = self._counted or (isinstance(usage, dict) and usage.get("output_tokens") is not None)
            delta = data.get("delta")
            if isinstance(delta, dict):
                self._stopped.update(delta)
            if self.ended:
                return [piece for block in self._blocks.values() for piece in self._show(block, left_over(block))]
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            raise refusal_in(event, data.get("error") or data)
        return ()

    def response(self, request_id: str | None) -> LMResponse:
        """See `Assembler.response`. Arguments that the model left unfinished stay as it wrote them."""
        if not self.ended:
            raise LMStreamAssemblyError("the stream ended before the answer was whole: no stop_reason")
        blocks = [block for _, block in sorted(self._blocks.items())]
        content = [block.whole() for block in blocks]
        data = {**self._head, **self._stopped, "content": content, "usage": self._usage if self._counted else None}
        response = self._read(data, self._request, request_id)
        calls = [block for block in blocks if block.call is not None]
        if all(block.input() is not None for block in calls):
            return response
        written = tuple(map(_as_written, calls, response.tool_calls[0]))
        return replace(response, tool_calls=(written,))

    def _start(self, data: dict[str, object]) -> Sequence[Piece]:
        block = data.get("content_block")
        if not isinstance(block, dict):
            raise unexpected("a content_block_start without a block")
        kind = block.get("type")
        if kind == "tool_use":
            number, self._calls = self._calls, self._calls + 1
            self._blocks[count(data.get("index"))] = _Block(block, number)
            return (ToolCallPiece(number, text_or(block.get("id"), ""), text_or(block.get("name"), "")),)
        self._blocks[count(data.get("index"))] = made = _Block(block, None)
        return self._say(made, text_or(block.get("text"), "")) if kind == "text" else ()

    def _delta(self, data: dict[str, object]) -> Sequence[Piece]:
        delta, block = data.get("delta"), self._blocks.get(count(data.get("index")))
        if not isinstance(delta, dict) or block is None:
            raise unexpected("a delta of a block that has not begun")
        shown = block.call is not None or block.data.get("type") == "text"
        said = delta.get("text") if delta.get("type") == "text_delta" else delta.get("partial_json")
        return self._say(block, said) if shown and isinstance(said, str) else ()

    def _stop(self, data: dict[str, object]) -> Sequence[Piece]:
        """A tool's input that came whole with the beginning of its block is told now."""
        block = self._blocks.get(count(data.get("index")))
        if block is None:
            return ()
        if block.call is None or block.said or block.half or not block.data.get("input"):
            return self._show(block, left_over(block))
        return self._say(block, json.dumps(block.data["input"], ensure_ascii=False))

    def _say(self, block: _Block, said: str) -> Sequence[Piece]:
        return self._show(block, added(block, said))

    def _show(self, block: _Block, said: str) -> Sequence[Piece]:
        if not said:
            return ()
        self.size += len(said)
        block.said.append(said)
        return (TextPiece(said),) if block.call is None else (ToolCallPiece(block.call, "", "", said),)

    def _count_in(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage.update((name, value) for name, value in usage.items() if value is not None)


def _as_written(block: _Block, call: ToolCall) -> ToolCall:
    return call if block.input() is not None else replace(call, arguments="".join(block.said))
