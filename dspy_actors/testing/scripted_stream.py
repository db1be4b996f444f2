"""A stream for tests that says what a script holds, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import TypeAlias

from dspy_actors.errors import LMError, LMTimeoutError, LMTransportError
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse, ToolCall, Usage
from dspy_actors.pieces import Piece, TextPiece, ToolCallPiece

Said: TypeAlias = str | Piece | Usage | LMResponse | BaseException | None
"""A text or another piece; the tokens told so far; the whole answer, which ends the stream; what is raised."""

Line: TypeAlias = Said | asyncio.Event | Awaitable[Said]
"""What is said, or what is waited for first: an event, or an awaitable that gives what is said."""


class ScriptedStream:
    """See `ProviderStream`. `taken` counts the lines that were read, `closed` says that nobody reads any more.

    Each `read` says one line. At the end of the lines the answer is what the pieces join to, with a finish reason for
    each choice and, unless a line told them, a count of words for tokens.
    """

    def __init__(
        self,
        lines: Iterable[Line],
        request: LMRequest,
        attempt: Attempt,
        *,
        provider: str,
        on_end: Callable[[], None],
    ) -> None:
        self._lines = iter(lines)
        self._request = request
        self._attempt = attempt
        self._provider = provider
        self._on_end: Callable[[], None] | None = on_end
        self._pieces: list[Piece] = []
        self._usage: Usage | None = None
        self._response: LMResponse | None = None
        self._failure: BaseException | None = None
        self.taken = 0

    @property
    def closed(self) -> bool:
        """Whether it has ended, failed or was closed."""
        return self._on_end is None

    @property
    def usage(self) -> Usage | None:
        """See `ProviderStream.usage`."""
        return self._usage if self._response is None else self._response.usage

    @property
    def text(self) -> str:
        """See `ProviderStream.text`."""
        return "".join(piece.text for piece in self._pieces if isinstance(piece, TextPiece) and piece.choice == 0)

    async def read(self) -> Sequence[Piece]:
        """See `ProviderStream.read`."""
        if self._response is not None:
            return ()
        if self._failure is not None:
            raise self._failure
        try:
            piece = await self._next()
        except BaseException as error:
            self._end()
            self._failure = self._told(error)
            raise self._failure from None
        if piece is None:
            return ()
        self._pieces.append(piece)
        return (piece,)

    def response(self) -> LMResponse:
        """See `ProviderStream.response`."""
        if self._response is None:
            msg = "the stream has not come to a clean end: read() until it returns ()"
            raise RuntimeError(msg)
        return self._response

    async def aclose(self) -> None:
        """See `ProviderStream.aclose`."""
        if self._response is None and self._failure is None:
            closed = LMTransportError("the answer was closed before its end", provider_code="closed")
            self._failure = self._told(closed)
        self._end()

    async def _next(self) -> Piece | None:
        """The next piece; `None` at the end, when the answer is made."""
        for line in self._lines:
            self.taken += 1
            said = await self._heard(line)
            if isinstance(said, str):
                return TextPiece(said)
            if isinstance(said, (TextPiece, ToolCallPiece)):
                return said
            if isinstance(said, BaseException):
                raise said.fresh() if isinstance(said, LMError) else said
            if isinstance(said, Usage):
                self._usage = said
            elif isinstance(said, LMResponse):
                self._response = said
                break
        self._response = self._response or self._joined()
        self._end()
        return None

    async def _heard(self, line: Line) -> Said:
        """What a line says, waited for no longer than the attempt may take or be silent."""
        if not isinstance(line, asyncio.Event) and not isawaitable(line):
            return line
        now = asyncio.get_running_loop().time()
        deadline = self._attempt.deadline
        silent = None if self._attempt.idle is None else now + self._attempt.idle
        until = min((limit for limit in (deadline, silent) if limit is not None), default=None)
        try:
            async with asyncio.timeout_at(until) as timer:
                if isinstance(line, asyncio.Event):
                    await line.wait()
                    return None
                said: Said = await line
                return said
        except TimeoutError:
            if not timer.expired():
                raise
            phase = "total" if until == deadline else "idle"
            raise LMTimeoutError("the script did not go on in time", phase=phase) from None

    def _joined(self) -> LMResponse:
        """The answer that the pieces make."""
        count = 1 + max((piece.choice for piece in self._pieces), default=0)
        texts = [""] * count
        calls: list[dict[int, ToolCall]] = [{} for _ in range(count)]
        for piece in self._pieces:
            if isinstance(piece, TextPiece):
                texts[piece.choice] += piece.text
            else:
                begun = calls[piece.choice].get(piece.number, ToolCall(piece.id, piece.name, ""))
                whole = ToolCall(begun.id, begun.name, begun.arguments + piece.arguments)
                calls[piece.choice][piece.number] = whole
        asked = sum(len(message.text.split()) for message in self._request.messages)
        usage = self._usage or Usage(asked, sum(len(text.split()) for text in texts))
        reasons = tuple("tool_calls" if found else "stop" for found in calls)
        told = tuple(tuple(found.values()) for found in calls) if any(calls) else ()
        return LMResponse(tuple(texts), self._request.model, usage, reasons, tool_calls=told)

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, LMError):
            error.provider, error.model = error.provider or self._provider, error.model or self._request.model
            error.partial = self.text if self._pieces else None
        return error

    def _end(self) -> None:
        told, self._on_end = self._on_end, None
        if told is not None:
            told()
