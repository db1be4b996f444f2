"""Checks of transports, continued: a connection that was dropped while it was idle costs one second try, no more."""

from __future__ import annotations

import asyncio

from dspy_actors.lm.transports.base import TransportFactory
from dspy_actors.lm.transports.observer import WhenSent
from dspy_actors.testing.peer import CLOSE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import Check, failure, opened, request_to


async def it_tries_again_when_an_idle_connection_was_dropped(factory: TransportFactory) -> None:
    async with Peer(reply(), CLOSE, reply(200, b"again")) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        answer = await transport.send(request_to(peer))
    assert answer.body == b"again"
    assert [seen.connection for seen in peer.seen] == [1, 1, 2]


async def it_notices_before_sending_that_an_idle_connection_was_closed(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        peer.hang_up()
        await peer.until(open_connections=0)
        await transport.send(request_to(peer))
        assert (peer.accepted, len(peer.seen)) == (2, 2)


async def it_takes_nothing_said_unasked_for_an_answer(factory: TransportFactory) -> None:
    async with Peer(reply(200, b"first"), reply(200, b"second")) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        peer.say(reply(408, b"too slow").data)
        for _ in range(5):
            await asyncio.sleep(0)
        answer = await transport.send(request_to(peer))
    assert (answer.status, answer.body) == (200, b"second")


async def it_tries_again_once_only(factory: TransportFactory) -> None:
    async with Peer(reply(), CLOSE) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        await failure(transport, request_to(peer))
    assert len(peer.seen) == 3


async def it_tries_again_on_a_new_connection(factory: TransportFactory) -> None:
    """What was idle beside a connection that was dropped may be dropped too."""
    gate = asyncio.Event()
    first = Reaction(reply().data, gate=gate)
    async with Peer(first, first, CLOSE, reply()) as peer, opened(factory, peer) as transport:
        both = [asyncio.create_task(transport.send(request_to(peer))) for _ in range(2)]
        await peer.until(requests=2)
        gate.set()
        await asyncio.gather(*both)
        await transport.send(request_to(peer))
    assert [seen.connection for seen in peer.seen[3:]] == [3]


async def it_does_not_try_again_on_a_new_connection(factory: TransportFactory) -> None:
    async with Peer(CLOSE) as peer, opened(factory, peer) as transport:
        await failure(transport, request_to(peer))
    assert len(peer.seen) == 1


async def it_says_sent_as_often_as_the_server_saw_the_request(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer(reply(), CLOSE, reply()) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        await transport.send(request_to(peer), observer=WhenSent(lambda: sent.append(1)))
    assert len(sent) == len(peer.seen) - 1 == 2


async def it_does_not_try_again_once_the_answer_began(factory: TransportFactory) -> None:
    begun = Reaction(b"HTTP/1.1 200 Said\r\nContent-Length: 5\r\n\r\n", close=True)
    async with Peer(reply(), begun) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        await failure(transport, request_to(peer))
    assert len(peer.seen) == 2


SECOND_TRIES: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))
