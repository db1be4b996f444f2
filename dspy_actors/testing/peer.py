"""`Peer`: a scripted HTTP server on the test's own loop, for faults that only the byte level can show."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass

from dspy_actors.testing.loopback import Loopback


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived; `connection` counts the peer's connections from 1."""

    connection: int
    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of the first header called `name`, in whatever case."""
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the peer does with a request: wait for `gate`, write `data`, then perhaps close or reset the connection.

    `then` is what it does after that, so that an answer may come in parts. A client that leaves ends the wait.
    """

    data: bytes = b""
    close: bool = False
    reset: bool = False
    gate: asyncio.Event | None = None
    then: Reaction | None = None


def reply(status: int = 200, body: bytes = b"{}", *headers: str) -> Reaction:
    """A whole response with its length."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return Reaction("\r\n".join([*lines, "", ""]).encode() + body)


SILENCE = Reaction()
CLOSE = Reaction(close=True)


class Peer(Loopback):
    """Reacts to request number n with `reactions[n]`, to those beyond with the last one. `tls`: over HTTPS.

    ```python
    async with Peer(reply(200), CLOSE) as peer:
        ...
    assert len(peer.seen) == 2
    ```
    """

    def __init__(self, *reactions: Reaction, read_bodies: bool = True, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._reactions = deque(reactions or (reply(),))
        self._read_bodies = read_bodies
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self.seen: list[Seen] = []
        self.accepted = 0
        self.open = 0
        self.delivered = 0
        """How many writes were taken whole, but for the few kilobytes that wait in the peer itself."""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, `https://localhost:PORT` with `tls`: a certificate is for a name."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    async def until(self, *, open_connections: int | None = None, requests: int = 0) -> None:
        """Wait until exactly so many connections are open and at least so many requests have arrived."""
        while len(self.seen) < requests or open_connections not in (None, self.open):
            self._changed.clear()
            await self._changed.wait()

    def say(self, data: bytes) -> None:
        """Write `data` on every connection that is open, asked or not."""
        for writer in self._writers:
            writer.write(data)

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for writer in list(self._writers):
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See `Loopback.serve`."""
        self._writers.add(writer)
        self.accepted += 1
        self._count(1)
        try:
            await self._converse(reader, writer, self.accepted)
        finally:
            self._writers.discard(writer)
            self._count(-1)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if not self._read_bodies:
                await asyncio.Event().wait()
            seen = Seen(number, head, b"")
            body = await reader.readexactly(int(seen.header("content-length") or 0))
            self.seen.append(Seen(number, head, body))
            self._changed.set()
            reaction = self._reactions.popleft() if len(self._reactions) > 1 else self._reactions[0]
            if not await self._react(reaction, reader, writer):
                return

    async def _react(self, reaction: Reaction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on after it."""
        if reaction.gate is not None:
            await _wait(reaction.gate, reader)
        writer.write(reaction.data)
        await writer.drain()
        self.delivered += 1
        if reaction.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if reaction.close or reaction.reset:
            return False
        return reaction.then is None or await self._react(reaction.then, reader, writer)

    def _count(self, change: int) -> None:
        self.open += change
        self._changed.set()


async def _wait(gate: asyncio.Event, reader: asyncio.StreamReader) -> None:
    """Wait for `gate`. Raises `ConnectionError` when the client leaves before it opens."""
    waits = [asyncio.ensure_future(gate.wait()), asyncio.ensure_future(reader.read(1))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not waits[0].done():
            raise ConnectionError
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
