"""Transports over TLS and through the proxies that the environment names."""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dspy_actors.errors import LMConfigurationError, LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, TransportFactory, TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.lm.transports.observer import WhenSent
from dspy_actors.testing.peer import SILENCE, Peer, Reaction, reply
from dspy_actors.testing.transport_tools import (
    LAST_CHUNK,
    chunk,
    chunked_head,
    failure,
    opened,
    read_failure,
    request_to,
    rest_of,
)
from tests.dspy_actors.tunnel import Tunnel

OWN = Path(__file__).parents[1] / "data" / "tls"
"""A certificate for `localhost` and `model.invalid`, signed by itself, and its key."""

REMOTE = "https://model.invalid/v1/chat"


@pytest.fixture(params=("httpx", "aiohttp", "h11"))
def factory(request: pytest.FixtureRequest) -> TransportFactory:
    return choose(request.param)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(OWN / "cert.pem"))


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Name a proxy in the environment, the only one there."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return lambda proxy: monkeypatch.setenv("https_proxy", proxy)


def certified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(OWN / "cert.pem", OWN / "key.pem")
    return context


def run(once: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(once(), 60.0)

    asyncio.run(in_time())


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusted")
def test_a_call_over_tls_keeps_its_connection_for_the_next(factory: TransportFactory) -> None:
    async def once() -> None:
        async with Peer(reply(200, b"safe"), tls=certified()) as peer, opened(factory, peer) as transport:
            sent: list[int] = []
            for _ in range(3):
                answer = await transport.send(request_to(peer), observer=WhenSent(lambda: sent.append(1)))
                assert answer.body == b"safe"
            assert (len(sent), peer.accepted) == (3, 1)

    run(once)


@pytest.mark.usefixtures("trusted")
def test_an_answer_over_tls_arrives_bit_by_bit(factory: TransportFactory) -> None:
    async def once() -> None:
        gate = asyncio.Event()
        two = Reaction(chunked_head() + chunk(b"one"), then=Reaction(chunk(b"two") + LAST_CHUNK, gate=gate))
        async with Peer(two, tls=certified()) as peer, opened(factory, peer) as transport:
            answer = await transport.open(request_to(peer))
            assert await answer.read() == b"one"
            gate.set()
            assert await rest_of(answer) == b"two"

    run(once)


@pytest.mark.usefixtures("trusted")
def test_closing_ends_what_is_under_way_over_tls(factory: TransportFactory) -> None:
    async def once() -> None:
        async with Peer(Reaction(chunked_head()), SILENCE, tls=certified()) as peer:
            transport = factory(peer.url, TransportSettings())
            answer = await transport.open(request_to(peer))
            reading = asyncio.create_task(read_failure(answer))
            sending = asyncio.create_task(failure(transport, request_to(peer)))
            await peer.until(requests=2)
            await asyncio.wait_for(transport.aclose(), 10.0)
            assert [(await task).provider_code for task in (reading, sending)] == ["closed", "closed"]
            await asyncio.wait_for(peer.until(open_connections=0), 10.0)

    run(once)


def test_a_certificate_that_nobody_vouches_for_is_refused_with_what_to_do(factory: TransportFactory) -> None:
    async def once() -> None:
        async with Peer(tls=certified()) as peer, opened(factory, peer) as transport:
            error = await failure(transport, request_to(peer))
            assert isinstance(error, LMTransportError)
            assert (error.provider_code, peer.seen) == ("certificate", [])
            assert "the certificate is not trusted" in str(error)
            assert "SSL_CERT_FILE" in str(error)

    run(once)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(factory: TransportFactory) -> None:
    async def once() -> None:
        async with Peer(tls=certified()) as peer, opened(factory, peer) as transport:
            elsewhere = HTTPRequest("POST", peer.url.replace("localhost", "127.0.0.1"), {}, b"{}")
            error = await failure(transport, elsewhere)
            assert (error.provider_code, peer.seen) == ("certificate", [])

    run(once)


@pytest.mark.usefixtures("trusted")
def test_a_server_that_speaks_no_tls_is_an_error_of_its_own(factory: TransportFactory) -> None:
    async def answers_in_clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply(400, b"speak clearly").data)
        writer.close()

    async def once() -> None:
        async with await asyncio.start_server(answers_in_clear, "127.0.0.1", 0) as server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
            transport = factory(url, TransportSettings())
            error = await failure(transport, HTTPRequest("POST", url, {}, b"{}"))
            await transport.aclose()
            assert error.provider_code == "tls"

    run(once)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("size", [100, 300_000, 3_000_000])
def test_a_request_over_tls_is_said_to_be_sent_when_it_is(factory: TransportFactory, size: int) -> None:
    async def once() -> None:
        sent = asyncio.Event()
        async with Peer(SILENCE, tls=certified()) as peer, opened(factory, peer) as transport:
            long = HTTPRequest("POST", peer.url, {}, b"x" * size)
            sending = asyncio.create_task(failure(transport, long, observer=WhenSent(sent.set)))
            await peer.until(requests=1)
            await sent.wait()
            await transport.aclose()
            assert (await sending).provider_code == "closed"

    run(once)


@pytest.mark.usefixtures("trusted")
def test_a_request_over_tls_that_cannot_be_written_is_not_said_to_be_sent(factory: TransportFactory) -> None:
    async def once() -> None:
        sent: list[int] = []
        settings = TransportSettings(write=0.2)
        async with Peer(read_bodies=False, tls=certified()) as peer, opened(factory, peer, settings) as transport:
            long = HTTPRequest("POST", peer.url, {}, b"x" * 20_000_000)
            error = await failure(transport, long, observer=WhenSent(lambda: sent.append(1)))
            assert isinstance(error, LMTimeoutError)
            assert (error.phase, sent) == ("write", [])

    run(once)


# -- proxies -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("written", ["http://me:s3cret%40@{}", "{}"])
def test_a_server_behind_a_proxy_is_reached_through_a_tunnel(
    factory: TransportFactory, proxied: Callable[[str], None], written: str
) -> None:
    async def once() -> None:
        async with Peer(reply(200, b"far"), tls=certified()) as peer:
            async with Tunnel(int(peer.url.rpartition(":")[2])) as tunnel:
                proxied(written.format(tunnel.address))
                transport = factory(REMOTE, TransportSettings())
                for _ in range(2):
                    answer = await transport.send(HTTPRequest("POST", REMOTE, {"x-api-key": "k"}, b"{}"))
                    assert answer.body == b"far"
                await transport.aclose()
            [head] = tunnel.asked
            assert head.startswith("CONNECT model.invalid:443 HTTP/1.1\r\n")
            assert "x-api-key" not in head.lower()
            assert (f"Basic {b64encode(b'me:s3cret@').decode()}" in head) == ("s3cret" in written)
            assert peer.seen[0].head.startswith("POST /v1/chat HTTP/1.1\r\n")

    run(once)


def test_a_proxy_that_refuses_is_named_and_nothing_counts_as_sent(
    factory: TransportFactory, proxied: Callable[[str], None]
) -> None:
    async def once() -> None:
        async with Peer(reply(407, b"")) as proxy:
            proxied(proxy.url.replace("//", "//me:s3cret@"))
            transport = factory(REMOTE, TransportSettings())
            sent: list[int] = []
            error = await failure(
                transport, HTTPRequest("POST", REMOTE, {}, b"{}"), observer=WhenSent(lambda: sent.append(1))
            )
            await transport.aclose()
        assert (error.provider_code, sent) == ("proxy", [])
        assert "407" in str(error)
        assert "s3cret" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"

    run(once)


def test_a_proxy_that_is_silent_is_a_connection_that_is_not_made(
    factory: TransportFactory, proxied: Callable[[str], None]
) -> None:
    async def once() -> None:
        async with Peer(SILENCE) as proxy:
            proxied(proxy.url)
            transport = factory(REMOTE, TransportSettings(connect=0.05))
            sent: list[int] = []
            error = await failure(
                transport, HTTPRequest("POST", REMOTE, {}, b"{}"), observer=WhenSent(lambda: sent.append(1))
            )
            await transport.aclose()
            await asyncio.wait_for(proxy.until(open_connections=0), 10.0)
        assert isinstance(error, LMTimeoutError)
        assert (error.phase, sent) == ("connect", [])

    run(once)


def test_a_proxy_that_is_not_there_is_named(factory: TransportFactory, proxied: Callable[[str], None]) -> None:
    async def once() -> None:
        async with Peer() as gone:
            proxied(gone.url)
        transport = factory(REMOTE, TransportSettings())
        error = await failure(transport, HTTPRequest("POST", REMOTE, {}, b"{}"))
        await transport.aclose()
        assert error.provider_code == "proxy"
        assert "no connection to the proxy" in str(error)

    run(once)


@pytest.mark.parametrize("proxy", ["socks5://me:s3cret@127.0.0.1:1080", "http://"])
def test_a_proxy_that_speaks_no_http_is_refused_before_any_call(
    factory: TransportFactory, proxied: Callable[[str], None], proxy: str
) -> None:
    async def once() -> None:
        proxied(proxy)
        with pytest.raises(LMConfigurationError, match=r"https_proxy.*trust_env=False") as refused:
            factory(REMOTE, TransportSettings())
        assert "s3cret" not in str(refused.value)

    run(once)
