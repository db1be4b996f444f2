"""Checks of transports, continued: answers that are no proper HTTP are a typed error, and at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import TransportFactory, TransportSettings
from dspy_actors.testing.peer import Peer, Reaction, reply
from dspy_actors.testing.transport_tools import (
    LAST_CHUNK,
    Check,
    chunk,
    chunked_head,
    failure,
    open_failure,
    opened,
    read_failure,
    request_to,
    rest_of,
)

_SOON = 10.0
"""Seconds in which an error must come; the limits of the phases are longer."""

_NO_CHUNKS = (
    b"zz\r\nx\r\n",
    b"-1\r\nx\r\n",
    b"\r\nx\r\n",
    chunk(b"hello")[:-2] + b"no end",
    b"0\r\nno trailer\r\n\r\n",
)


async def it_refuses_what_are_no_chunks(factory: TransportFactory) -> None:
    """They come when the beginning was read, so that nothing but themselves can tell."""
    for nonsense in _NO_CHUNKS:
        assert await _codes(factory, chunked_head() + chunk(b"hello"), nonsense) == ("cut", "cut")


async def it_refuses_a_chunk_whose_size_has_no_end(factory: TransportFactory) -> None:
    """httpx's parser reads up to 100 KB of such a line before it refuses it; the others 8 KB."""
    assert await _codes(factory, chunked_head(), b"5;" + b"a" * 200_000) == ("cut", "cut")


async def it_bounds_a_chunk_of_any_size(factory: TransportFactory) -> None:
    """httpx's parser takes a size of 20 digits; `max_body` bounds what comes of it, and `body` how long none comes."""
    answer = Reaction(chunked_head() + b"fffffffffffffffff\r\n" + b"x" * 200_000)
    async with Peer(answer) as peer, opened(factory, peer, TransportSettings(max_body=100_000)) as transport:
        error = await asyncio.wait_for(failure(transport, request_to(peer)), _SOON)
        assert error.provider_code in ("cut", "too_large")
        await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def it_refuses_another_protocol(factory: TransportFactory) -> None:
    head = b"HTTP/1.1 101 Said\r\nConnection: upgrade\r\nUpgrade: chess\r\n\r\n"
    await _check_refused(factory, head, "cut")
    await _check_refused(factory, b"HTTP/1.1 101 Said\r\n\r\n", "cut")


async def it_refuses_a_transfer_coding_it_did_not_ask_for(factory: TransportFactory) -> None:
    for coding in (b"gzip, chunked", b"chunked\r\nTransfer-Encoding: chunked"):
        head = chunked_head().replace(b"chunked", coding)
        await _check_refused(factory, head + chunk(b"packed") + LAST_CHUNK, "encoding", "cut")


async def it_refuses_an_answer_with_two_lengths(factory: TransportFactory) -> None:
    """Chunks that also have a Content-Length: two readers may take two different bodies out of it."""
    await _check_refused(factory, chunked_head("Content-Length: 5") + chunk(b"hello") + LAST_CHUNK, "cut")


async def _check_refused(factory: TransportFactory, answer: bytes, *codes: str) -> None:
    """However it is asked for, it is refused, and the connection is closed."""
    async with Peer(Reaction(answer)) as peer, opened(factory, peer) as transport:
        for ask in (failure(transport, request_to(peer)), open_failure(transport, peer)):
            error = await asyncio.wait_for(ask, _SOON)
            assert isinstance(error, LMTransportError)
            assert error.provider_code in codes
            await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def _codes(factory: TransportFactory, begin: bytes, nonsense: bytes) -> tuple[str | None, str | None]:
    """What `send` and what reading ends in where `nonsense` comes later than `begin`."""
    gate = asyncio.Event()
    late = Reaction(begin, then=Reaction(nonsense, gate=gate))
    async with Peer(late) as peer, opened(factory, peer) as transport:
        sending = asyncio.create_task(failure(transport, request_to(peer)))
        opening = asyncio.create_task(transport.open(request_to(peer)))
        await peer.until(requests=2)
        answer = await asyncio.wait_for(opening, _SOON)
        reading = asyncio.create_task(read_failure(answer))
        for _ in range(10):
            await asyncio.sleep(0)
        gate.set()
        sent = await asyncio.wait_for(sending, _SOON)
        read = await asyncio.wait_for(reading, _SOON)
        await asyncio.wait_for(peer.until(open_connections=0), _SOON)
    return sent.provider_code, read.provider_code


async def it_cuts_a_refusal_at_the_bound(factory: TransportFactory) -> None:
    """Its status says what it is; with an error in its place a key that is out of money was asked again."""
    for body in (b"x" * 1000, b"x" * 5000):
        peer = Peer(reply(429, body, "Retry-After: 7"), reply())
        async with peer, opened(factory, peer, TransportSettings(max_body=1000)) as transport:
            answer = await transport.send(request_to(peer))
            assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "7", b"x" * 1000)
            assert (await transport.send(request_to(peer))).status == 200
            await peer.until(open_connections=1)


async def it_keeps_the_status_of_a_refusal_that_cannot_be_decompressed(factory: TransportFactory) -> None:
    for status in (302, 429):
        head = f"HTTP/1.1 {status} No\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\n".encode()
        async with (peer := Peer(Reaction(head + b"nonsense"))), opened(factory, peer) as transport:
            answer = await transport.send(request_to(peer))
            assert (answer.status, answer.body) == (status, b"")


async def it_keeps_the_status_of_a_refusal_that_breaks_off(factory: TransportFactory) -> None:
    """And what had come of it. An error in its place has neither that nor the wait that the server asks for."""
    head = b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n"
    chunks = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"hello")
    begun = Reaction(head + b"Content-Length: 99\r\n\r\nhello")
    broken = [replace(begun, close=True), *(Reaction(chunks, then=Reaction(nonsense)) for nonsense in _NO_CHUNKS)]
    for reaction in (begun, *broken):
        settings = TransportSettings(body=0.2 if reaction is begun else 30.0)
        async with Peer(reaction) as peer, opened(factory, peer, settings) as transport:
            answer = await asyncio.wait_for(transport.send(request_to(peer)), _SOON)
            assert (answer.status, answer.headers["retry-after"]) == (429, "7")
            assert b"hellohello".startswith(answer.body)
            incoming = await asyncio.wait_for(transport.open(request_to(peer)), _SOON)
            if reaction is not begun:  # of one that has begun a reader is told that no more came
                assert b"hellohello".startswith(await asyncio.wait_for(rest_of(incoming), _SOON))
            await incoming.aclose()
            await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def it_waits_for_nothing_beyond_the_bound_of_a_refusal(factory: TransportFactory) -> None:
    peer = Peer(Reaction(b"HTTP/1.1 503 Down\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 1001), reply())
    async with peer, opened(factory, peer, TransportSettings(max_body=1000)) as transport:
        answer = await transport.send(request_to(peer))
        assert (answer.status, answer.body) == (503, b"x" * 1000)
        assert (await transport.send(request_to(peer))).status == 200


NONSENSE_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))
