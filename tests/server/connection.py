"""HTTP/1.1 on an `asyncio.Protocol`: one exchange at a time on a connection, kept alive between them."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol

_MAX_HEAD, _MAX_BODY = 65_536, 64 * 1024 * 1024
_LINGER = struct.pack("ii", 1, 0)


class Request:
    """One request, whole."""

    __slots__ = ("body", "headers", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class Job(Protocol):
    """What the connection drives: one request's exchange."""

    def start(self) -> None: ...
    def client_left(self) -> None: ...
    def paused(self, paused: bool) -> None: ...


class App(Protocol):
    """What the connection reports to."""

    connections: set[Connection]

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def arrived(self, connection: Connection, request: Request) -> Job | None: ...


class Connection(asyncio.Protocol):
    """A client's connection. `current` is the exchange under way."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.current: Job | None = None
        self.carried = 0
        self.transport: asyncio.Transport
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._begin = self._need = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.app.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        current, self.current = self.current, None
        if current is not None:
            current.client_left()
        self.app.closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.current is None:
            self._next()

    def eof_received(self) -> None:
        """The client has closed its side: it does not read any more, so what is not written yet need not be."""
        if self.current is not None:
            self.transport.abort()

    def pause_writing(self) -> None:
        if self.current is not None:
            self.current.paused(True)

    def resume_writing(self) -> None:
        if self.current is not None:
            self.current.paused(False)

    def done(self) -> None:
        """The exchange has written its last byte; the connection takes the next request."""
        self.current = None
        if self._buffer:
            self._next()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        """End the connection after what is written (FIN)."""
        self.current = None
        self.transport.close()

    def reset(self) -> None:
        """End the connection at once (RST)."""
        self.current = None
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.transport.abort()

    def _next(self) -> None:
        if self._head is None and not self._read_head():
            return
        if len(self._buffer) < self._need or self._head is None:
            return
        method, target, headers = self._head
        body = bytes(self._buffer[self._begin : self._need])
        del self._buffer[: self._need]
        self._head = None
        self.current = self.app.arrived(self, Request(method, target, headers, body))
        if self.current is not None:
            self.current.start()

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                self._refuse(431, "Request Header Fields Too Large")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        first = lines[0].split(" ")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = headers.get("content-length", "0")
        if len(first) != 3 or not first[2].startswith("HTTP/1.") or not length.isdigit():
            return self._refuse(400, "Bad Request")
        if "transfer-encoding" in headers:
            return self._refuse(411, "Length Required")
        if int(length) > _MAX_BODY:
            return self._refuse(413, "Content Too Large")
        self._head = (first[0], first[1], headers)
        self._begin = end + 4
        self._need = self._begin + int(length)
        return True

    def _refuse(self, status: int, reason: str) -> bool:
        self._buffer.clear()
        self.write(f"HTTP/1.1 {status} {reason}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.close()
        return False
