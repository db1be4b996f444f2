"""`Arriving`: the `Incoming` of every transport. Its clocks, its slot and its one end are the same for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

from dspy_actors.errors import LMError, LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import Inflater, Take, bare, transport_error

T = TypeVar("T")
P = ParamSpec("P")

_NEVER = float("inf")


class Source(Protocol):
    """What a transport has of its own: the bytes of one body, and the connection they come over."""

    async def next(self) -> bytes:
        """The next bytes, `b""` at the end. Cancelled or failed, it is not asked again. Raises `LMTransportError`."""
        ...

    async def pour(self, take: Take) -> bool:
        """As `Incoming.pour`. Cancelled or failed, nothing is asked for again."""
        ...

    async def release(self, clean: bool) -> None:
        """Keep the connection, or close it. Called once, while nobody reads; cancelling it must not stop it."""
        ...


class Arriving:
    """A response under way. Reads come from one task at a time, which need not be the one that opened it.

    A limit that passes, and `aclose` from another task, cancel the `read` that waits and turn the cancellation into
    the error that says why. The timer is armed once for many reads: it looks at the limit when it goes off.
    """

    __slots__ = (
        "_armed",
        "_cancelling",
        "_deadline",
        "_end",
        "_gone",
        "_idle",
        "_inflater",
        "_loop",
        "_since",
        "_source",
        "_take",
        "_task",
        "_timer",
        "_until",
        "_url",
        "_why",
        "headers",
        "on_end",
        "status",
    )

    def __init__(
        self,
        source: Source,
        status: int,
        headers: Mapping[str, str],
        *,
        url: str,
        deadline: float | None,
        idle: float,
        on_end: Callable[[Arriving], None],
    ) -> None:
        """`idle` is in seconds, `deadline` an instant of `loop.time()`; `on_end` gives the slot back, called once."""
        self._loop = asyncio.get_running_loop()
        self._source = source
        self.status = status
        self.headers = headers
        self._url = url
        self._deadline = _NEVER if deadline is None else deadline
        self._idle = idle
        self.on_end = on_end
        encoding = headers.get("content-encoding", "").strip().lower()
        self._inflater = Inflater(encoding, url) if encoding not in ("", "identity") else None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._why: LMError | None = None
        self._end: str | None = None
        """`whole` once the end was read, `closed` where it will not be; `None` before."""
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = self._until = _NEVER
        self._since = 0.0
        self._take: Take | None = None

    async def read(self) -> bytes:
        """See `base.Incoming.read`."""
        if self._is_over():
            return b""
        inflater = self._inflater
        if inflater is None:
            return await self._watched(self._source.next)
        while True:
            data = b"" if inflater.pending else await self._watched(self._source.next)
            if not data and not inflater.pending:
                return self._inflated_whole(inflater)
            plain = await self._inflated(inflater, data)
            if plain:
                return plain

    async def pour(self, take: Take) -> bool:
        """See `base.Incoming.pour`."""
        if self._inflater is not None:
            return await poured(self.read, take)
        if self._is_over():
            return False
        self._take = take
        try:
            return await self._watched(self._source.pour, self._heard)
        finally:
            self._take = None

    async def aclose(self) -> None:
        """See `base.Incoming.aclose`."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._interrupt(self._closed())
            self._gone = self._gone or self._loop.create_future()
            await asyncio.shield(self._gone)
        elif self._end is None:
            await self._leave("closed")

    def _is_over(self) -> bool:
        """Whether the end was read. Raises where nothing may be read."""
        if self._end is not None:
            if self._end == "whole":
                return True
            raise self._closed()
        if self._task is not None:
            msg = "two tasks read one answer at the same time"
            raise RuntimeError(msg)
        return False

    def _heard(self, data: bytes) -> bool:
        """Bytes have come while they are poured: silence begins anew."""
        assert self._take is not None
        self._since = now = self._loop.time()
        self._until = min(now + self._idle, self._deadline)
        return self._take(data)

    async def _watched(self, ask: Callable[P, Awaitable[T]], *args: P.args, **more: P.kwargs) -> T:
        """What the source gives, watched; when that is nothing, all is over and given back."""
        task = asyncio.current_task()
        assert task is not None
        self._since = now = self._loop.time()
        if now >= self._deadline:
            await self._leave("closed")
            raise self._late()
        self._watch(min(now + self._idle, self._deadline))
        self._task, self._cancelling = task, task.cancelling()
        try:
            found = await ask(*args, **more)
        except asyncio.CancelledError:
            why, self._why, self._task = self._why, None, None
            ours = why is not None and task.uncancel() <= self._cancelling
            await self._leave("closed")
            if ours:
                assert why is not None
                raise why from None
            raise
        except BaseException:
            self._task = None
            await self._leave("closed")
            raise
        self._task = None
        if not found:
            await self._leave("whole")
        return found

    async def _inflated(self, inflater: Inflater, data: bytes) -> bytes:
        try:
            return inflater.feed(data)
        except LMTransportError:
            await self._leave("closed")
            raise

    def _inflated_whole(self, inflater: Inflater) -> bytes:
        try:
            inflater.finish()
        except LMTransportError:
            self._end = "closed"  # what is asked for again is no whole answer either
            raise
        return b""

    async def _leave(self, end: str) -> None:
        """The one end: timer, slot and connection are given back."""
        self._end = end
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            await self._source.release(end == "whole")
        finally:
            self.on_end(self)
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)

    def _watch(self, until: float) -> None:
        self._until = until
        if until < self._armed:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = until
            self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        """The timer went off: does somebody read, and is it too late? A reader that does not read is not timed."""
        self._timer = None
        self._armed = _NEVER
        if self._task is None:
            return
        if self._loop.time() >= self._until:
            self._interrupt(self._late())
        else:
            self._watch(self._until)

    def _interrupt(self, why: LMError) -> None:
        """End the `read` that waits, with this error. The first reason counts."""
        if self._why is None and self._task is not None:
            self._why = why
            self._task.cancel()

    def _late(self) -> LMTimeoutError:
        now = self._loop.time()
        if self._deadline <= now:
            why = "the time of the attempt was up (the LM's timeout or the call's deadline)"
            text = f"{bare(self._url)}: {why} while the answer arrived"
            return LMTimeoutError(text, phase="total")
        text = f"{bare(self._url)}: the answer stopped arriving; gave up after {now - self._since:.3g} s of silence"
        return LMTimeoutError(text, phase="idle")

    def _closed(self) -> LMTransportError:
        return transport_error("the answer was closed before its end", self._url, "closed")


async def poured(read: Callable[[], Awaitable[bytes]], take: Take) -> bool:
    """`Incoming.pour` by reads."""
    while data := await read():
        if not take(data):
            return True
    return False
