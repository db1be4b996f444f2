"""One HTTP/1.1 connection of the direct transport: asyncio's protocol around h11's parser."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import h11

from dspy_actors.lm.transports.base import HTTPRequest, keep_alive_options
from dspy_actors.lm.transports.broken import Broken, broken
from dspy_actors.lm.transports.chunked_body import AHEAD, ChunkedBody

_HEAD = 64 * 1024
"""Bytes that the head of a response may have."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: bytes into h11, and a future for the one request that waits for some."""

    def __init__(self) -> None:
        self.http = _parser()
        self.body: ChunkedBody | None = None
        """The body of the answer under way, where it comes in chunks: no matter of the parser's then."""
        self.alive = False
        self.busy = False
        self.paused = False
        self.received = 0
        self._unread = 0
        self._held = False
        self._last_one = False
        self.idle_since = 0.0
        self._dropped = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.alive = True
        # "paused" then means that the kernel has not taken everything; over TLS 0 bytes would be too many of none
        transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1)
        sock = transport.get_extra_info("socket")
        for option in keep_alive_options():
            sock.setsockopt(*option)

    def data_received(self, data: bytes) -> None:
        if not self.busy:  # nobody asked: whatever it is, it must not become the answer to the next request
            self.close()
        elif self.alive:
            if self.body is not None:
                self.body.received(data)
                return
            self.received += len(data)
            self.http.receive_data(data)
            self._unread += len(data)
            if self._unread > AHEAD and not self._held and self._transport is not None:
                self._held = True
                self._transport.pause_reading()
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        self.paused = False
        if self.body is not None:
            self.body.lost()
            return
        if error is None and not self._dropped:  # an end in good order, which ends a body that has no length
            self.http.receive_data(b"")
        self._wake()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._wake()

    def write(self, data: bytes | memoryview) -> None:
        """Hand `data` to the socket, if it is still there; `paused` says whether some of it waits."""
        assert self._transport is not None
        if self.alive:
            self._transport.write(data)

    def event(self, head: h11.Response | None) -> object:
        """The parser's next event; `head` is the answer's, once it is there. Raises `Broken` for what is no HTTP."""
        try:
            return self.http.next_event()
        except h11.RemoteProtocolError as error:
            raise broken(head, str(error) if self.received else "it was closed") from None

    async def turn(self) -> None:
        """Wait until something happened to the connection; the reader has taken all that had arrived."""
        self._let_in()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def close(self) -> None:
        """Drop the connection at once; whoever waits for it learns it in the loop's next turn."""
        self._dropped = True
        if self._transport is not None:
            self._transport.abort()

    def read_chunks(self, head: h11.Response) -> None:
        """From here on the answer is `body`, if it comes in chunks."""
        headers = dict(head.headers)
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked" and head.http_version == b"1.1":
            assert self._transport is not None
            self._let_in()
            self._last_one = b"close" in headers.get(b"connection", b"").lower()
            self.body = ChunkedBody(self._transport)
            if self.http.trailing_data[0]:
                self.body.received(self.http.trailing_data[0])
            if not self.alive:
                self.body.lost()
            self.http = _parser()

    def renewed(self) -> bool:
        """Get ready for another request; whether the connection may carry one."""
        http = self.http
        body = self.body
        if body is not None:
            self.body = None
            body.let_in()
            self.busy = False
            return body.over and self.alive and not self.paused and not self._last_one
        if self.paused or not self.alive or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        http.start_next_cycle()
        self._let_in()
        self.busy = False
        return not http.trailing_data[0]

    def _let_in(self) -> None:
        self._unread = 0
        if self._held and self._transport is not None:
            self._held = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _parser() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)


def serialised(http: h11.Connection, request: HTTPRequest) -> bytes:
    """Head and body in one piece: one system call, one packet for most requests."""
    parts = urlsplit(request.url)
    headers = [("host", parts.netloc.rpartition("@")[2]), ("content-length", str(len(request.body)))]
    headers.extend(request.headers.items())
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        head = http.send(h11.Request(method=request.method, target=target, headers=headers))
    except h11.LocalProtocolError:
        raise Broken("the request holds a header that HTTP does not allow", "header") from None
    http.send(h11.Data(data=request.body))
    http.send(h11.EndOfMessage())
    return (head or b"") + request.body
