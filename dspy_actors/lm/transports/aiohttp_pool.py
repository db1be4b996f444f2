"""The aiohttp transport: one session, our own admission, aiohttp's connector as the store of connections.

About a third of httpx's CPU a request. The `[fast]` extra installs aiohttp.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import istr
from yarl import URL

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.aiohttp_protocol import ChunkedHandler
from dspy_actors.lm.transports.arriving import poured
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    Take,
    TransportSettings,
    decoded,
    keep_alive_options,
    proxy_from_environment,
    tls_context,
    too_large,
    transport_error,
)
from dspy_actors.lm.transports.broken import Broken
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip

T = TypeVar("T")

_SKIPPED = ("User-Agent", "Accept", "Content-Type")
"""What aiohttp would add to a request that lacks it; `None` in its place spares every other request the search."""

_GIVEN = frozenset(name.lower() for name in _SKIPPED)
_PLAIN = istr("accept-encoding")


class AiohttpTransport(SlottedTransport):
    """`Transport` on aiohttp. See `base.Transport` for the contract."""

    def __init__(self, base_url: str, settings: TransportSettings | None = None) -> None:
        super().__init__(settings)
        self._proxy = proxy_from_environment(base_url, self._settings)
        self._urls: dict[str, URL] = {}
        self._names = _Names()
        connector = _Connector(
            limit=0,
            ssl=tls_context(base_url),
            keepalive_timeout=self._settings.keepalive,
            resolver=aiohttp.ThreadedResolver(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        await self._close_arriving()
        await self._session.close()

    def _whole(self, request: HTTPRequest, trip: Trip) -> Awaitable[HTTPResponse]:
        return self._try(request, trip, self._exchange)

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        answer = await self._try(request, trip, partial(self._begin, streamed=True))
        trip.phase = "body"
        return Head(_Source(answer, trip), answer.status, _headers(answer))

    async def _try(self, request: HTTPRequest, trip: Trip, once: Callable[[HTTPRequest, Trip], Awaitable[T]]) -> T:
        """`once`, or twice: a connection that the server had dropped while it was idle costs one free second try.

        Errors of aiohttp hold the request's headers, so ours are raised where no `__context__` keeps them.
        """
        try:
            return await once(request, trip)
        except aiohttp.ClientError as error:
            dropped = not trip.fresh and trip.phase in ("write", "first_byte") and _is_dropped(error)
            failure = _mapped(error, trip)
        if dropped and not self._closed:
            try:
                return await once(request, trip)
            except aiohttp.ClientError as error:
                failure = _mapped(error, trip)
        raise failure

    async def _exchange(self, request: HTTPRequest, trip: Trip) -> HTTPResponse:
        bound = self._settings.max_body
        async with await self._begin(request, trip) as answer:
            trip.enter("body")
            source = _Source(answer, trip)
            pieces: list[bytes] = []
            size = 0
            while piece := await source.piece():
                pieces.append(piece)
                size += len(piece)
                if size > bound:
                    raise too_large(bound, request.url)
                trip.enter("body")
        headers = _headers(answer)
        encoding = headers.get("content-encoding", "").strip().lower()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return HTTPResponse(answer.status, headers, decoded(body, encoding, bound, request.url))

    def _begin(self, request: HTTPRequest, trip: Trip, streamed: bool = False) -> Awaitable[aiohttp.ClientResponse]:
        """Send one request; its answer, with only the head read. `streamed`: it will come bit by bit."""
        url = self._urls.get(request.url)
        if url is None:
            if len(self._urls) > 64:
                self._urls.clear()
            url = self._urls[request.url] = URL(request.url)
        headers = {_PLAIN: "identity"}
        for name, value in request.headers.items():
            headers[self._names[name]] = value
        trip.attempt()
        return self._session.request(
            request.method,
            url,
            data=_Body(request.body, trip, streamed),
            headers=headers,
            skip_auto_headers=None if headers.keys() >= _GIVEN else _SKIPPED,
            allow_redirects=False,
            proxy=self._proxy,
        )


class _Names(dict[str, istr]):
    """The names of headers as aiohttp keeps them, made once and not for every request."""

    def __missing__(self, name: str) -> istr:
        if len(self) > 64:
            self.clear()
        made = self[name] = istr(name)
        return made


class _Source:
    """`arriving.Source` of one answer."""

    __slots__ = ("_answer", "_body", "_endless", "_protocol", "_trip")

    def __init__(self, answer: aiohttp.ClientResponse, trip: Trip) -> None:
        self._answer = answer
        self._trip = trip
        self._protocol = None if answer.connection is None else answer.connection.protocol
        self._body = self._protocol.body if isinstance(self._protocol, ChunkedHandler) else None
        self._endless = "content-length" not in answer.headers and "transfer-encoding" not in answer.headers

    async def next(self) -> bytes:
        try:
            return await self.piece()
        except (aiohttp.ClientError, Broken) as error:
            failure = _mapped(error, self._trip)
        raise failure

    async def pour(self, take: Take) -> bool:
        if self._body is None:
            return await poured(self.next, take)
        try:
            return await self._body.pour(take)
        except Broken as error:
            failure = _mapped(error, self._trip)
        raise failure

    async def piece(self) -> bytes:
        """`next` with aiohttp's own errors. What had arrived before a connection broke comes first."""
        if self._body is not None:
            return await self._body.next()
        content = self._answer.content
        while not content.at_eof():
            if content.exception() is not None and content._buffer:
                return content._read_nowait(-1)
            piece = await content.readany()
            if piece:
                return piece
        protocol = self._protocol
        if self._endless and protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError):
            raise aiohttp.ClientPayloadError("reset")  # aiohttp takes it for the end of a body that has no length
        return b""

    async def release(self, clean: bool) -> None:
        body, protocol = self._body, self._protocol
        if body is not None and isinstance(protocol, ChunkedHandler):
            clean = clean and body.over
            protocol.end(clean)
        if clean:
            self._answer.release()
        else:
            self._answer.close()


class _Body(aiohttp.Payload):
    """The request's bytes; tells the trip when the socket has taken the last of them."""

    def __init__(self, value: bytes, trip: Trip, streamed: bool) -> None:
        super().__init__(value)
        self._size = len(value)
        self.trip = trip
        self.streamed = streamed

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: Any) -> None:
        await writer.write(self._value)
        await writer.drain()
        self.trip.written()

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await self.write(writer)


class _Connector(aiohttp.TCPConnector):
    """aiohttp's store of connections; tells the trip whether it got a new one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._known: WeakSet[object] = WeakSet()
        self._socket_options = keep_alive_options()
        protocol: type[ResponseHandler] = ChunkedHandler
        self._factory = partial(protocol, loop=self._loop)

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        connection = await super().connect(req, traces, timeout)
        while connection.protocol is not None and connection.protocol.should_close:
            # The server said something while the connection was idle; aiohttp would take it for the next answer.
            connection.close()
            connection = await super().connect(req, traces, timeout)
        trip: Trip = req.body.trip
        if connection.protocol not in self._known:
            self._known.add(connection.protocol)
            trip.fresh = True
            if connection.transport is not None:
                socket = connection.transport.get_extra_info("socket")
                for option in self._socket_options:
                    socket.setsockopt(*option)
        if req.body.streamed and isinstance(connection.protocol, ChunkedHandler):
            connection.protocol.expect()
        trip.enter("write")
        return connection


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _is_dropped(error: aiohttp.ClientError) -> bool:
    """Whether the connection ended with no byte of an answer; part of one stands where the message would be."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientOSError)


def _mapped(error: aiohttp.ClientError | Broken, trip: Trip) -> LMTransportError:
    """The same fault in our words; of aiohttp's texts only those without headers are repeated."""
    if isinstance(error, Broken):
        return transport_error(str(error), trip.url, error.code)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return transport_error(f"the certificate is not trusted: {error.certificate_error}", trip.url, "certificate")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return transport_error(f"no TLS connection: {error.os_error}", trip.url, "tls")
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return transport_error("the proxy refused", trip.url, "proxy")
    if isinstance(error, aiohttp.ClientConnectorError):
        code = "refused" if isinstance(error.os_error, ConnectionRefusedError) else "connect"
        return transport_error(f"no connection: {error.os_error}", trip.url, code)
    if isinstance(error, aiohttp.InvalidURL):
        return transport_error("this is no http(s) URL", trip.url, "url")
    where = "before it answered" if trip.phase != "body" else "in the middle of its answer"
    return transport_error(f"the connection broke {where}: {type(error).__name__}", trip.url, "cut")
