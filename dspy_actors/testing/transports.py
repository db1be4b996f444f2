"""What every transport must do, as runnable checks: `check_transport(factory)`, or each of `TRANSPORT_CHECKS` alone."""

from __future__ import annotations

import asyncio
import gzip

from dspy_actors.errors import LMTimeoutError
from dspy_actors.lm.transports.base import HTTPRequest, TransportFactory, TransportSettings
from dspy_actors.lm.transports.observer import WhenSent
from dspy_actors.testing.incoming import INCOMING_CHECKS
from dspy_actors.testing.incoming_ends import END_CHECKS
from dspy_actors.testing.peer import CLOSE, SILENCE, Peer, Reaction, reply
from dspy_actors.testing.transport_closing import CLOSING_CHECKS
from dspy_actors.testing.transport_nonsense import NONSENSE_CHECKS
from dspy_actors.testing.transport_refusals import REFUSAL_CHECKS
from dspy_actors.testing.transport_second_tries import SECOND_TRIES
from dspy_actors.testing.transport_tools import Check, cancel, failure, opened, request_to, soon


async def check_transport(factory: TransportFactory) -> None:
    """Run all checks against loopback servers of their own. Raises `AssertionError` at the first that fails."""
    for check in TRANSPORT_CHECKS:
        await check(factory)


async def it_returns_status_lower_case_headers_and_body(factory: TransportFactory) -> None:
    async with Peer(reply(418, b"tea", "X-Kind: Oolong")) as peer, opened(factory, peer) as transport:
        answer = await transport.send(request_to(peer))
    assert (answer.status, answer.headers["x-kind"], answer.body) == (418, "Oolong", b"tea")


async def it_sends_method_path_headers_and_body(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        await transport.send(HTTPRequest("POST", f"{peer.url}/v1/chat?a=b", {"x-request-id": "r.1"}, b"hello"))
    seen = peer.seen[0]
    assert seen.head.startswith("POST /v1/chat?a=b HTTP/1.1")
    assert (seen.header("x-request-id"), seen.body) == ("r.1", b"hello")


async def it_takes_no_key_from_a_url(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        await transport.send(HTTPRequest("POST", peer.url.replace("//", "//me:marker@"), {"x-api-key": "k"}, b"{}"))
    assert peer.seen[0].header("authorization") is None
    assert "marker" not in peer.seen[0].head


async def it_keeps_a_connection_for_the_next_request(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        for _ in range(3):
            await transport.send(request_to(peer))
        assert peer.accepted == 1


async def it_runs_as_many_requests_at_once_as_it_has_connections(factory: TransportFactory) -> None:
    settings = TransportSettings(connections=3)
    async with Peer(SILENCE) as peer, opened(factory, peer, settings) as transport:
        tasks = [asyncio.create_task(transport.send(request_to(peer))) for _ in range(5)]
        await peer.until(open_connections=3)
        await cancel(tasks)
    assert peer.accepted == 3


async def it_says_once_that_the_request_was_sent(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer() as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer), observer=WhenSent(lambda: sent.append(len(peer.seen))))
    assert len(sent) == 1


async def it_does_not_say_sent_while_the_socket_is_full(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer(read_bodies=False) as peer, opened(factory, peer) as transport:
        big = HTTPRequest("POST", peer.url, {}, b"x" * 20_000_000)
        error = await failure(transport, big, deadline=soon(0.2), observer=WhenSent(lambda: sent.append(1)))
    assert isinstance(error, LMTimeoutError)
    assert not sent


async def it_says_sent_of_every_request_that_arrived(factory: TransportFactory) -> None:
    """Cancelled after each number of turns of the loop: what reached the server whole was said to be sent."""
    async with Peer(SILENCE) as peer, opened(factory, peer) as transport:
        for turns in range(40):
            before, sent = len(peer.seen), asyncio.Event()
            task = asyncio.create_task(transport.send(request_to(peer), observer=WhenSent(sent.set)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel([task])
            await peer.until(open_connections=0)
            assert sent.is_set() or len(peer.seen) == before, f"cancelled in turn {turns}"


async def it_says_sent_although_no_answer_comes(factory: TransportFactory) -> None:
    sent: list[int] = []
    async with Peer(CLOSE) as peer, opened(factory, peer) as transport:
        await failure(transport, request_to(peer), observer=WhenSent(lambda: sent.append(1)))
    assert sent == [1]


async def it_ends_at_the_deadline(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer) as transport:
        began = asyncio.get_running_loop().time()
        error = await failure(transport, request_to(peer), deadline=began + 0.1)
        late = asyncio.get_running_loop().time() - began
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "total"
    assert 0.1 <= late < 1.0


async def it_sends_nothing_after_the_deadline(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        error = await failure(transport, request_to(peer), deadline=soon(-1.0))
        assert not peer.seen
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "queue"


async def it_names_the_wait_for_a_connection(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer, TransportSettings(connections=1)) as transport:
        first = asyncio.create_task(transport.send(request_to(peer)))
        await peer.until(open_connections=1)
        error = await failure(transport, request_to(peer), deadline=soon(0.05))
        await cancel([first])
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "queue"


async def it_names_a_connection_that_is_not_made(factory: TransportFactory) -> None:
    """The peer never answers the TLS handshake."""
    async with Peer() as peer, opened(factory, peer, TransportSettings(connect=0.05)) as transport:
        error = await failure(transport, HTTPRequest("POST", peer.url.replace("http:", "https:"), {}, b"{}"))
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "connect"


async def it_names_a_request_that_cannot_be_written(factory: TransportFactory) -> None:
    async with Peer(read_bodies=False) as peer, opened(factory, peer, TransportSettings(write=0.05)) as transport:
        error = await failure(transport, HTTPRequest("POST", peer.url, {}, b"x" * 20_000_000))
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "write"


async def it_names_a_first_byte_that_is_late(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer, TransportSettings(first_byte=0.05)) as transport:
        error = await failure(transport, request_to(peer))
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "first_byte"


async def it_names_a_body_that_stops(factory: TransportFactory) -> None:
    half = Reaction(b"HTTP/1.1 200 Said\r\nContent-Length: 10\r\n\r\nhalf")
    async with Peer(half) as peer, opened(factory, peer, TransportSettings(body=0.05)) as transport:
        error = await failure(transport, request_to(peer))
    assert isinstance(error, LMTimeoutError)
    assert error.phase == "body"


async def it_does_not_reuse_a_connection_after_a_timeout(factory: TransportFactory) -> None:
    gate = asyncio.Event()
    late = Reaction(reply(200, b"first").data, gate=gate)
    async with Peer(late, reply(200, b"second")) as peer, opened(factory, peer) as transport:
        await failure(transport, request_to(peer), deadline=soon(0.05))
        gate.set()
        answer = await transport.send(request_to(peer))
    assert answer.body == b"second"


async def it_calls_a_refused_connection_a_transport_error(factory: TransportFactory) -> None:
    async with Peer() as peer:
        pass
    async with opened(factory, peer) as transport:
        error = await failure(transport, request_to(peer))
    assert error.provider_code == "refused"


async def it_calls_a_cut_body_a_transport_error(factory: TransportFactory) -> None:
    cut = Reaction(b"HTTP/1.1 200 Said\r\nContent-Length: 10\r\n\r\nhalf", close=True)
    async with Peer(cut) as peer, opened(factory, peer) as transport:
        error = await failure(transport, request_to(peer))
        assert (error.provider_code, len(peer.seen)) == ("cut", 1)


async def it_finds_a_server_by_its_name(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        named = HTTPRequest("POST", peer.url.replace("127.0.0.1", "localhost"), {}, b"{}")
        answers = await asyncio.gather(*(transport.send(named) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        assert str(peer.seen[0].header("host")).startswith("localhost:")


async def it_takes_a_body_that_ends_with_its_connection(factory: TransportFactory) -> None:
    until_the_end = Reaction(b"HTTP/1.1 200 Said\r\n\r\nall of it", close=True)
    async with Peer(until_the_end) as peer, opened(factory, peer) as transport:
        assert (await transport.send(request_to(peer))).body == b"all of it"


async def it_calls_a_reset_a_transport_error(factory: TransportFactory) -> None:
    for data in (b"", b"HTTP/1.1 200 Said\r\nContent-Length: 9\r\n\r\nhalf"):
        async with Peer(Reaction(data, reset=True)) as peer, opened(factory, peer) as transport:
            error = await failure(transport, request_to(peer))
            assert (error.provider_code, len(peer.seen)) == ("cut", 1)


async def it_takes_no_reset_for_the_end_of_a_body(factory: TransportFactory) -> None:
    async with Peer(Reaction(b"HTTP/1.1 200 Said\r\n\r\nhalf", reset=True)) as peer, opened(factory, peer) as transport:
        await failure(transport, request_to(peer))


async def it_takes_a_body_in_chunks(factory: TransportFactory) -> None:
    chunks = Reaction(b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n of it\r\n0\r\n\r\n")
    async with Peer(chunks) as peer, opened(factory, peer) as transport:
        assert [(await transport.send(request_to(peer))).body for _ in range(2)] == [b"all of it"] * 2
        assert peer.accepted == 1


async def it_waits_past_what_is_said_in_between(factory: TransportFactory) -> None:
    early = Reaction(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + reply(200, b"answer").data)
    async with Peer(early) as peer, opened(factory, peer) as transport:
        answer = await transport.send(request_to(peer))
    assert (answer.status, answer.body) == (200, b"answer")


async def it_calls_what_is_no_http_a_transport_error(factory: TransportFactory) -> None:
    async with Peer(Reaction(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close=True)) as peer, opened(factory, peer) as transport:
        error = await failure(transport, request_to(peer))
        assert (error.provider_code, len(peer.seen)) == ("cut", 1)


async def it_refuses_a_response_above_the_bound(factory: TransportFactory) -> None:
    async with Peer(reply(200, b"x" * 2000)) as peer, opened(factory, peer, TransportSettings(max_body=1000)) as one:
        error = await failure(one, request_to(peer))
    assert error.provider_code == "too_large"


async def it_decompresses_within_the_bound(factory: TransportFactory) -> None:
    small, bomb = (reply(200, gzip.compress(b"x" * size), "Content-Encoding: gzip") for size in (500, 5000))
    async with Peer(small, bomb) as peer, opened(factory, peer, TransportSettings(max_body=1000)) as transport:
        answer = await transport.send(request_to(peer))
        error = await failure(transport, request_to(peer))
    assert answer.body == b"x" * 500
    assert error.provider_code == "too_large"


async def it_refuses_a_packed_body_that_is_cut_short(factory: TransportFactory) -> None:
    cut = reply(200, gzip.compress(b"hello, all of you")[:20], "Content-Encoding: gzip")
    async with Peer(cut, reply(200, b"", "Content-Encoding: gzip")) as peer, opened(factory, peer) as transport:
        error = await failure(transport, request_to(peer))
        nothing = await transport.send(request_to(peer))
    assert (error.provider_code, nothing.body) == ("encoding", b"")


async def it_follows_no_redirect(factory: TransportFactory) -> None:
    async with Peer() as other, Peer(reply(307, b"", f"Location: {other.url}/elsewhere")) as peer:
        async with opened(factory, peer) as transport:
            answer = await transport.send(request_to(peer))
        assert (answer.status, other.seen) == (307, [])


async def it_keeps_no_cookies(factory: TransportFactory) -> None:
    async with Peer(reply(200, b"", "Set-Cookie: a=b")) as peer, opened(factory, peer) as transport:
        await transport.send(request_to(peer))
        await transport.send(request_to(peer))
    assert peer.seen[1].header("cookie") is None


async def it_closes_the_connection_of_a_cancelled_request(factory: TransportFactory) -> None:
    async with Peer(SILENCE) as peer, opened(factory, peer) as transport:
        task = asyncio.create_task(transport.send(request_to(peer)))
        await peer.until(open_connections=1)
        await cancel([task])
        await asyncio.wait_for(peer.until(open_connections=0), 1.0)


async def it_gives_the_slot_of_a_cancelled_request_back(factory: TransportFactory) -> None:
    async with Peer(SILENCE, reply()) as peer, opened(factory, peer, TransportSettings(connections=1)) as transport:
        first = asyncio.create_task(transport.send(request_to(peer)))
        await peer.until(open_connections=1)
        waiting = asyncio.create_task(transport.send(request_to(peer)))
        await peer.until(requests=1)
        await cancel([first])
        assert (await asyncio.wait_for(waiting, 1.0)).status == 200


async def it_closes_connections_that_stay_idle(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer, TransportSettings(keepalive=0.05)) as transport:
        await transport.send(request_to(peer))
        await asyncio.wait_for(peer.until(open_connections=0), 5.0)


async def it_names_no_header_in_an_error(factory: TransportFactory) -> None:
    async with Peer(CLOSE) as peer, opened(factory, peer) as transport:
        for value in ("Bearer sk-marker", "Bearer sk-marker\r\nx: y", "Bearer sk-markér"):
            error = await failure(transport, HTTPRequest("POST", peer.url, {"authorization": value}, b"{}"))
            assert "marker" not in f"{error!r} {error.__cause__!r} {error.__context__!r} {error.to_wire()}"


_OWN: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))

TRANSPORT_CHECKS: tuple[Check, ...] = (
    _OWN + REFUSAL_CHECKS + SECOND_TRIES + NONSENSE_CHECKS + CLOSING_CHECKS + INCOMING_CHECKS + END_CHECKS
)
