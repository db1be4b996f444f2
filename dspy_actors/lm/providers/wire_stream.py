"""`WireStream`: a streamed answer on its way from an endpoint, in any dialect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from dspy_actors.errors import LMError, LMTimeoutError, LMTransportError
from dspy_actors.lm.providers.dialect import Assembler, Dialect
from dspy_actors.lm.providers.whole_stream import pieces_of
from dspy_actors.lm.sse import Event, EventReader
from dspy_actors.lm.transports.base import HTTPResponse, Incoming
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.pieces import Piece
from dspy_actors.secret import Secret, may_blot

MAX_ANSWER = 32 * 1024 * 1024
"""Characters that one streamed answer may have, and bytes of a body that turns out to be no stream."""

_LAST_BYTES = 0.25
"""Seconds that the end of the body may take after the answer's last event; then the connection is given up."""

_SLICE = 16 * 1024
"""Bytes that are read as events at once: half a millisecond's work, then others on the loop have their turn."""

Write: TypeAlias = Callable[[Sequence[Piece]], bool]
"""Takes the next pieces, at least one; whether there is room for more. It must not wait."""

_BIG = 1_000_000
_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_SPACE = b" \t\r\n\xef\xbb\xbf"


class Placing(Protocol):
    """What a `Wire` knows of errors: where they happened, and what a refusal means."""

    def placed(self, error: LMError, model: str, answer: HTTPResponse | Incoming | None = None) -> LMError: ...

    def refusal(self, answer: HTTPResponse, data: object, model: str, key: Secret | None) -> LMError: ...


class WireStream:
    """See `base.ProviderStream`. A server that answers in one piece is read as one piece."""

    def __init__(
        self,
        wire: Placing,
        dialect: Dialect,
        request: LMRequest,
        incoming: Incoming,
        *,
        request_id: str,
        key: Secret | None,
        refused: Callable[[LMError], Awaitable[bool]],
    ) -> None:
        """`request_id` stands in errors where the server has none; `refused` books an error with the key."""
        self._wire = wire
        self._dialect = dialect
        self._request = request
        self._incoming = incoming
        self._request_id = request_id_of(incoming)
        self._own_id = request_id
        self._key = key
        self._refused = refused
        self._assembler: Assembler = dialect.assembler(request)
        self._reader = EventReader()
        self._head: bytes | None = b""
        """What has come while it is not clear whether it is a stream; `None` once it is."""
        self._rest = b""
        self._failure: LMError | None = None
        """What is raised once the pieces before it were read."""
        self._told: LMError | None = None
        self._response: LMResponse | None = None
        self._some = False
        self._write: Write | None = None
        self._full = False

    @property
    def usage(self) -> Usage | None:
        """See `ProviderStream.usage`."""
        counted = None if self._response is None else self._response.usage
        return self._assembler.usage if counted is None else counted

    @property
    def text(self) -> str:
        """See `ProviderStream.text`."""
        return self._assembler.text if self._response is None else self._response.texts[0]

    async def read(self) -> Sequence[Piece]:
        """See `ProviderStream.read`."""
        if self._told is not None:
            raise self._told
        try:
            pieces = await self._next()
        except LMError as error:
            await self._incoming.aclose()
            self._told = await self._placed(error)
            raise self._told from None
        except BaseException:
            await self._incoming.aclose()
            raise
        self._some = self._some or bool(pieces)
        return pieces

    async def pour(self, write: Write) -> bool:
        """Hand the next pieces to `write` as they come until it has no room for more: True. False at the clean end.

        Raises as `read` does. Pieces of an answer that flows go from the socket to `write` in one turn of the loop.
        """
        while True:
            if self._flows():
                self._full = False
                await self._pour(write)
                if self._full:
                    return True
            pieces = await self.read()
            if not pieces:
                return False
            if not write(pieces):
                return True

    def response(self) -> LMResponse:
        """See `ProviderStream.response`."""
        if self._response is None:
            msg = "the stream has not come to a clean end: read() until it returns ()"
            raise RuntimeError(msg)
        return self._response

    async def aclose(self) -> None:
        """See `ProviderStream.aclose`."""
        self._rest = b""
        await self._incoming.aclose()

    def _flows(self) -> bool:
        """Whether the next bytes are events, as far as is known, and none were left over."""
        over = self._response is not None or self._failure is not None or self._said_all()
        return not over and self._told is None and self._head is None and not self._rest

    def _said_all(self) -> bool:
        """Whether the last event was read, though not the end of the body."""
        return self._assembler.done

    async def _pour(self, write: Write) -> None:
        """Let bytes flow; whatever ends that is left for `read` to make something of."""
        self._write = write
        try:
            await self._incoming.pour(self._poured)
        except (LMTransportError, LMTimeoutError) as error:
            if not self._assembler.ended:
                self._failure = error
        except BaseException:
            await self._incoming.aclose()
            raise
        finally:
            self._write = None

    def _poured(self, data: bytes) -> bool:
        """Bytes have come: write their pieces; whether more may come in this way."""
        if len(data) > _SLICE:
            self._rest = data
            return False
        pieces = self._taken(self._reader.feed(data))
        if pieces:
            self._some = True
            assert self._write is not None
            self._full = not self._write(pieces)
        return not self._full and self._failure is None and not self._assembler.done

    async def _next(self) -> Sequence[Piece]:
        while self._response is None:
            if self._failure is not None:
                raise self._failure
            if self._said_all():
                await self._drain()
                self._finish(())
                return ()
            data = await self._bytes()
            if self._head is not None:
                self._head += data
                kind = _kind(self._head, self._incoming.headers.get("content-type", ""), over=not data)
                if kind == "unclear":
                    continue
                data, self._head = self._head, None
                if kind == "whole":
                    return await self._read_whole(data + self._rest + await whole_body(self._incoming))
            pieces = self._take(self._reader.feed(data)) if data else self._take(self._reader.end())
            if self._failure is None and (not data or self._assembler.done):
                if data:
                    await self._drain()
                self._finish(pieces)
            if pieces:
                return pieces
        return ()

    async def _bytes(self) -> bytes:
        """The next bytes. A connection that breaks once the answer is whole has ended it all the same."""
        if self._rest:
            await asyncio.sleep(0)
        data = self._rest
        if not data:  # or it was closed meanwhile
            try:
                data = await self._incoming.read()
            except (LMTransportError, LMTimeoutError):
                if self._assembler.ended:
                    return b""
                raise
        if len(data) <= _SLICE:
            self._rest = b""
            return data
        self._rest = data[_SLICE:]
        return data[:_SLICE]

    def _take(self, events: list[Event]) -> list[Piece]:
        """What the events add; an error among them is held back until what came before it was read."""
        pieces = self._taken(events)
        if self._failure is not None and not pieces:
            raise self._failure
        return pieces

    def _taken(self, events: list[Event]) -> list[Piece]:
        """What the events add; what ends the reading is the failure."""
        pieces: list[Piece] = []
        assembler = self._assembler
        try:
            for event in events:
                pieces += assembler.take(event)
                if assembler.done:  # what comes after it is read by nobody, in whichever read it came
                    break
        except LMError as error:
            self._failure = error
        if self._failure is None:
            self._failure = self._reader.fault
        if self._failure is None and assembler.size > MAX_ANSWER:
            what = f"the streamed answer is larger than {MAX_ANSWER} characters"
            self._failure = LMTransportError(what, provider_code="too_large")
        return pieces

    def _finish(self, pieces: Sequence[Piece]) -> None:
        try:
            self._response = self._assembler.response(self._request_id)
        except LMError as error:
            if not pieces:
                raise
            self._failure = error

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection is kept; a server that goes on loses it."""
        try:
            async with asyncio.timeout(_LAST_BYTES):
                while await self._incoming.read():
                    pass
        except (TimeoutError, LMError):
            await self._incoming.aclose()

    async def _read_whole(self, body: bytes) -> Sequence[Piece]:
        """The pieces of an answer that came in one."""
        data = await asyncio.to_thread(_loads, body) if len(body) > _BIG else _loads(body)
        answer = HTTPResponse(self._incoming.status, self._incoming.headers, body)
        if not isinstance(data, dict) or data.get("error"):
            raise self._wire.refusal(answer, data, self._request.model, self._key)
        try:
            self._response = self._dialect.read(data, self._request, self._request_id)
        except LMError as error:
            raise self._wire.placed(error, self._request.model, answer) from None
        return pieces_of(self._response)

    async def _placed(self, error: LMError) -> LMError:
        """The error with all that is known here, and without a key (of at least 8 characters) that a server repeats."""
        if error.provider is None:
            arrived = None if isinstance(error, (LMTransportError, LMTimeoutError)) else self._incoming
            error = self._wire.placed(error, self._request.model, arrived)
        error.request_id = error.request_id or self._request_id or self._own_id
        error.partial = self.text if self._some else None
        if self._key is not None and may_blot(self._key.reveal()) and self._key.reveal() in error.message:
            error.message = error.message.replace(self._key.reveal(), "[key]")
        await self._refused(error)
        return error


def request_id_of(answer: HTTPResponse | Incoming) -> str | None:
    """The server's own id of the request, by OpenAI's or by Anthropic's header."""
    return answer.headers.get("x-request-id") or answer.headers.get("request-id")


def _kind(head: bytes, content_type: str, *, over: bool) -> Literal["stream", "whole", "unclear"]:
    """What a body is: by its first bytes, whatever its type claims. `over` where these are all there are."""
    begin = head.lstrip(_SPACE)
    claimed = content_type.lower().startswith("text/event-stream")
    if begin[:1] in (b"{", b"[", b"<"):
        return "whole"
    if begin.startswith(_STARTS) or (claimed and (begin or over)):
        return "stream"
    maybe = not begin or any(start.startswith(begin) for start in _STARTS)
    return "unclear" if maybe and not over else "whole"


async def whole_body(incoming: Incoming, *, refused: bool = False) -> bytes:
    """All of a body, decompressed; closes in any case.

    Raises `LMTransportError` (`too_large`) above `MAX_ANSWER`; of what is `refused` what comes and can be read is
    enough, for what it is says its status.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        while data := await incoming.read():
            pieces.append(data)
            size += len(data)
            if size > MAX_ANSWER:
                if refused:
                    break
                raise LMTransportError(f"the answer is larger than {MAX_ANSWER} bytes", provider_code="too_large")
    except (LMTransportError, LMTimeoutError) as error:
        if not refused or error.provider_code == "closed":
            raise
    finally:
        await incoming.aclose()
    return b"".join(pieces)


def _loads(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
