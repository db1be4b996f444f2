"""Checks of transports, continued: what `aclose` does to requests under way, in whichever phase they are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, TransportFactory, TransportSettings
from dspy_actors.testing.peer import SILENCE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import Check, cancel, failure, open_failure, opened, request_to

_SOON = 4.0
"""Seconds in which it must be over; each limit of a transport is longer."""

_BIG = b"x" * 20_000_000
_HALF = Reaction(b"HTTP/1.1 200 Said\r\nContent-Length: 10\r\n\r\nhalf")


async def it_closes_everything_and_closes_twice(factory: TransportFactory) -> None:
    async with Peer() as peer:
        transport = factory(peer.url, TransportSettings())
        await transport.send(request_to(peer))
        await transport.aclose()
        await transport.aclose()
        await asyncio.wait_for(peer.until(open_connections=0), _SOON)
        error = await failure(transport, request_to(peer))
    assert error.provider_code == "closed"


async def it_ends_a_request_that_waits_for_its_answer(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer:
        await _check_end(factory, peer, request_to(peer), requests=1)


async def it_ends_a_request_whose_answer_arrives(factory: TransportFactory) -> None:
    async with Peer(_HALF) as peer:
        await _check_end(factory, peer, request_to(peer), requests=1)


async def it_ends_a_request_that_is_being_written(factory: TransportFactory) -> None:
    async with Peer(read_bodies=False) as peer:
        await _check_end(factory, peer, HTTPRequest("POST", peer.url, {}, _BIG), reads=False)


async def it_ends_a_request_that_is_being_connected(factory: TransportFactory) -> None:
    async with _full_house() as url:
        transport = factory(url, TransportSettings())
        task = asyncio.create_task(failure(transport, HTTPRequest("POST", url, {}, b"{}")))
        await _turns()
        await asyncio.wait_for(transport.aclose(), _SOON)
        assert (await asyncio.wait_for(task, _SOON)).provider_code == "closed"


async def it_ends_a_request_in_its_handshake(factory: TransportFactory) -> None:
    async with Peer() as peer:
        secure = HTTPRequest("POST", peer.url.replace("http:", "https:"), {}, b"{}")
        await _check_end(factory, peer, secure)


async def it_ends_a_request_that_waits_for_a_connection(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer:
        transport = factory(peer.url, TransportSettings(connections=1))
        tasks = [asyncio.create_task(failure(transport, request_to(peer))) for _ in range(3)]
        await peer.until(requests=1)
        await asyncio.wait_for(transport.aclose(), _SOON)
        ends = await asyncio.wait_for(asyncio.gather(*tasks), _SOON)
        assert [end.provider_code for end in ends] == ["closed"] * 3
        assert len(peer.seen) == 1


async def it_ends_a_request_that_is_being_opened(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer:
        transport = factory(peer.url, TransportSettings())
        task = asyncio.create_task(open_failure(transport, peer))
        await peer.until(requests=1)
        await asyncio.wait_for(transport.aclose(), _SOON)
        assert (await asyncio.wait_for(task, _SOON)).provider_code == "closed"
        await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def it_may_be_closed_in_any_turn(factory: TransportFactory) -> None:
    """Whatever a request does in the turn in which it is closed: an answer, or the one error, and nothing is left."""
    async with Peer(reply(), SILENCE) as peer:
        for turns in range(40):
            transport = factory(peer.url, TransportSettings())
            sending = asyncio.create_task(transport.send(request_to(peer)))
            opening = asyncio.create_task(transport.open(request_to(peer)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(transport.aclose(), _SOON)
            ends = await asyncio.wait_for(asyncio.gather(sending, opening, return_exceptions=True), _SOON)
            codes = {end.provider_code for end in ends if isinstance(end, LMTransportError)}
            assert codes <= {"closed"}, f"closed in turn {turns}"
            assert not [end for end in ends if isinstance(end, BaseException) and not isinstance(end, LMTransportError)]
            await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def it_lets_a_task_that_is_cancelled_too_be_cancelled(factory: TransportFactory) -> None:
    """Who cancels a request in the turn in which its transport is closed is to see it cancelled."""
    async with Peer(SILENCE) as peer, opened(factory, peer) as transport:
        task = asyncio.create_task(transport.send(request_to(peer)))
        await peer.until(requests=1)
        closing = asyncio.create_task(transport.aclose())
        await asyncio.sleep(0)
        await cancel([task])
        assert task.cancelled()
        await asyncio.wait_for(closing, _SOON)


async def _check_end(
    factory: TransportFactory, peer: Peer, request: HTTPRequest, requests: int = 0, reads: bool = True
) -> None:
    """Close a transport under a request. A peer that reads learns that the connection is gone."""
    transport = factory(peer.url, TransportSettings())
    task = asyncio.create_task(failure(transport, request))
    await peer.until(open_connections=1, requests=requests)
    await _turns()
    await asyncio.wait_for(transport.aclose(), _SOON)
    error = await asyncio.wait_for(task, _SOON)
    assert isinstance(error, LMTransportError)
    assert error.provider_code == "closed"
    if reads:
        await asyncio.wait_for(peer.until(open_connections=0), _SOON)


async def _turns() -> None:
    """Let the loop turn a few times, so that what can go on by itself has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def _full_house() -> AsyncIterator[str]:
    """The URL of a server that accepts nobody and whose queue is full: connections to it are not made."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        callers = [socket.socket() for _ in range(3)]
        try:
            for caller in callers:
                caller.setblocking(False)
                caller.connect_ex(server.getsockname())
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            for caller in callers:
                caller.close()


CLOSING_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))
