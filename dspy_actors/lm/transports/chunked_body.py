"""`ChunkedBody`: a body in chunks as it arrives on a connection."""

from __future__ import annotations

import asyncio

from dspy_actors.lm.transports.base import Take
from dspy_actors.lm.transports.broken import Broken, broken
from dspy_actors.lm.transports.chunks import ChunkReader

AHEAD = 64 * 1024
"""Bytes of a body that may lie here unread; above them the socket is left alone, so the server has to wait."""


class ChunkedBody:
    """What a connection's protocol puts in, its one reader takes out, by `next` or by `pour`.

    While it pours, bytes go straight from the protocol to whoever takes them: no task is woken for them. An answer that
    is streamed has a read of the socket for each of its events, so this is the better half of what an event costs.
    """

    __slots__ = ("_chunks", "_fault", "_held", "_lost", "_raw", "_stopped", "_take", "_transport", "_unread", "_waiter")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._chunks = ChunkReader()
        self._raw: list[bytes] = []
        self._unread = 0
        self._held = False
        self._lost = False
        self._stopped = False
        self._fault: Broken | None = None
        self._take: Take | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- the protocol's side -------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """The connection brought `data`."""
        take = self._take
        if take is not None:
            self._hand_on(data, take)
            return
        self._raw.append(data)
        self._unread += len(data)
        if self._unread > AHEAD and not self._held:
            self._held = True
            self._transport.pause_reading()
        self._wake()

    def lost(self) -> None:
        """The connection has ended."""
        self._lost = True
        self._wake()

    # -- the reader's side ---------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the end of the body was read and nothing lies behind it: the connection may carry another request."""
        return self._chunks.ended and not self._chunks.unread and not self._raw

    async def next(self) -> bytes:
        """All that has come, as soon as there is something; `b""` at the end. Raises `Broken`."""
        while True:
            data = self._parsed()
            if data or self._is_over():
                return data
            await self._turn(None)

    async def pour(self, take: Take) -> bool:
        """Hand all that comes to `take`, at once, until it wants no more: True. False at the end. Raises `Broken`."""
        while True:
            data = self._parsed()
            if data and not take(data):
                return True
            if self._is_over():
                return False
            await self._turn(take)
            if self._stopped:
                self._stopped = False
                return True

    def let_in(self) -> None:
        """Read from the socket again, where it was left alone."""
        self._unread = 0
        if self._held:
            self._held = False
            self._transport.resume_reading()

    # -- within --------------------------------------------------------------------------------------------------

    def _parsed(self) -> bytes:
        if not self._raw:
            return b""
        raw, self._raw = self._raw, []
        return self._unchunked(raw[0] if len(raw) == 1 else b"".join(raw))

    def _unchunked(self, data: bytes) -> bytes:
        try:
            return self._chunks.feed(data)
        except ValueError as error:
            self._fault = broken(self, str(error))
            return b""

    def _is_over(self) -> bool:
        if self._fault is not None:
            raise self._fault
        if self._chunks.ended:
            return True
        if self._lost:
            raise broken(self, "it was reset or closed")
        return False

    def _hand_on(self, data: bytes, take: Take) -> None:
        body = self._unchunked(data)
        try:
            self._stopped = bool(body) and not take(body)
        except BaseException as error:  # it is its reader's, not the loop's
            self._take = None
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
            return
        if self._stopped or self._chunks.ended or self._fault is not None:
            self._take = None
            self._wake()

    async def _turn(self, take: Take | None) -> None:
        """Wait until something has come that was not handed on, or the connection has ended."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._take = take
        self.let_in()
        try:
            await self._waiter
        finally:
            self._take = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
