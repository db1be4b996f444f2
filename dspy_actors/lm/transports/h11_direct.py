"""The direct transport: asyncio's connections and h11's parser, nothing between; a sixth of httpx's CPU a request.

h11 is what httpx parses with. What httpx puts on top (a pool, locks, cancel scopes, head and body in two writes) costs
more than the request itself, and hides which bytes were written and which arrived. Here both are known: `on_sent` is
exact, and only a connection on which no byte came back gets its second try.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from urllib.parse import urlsplit

import h11

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    OnSent,
    TransportSettings,
    check_headers,
    decoded,
    keep_alive_options,
    tls_context,
    too_large,
    transport_error,
)
from dspy_actors.lm.transports.slots import Slots
from dspy_actors.lm.transports.trip import Trip

_HEAD = 64 * 1024
"""Bytes that the head of a response may have."""


class _Broken(Exception):
    """A connection ended or spoke no HTTP. `code` as in `transport_error`."""

    def __init__(self, what: str, code: str = "cut") -> None:
        super().__init__(what)
        self.code = code


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: bytes into h11, and a future for the one request that waits for some."""

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
        self.alive = False
        self.busy = False
        self.paused = False
        self.received = 0
        self.idle_since = 0.0
        self._dropped = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.alive = True
        transport.set_write_buffer_limits(high=0)  # "paused" then means that the kernel has not taken everything
        sock = transport.get_extra_info("socket")
        for option in keep_alive_options():
            sock.setsockopt(*option)

    def data_received(self, data: bytes) -> None:
        if not self.busy:  # nobody asked: whatever it is, it must not become the answer to the next request
            self.close()
        elif self.alive:
            self.received += len(data)
            self.http.receive_data(data)
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and not self._dropped:  # an end in good order, which ends a body that has no length
            self.http.receive_data(b"")
        self.alive = False
        self.paused = False
        self._wake()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._wake()

    def write(self, data: bytes) -> None:
        """Hand `data` to the socket; `paused` says whether some of it waits."""
        assert self._transport is not None
        self._transport.write(data)

    async def turn(self) -> None:
        """Wait until something happened to the connection."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def close(self) -> None:
        """Drop the connection at once; whoever waits for it learns it in the loop's next turn."""
        self._dropped = True
        if self._transport is not None:
            self._transport.abort()

    def renewed(self) -> bool:
        """Get ready for another request; whether the connection may carry one."""
        http = self.http
        if self.paused or not self.alive or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        http.start_next_cycle()
        self.busy = False
        return not http.trailing_data[0]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class DirectTransport:
    """`Transport` on h11, HTTP/1.1, without proxies. See `base.Transport` for the contract."""

    def __init__(self, base_url: str, settings: TransportSettings | None = None) -> None:
        self._settings = settings or TransportSettings()
        self._loop = asyncio.get_running_loop()
        self._slots = Slots(self._settings.connections)
        self._tls = tls_context(base_url)
        self._names = Names()
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(
        self, request: HTTPRequest, *, deadline: float | None = None, on_sent: OnSent | None = None
    ) -> HTTPResponse:
        """See `base.Transport.send`."""
        if self._closed:
            raise transport_error("the transport is closed", request.url, "closed")
        check_headers(request)
        async with Trip(request.url, self._settings, deadline, on_sent) as trip:
            if not self._slots.take():
                trip.queue()
                await self._slots.wait()
            try:
                return await self._with_connection(request, trip)
            finally:
                self._slots.give_back()

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        self._names.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in its next turn

    async def _with_connection(self, request: HTTPRequest, trip: Trip) -> HTTPResponse:
        """Try on an idle connection; one that the server had dropped meanwhile costs one free second try."""
        connection = self._reusable()
        if connection is not None:
            try:
                return await self._exchange(connection, request, trip)
            except _Broken as broken:
                if connection.received or self._closed:
                    raise self._mapped(broken, trip) from None
        try:
            return await self._exchange(await self._connected(request, trip), request, trip)
        except _Broken as broken:
            raise self._mapped(broken, trip) from None

    def _mapped(self, broken: _Broken, trip: Trip) -> LMTransportError:
        return transport_error(str(broken), trip.url, broken.code)

    def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            connection.close()
        return None

    async def _connected(self, request: HTTPRequest, trip: Trip) -> _Connection:
        """A new connection. A host's addresses are tried one after the other, all but the last for half the time."""
        trip.attempt()
        parts = urlsplit(request.url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        addresses = await self._names.of(host, port)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(self._settings.connect / 2):
                    return await self._open(address, port, host if secure else None)
            except (OSError, _Broken):  # a timeout is an OSError too
                continue
        return await self._open(addresses[-1], port, host if secure else None)

    async def _open(self, address: str, port: int, tls_name: str | None) -> _Connection:
        tls = None if tls_name is None else self._tls
        try:
            made = await self._loop.create_connection(_Connection, address, port, ssl=tls, server_hostname=tls_name)
        except ssl.SSLCertVerificationError as error:
            raise _Broken(f"the certificate is not trusted: {error}", "certificate") from None
        except ssl.SSLError as error:
            raise _Broken(f"no TLS connection: {error}", "tls") from None
        except OSError as error:
            code = "refused" if isinstance(error, ConnectionRefusedError) else "connect"
            raise _Broken(f"no connection: {error}", code) from None
        return made[1]

    async def _exchange(self, connection: _Connection, request: HTTPRequest, trip: Trip) -> HTTPResponse:
        clean = False
        connection.busy, connection.received = True, 0
        self._busy.add(connection)
        try:
            trip.enter("write")
            connection.write(_serialised(connection.http, request))
            while connection.paused:
                await connection.turn()
            if connection.alive:
                trip.written()
            head, body = await self._read(connection, trip)
            clean = connection.renewed() and not self._closed
        finally:
            self._busy.discard(connection)
            if clean:
                self._keep(connection)
            else:
                connection.close()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        encoding = headers.get("content-encoding", "").strip().lower()
        return HTTPResponse(head.status_code, headers, decoded(body, encoding, self._settings.max_body, request.url))

    async def _read(self, connection: _Connection, trip: Trip) -> tuple[h11.Response, bytes]:
        http, bound = connection.http, self._settings.max_body
        head: h11.Response | None = None
        pieces: list[bytes] = []
        size = 0
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise _broken(head, str(error) if connection.received else "it was closed") from None
            if event is h11.NEED_DATA:
                if not connection.alive:
                    raise _broken(head, "it was reset or closed")
                await connection.turn()
            elif type(event) is h11.Data:
                pieces.append(bytes(event.data))
                size += len(event.data)
                if size > bound:
                    raise too_large(bound, trip.url)
                trip.enter("body")
            elif type(event) is h11.Response:
                head = event
                trip.enter("body")
            elif type(event) is h11.EndOfMessage:
                assert head is not None
                return head, b"".join(pieces)
            elif type(event) is h11.ConnectionClosed:
                raise _broken(head, "it was closed")

    def _keep(self, connection: _Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(connection.idle_since + self._settings.keepalive, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        old = self._loop.time() - self._settings.keepalive
        while self._idle and self._idle[0].idle_since <= old:
            self._idle.popleft().close()
        if self._idle:
            self._sweeper = self._loop.call_at(self._idle[0].idle_since + self._settings.keepalive, self._sweep)


class Names:
    """Host names looked up once for all who connect at the same time, and kept for half a minute.

    asyncio looks names up on a handful of threads: a thousand connections at once would wait for each other there.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lookups: dict[tuple[str, int], tuple[asyncio.Task[list[str]], float]] = {}

    async def of(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, in the system's order of preference; at least one."""
        lookup, until = self._lookups.get((host, port), (None, 0.0))
        now = self._loop.time()
        if lookup is None or until < now or (lookup.done() and lookup.exception() is not None):
            lookup = self._loop.create_task(self._look_up(host, port))
            lookup.add_done_callback(lambda done: done.cancelled() or done.exception())  # all may have left by then
            self._lookups[host, port] = (lookup, now + 30.0)
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """Stop the lookups under way."""
        for lookup, _ in self._lookups.values():
            lookup.cancel()

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _Broken(f"{host!r} has no address: {error}", "connect") from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _broken(head: h11.Response | None, how: str) -> _Broken:
    where = "before it answered" if head is None else "in the middle of its answer"
    return _Broken(f"the connection broke {where}: {how}")


def _serialised(http: h11.Connection, request: HTTPRequest) -> bytes:
    """Head and body in one piece: one system call, one packet for most requests."""
    parts = urlsplit(request.url)
    headers = [("host", parts.netloc.rpartition("@")[2]), ("content-length", str(len(request.body)))]
    headers.extend(request.headers.items())
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        head = http.send(h11.Request(method=request.method, target=target, headers=headers))
    except h11.LocalProtocolError:
        raise _Broken("the request holds a header that HTTP does not allow", "header") from None
    http.send(h11.Data(data=request.body))
    http.send(h11.EndOfMessage())
    return (head or b"") + request.body
