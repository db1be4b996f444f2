"""What every transport must do with an answer that is read as it arrives, as runnable checks."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import Inflater, TransportFactory, TransportSettings
from dspy_actors.lm.transports.observer import WhenSent
from dspy_actors.testing.peer import CLOSE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import (
    LAST_CHUNK,
    Check,
    chunk,
    chunked_head,
    opened,
    read_failure,
    request_to,
    rest_of,
)


async def it_opens_as_soon_as_the_head_is_there(factory: TransportFactory) -> None:
    gate = asyncio.Event()
    late = Reaction(chunked_head("X-Kind: Oolong"), then=Reaction(chunk(b"tea") + LAST_CHUNK, gate=gate))
    async with Peer(late) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        assert (answer.status, answer.headers["x-kind"], gate.is_set()) == (200, "Oolong", False)
        gate.set()
        assert await rest_of(answer) == b"tea"
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
        assert (refused.status, await rest_of(refused)) == (429, b"slow down")
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
    chunked, counted = Reaction(chunked_head() + chunk(b"a") + LAST_CHUNK), reply(200, b"b")
    async with Peer(chunked, counted, reply(200, b"")) as peer, opened(factory, peer) as transport:
        for body in (b"a", b"b", b""):
            assert await rest_of(await transport.open(request_to(peer))) == body
        await transport.send(request_to(peer))
        assert peer.accepted == 1


async def it_closes_a_connection_that_is_said_to_be_the_last(factory: TransportFactory) -> None:
    """The server says so, and leaves it open."""
    last = Reaction(chunked_head("Connection: close") + chunk(b"a") + LAST_CHUNK)
    async with Peer(last, reply()) as peer, opened(factory, peer) as transport:
        assert await rest_of(await transport.open(request_to(peer))) == b"a"
        await transport.send(request_to(peer))
        assert peer.accepted == 2


async def it_keeps_no_connection_on_which_more_was_said(factory: TransportFactory) -> None:
    """More than the answer: it must not become the next one."""
    unasked = reply(200, b"unasked").data
    for answer in (chunked_head() + chunk(b"a") + LAST_CHUNK, reply(200, b"a").data):
        async with Peer(Reaction(answer + unasked), reply(200, b"asked")) as peer, opened(factory, peer) as transport:
            assert await rest_of(await transport.open(request_to(peer))) == b"a"
            assert (await transport.send(request_to(peer))).body == b"asked"
        async with Peer(Reaction(answer + unasked), reply(200, b"asked")) as peer, opened(factory, peer) as transport:
            assert (await transport.send(request_to(peer))).body == b"a"
            assert (await transport.send(request_to(peer))).body == b"asked"


async def it_takes_chunks_however_they_are_cut(factory: TransportFactory) -> None:
    whole = chunk(b"abc") + b"2;x=y\r\nde\r\n" + LAST_CHUNK[:3] + b"Trailer: t\r\n\r\n"
    gates = [asyncio.Event() for _ in whole]
    reaction: Reaction | None = None
    for byte, gate in zip(reversed(whole), reversed(gates), strict=True):
        reaction = Reaction(bytes([byte]), gate=gate, then=reaction)
    async with Peer(Reaction(chunked_head(), then=reaction)) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        reading = asyncio.create_task(rest_of(answer))
        for gate in gates:
            gate.set()
            for _ in range(8):
                await asyncio.sleep(0)
        assert await reading == b"abcde"


async def it_closes_a_connection_that_was_not(factory: TransportFactory) -> None:
    first = Reaction(chunked_head() + chunk(b"a"))
    async with Peer(first, reply()) as peer, opened(factory, peer) as transport:
        answer = await transport.open(request_to(peer))
        assert await answer.read() == b"a"
        await answer.aclose()
        await answer.aclose()
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)
        error = await read_failure(answer)
        await transport.send(request_to(peer))
        assert (error.provider_code, peer.accepted) == ("closed", 2)


async def it_closes_one_of_which_nothing_was_read(factory: TransportFactory) -> None:
    begun = Reaction(chunked_head() + chunk(b"x" * 100_000))
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


async def it_says_that_an_open_request_was_sent(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer(reply(), CLOSE, reply()) as peer, opened(factory, peer) as transport:
        for _ in range(2):  # the second one is tried twice, for its connection had been dropped
            await rest_of(await transport.open(request_to(peer), observer=WhenSent(lambda: sent.append(1))))
        assert len(sent) == len(peer.seen) == 3


async def it_calls_a_cut_answer_a_transport_error(factory: TransportFactory) -> None:
    async with (
        Peer(Reaction(chunked_head() + chunk(b"half"), close=True), reply()) as peer,
        opened(factory, peer) as transport,
    ):
        answer = await transport.open(request_to(peer))
        assert await answer.read() == b"half"
        error = await read_failure(answer)
        assert (type(error), error.provider_code) == (LMTransportError, "cut")
        await answer.aclose()
        await transport.send(request_to(peer))
        assert peer.accepted == 2


async def it_calls_a_reset_answer_a_transport_error(factory: TransportFactory) -> None:
    for head in (chunked_head(), b"HTTP/1.1 200 Said\r\n\r\n"):
        gate = asyncio.Event()
        async with (
            Peer(Reaction(head, then=Reaction(gate=gate, reset=True))) as peer,
            opened(factory, peer) as transport,
        ):
            answer = await transport.open(request_to(peer))
            gate.set()
            assert (await read_failure(answer)).provider_code == "cut"


async def it_takes_an_answer_that_ends_with_its_connection(factory: TransportFactory) -> None:
    async with Peer(Reaction(b"HTTP/1.1 200 Said\r\n\r\nall", close=True)) as peer, opened(factory, peer) as transport:
        assert await rest_of(await transport.open(request_to(peer))) == b"all"


async def it_unpacks_an_answer_as_it_comes(factory: TransportFactory) -> None:
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    gates = [asyncio.Event() for _ in range(3)]
    packed = [engine.compress(b"%d" % n) + engine.flush(zlib.Z_SYNC_FLUSH) for n in range(2)]
    reaction: Reaction | None = None
    for data, gate in zip(reversed([*packed, engine.flush()]), reversed(gates), strict=True):
        reaction = Reaction(chunk(data) + (b"" if reaction else LAST_CHUNK), gate=gate, then=reaction)
    async with (
        Peer(Reaction(chunked_head("Content-Encoding: gzip"), then=reaction)) as peer,
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
            error = await read_failure(await transport.open(request_to(peer)))
            assert error.provider_code == "encoding"


async def it_refuses_a_packed_answer_that_is_cut_short(factory: TransportFactory) -> None:
    packed = gzip.compress(b"hello, all of you")
    async with (
        Peer(reply(200, packed[:20], "Content-Encoding: gzip")) as peer,
        opened(factory, peer) as transport,
    ):
        answer = await transport.open(request_to(peer))
        error = await read_failure(answer)
        assert (error.provider_code, "ends before" in error.message) == ("encoding", True)
        assert (await read_failure(answer)).provider_code != "encoding"


INCOMING_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))


def _gated(gates: list[asyncio.Event]) -> Reaction:
    """An answer whose body is `0`, `1`, ..., each behind its gate."""
    reaction = Reaction(LAST_CHUNK)
    for number in reversed(range(len(gates))):
        reaction = Reaction(chunk(b"%d" % number), gate=gates[number], then=reaction)
    return Reaction(chunked_head(), then=reaction)
