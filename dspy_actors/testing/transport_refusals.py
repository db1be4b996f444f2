"""What every transport must refuse before it connects: URLs that cannot be asked, headers that HTTP does not allow."""

from __future__ import annotations

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, TransportFactory, TransportSettings
from dspy_actors.testing.peer import Peer
from dspy_actors.testing.transport_tools import Check, failure, opened

NEVER_ASKED = (
    "https://api..example.com/v1",
    "http://.a/",
    f"http://{'a' * 64}.com/",
    f"http://{'.'.join(['a' * 63] * 4)}/",
    "http://xn--é/",
    "http://xn--a/",
    "http://。/",
    "http://ß.invalid/",
    "http://a%00b/",
    "http://a\\b/",
    "http://[v1.x]/",
    "http://127.0.0.1:1/v1/é",
    "http://127.0.0.1:1/v1?é",
    "http://\ud800/",
)
"""URLs over which one client or another stumbles, each in its own way."""


async def it_refuses_what_is_no_url(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        other = (
            f"{peer.url}/a b",
            f"{peer.url}/\r\nx: y",
            "http://[::1",
            "http://localhost:99999/",
            "http://",
            "/v1/chat",
            *NEVER_ASKED,
        )
        for url in (peer.url.replace("http:", "ftp:"), peer.url.partition("//")[2], *other):
            error = await failure(transport, HTTPRequest("POST", url, {}, b"{}"))
            assert error.provider_code == "url", url
        assert peer.accepted == 0


async def it_is_not_made_for_what_is_no_url(factory: TransportFactory) -> None:
    for url in ("http://[::1/", "http://[::ffff:1.2.3]/", *NEVER_ASKED):
        code = await _code_at_birth(factory, url)
        assert code == "url", url


async def it_refuses_names_of_headers_that_http_does_not_allow(factory: TransportFactory) -> None:
    async with Peer() as peer, opened(factory, peer) as transport:
        for name in ("", "x y", "x:", "x\r\ny", "x\n", "\rx", "x\t", "x\0", "é", "x/y", '"x"'):
            error = await failure(transport, HTTPRequest("POST", peer.url, {"x-fine": "1", name: "v"}, b"{}"))
            assert error.provider_code == "header", repr(name)
        assert peer.accepted == 0


async def _code_at_birth(factory: TransportFactory, url: str) -> str | None:
    """The code of the error that making a transport for `url` ends in; `None` where it is made."""
    try:
        transport = factory(url, TransportSettings())
    except LMTransportError as error:
        return error.provider_code
    await transport.aclose()
    return None


REFUSAL_CHECKS: tuple[Check, ...] = tuple(found for name, found in list(globals().items()) if name.startswith("it_"))
