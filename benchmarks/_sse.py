"""A server that streams chat completions, in a process of its own: `with streaming() as server`.

What a stream does is in the model's name: `fast-N` writes N pieces as fast as the client reads; `chat-N` and `json-N`
write them as the output `answer` in the layout of an adapter; `paced-N-R` writes N pieces at R a second, and so does
`paced-N-R-M`, but all M streams of that name begin together, once the last of them was asked for; one piece more is
there at once. `chatpaced-N-R` is paced, and begins as an output in the layout of the chat adapter. Every piece is an
event of about 230 bytes; a paced one is a chunk and a write of its own, and says when it was written, by the clock that
all processes of a machine share. `GET /closed` gives the instants at which clients left in the middle.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    'data: {"id":"chatcmpl-0123456789abcdef0123456789","object":"chat.completion.chunk","created":1700000000,'
    '"model":"%s","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":"%s"},'
    '"logprobs":null,"finish_reason":%s}]}\n\n'
)
END = (_EVENT % ("m", "", '"stop"') + "data: [DONE]\n\n").encode()
AROUND = {
    "fast": ("", ""),
    "chat": (r"[[ ## answer ## ]]\n", r"\n\n[[ ## completed ## ]]"),
    "json": (r"{\"answer\": \"", r"\"}"),
}
"""What stands before and behind the pieces, as it is written in a JSON string."""
BLOCK = 64
PARTS = 10


def event(text: str) -> bytes:
    """One piece as a server sends it."""
    return (_EVENT % ("m", text, "null")).encode()


def framed(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Peer(asyncio.Protocol):
    """One connection."""

    closed: ClassVar[list[float]] = []
    pacers: ClassVar[dict[tuple[int, ...], Pacer]] = {}

    def __init__(self) -> None:
        self.data = b""
        self.can_write = asyncio.Event()
        self.can_write.set()
        self.task: asyncio.Task[None] | None = None
        self.left = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=64 * 1024)

    def connection_lost(self, error: Exception | None) -> None:
        if self.left or (self.task is not None and not self.task.done()):
            self.closed.append(time.monotonic())
        self.left = 0
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if not found or len(body) < length:
            return
        self.data = body[length:]
        if head.startswith(b"GET"):
            answer = json.dumps(self.closed).encode()
            self.closed.clear()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
            return
        kind, *numbers = json.loads(body[:length])["model"].split("-")
        self.transport.write(HEAD)
        if kind in AROUND:
            self.task = asyncio.get_running_loop().create_task(self.fast(int(numbers[0]), *AROUND[kind]))
        else:
            if kind == "chatpaced":
                self.transport.write(framed(event(AROUND["chat"][0])))
            self.left, *pace = map(int, numbers)
            key = tuple(pace)
            if key not in self.pacers:
                self.pacers[key] = Pacer(*pace)
            if self.pacers[key].add(self):
                del self.pacers[key]

    async def fast(self, count: int, before: str, behind: str) -> None:
        if before:
            self.transport.write(framed(event(before)))
        block = framed(event("word ") * BLOCK)
        for _ in range(count // BLOCK):
            await self.can_write.wait()
            self.transport.write(block)
        self.transport.write(
            framed(event("word ") * (count % BLOCK) + (event(behind) if behind else b"") + END) + b"0\r\n\r\n"
        )

    def piece(self, data: bytes) -> None:
        """Write one piece of a paced stream, and the end after its last."""
        self.left -= 1
        self.transport.write(data if self.left else data + framed(END) + b"0\r\n\r\n")


class Pacer:
    """Writes to all streams of one pace, a part of them at a time, so that they do not all come at once.

    With `together`, none of so many streams goes on after its first piece before all of them are there.
    """

    def __init__(self, rate: int, together: int = 0) -> None:
        self.step = 1.0 / rate / PARTS
        self.parts: list[list[Peer]] = [[] for _ in range(PARTS)]
        self.number = 0
        self.together = self.awaited = together
        if not together:
            self.begin()

    def add(self, peer: Peer) -> bool:
        """Write to `peer` too; whether that was the last who was awaited."""
        min(self.parts, key=len).append(peer)
        if not self.awaited:
            return False
        peer.left += 1
        peer.piece(stamped())
        self.awaited -= 1
        if not self.awaited:
            self.begin()
        return not self.awaited

    def begin(self) -> None:
        self.due = time.monotonic()
        self.tick()

    def tick(self) -> None:
        part = self.parts[self.number % PARTS]
        data = stamped()
        for peer in part:
            if peer.left:
                peer.piece(data)
        part[:] = [peer for peer in part if peer.left]
        self.number += 1
        if self.together and not any(self.parts):
            return
        self.due += self.step
        asyncio.get_running_loop().call_later(max(0.0, self.due - time.monotonic()), self.tick)


def stamped() -> bytes:
    """A piece that says when it was written."""
    return framed(event(f"{time.monotonic():.6f} "))


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Peer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


@dataclass
class Streaming:
    """The running server."""

    base_url: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time of the server so far."""
        used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    def closed(self) -> list[float]:
        """When clients left since the last look, in order; instants of `time.monotonic()`."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/closed") as answer:
            found: list[float] = json.load(answer)
        return found


@contextmanager
def streaming() -> Iterator[Streaming]:
    """A running server."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Streaming(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process.pid)
    finally:
        process.stdin.close()
        process.wait(5.0)


if __name__ == "__main__":
    asyncio.run(serve())
