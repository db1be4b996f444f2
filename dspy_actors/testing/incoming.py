"""What every transport must do with an answer that is read as it arrives, as runnable checks: `INCOMING_CHECKS`."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import Incoming, Inflater, Transport, TransportFactory, TransportSettings
from dspy_actors.testing.peer import CLOSE, SILENCE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import Check, cancel, opened, request_to, soon

_HEAD = b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n"
_END = b"0\r\n\r\n"


async def it_opens_as_soon_as_the_head_is_there(factory: TransportFactory) -> None:
    gate = asyncio.Event()
    late = Reaction(_head("X-Kind: Oolong"), then=Reaction(_chunk(b"tea") + _END, gate=gate))
    async with Peer(late) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        assert (answer.status, answer.headers["x-kind"], gate.is_set()) == (200, "Oolong", False)
        gate.set()
        assert await _rest(answer) == b"tea"
        assert await answer.read() == b""


async def it_gives_bytes_as_they_come(factory: TransportFactory) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    async with Peer(_gated(gates)) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        for number, gate in enumerate(gates):
            gate.set()
            assert await answer.read() == b"%d" % number
        assert await answer.read() == b""


async def it_opens_whatever_the_status(factory: TransportFactory) -> None:
    async with Peer(reply(429, b"slow down"), reply(200, b"")) as peer, opened(factory, peer) as transport:
        refused = await transport.open(request_to(peer))
        assert (refused.status, await _rest(refused)) == (429, b"slow down")
        assert await (await transport.open(request_to(peer))).read() == b""


async def it_may_be_read_by_another_task(factory: TransportFactory) -> None:
    gates = [asyncio.Event() for _ in range(2)]
    async with Peer(_gated(gates)) as peer, opened(factory, peer) as transport:
        answer = await asyncio.create_task(transport.open(request_to(peer)))
        for gate in gates:
            gate.set()
            assert await asyncio.create_task(answer.read())
        assert await asyncio.create_task(answer.read()) == b""
        await asyncio.create_task(answer.aclose())
        assert peer.open == 1


async def it_keeps_a_connection_that_was_read_to_its_end(factory: TransportFactory) -> None:
    chunked, counted = Reaction(_head() + _chunk(b"a") + _END), reply(200, b"b")
    async with Peer(chunked, counted, reply(200, b"")) as peer, opened(factory, peer) as transport:
        for body in (b"a", b"b", b""):
            assert await _rest(await transport.open(request_to(peer))) == body
        await transport.send(request_to(peer))
        assert peer.accepted == 1


async def it_closes_a_connection_that_was_not(factory: TransportFactory) -> None:
    first = Reaction(_head() + _chunk(b"a"))
    async with Peer(first, reply()) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        assert await answer.read() == b"a"
        await answer.aclose()
        await answer.aclose()
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        error = await _read_failure(answer)
        await transport.send(request_to(peer))
        assert (error.provider_code, peer.accepted) == ("closed", 2)


async def it_closes_one_of_which_nothing_was_read(factory: TransportFactory) -> None:
    begun = Reaction(_head() + _chunk(b"x" * 100_000))
    async with Peer(begun, reply()) as peer, opened(factory, peer) as transport:
        await (await transport.open(request_to(peer))).aclose()
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        await transport.send(request_to(peer))
        assert peer.accepted == 2


async def it_lets_the_server_wait_for_the_reader(factory: TransportFactory) -> None:
    body = b"x" * 20_000_000
    async with Peer(reply(200, body)) as peer, opened(factory, peer, TransportSettings(body=0.05)) as transport:
        answer = await transport.open(request_to(peer))
        got = len(await answer.read())
        for _ in range(2000):
            await asyncio.sleep(0)
        assert peer.delivered == 0, "the transport read ahead"
        while data := await answer.read():
            got += len(data)
        assert (got, peer.delivered) == (len(body), 1)


async def it_calls_a_silence_idle(factory: TransportFactory) -> None:
    begun = Reaction(_head() + _chunk(b"a"))
    async with Peer(begun) as peer, opened(factory, peer, TransportSettings(body=30.0)) as transport:
        answer = await transport.open(request_to(peer), idle=0.05)
        await answer.read()
        error = await _read_failure(answer)
        assert (type(error), error.phase) == (LMTimeoutError, "idle")
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_takes_the_settings_for_what_is_not_said(factory: TransportFactory) -> None:
    settings = TransportSettings(body=0.05, first_byte=0.05)
    async with Peer(Reaction(_head()), SILENCE) as peer, opened(factory, peer, settings) as transport:
        assert (await _read_failure(await transport.open(request_to(peer)))).phase == "idle"
        assert (await _open_failure(transport, peer)).phase == "first_byte"


async def it_does_not_time_a_reader_that_does_not_read(factory: TransportFactory) -> None:
    gate = asyncio.Event()
    late = Reaction(_head() + _chunk(b"a"), then=Reaction(_chunk(b"b") + _END, gate=gate))
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
    async with Peer(Reaction(_head())) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer), deadline=soon(0.1), idle=30.0)
        talking = asyncio.create_task(_talk(peer))
        error = await _read_failure(answer)
        await cancel([talking])
        assert (type(error), error.phase) == (LMTimeoutError, "total")
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_ends_at_the_deadline_although_nobody_read(factory: TransportFactory) -> None:
    async with Peer(reply(200, b"body")) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer), deadline=soon(0.1))
        await asyncio.sleep(0.15)
        assert (await _read_failure(answer)).phase == "total"


async def it_names_the_phase_in_which_it_could_not_open(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer, TransportSettings(connections=1)) as transport:
        assert (await _open_failure(transport, peer, first_byte=0.05)).phase == "first_byte"
        assert (await _open_failure(transport, peer, deadline=soon(0.05))).phase == "total"
        first = asyncio.create_task(transport.open(request_to(peer)))
        await peer.until(requests=3)
        assert (await _open_failure(transport, peer, deadline=soon(0.05))).phase == "queue"
        await cancel([first])


async def it_says_that_an_open_request_was_sent(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer(reply(), CLOSE, reply()) as peer, opened(factory, peer) as transport:
        for _ in range(2):  # the second one is tried twice, for its connection had been dropped
            await _rest(await transport.open(request_to(peer), on_sent=lambda: sent.append(1)))
        assert len(sent) == len(peer.seen) == 3


async def it_calls_a_cut_answer_a_transport_error(factory: TransportFactory) -> None:
    async with (
        Peer(Reaction(_head() + _chunk(b"half"), close=True), reply()) as peer,
        opened(factory, peer) as transport,
    ):
        answer = await transport.open(request_to(peer))
        assert await answer.read() == b"half"
        error = await _read_failure(answer)
        assert (type(error), error.provider_code) == (LMTransportError, "cut")
        await answer.aclose()
        await transport.send(request_to(peer))
        assert peer.accepted == 2


async def it_calls_a_reset_answer_a_transport_error(factory: TransportFactory) -> None:
    for head in (_head(), b"HTTP/1.1 200 Said\r\n\r\n"):
        gate = asyncio.Event()
        async with (
            Peer(Reaction(head, then=Reaction(gate=gate, reset=True))) as peer,
            opened(factory, peer) as transport,
        ):
            answer = await transport.open(request_to(peer))
            gate.set()
            assert (await _read_failure(answer)).provider_code == "cut"


async def it_takes_an_answer_that_ends_with_its_connection(factory: TransportFactory) -> None:
    async with Peer(Reaction(b"HTTP/1.1 200 Said\r\n\r\nall", close=True)) as peer, opened(factory, peer) as transport:
        assert await _rest(await transport.open(request_to(peer))) == b"all"


async def it_closes_the_connection_of_a_cancelled_read(factory: TransportFactory) -> None:
    async with Peer(Reaction(_head()), reply()) as peer, opened(factory, peer, TransportSettings(connections=1)) as one:
        answer = await one.open(request_to(peer))
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0)
        await cancel([reading])
        assert reading.cancelled()
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        assert (await _read_failure(answer)).provider_code == "closed"
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
    async with Peer(Reaction(_head())) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        reading = asyncio.create_task(_read_failure(answer))
        await asyncio.sleep(0)
        await answer.aclose()
        assert (await asyncio.wait_for(reading, 1.0)).provider_code == "closed"
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_ends_answers_under_way_when_it_is_closed(factory: TransportFactory) -> None:
    async with Peer(Reaction(_head())) as peer, opened(factory, peer) as transport:
        unread, read = [await transport.open(request_to(peer)) for _ in range(2)]
        reading = asyncio.create_task(_read_failure(read))
        await asyncio.sleep(0)
        await transport.aclose()
        assert isinstance(await asyncio.wait_for(reading, 1.0), LMTransportError)
        assert isinstance(await _read_failure(unread), LMTransportError)
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        await unread.aclose()
        assert (await _open_failure(transport, peer)).provider_code == "closed"


async def it_gives_its_slot_back_once_however_it_ends(factory: TransportFactory) -> None:
    for end in (_end_read, _end_closed, _end_closed_while_read, _end_cancelled, _end_failed):
        await _check_slots(factory, Reaction(_head() + _chunk(b"a") + (_END if end is _end_read else b"")), end)
    for cut in (Reaction(_head(), close=True), Reaction(_head() + b"nonsense")):
        await _check_slots(factory, cut, _end_failed)


async def it_unpacks_an_answer_as_it_comes(factory: TransportFactory) -> None:
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    gates = [asyncio.Event() for _ in range(3)]
    packed = [engine.compress(b"%d" % n) + engine.flush(zlib.Z_SYNC_FLUSH) for n in range(2)]
    reaction: Reaction | None = None
    for data, gate in zip(reversed([*packed, engine.flush()]), reversed(gates), strict=True):
        reaction = Reaction(_chunk(data) + (b"" if reaction else _END), gate=gate, then=reaction)
    async with (
        Peer(Reaction(_head("Content-Encoding: gzip"), then=reaction)) as peer,
        opened(factory, peer) as transport,
    ):
        answer = await transport.open(request_to(peer))
        for number in range(2):
            gates[number].set()
            assert await answer.read() == b"%d" % number
        gates[2].set()
        assert await answer.read() == b""


async def it_unpacks_a_bomb_by_and_by(factory: TransportFactory) -> None:
    body = b"x" * 3_000_000
    async with (
        Peer(reply(200, gzip.compress(body), "Content-Encoding: gzip")) as peer,
        opened(factory, peer) as transport,
    ):
        answer = await transport.open(request_to(peer))
        sizes = []
        while data := await answer.read():
            sizes.append(len(data))
        assert (sum(sizes), max(sizes) <= Inflater.STEP) == (len(body), True)


async def it_refuses_a_packing_it_does_not_know(factory: TransportFactory) -> None:
    for encoding, body in (("br", b"x"), ("gzip", b"no gzip")):
        async with Peer(reply(200, body, f"Content-Encoding: {encoding}")) as peer, opened(factory, peer) as transport:
            error = await _read_failure(await transport.open(request_to(peer)))
            assert error.provider_code == "encoding"


INCOMING_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))


def _head(*headers: str) -> bytes:
    return _HEAD + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _gated(gates: list[asyncio.Event]) -> Reaction:
    """An answer whose body is `0`, `1`, ..., each behind its gate."""
    reaction = Reaction(_END)
    for number in reversed(range(len(gates))):
        reaction = Reaction(_chunk(b"%d" % number), gate=gates[number], then=reaction)
    return Reaction(_head(), then=reaction)


async def _rest(answer: Incoming) -> bytes:
    body = b""
    while data := await answer.read():
        body += data
    return body


async def _talk(peer: Peer) -> None:
    while True:
        peer.say(_chunk(b"more"))
        await asyncio.sleep(0.005)


async def _read_failure(answer: Incoming) -> LMTransportError | LMTimeoutError:
    """The error that reading ends in; `AssertionError` where it ends well."""
    try:
        body = await _rest(answer)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {body!r}"
    raise AssertionError(msg)


async def _open_failure(
    transport: Transport, peer: Peer, deadline: float | None = None, first_byte: float | None = None
) -> LMTransportError | LMTimeoutError:
    """The error that opening ends in; `AssertionError` where it ends well."""
    try:
        answer = await transport.open(request_to(peer), deadline=deadline, first_byte=first_byte)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {answer}"
    raise AssertionError(msg)


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
    await _rest(answer)
    await answer.aclose()


async def _end_closed(answer: Incoming) -> None:
    await asyncio.gather(answer.aclose(), answer.aclose())


async def _end_closed_while_read(answer: Incoming) -> None:
    reading = asyncio.create_task(_read_failure(answer))
    await asyncio.sleep(0)
    await asyncio.gather(answer.aclose(), answer.aclose(), reading)


async def _end_cancelled(answer: Incoming) -> None:
    reading = asyncio.create_task(_rest(answer))
    await asyncio.sleep(0)
    await cancel([reading])
    await answer.aclose()


async def _end_failed(answer: Incoming) -> None:
    await _read_failure(answer)
    await answer.aclose()
