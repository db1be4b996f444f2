"""How an answer that is read as it arrives ends early on every transport, as runnable checks: late, left, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import Incoming, TransportFactory, TransportSettings
from dspy_actors.testing.peer import SILENCE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import (
    LAST_CHUNK,
    Check,
    cancel,
    chunk,
    chunked_head,
    open_failure,
    opened,
    read_failure,
    request_to,
    rest_of,
    soon,
)


async def it_calls_a_silence_idle(factory: TransportFactory) -> None:
    begun = Reaction(chunked_head() + chunk(b"a"))
    async with Peer(begun) as peer, opened(factory, peer, TransportSettings(body=30.0)) as transport:
        answer = await transport.open(request_to(peer), idle=0.05)
        await answer.read()
        error = await read_failure(answer)
        assert (type(error), error.phase) == (LMTimeoutError, "idle")
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_takes_the_settings_for_what_is_not_said(factory: TransportFactory) -> None:
    settings = TransportSettings(body=0.05, first_byte=0.05)
    async with Peer(Reaction(chunked_head()), SILENCE) as peer, opened(factory, peer, settings) as transport:
        assert (await read_failure(await transport.open(request_to(peer)))).phase == "idle"
        assert (await open_failure(transport, peer)).phase == "first_byte"


async def it_does_not_time_a_reader_that_does_not_read(factory: TransportFactory) -> None:
    gate = asyncio.Event()
    late = Reaction(chunked_head() + chunk(b"a"), then=Reaction(chunk(b"b") + LAST_CHUNK, gate=gate))
    async with Peer(late) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer), idle=0.05)
        await answer.read()
        await asyncio.sleep(0.1)
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        gate.set()
        assert await reading == b"b"
        assert await answer.read() == b""


async def it_ends_at_the_deadline_although_bytes_arrive(factory: TransportFactory) -> None:
    async with Peer(Reaction(chunked_head())) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer), deadline=soon(0.1), idle=30.0)
        talking = asyncio.create_task(_talk(peer))
        error = await read_failure(answer)
        await cancel([talking])
        assert (type(error), error.phase) == (LMTimeoutError, "total")
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_ends_at_the_deadline_although_nobody_read(factory: TransportFactory) -> None:
    async with Peer(reply(200, b"body")) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer), deadline=soon(0.1))
        await asyncio.sleep(0.15)
        assert (await read_failure(answer)).phase == "total"


async def it_names_the_phase_in_which_it_could_not_open(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer, TransportSettings(connections=1)) as transport:
        assert (await open_failure(transport, peer, first_byte=0.05)).phase == "first_byte"
        assert (await open_failure(transport, peer, deadline=soon(0.05))).phase == "total"
        first = asyncio.create_task(transport.open(request_to(peer)))
        await peer.until(requests=3)
        assert (await open_failure(transport, peer, deadline=soon(0.05))).phase == "queue"
        await cancel([first])


async def it_closes_the_connection_of_a_cancelled_read(factory: TransportFactory) -> None:
    async with (
        Peer(Reaction(chunked_head()), reply()) as peer,
        opened(factory, peer, TransportSettings(connections=1)) as one,
    ):
        answer = await one.open(request_to(peer))
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        await cancel([reading])
        assert reading.cancelled()
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        assert (await read_failure(answer)).provider_code == "closed"
        assert (await one.send(request_to(peer))).status == 200


async def it_closes_the_connection_of_a_cancelled_open(factory: TransportFactory) -> None:
    """Cancelled after each number of turns of the loop; each time the only slot is free again."""
    silent = (SILENCE for _ in range(100))
    async with Peer(*silent) as peer, opened(factory, peer, TransportSettings(connections=1)) as transport:
        for turns in range(30):
            task = asyncio.create_task(transport.open(request_to(peer)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel([task])
            assert task.cancelled()
            await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_ends_a_read_that_another_task_closes(factory: TransportFactory) -> None:
    async with Peer(Reaction(chunked_head())) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        reading = asyncio.create_task(read_failure(answer))
        await asyncio.sleep(0)
        await answer.aclose()
        assert (await asyncio.wait_for(reading, 1.0)).provider_code == "closed"
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_ends_answers_under_way_when_it_is_closed(factory: TransportFactory) -> None:
    async with Peer(Reaction(chunked_head())) as peer, opened(factory, peer) as transport:
        unread, read = [await transport.open(request_to(peer)) for _ in range(2)]
        reading = asyncio.create_task(read_failure(read))
        await asyncio.sleep(0)
        await transport.aclose()
        assert isinstance(await asyncio.wait_for(reading, 1.0), LMTransportError)
        assert isinstance(await read_failure(unread), LMTransportError)
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        await unread.aclose()
        assert (await open_failure(transport, peer)).provider_code == "closed"


async def it_gives_its_slot_back_once_however_it_ends(factory: TransportFactory) -> None:
    for end in (_end_read, _end_closed, _end_closed_while_read, _end_cancelled, _end_failed):
        await _check_slots(
            factory, Reaction(chunked_head() + chunk(b"a") + (LAST_CHUNK if end is _end_read else b"")), end
        )
    for cut in (Reaction(chunked_head(), close=True), Reaction(chunked_head() + b"nonsense")):
        await _check_slots(factory, cut, _end_failed)


END_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))


async def _talk(peer: Peer) -> None:
    while True:
        peer.say(chunk(b"more"))
        await asyncio.sleep(0.005)


async def _check_slots(
    factory: TransportFactory, reaction: Reaction, end: Callable[[Incoming], Awaitable[None]]
) -> None:
    """After such an answer and such an end, as many requests as there are connections are on their way at once."""
    async with Peer(reaction, SILENCE) as peer, opened(factory, peer, TransportSettings(connections=2)) as transport:
        try:
            answer = await transport.open(request_to(peer), idle=0.05, deadline=soon(30.0))
        except LMTransportError:
            pass  # nonsense that came with the head may be told at once
        else:
            await end(answer)
        tasks = [asyncio.create_task(transport.send(request_to(peer))) for _ in range(5)]
        await asyncio.wait_for(peer.until(requests=3, open_connections=2), 1.0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(peer.seen) == 3, f"{len(peer.seen) - 1} requests are on 2 connections after {end.__name__}"
        await cancel(tasks)


async def _end_read(answer: Incoming) -> None:
    await rest_of(answer)
    await answer.aclose()


async def _end_closed(answer: Incoming) -> None:
    await asyncio.gather(answer.aclose(), answer.aclose())


async def _end_closed_while_read(answer: Incoming) -> None:
    reading = asyncio.create_task(read_failure(answer))
    await asyncio.sleep(0)
    await asyncio.gather(answer.aclose(), answer.aclose(), reading)


async def _end_cancelled(answer: Incoming) -> None:
    reading = asyncio.create_task(rest_of(answer))
    await asyncio.sleep(0)
    await cancel([reading])
    await answer.aclose()


async def _end_failed(answer: Incoming) -> None:
    await read_failure(answer)
    await answer.aclose()
