"""An answer that arrives ends once, whatever comes together: bytes, an end, a limit, a cancellation, a closing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.arriving import Arriving, poured
from dspy_actors.lm.transports.base import Take, transport_error
from tests.dspy_actors.pouring import PouringIncoming

ACTIONS = ("read", "pour", "data", "end", "fail", "cancel", "close", "turn")


class Source:
    """Bytes on demand. `late` says how many turns of the loop giving the connection back takes."""

    def __init__(self, late: int) -> None:
        self.said: list[bytes | Exception] = []
        self.late = late
        self.released: list[bool] = []
        self.asked = self.finished = 0
        self._more = asyncio.Event()

    def say(self, what: bytes | Exception) -> None:
        self.said.append(what)
        self._more.set()

    async def next(self) -> bytes:
        assert not self.released, "asked after it was released"
        assert self.asked == self.finished, "asked twice at once"
        self.asked += 1
        try:
            while not self.said:
                self._more.clear()
                await self._more.wait()
            what = self.said.pop(0)
        finally:
            self.finished += 1
        if isinstance(what, Exception):
            raise what
        return what

    async def pour(self, take: Take) -> bool:
        return await poured(self.next, take)

    async def release(self, clean: bool) -> None:
        assert self.asked == self.finished, "released while somebody reads"
        self.released.append(clean)
        for _ in range(self.late):
            await asyncio.sleep(0)


class Play:
    """Actions on one answer, and what must hold of them."""

    def __init__(self, idle: float, late: int) -> None:
        self.source = Source(late)
        self.ended = 0
        self.arriving = Arriving(
            self.source, 200, {}, url="http://a/v1", deadline=None, idle=idle, on_end=lambda _: self._count()
        )
        self.idle = idle
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.reads: list[asyncio.Task[bytes]] = []
        self.cancelled: set[asyncio.Task[bytes]] = set()
        self.closing: list[asyncio.Task[None]] = []

    def _count(self) -> None:
        self.ended += 1

    async def act(self, action: str) -> None:
        reading = self.reads[-1] if self.reads and not self.reads[-1].done() else None
        if action == "read" and reading is None:
            self.reads.append(asyncio.create_task(self._read()))
        elif action == "pour" and reading is None:
            self.reads.append(asyncio.create_task(self._read(PouringIncoming(self.arriving))))
        elif action == "data":
            self.sent.append(b"%d" % len(self.sent))
            self.source.say(self.sent[-1])
        elif action == "end":
            self.source.say(b"")
        elif action == "fail":
            self.source.say(transport_error("it broke", "http://a/v1", "cut"))
        elif action == "cancel" and reading is not None:
            self.cancelled.add(reading)
            reading.cancel()
        elif action == "close":
            self.closing.append(asyncio.create_task(self._close()))
        elif action == "turn":
            await asyncio.sleep(0)

    async def _read(self, arriving: Arriving | PouringIncoming | None = None) -> bytes:
        try:
            return await (arriving or self.arriving).read()
        except BaseException:
            assert self.source.released, "a read has failed and the connection is still held"
            raise

    async def _close(self) -> None:
        await self.arriving.aclose()
        assert self.source.released, "it says that it is closed, and is not"

    async def finish(self) -> None:
        await asyncio.sleep(0)
        await asyncio.wait_for(self.arriving.aclose(), 1.0)
        ends: list[Any] = await asyncio.wait_for(asyncio.gather(*self.reads, return_exceptions=True), 1.0)
        await asyncio.wait_for(asyncio.gather(*self.closing), 1.0)
        assert (self.ended, len(self.source.released)) == (1, 1)
        assert self.arriving._timer is None
        for read, end in zip(self.reads, ends, strict=True):
            self._check(read, end)
        assert self.got == self.sent[: len(self.got)], "bytes are lost or out of order"
        with pytest.raises(LMTransportError, match="closed") if not self.source.released[0] else _nothing():
            assert await self.arriving.read() == b""

    def _check(self, read: asyncio.Task[bytes], end: Any) -> None:
        if isinstance(end, bytes):
            self.got += [end] if end else []
            assert end or self.source.released == [True], "an end in good order that was none"
        elif isinstance(end, asyncio.CancelledError):
            assert read in self.cancelled, "a read was cancelled that nobody cancelled"
        elif isinstance(end, LMTimeoutError):
            assert (end.phase, self.idle) == ("idle", 0.0)
        else:
            assert isinstance(end, LMTransportError), repr(end)
            assert end.provider_code in ("cut", "closed")
        assert read not in self.cancelled or isinstance(end, (bytes, asyncio.CancelledError, LMTransportError))


class _nothing:  # noqa: N801
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


async def played(actions: list[str], idle: float, late: int) -> Play:
    play = Play(idle, late)
    for action in actions:
        await play.act(action)
    await play.finish()
    return play


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(ACTIONS), max_size=14), st.sampled_from([0.0, 30.0]), st.integers(0, 2))
@example(["read", "turn", "close", "cancel"], 30.0, 1)
@example(["read", "turn", "data", "cancel", "read"], 30.0, 0)
@example(["read", "turn", "end", "close", "turn", "read"], 30.0, 2)
@example(["read", "turn", "turn", "turn", "close", "read"], 0.0, 2)
def test_it_ends_once_whatever_comes_together(actions: list[str], idle: float, late: int) -> None:
    asyncio.run(played(actions, idle, late))


def test_a_cancellation_by_the_caller_is_never_taken_for_our_own() -> None:
    """The limit passes in the very turn in which the reader is cancelled: it is cancelled."""

    async def both() -> BaseException | bytes:
        play = Play(0.0, 0)
        read = asyncio.create_task(play.arriving.read())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(read.cancel)
        play.arriving._look()
        (end,) = await asyncio.gather(read, return_exceptions=True)
        await play.arriving.aclose()
        return end

    assert isinstance(asyncio.run(both()), asyncio.CancelledError)


def test_our_own_cancellation_leaves_no_trace_in_the_task() -> None:
    """Else an `asyncio.timeout` around it would never fire again."""

    async def once() -> tuple[int, str | None]:
        play = Play(0.0, 0)
        with pytest.raises(LMTimeoutError) as caught:
            await play.arriving.read()
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling(), caught.value.phase

    assert asyncio.run(once()) == (0, "idle")


def test_a_task_that_is_being_cancelled_may_still_read_as_it_cleans_up() -> None:
    async def clean_up() -> str | None:
        play = Play(0.0, 0)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(LMTimeoutError) as caught:
                await play.arriving.read()
            return caught.value.phase
        return None

    async def once() -> str | None:
        task = asyncio.create_task(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(once()) == "idle"


def test_bytes_that_are_poured_end_the_silence() -> None:
    async def once() -> tuple[list[bytes], float]:
        play = Play(30.0, 0)
        got: list[bytes] = []
        come = asyncio.Event()

        def take(data: bytes) -> bool:
            got.append(data)
            come.set()
            return True

        pour = asyncio.create_task(play.arriving.pour(take))
        await asyncio.sleep(0)
        before = play.arriving._until
        play.source.say(b"alive")
        await come.wait()
        after = play.arriving._until
        pour.cancel()
        await asyncio.gather(pour, return_exceptions=True)
        return got, after - before

    got, later = asyncio.run(once())
    assert got == [b"alive"]
    assert later > 0


def test_two_tasks_may_not_read_at_the_same_time() -> None:
    async def once() -> None:
        play = Play(30.0, 0)
        read = asyncio.create_task(play.arriving.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await play.arriving.read()
        play.source.say(b"still here")
        assert await read == b"still here"
        await play.arriving.aclose()

    asyncio.run(once())
