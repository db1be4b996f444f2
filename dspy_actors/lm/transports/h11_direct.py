"""The direct transport: asyncio's connections and h11's parser, nothing between; a sixth of httpx's CPU a request.

h11 is what httpx parses with. What httpx puts on top (a pool, locks, cancel scopes, head and body in two writes) costs
more than the request itself, and hides which bytes were written and which arrived. Here both are known: the observer is
told exactly, and only a connection on which no byte came back gets its second try.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from urllib.parse import urlsplit

import h11

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.arriving import poured
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    Take,
    TransportSettings,
    pieces,
    transport_error,
)
from dspy_actors.lm.transports.broken import Broken, broken, check_head, untrusted
from dspy_actors.lm.transports.h11_connection import Connection, serialised
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip


class DirectTransport(SlottedTransport):
    """`Transport` on h11, HTTP/1.1, without proxies. See `base.Transport` for the contract."""

    def __init__(self, base_url: str, settings: TransportSettings | None = None) -> None:
        super().__init__(base_url, settings)
        self._loop = asyncio.get_running_loop()
        self._tls = self._settings.trust.context(base_url)
        self._names = Names()
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        await self._end_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()
        self._names.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in its next turn

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        """See `SlottedTransport`. A connection that the server had dropped while it was idle costs one second try."""
        connection = self._reusable()
        try:
            if connection is not None:
                try:
                    return await self._begin(connection, request, trip)
                except Broken:
                    if connection.received or self._closed:
                        raise
            return await self._begin(await self._connected(request, trip), request, trip)
        except Broken as error:
            failure = self._mapped(error, trip)
        raise failure

    def _mapped(self, broken: Broken, trip: Trip) -> LMTransportError:
        return transport_error(str(broken), trip.url, broken.code)

    def _reusable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            connection.close()
        return None

    async def _connected(self, request: HTTPRequest, trip: Trip) -> Connection:
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
            except (OSError, Broken):  # a timeout is an OSError too
                continue
        return await self._open(addresses[-1], port, host if secure else None)

    async def _open(self, address: str, port: int, tls_name: str | None) -> Connection:
        tls = None if tls_name is None else self._tls
        try:
            made = await self._loop.create_connection(Connection, address, port, ssl=tls, server_hostname=tls_name)
        except ssl.SSLCertVerificationError as error:
            raise untrusted(error) from None
        except ssl.SSLError as error:
            raise Broken(f"no TLS connection: {error}", "tls") from None
        except OSError as error:
            code = "refused" if isinstance(error, ConnectionRefusedError) else "connect"
            raise Broken(f"no connection: {error}", code) from None
        return made[1]

    async def _begin(self, connection: Connection, request: HTTPRequest, trip: Trip) -> Head:
        """Ask on this connection. Raises `Broken`."""
        connection.busy, connection.received = True, 0
        self._busy.add(connection)
        try:
            trip.enter("write")
            for piece in pieces(serialised(connection.http, request)):
                connection.write(piece)
                while connection.paused:
                    await connection.turn()
            if connection.alive:
                trip.written()
            head = await _head(connection)
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            check_head(head.status_code, headers)
            connection.read_chunks(head)
            return Head(_Source(self, connection, head, trip), head.status_code, headers)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise

    def _keep(self, connection: Connection) -> None:
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


class _Source:
    """`arriving.Source` on one connection."""

    __slots__ = ("_connection", "_head", "_last", "_owner", "_trip")

    def __init__(self, owner: DirectTransport, connection: Connection, head: h11.Response, trip: Trip) -> None:
        self._owner = owner
        self._connection = connection
        self._trip = trip
        self._last: object = None
        """What ends the body: an event, or a `Broken`; kept while what came before it is handed out."""
        self._head = head

    async def next(self) -> bytes:
        try:
            body = self._connection.body
            return await (self._piece() if body is None else body.next())
        except Broken as error:
            raise self._owner._mapped(error, self._trip) from None

    async def pour(self, take: Take) -> bool:
        body = self._connection.body
        if body is None:
            return await poured(self.next, take)
        try:
            return await body.pour(take)
        except Broken as error:
            raise self._owner._mapped(error, self._trip) from None

    async def _piece(self) -> bytes:
        """`next` by h11's reader. Raises `Broken`."""
        connection = self._connection
        while self._last is None:
            data = self._parsed()
            if data:
                return data
            if self._last is None:
                if connection.alive:
                    await connection.turn()
                else:
                    self._last = broken(self._head, "it was reset or closed")
        if isinstance(self._last, Broken):
            raise self._last
        return b""

    def _parsed(self) -> bytes:
        """All of the body that has arrived; notes in `_last` what comes after it."""
        pieces: list[bytes] = []
        try:
            while (event := self._connection.event(self._head)) is not h11.NEED_DATA:
                if type(event) is h11.Data:
                    pieces.append(bytes(event.data))
                else:
                    self._last = event if type(event) is h11.EndOfMessage else broken(self._head, "it was closed")
                    break
        except Broken as error:
            self._last = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def release(self, clean: bool) -> None:
        owner, connection = self._owner, self._connection
        owner._busy.discard(connection)
        if clean and connection.renewed() and not owner._closed:
            owner._keep(connection)
        else:
            connection.close()


async def _head(connection: Connection) -> h11.Response:
    while True:
        event = connection.event(None)
        if event is h11.NEED_DATA:
            if not connection.alive:
                raise broken(None, "it was reset or closed")
            await connection.turn()
        elif type(event) is h11.Response:
            return event
        elif type(event) is h11.ConnectionClosed:
            raise broken(None, "it was closed")


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
            raise Broken(f"{host!r} has no address: {error}", "connect") from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))
