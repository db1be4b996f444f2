"""Many streams at once, each with so many pieces a second: whether they keep up, and what that takes of the machine.

All streams are opened, then all begin together; `seconds` and the processor's time are counted from there. The rows:
`counted` reads the same sockets in one epoll loop and looks at nothing but the number of bytes, which is the least that
any client in Python pays; `bare` is our transport, its lines cut and their JSON parsed, as in `stream`; `ours` is
`async for piece in rt.stream(...)`, a task a stream. The server is a process of its own on the same machine: its
processor's time stands beside the client's.

    python benchmarks/stream_many.py [--streams 1000] [--rate 50] [--seconds 10] [--transports aiohttp,httpx,h11]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from _peers import transports
from _report import Report, Row
from _sse import END, Streaming, framed, stamped, streaming
from _stub import cpu_seconds, raise_file_limit
from _targets import Targets
from stream import bare_chunks, model_at

from dspy_actors import Runtime
from dspy_actors.lm.transports.base import TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.pieces import Piece, TextPiece

OPENING = 50
"""Streams that are being opened at once."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--streams", type=int, default=1000)
    arguments.add_argument("--rate", type=int, default=50)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--transports", default=",".join(dict.fromkeys([transports()[-1], "h11"])))
    options = arguments.parse_args()
    raise_file_limit()
    names = options.transports.split(",")
    report, targets = Report("stream_many", "us"), Targets()
    rows: dict[str, Row] = {}
    with streaming() as server:
        cases: dict[str, Callable[[Many], None]] = {"counted": partial(_count, server)}
        for name in names:
            cases[f"bare, {name}"] = partial(_run, _bare, server, name)
            cases[f"ours, {name}"] = partial(_run, _ours, server, name)
        for title, case in cases.items():
            many = Many(server, options.streams, options.rate, options.seconds)
            case(many)
            rows[title] = many.row(title)
    report.table(f"{options.streams} streams at {options.rate} pieces a second: lag of a piece", rows, digits=0)
    for name in names:
        _judge(targets, rows[f"ours, {name}"], rows["counted"], name, options)
    report.close(targets=targets.show())


def _judge(targets: Targets, ours: Row, counted: Row, name: str, options: argparse.Namespace) -> None:
    pieces = options.streams * options.rate * options.seconds
    targets.at_least(f"pieces that arrived, {name}", ours.notes["pieces"], pieces, "pieces")
    targets.at_most(
        f"time for what is sent in {options.seconds} s, {name}", ours.notes["seconds"], 1.1 * options.seconds, "s"
    )
    targets.at_most(f"p99 lag of a piece, {name}", ours.notes["lag_p99_ms"], 500.0, "ms")
    targets.at_most(
        f"client's CPU over the counting client's, {name}", ours.notes["client_us"] / counted.notes["client_us"], 4.0
    )


class Many:
    """One run: how late its pieces were, what it took."""

    def __init__(self, server: Streaming, streams: int, rate: int, seconds: int) -> None:
        self.server = server
        self.streams = streams
        self.model = f"paced-{rate * seconds}-{rate}-{streams}"
        self.lags: list[float] = []
        self.pieces = 0
        self.awaited = streams
        self.created = time.monotonic()

    def opened(self) -> None:
        """A stream has brought its first piece."""
        self.awaited -= 1
        if not self.awaited:
            self.began = time.monotonic()
            self.used = cpu_seconds(), self.server.cpu_seconds()

    def note(self, text: str) -> None:
        """A piece came, which says when it was written."""
        self.lags.append(time.monotonic() - float(text))

    def row(self, title: str) -> Row:
        seconds = time.monotonic() - self.began
        client, server = cpu_seconds() - self.used[0], self.server.cpu_seconds() - self.used[1]
        pieces = self.pieces or len(self.lags)
        lags = sorted(self.lags)
        row = Row(title, [[lag * 1e6 for lag in lags]])
        row.notes |= {
            "pieces": pieces,
            "seconds": round(seconds, 2),
            "lag_p99_ms": round(lags[int(len(lags) * 0.99)] * 1000, 1),
            "client_cores": round(client / seconds, 2),
            "server_cores": round(server / seconds, 2),
            "client_us": round(client / pieces * 1e6, 1),
            "server_us": round(server / pieces * 1e6, 1),
            "opening_s": round(self.began - self.created, 2),
        }
        return row


def _run(case: Callable[[Streaming, str, Many], object], server: Streaming, name: str, many: Many) -> None:
    asyncio.run(case(server, name, many))  # type: ignore[arg-type]


def _count(server: Streaming, many: Many) -> None:
    """One epoll loop; of the bytes only their number is looked at, and of one read in a hundred the last stamp."""
    parts = urlsplit(server.base_url)
    body = json.dumps({"model": many.model, "messages": []}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    buffer = bytearray(64 * 1024)
    for _ in range(many.streams):
        connection = socket.create_connection((parts.hostname or "", parts.port or 0))
        connection.sendall(head + body)
        while not buffer.startswith(b"}\n\n\r\n", max(0, connection.recv_into(buffer) - 5)):
            pass
        many.opened()
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    size = reads = 0
    left = len(sockets)
    while left:
        for fd, _ in poll.poll():
            read = sockets[fd].recv_into(buffer)
            size += read
            reads += 1
            if buffer[read - 5 : read] == b"0\r\n\r\n":
                left -= 1
                poll.unregister(fd)
            elif reads % 100 == 0:
                at = buffer.rfind(b'"content":"', 0, read) + 11
                many.note(buffer[at : at + 20].split(b" ")[0].decode())
    for connection in sockets.values():
        connection.close()
    many.pieces = (size - many.streams * (len(framed(END)) + 5)) // len(stamped())


async def _bare(server: Streaming, name: str, many: Many) -> None:
    transport = choose(name)(server.base_url, TransportSettings(connections=many.streams))
    gate = asyncio.Semaphore(OPENING)

    async def one() -> None:
        chunks = bare_chunks(transport, server, many.model)
        async with gate:
            await anext(chunks)
            many.opened()
        async for chunk in chunks:
            text = chunk["choices"][0]["delta"].get("content") if chunk.get("choices") else ""
            if text:
                many.note(text)

    await asyncio.gather(*(one() for _ in range(many.streams)))
    await transport.aclose()


async def _ours(server: Streaming, name: str, many: Many) -> None:
    gate = asyncio.Semaphore(OPENING)

    async def one(rt: Runtime) -> None:
        async with gate:
            stream = rt.stream("go")
            first = await stream.take() or ()
            many.opened()
        for piece in first[1:]:
            note(piece)
        async for piece in stream:
            note(piece)

    def note(piece: Piece) -> None:
        assert isinstance(piece, TextPiece)
        many.note(piece.text)

    async with Runtime(model_at(server, many.model), transport=name) as rt:
        await asyncio.gather(*(one(rt) for _ in range(many.streams)))


if __name__ == "__main__":
    main()
