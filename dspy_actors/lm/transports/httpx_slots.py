"""The httpx transport: a stack of single-connection `httpx.AsyncHTTPTransport`s behind our own admission.

httpx's own pool looks at every connection on each request and close, so its cost a request grows with the number of
connections; here each request owns one connection and nobody looks at the others. Requests go to the transports
directly: `httpx.AsyncClient` adds cookies, redirects and authentication, none of which may happen here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx

from dspy_actors.lm.transports.arriving import poured
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    Take,
    TransportSettings,
    keep_alive_options,
    proxy_from_environment,
)
from dspy_actors.lm.transports.broken import Broken, check_head
from dspy_actors.lm.transports.httpx_errors import is_dropped, mapped
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip

_ONE_WRITE = 64 * 1024
"""asyncio takes so many bytes without waiting. httpx writes, then lets the loop turn once; cancelled in that turn, it
reports a failure although the server has the request. A longer body that was cut off there was not sent whole."""

_NO_TIMEOUTS: Mapping[str, None] = {}
"""Phases are timed by `Trip`: httpx's own timeouts are per read and cannot bound a body as a whole."""


class HttpxTransport(SlottedTransport):
    """`Transport` on httpx, HTTP/1.1 only. See `base.Transport` for the contract."""

    def __init__(self, base_url: str, settings: TransportSettings | None = None) -> None:
        super().__init__(base_url, settings)
        self._loop = asyncio.get_running_loop()
        proxy = proxy_from_environment(base_url, self._settings)
        self._proxy = None if proxy is None else httpx.Proxy(proxy)
        self._tls = self._settings.trust.context(base_url)
        self._socket_options = keep_alive_options()
        self._limits = httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=self._settings.keepalive
        )
        self._urls: dict[str, httpx.URL] = {}
        self._idle: deque[tuple[httpx.AsyncHTTPTransport, float]] = deque()
        self._busy: set[httpx.AsyncHTTPTransport] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        await self._end_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            await self._idle.pop()[0].aclose()
        for connection in list(self._busy):
            await connection.aclose()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        """See `SlottedTransport`. A connection that the server had dropped while it was idle costs one second try.

        httpx does not say whether a part of the answer's head had arrived; it is taken for nothing. Its errors hold the
        request with its headers, so ours are raised where no `__context__` keeps them.
        """
        connection = self._idle.pop()[0] if self._idle else self._connection()
        try:
            return await self._begin(connection, request, trip)
        except (httpx.TransportError, Broken) as error:
            dropped = not trip.fresh and trip.phase in ("write", "first_byte") and is_dropped(error)
            failure = mapped(error, trip, self._proxy is not None)
        if dropped and not self._closed:
            try:
                return await self._begin(self._connection(), request, trip)
            except (httpx.TransportError, Broken) as error:
                failure = mapped(error, trip, self._proxy is not None)
        raise failure

    async def _begin(self, connection: httpx.AsyncHTTPTransport, request: HTTPRequest, trip: Trip) -> Head:
        """Ask on this connection. Raises httpx's errors and `Broken`."""
        made: list[Any] = []
        self._busy.add(connection)
        try:
            trip.attempt()
            answer = await connection.handle_async_request(self._request(request, trip, made))
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers.raw}
            check_head(answer.status_code, headers)
        except BaseException:
            await self._drop(connection, made)
            raise
        return Head(_Source(self, connection, answer, made, trip), answer.status_code, headers)

    async def _drop(self, connection: httpx.AsyncHTTPTransport, made: list[Any]) -> None:
        """Close a connection, in a task of its own: whoever waits for it may be cancelled a second time."""
        self._busy.discard(connection)
        task = self._loop.create_task(_closed(connection, made))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        await asyncio.shield(task)

    def _request(self, request: HTTPRequest, trip: Trip, made: list[Any]) -> httpx.Request:
        """The request as httpx takes it; see `_Trace` for `made`."""
        url = self._urls.get(request.url)
        if url is None:
            if len(self._urls) > 64:
                self._urls.clear()
            try:
                url = self._urls[request.url] = httpx.URL(request.url)
            except httpx.InvalidURL:
                raise Broken("this is no http(s) URL", "url") from None
        return httpx.Request(
            request.method,
            url,
            headers={"accept-encoding": "identity", **request.headers},
            content=request.body,
            extensions={"timeout": _NO_TIMEOUTS, "trace": _Trace(trip, len(request.body), made)},
        )

    def _connection(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._tls,
            trust_env=False,
            limits=self._limits,
            proxy=self._proxy,
            socket_options=self._socket_options,
        )

    def _keep(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Put it on top of the stack; what sinks to the bottom and stays there is closed by the sweeper."""
        now = self._loop.time()
        self._idle.append((connection, now))
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(now + self._settings.keepalive, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that nobody used for `keepalive` seconds; the oldest lie at the bottom."""
        self._sweeper = None
        old = self._loop.time() - self._settings.keepalive
        while self._idle and self._idle[0][1] <= old:
            connection, _ = self._idle.popleft()
            task = self._loop.create_task(connection.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if self._idle:
            self._sweeper = self._loop.call_at(self._idle[0][1] + self._settings.keepalive, self._sweep)


class _Trace:
    """Is told by httpx how a request goes on its way; `made` gets the sockets that it opens."""

    __slots__ = ("_made", "_size", "_trip", "_tunnelling")

    def __init__(self, trip: Trip, size: int, made: list[Any]) -> None:
        self._trip = trip
        self._size = size
        self._made = made
        self._tunnelling = False
        """Whether a proxy is asked for a way to the server, by a request of its own."""

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        """In the task that asked."""
        if event == "http11.send_request_headers.started":
            self._tunnelling = info["request"].method == b"CONNECT"
            if not self._tunnelling:
                self._trip.enter("write")
        elif event == "connection.connect_tcp.started":
            self._trip.fresh = True
        elif event == "connection.connect_tcp.complete":
            self._made.append(info["return_value"])
        elif self._tunnelling:
            return
        elif event == "http11.send_request_body.complete":
            self._trip.written()
        elif event == "http11.send_request_body.failed":
            cancelled = isinstance(info["exception"], asyncio.CancelledError)
            if cancelled and self._size <= _ONE_WRITE:
                self._trip.tell()


class _Source:
    """`arriving.Source` on one connection."""

    __slots__ = ("_connection", "_made", "_owner", "_pieces", "_stream", "_trip")

    def __init__(
        self,
        owner: HttpxTransport,
        connection: httpx.AsyncHTTPTransport,
        answer: httpx.Response,
        made: list[Any],
        trip: Trip,
    ) -> None:
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        self._owner = owner
        self._connection = connection
        self._made = made
        self._trip = trip
        self._stream = answer.stream
        self._pieces: Any = answer.stream.__aiter__()

    async def next(self) -> bytes:
        try:
            async for piece in self._pieces:
                if piece:
                    assert isinstance(piece, bytes)
                    return piece
            return b""
        except httpx.TransportError as error:
            failure = mapped(error, self._trip, proxied=False)
        raise failure

    async def pour(self, take: Take) -> bool:
        return await poured(self.next, take)

    async def release(self, clean: bool) -> None:
        owner = self._owner
        kept = False
        try:
            if clean and not owner._closed:
                await self._stream.aclose()
                kept = not _has_more(self._connection)
        finally:
            if kept:
                owner._busy.discard(self._connection)
                owner._keep(self._connection)
            else:
                await owner._drop(self._connection, [self._pieces, self._stream, *self._made])


def _has_more(connection: httpx.AsyncHTTPTransport) -> bool:
    """Whether more than the answer has come: httpx would take it for the answer to the next request.

    Only the parser within knows, so this looks where nobody is meant to; were it not there, nothing else would break.
    """
    for one in getattr(getattr(connection, "_pool", None), "connections", ()):
        parser = getattr(getattr(one, "_connection", None), "_h11_state", None)
        if parser is not None and parser.trailing_data[0]:
            return True
    return False


async def _closed(connection: httpx.AsyncHTTPTransport, others: list[Any]) -> None:
    await connection.aclose()
    for other in others:  # cancelled in a TLS handshake, httpx forgets the socket below
        await other.aclose()
