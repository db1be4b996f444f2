"""A body in chunks goes from the protocol to its reader: at once where it is poured, else kept within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspy_actors.lm.transports.broken import Broken
from dspy_actors.lm.transports.chunked_body import AHEAD, ChunkedBody
from dspy_actors.testing.transport_tools import LAST_CHUNK, chunk


class Transport(asyncio.Transport):
    """Says whether it is being read from."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Pouring:
    """A body that is poured into `got`, until `stop` pieces have come."""

    def __init__(self, stop: int = 1000) -> None:
        self.transport = Transport()
        self.body = ChunkedBody(self.transport)
        self.got: list[bytes] = []
        self.stop = stop

    async def begin(self) -> asyncio.Task[bool]:
        task = asyncio.create_task(self.body.pour(self._take))
        await asyncio.sleep(0)
        return task

    def _take(self, data: bytes) -> bool:
        self.got.append(data)
        return len(self.got) < self.stop


def test_poured_bytes_are_there_before_the_loop_turns() -> None:
    async def once() -> list[bytes]:
        pouring = Pouring()
        task = await pouring.begin()
        pouring.body.received(chunk(b"one"))
        pouring.body.received(chunk(b"two") + b"3\r\nth")
        pouring.body.received(b"r\r\n")
        got = list(pouring.got)
        pouring.body.received(LAST_CHUNK)
        assert not await task
        return got

    assert asyncio.run(once()) == [b"one", b"twoth", b"r"]


def test_what_comes_after_it_wanted_no_more_is_kept_for_later() -> None:
    async def once() -> tuple[bool, list[bytes], bytes, bytes]:
        pouring = Pouring(stop=1)
        task = await pouring.begin()
        pouring.body.received(chunk(b"one"))
        pouring.body.received(chunk(b"two"))  # before the task has had its turn
        more = await task
        pouring.body.received(LAST_CHUNK)
        return more, pouring.got, await pouring.body.next(), await pouring.body.next()

    assert asyncio.run(once()) == (True, [b"one"], b"two", b"")


def test_a_socket_whose_reader_is_behind_is_left_alone_until_it_comes_back() -> None:
    async def once() -> list[bool]:
        pouring = Pouring()
        seen: list[bool] = []
        pouring.body.received(chunk(b"x" * (AHEAD - 100)))
        seen.append(pouring.transport.reading)
        pouring.body.received(chunk(b"x" * 100))
        seen.append(pouring.transport.reading)
        task = await pouring.begin()
        seen.append(pouring.transport.reading)
        pouring.body.received(LAST_CHUNK)
        await task
        return seen

    assert asyncio.run(once()) == [True, False, True]


def test_an_error_of_whoever_takes_comes_out_where_it_pours() -> None:
    async def once() -> bytes:
        pouring = Pouring()

        def fails(data: bytes) -> bool:
            raise KeyError(data)

        task = asyncio.create_task(pouring.body.pour(fails))
        await asyncio.sleep(0)
        pouring.body.received(chunk(b"one"))
        pouring.body.received(chunk(b"two"))
        with pytest.raises(KeyError, match="one"):
            await task
        return await pouring.body.next()

    assert asyncio.run(once()) == b"two"


@pytest.mark.parametrize(("then", "match"), [(None, "reset or closed"), (b"zz\r\n", "size")])
def test_a_body_that_breaks_says_so_after_what_had_come(then: bytes | None, match: str) -> None:
    async def once() -> tuple[list[bytes], Any]:
        pouring = Pouring()
        task = await pouring.begin()
        pouring.body.received(chunk(b"one"))
        if then is None:
            pouring.body.lost()
        else:
            pouring.body.received(then)
        (end,) = await asyncio.gather(task, return_exceptions=True)
        return pouring.got, end

    got, end = asyncio.run(once())
    assert got == [b"one"]
    with pytest.raises(Broken, match=match):
        raise end


def test_it_is_over_where_nothing_follows_the_end() -> None:
    async def once(last: bytes) -> tuple[bytes, bool]:
        body = ChunkedBody(Transport())
        body.received(chunk(b"one"))
        body.received(last)
        data = await body.next()
        return data + await body.next(), body.over

    assert asyncio.run(once(LAST_CHUNK)) == (b"one", True)
    assert asyncio.run(once(LAST_CHUNK + b"HTTP/1.1 200")) == (b"one", False)
