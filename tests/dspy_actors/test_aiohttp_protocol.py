"""Chunks that were expected go past aiohttp's parser; all else, and every head, goes through it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientPayloadError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_actors.lm.transports.aiohttp_protocol import ChunkedHandler
from dspy_actors.testing.transport_tools import LAST_CHUNK, chunk

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
BODY = chunk(b"data: one\n\n") + chunk(b"data: two\n\n") + LAST_CHUNK


class Transport(asyncio.Transport):
    def close(self) -> None: ...


class Connection:
    """A handler on which a request was just sent."""

    def __init__(self, expecting: bool = True) -> None:
        self.handler = ChunkedHandler(asyncio.get_running_loop())
        self.handler.connection_made(Transport())
        self.send(expecting)

    def send(self, expecting: bool = True) -> None:
        self.handler.set_response_params(read_until_eof=True, auto_decompress=False)
        if expecting:
            self.handler.expect()

    def feed(self, *reads: bytes) -> None:
        for data in reads:
            self.handler.data_received(data)

    async def answer(self) -> tuple[int, bool, bytes]:
        """Status, whether its body went past aiohttp, and the body; both kinds are at their end."""
        message, payload = await self.handler.read()
        while message.code < 200:
            message, payload = await self.handler.read()
        body = self.handler.body
        if body is None:
            return message.code, False, await payload.read()
        data = b""
        while more := await body.next():
            data += more
        self.handler.end(body.over)
        assert await payload.read() == b"", "aiohttp's reader is told of the end, and of nothing else"
        return message.code, True, data


def answered(*reads: bytes, expecting: bool = True) -> tuple[int, bool, bytes]:
    async def once() -> tuple[int, bool, bytes]:
        connection = Connection(expecting)
        connection.feed(*reads)
        return await connection.answer()

    return asyncio.run(once())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, len(HINTS + CHUNKED + BODY)), max_size=12), st.booleans())
def test_any_cut_gives_the_same(places: list[int], hints: bool) -> None:
    text = (HINTS if hints else b"") + CHUNKED + BODY
    cuts = sorted({place for place in places if place < len(text)})
    reads = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert answered(*reads) == (200, True, b"data: one\n\ndata: two\n\n")


def test_chunks_of_a_refusal_go_past_aiohttp_too() -> None:
    assert answered(CHUNKED.replace(b"200 OK", b"404 None"), BODY)[:2] == (404, True)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + LAST_CHUNK, 200),
    ],
)
def test_what_is_no_plain_answer_in_chunks_is_left_to_aiohttp(answer: bytes, status: int) -> None:
    assert answered(answer) == (status, False, b"abc")
    assert answered(*(answer[at : at + 1] for at in range(len(answer)))) == (status, False, b"abc")


def test_who_reads_what_is_left_to_aiohttp_is_told_when_it_is_no_http() -> None:
    async def once() -> None:
        connection = Connection()
        connection.feed(b"\r\n" + CHUNKED + chunk(b"abc"))
        _, payload = await connection.handler.read()
        connection.feed(b"no size\r\n")
        with pytest.raises(ClientPayloadError):
            await asyncio.wait_for(payload.read(), 10.0)

    asyncio.run(once())


def test_an_answer_that_was_not_expected_to_flow_is_left_to_aiohttp() -> None:
    assert answered(CHUNKED + BODY, expecting=False) == (200, False, b"data: one\n\ndata: two\n\n")


def test_a_head_without_an_end_is_given_to_aiohttp_which_refuses_it() -> None:
    async def once() -> BaseException | None:
        connection = Connection()
        connection.feed(b"HTTP/1.1 200 OK\r\nX-A: ", b"b" * 70_000)
        return connection.handler.exception()

    assert asyncio.run(once()) is not None


def test_the_connection_carries_another_answer_after_a_clean_end_only() -> None:
    async def once(behind: bytes) -> tuple[bool, bool]:
        connection = Connection()
        connection.feed(CHUNKED, BODY + behind)
        await connection.handler.read()
        body = connection.handler.body
        assert body is not None
        while await body.next():
            pass
        over = body.over
        connection.handler.end(over)
        return over, connection.handler.should_close

    assert asyncio.run(once(b"")) == (True, False)
    assert asyncio.run(once(b"HTTP/1.1 200")) == (False, True)


def test_two_answers_come_one_after_the_other() -> None:
    async def once() -> list[tuple[int, bool, bytes]]:
        connection = Connection()
        connection.feed(CHUNKED + BODY)
        first = await connection.answer()
        connection.send(expecting=False)
        connection.feed(CHUNKED + BODY)
        return [first, await connection.answer()]

    assert asyncio.run(once()) == [
        (200, True, b"data: one\n\ndata: two\n\n"),
        (200, False, b"data: one\n\ndata: two\n\n"),
    ]


def test_a_part_of_a_head_is_told_from_silence() -> None:
    async def once(*reads: bytes) -> object:
        connection = Connection()
        connection.feed(*reads)
        connection.handler.connection_lost(None)
        (end,) = await asyncio.gather(connection.handler.read(), return_exceptions=True)
        return getattr(end, "message", end)

    assert isinstance(asyncio.run(once()), str)
    assert not isinstance(asyncio.run(once(b"HTTP/1.1 2")), str)
