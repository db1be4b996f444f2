"""What an HTTP transport is: one request in, one response out, whole or as it arrives, over so many connections.

A transport is created, used and closed on one asyncio loop. It never retries a request that the server may
have begun to answer, never follows a redirect (a key must not travel to another host) and never stores anything.
"""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from dspy_actors.errors import LMConfigurationError, LMTransportError
from dspy_actors.lm.transports.observer import NOBODY, Observer
from dspy_actors.lm.transports.tls import Trust
from dspy_actors.lm.transports.urls import fault_of

Take: TypeAlias = Callable[[bytes], bool]
"""Is handed the next bytes of a body, at least one; whether it wants more. It runs on the loop and must not wait."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """One HTTP/1.1 request with its whole body. `headers` need neither `Host` nor `Content-Length`."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HTTPRequest({self.method} {bare(self.url)}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """One HTTP response with its whole body, decompressed. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Bounds of one transport. Times are in seconds, sizes in bytes.

    `first_byte` is long because a model that does not stream sends its first byte when the whole answer is written.
    `body` is the longest silence while the response arrives. The caller's deadline bounds all of them together.
    `trust_env` reads the proxy variables (`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`, in either case) once,
    at creation. The proxy speaks HTTP; user and password may stand in its URL. Loopback hosts never use one. `trust`
    holds the CAs, for all transports of one loop that are given the same settings.
    """

    connections: int = 1000
    connect: float = 5.0
    write: float = 30.0
    first_byte: float = 600.0
    body: float = 30.0
    keepalive: float = 30.0
    max_body: int = 32 * 1024 * 1024
    trust_env: bool = True
    trust: Trust = field(default_factory=Trust, repr=False, compare=False)


class Incoming(Protocol):
    """A response whose body is still arriving. One task at a time reads; any task of the loop may close it.

    It holds its slot and its connection until its end was read, a `read` has failed or was cancelled, or `aclose`.
    """

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""

    async def read(self) -> bytes:
        """The next bytes of the body, decompressed, as soon as there are some; `b""` at its end.

        Little is taken from the socket that was not asked for: a reader that stops stops the server too. Raises
        `LMTimeoutError` (phase `idle` for a silence while somebody reads, `total` when the deadline has passed) and
        `LMTransportError` (`cut`, `encoding`, `closed`).
        """
        ...

    async def pour(self, take: Take) -> bool:
        """Hand the bytes of the body to `take` as they come until it wants no more: True. False at the end.

        The same as reading in a loop, and raises as `read` does, but where the transport can, `take` is called in the
        very turn in which the bytes came, and no task is woken for them. What `take` raises comes out here.
        """
        ...

    async def aclose(self) -> None:
        """Drop the rest: a connection whose body has not come to its end is closed at once. Twice is fine.

        A `read` under way in another task ends with `LMTransportError` (`closed`).
        """
        ...


class Transport(Protocol):
    """Three methods; everything else (retries, keys, JSON) is the caller's."""

    async def send(
        self, request: HTTPRequest, *, deadline: float | None = None, observer: Observer = NOBODY
    ) -> HTTPResponse:
        """Send `request`, return the whole response whatever its status.

        Of a refusal (300 and above) there is left out what it has beyond the settings' `max_body`, what comes no more
        because the connection breaks or the time is up, and what cannot be decompressed: its status must not be lost.
        `deadline` is an instant of `loop.time()` and covers the wait for a free connection too. `observer` is
        told on the loop when the whole request has been handed to the socket: once, and once more where a connection
        that the server had dropped cost a second try, which it is asked about before. When it was not told the server
        has not seen a complete request. It is told of the head of the answer, too.
        Raises `LMTimeoutError` with the `phase` it was in (queue, connect, write, first_byte, body, or total when the
        deadline passed) and `LMTransportError` for everything else.
        """
        ...

    async def open(
        self,
        request: HTTPRequest,
        *,
        deadline: float | None = None,
        observer: Observer = NOBODY,
        first_byte: float | None = None,
        idle: float | None = None,
    ) -> Incoming:
        """Send `request`, return the response as soon as its head is there, whatever its status.

        `deadline` bounds the whole response, its body too. `first_byte` and `idle` are in seconds and take the place
        of the settings' `first_byte` and `body`; `idle` is the longest silence within one `read`. The rest is as for
        `send`. Later reads may come from another task.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Twice is fine.

        Requests under way, in whatever phase, have ended with `LMTransportError` (`closed`) when it returns.
        """
        ...


TransportFactory: TypeAlias = Callable[[str, TransportSettings], Transport]
"""Makes the transport of one base URL; called on the loop's thread."""


def is_loopback(url: str) -> bool:
    """Whether `url` names this very machine (`localhost`, 127.0.0.0/8, `::1`)."""
    import ipaddress  # here and below: what `import dspy_actors` need not load

    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_from_environment(url: str, settings: TransportSettings) -> str | None:
    """The proxy that the environment names for `url`, or none; never one for a loopback host.

    Raises `LMConfigurationError` for one that is not spoken to over HTTP, and `LMTransportError` (`url`) where `url`
    cannot be asked.
    """
    check_url(url)
    if not settings.trust_env or is_loopback(url):
        return None
    import urllib.request

    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    found = urllib.request.getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if proxy is None:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    named = urlsplit(proxy)
    if named.scheme not in ("http", "https") or not named.hostname:
        msg = (
            f"the environment names the proxy {bare(proxy)!r} for {bare(url)}; use one of http:// or https:// in "
            f"{parts.scheme}_proxy or all_proxy, name the host in no_proxy, or set TransportSettings(trust_env=False)"
        )
        raise LMConfigurationError(msg)
    return proxy


def keep_alive_options() -> list[tuple[int, int, int]]:
    """Socket options that make a silent connection show signs of life to the routers between: a model may think for
    minutes before it sends a byte."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


_PIECE = 256 * 1024


def pieces(data: bytes) -> Iterable[bytes | memoryview]:
    """`data` in the pieces in which a connection takes it: over TLS asyncio takes all it is given, and encrypts it at
    once, so that neither the loop nor a limit of time would have a word in it."""
    if len(data) <= _PIECE:
        return (data,)
    view = memoryview(data)
    return [view[at : at + _PIECE] for at in range(0, len(data), _PIECE)]


def bare(url: str) -> str:
    """`url` without user, query and fragment: what may stand in an error or a log."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "an unreadable URL"
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_url(url: str) -> None:
    """Refuse what is no http(s) URL (`urls.fault_of`); the clients take different things for one."""
    fault = fault_of(url)
    if fault is not None:
        raise transport_error(fault, url, "url")


@lru_cache(maxsize=64)
def _are_names(joined: str) -> bool:
    """Whether names of headers, joined, hold only what HTTP allows; nearly every request has the same ones."""
    return re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*", joined) is not None


def check_headers(request: HTTPRequest) -> None:
    """Refuse headers that HTTP does not allow, before a client writes them into an error of its own."""
    headers = request.headers
    if not _are_names("".join(headers)) or "" in headers:
        wrong = next(name for name in headers if not name or not _are_names(name))
        raise transport_error(f"{wrong!r:.80} cannot be the name of a header", request.url, "header")
    all_of_them = "".join(headers.values())
    if all_of_them.isascii() and all_of_them.isprintable():
        return
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise transport_error(f"the value of header {name!r} cannot be sent", request.url, "header")


def decoded(body: bytes, encoding: str, bound: int, url: str) -> bytes:
    """`body` without its `Content-Encoding` (`gzip`, `deflate` or none), at most `bound` bytes.

    Raises `LMTransportError`: `encoding` where it is not readable to its own end, `too_large`.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _not_asked_for(encoding, url)
    engine = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = engine.decompress(body, bound)
    except zlib.error:
        raise _unreadable(encoding, url) from None
    if engine.unconsumed_tail:
        raise too_large(bound, url)
    if body and not engine.eof:
        raise _cut_short(encoding, url)
    return plain


class Inflater:
    """`decoded` for a body that arrives in pieces: at most `STEP` bytes come out at once, however well packed."""

    STEP = 256 * 1024

    __slots__ = ("_begun", "_encoding", "_engine", "_rest", "_url")

    def __init__(self, encoding: str, url: str) -> None:
        self._encoding = encoding
        self._url = url
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._rest = b""
        self._begun = False

    @property
    def pending(self) -> bool:
        """Whether more comes out without more going in."""
        return bool(self._rest)

    def feed(self, data: bytes) -> bytes:
        """The plain bytes that `data` adds, perhaps none yet. Raises `LMTransportError` (`encoding`)."""
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise _not_asked_for(self._encoding, self._url)
        try:
            plain = self._engine.decompress(self._rest + data, self.STEP)
        except zlib.error:
            raise _unreadable(self._encoding, self._url) from None
        self._rest = self._engine.unconsumed_tail
        self._begun = True
        return plain

    def finish(self) -> None:
        """No more will go in. Raises `LMTransportError` (`encoding`) where the packed body is not at its own end."""
        if self._begun and not self._engine.eof:
            raise _cut_short(self._encoding, self._url)


def too_large(bound: int, url: str) -> LMTransportError:
    """The error for a response above `max_body`."""
    return transport_error(f"the response is larger than {bound} bytes (TransportSettings.max_body)", url, "too_large")


def transport_error(what: str, url: str, code: str) -> LMTransportError:
    """An `LMTransportError` that names the endpoint without its query; `provider_code` says what kind it is."""
    return LMTransportError(f"{bare(url)}: {what}", provider_code=code)


def _not_asked_for(encoding: str, url: str) -> LMTransportError:
    return transport_error(f"the server answered in {encoding!r}, which was not asked for", url, "encoding")


def _unreadable(encoding: str, url: str) -> LMTransportError:
    return transport_error(f"the server's {encoding} body cannot be read", url, "encoding")


def _cut_short(encoding: str, url: str) -> LMTransportError:
    return transport_error(f"the server's {encoding} body ends before its own end", url, "encoding")
