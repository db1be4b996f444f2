"""A server that streams chat completions, in a process of its own: `with streaming() as server`.

What a stream does is in the model's name: `fast-N` writes N pieces as fast as the client reads; `chat-N` and `json-N`
write them as the output `answer` in the layout of an adapter; `paced-N-R` writes N pieces at R a second. Every piece is
an event of about 230 bytes; a paced one says when it was written, by the clock that all processes of a machine share.
`GET /closed` gives the instants at which clients left in the middle.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    'data: {"id":"chatcmpl-0123456789abcdef0123456789","object":"chat.completion.chunk","created":1700000000,'
    '"model":"%s","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":"%s"},'
    '"logprobs":null,"finish_reason":%s}]}\n\n'
)
_END = (_EVENT % ("m", "", '"stop"') + "data: [DONE]\n\n").encode()
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
    pacers: ClassVar[dict[int, Pacer]] = {}

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
            self.left, rate = int(numbers[0]), int(numbers[1])
            if rate not in self.pacers:
                self.pacers[rate] = Pacer(rate)
            self.pacers[rate].add(self)

    async def fast(self, count: int, before: str, behind: str) -> None:
        if before:
            self.transport.write(framed(event(before)))
        block = framed(event("word ") * BLOCK)
        for _ in range(count // BLOCK):
            await self.can_write.wait()
            self.transport.write(block)
        self.transport.write(
            framed(event("word ") * (count % BLOCK) + (event(behind) if behind else b"") + _END) + b"0\r\n\r\n"
        )

    def piece(self, data: bytes) -> None:
        """Write one piece of a paced stream, and the end after its last."""
        self.left -= 1
        self.transport.write(data if self.left else data + framed(_END) + b"0\r\n\r\n")


class Pacer:
    """Writes to all streams of one rate, a part of them at a time, so that they do not all come at once."""

    def __init__(self, rate: int) -> None:
        self.step = 1.0 / rate / PARTS
        self.parts: list[list[Peer]] = [[] for _ in range(PARTS)]
        self.number = 0
        self.due = time.monotonic()
        self.tick()

    def add(self, peer: Peer) -> None:
        min(self.parts, key=len).append(peer)

    def tick(self) -> None:
        part = self.parts[self.number % PARTS]
        data = framed(event(f"{time.monotonic():.6f} "))
        for peer in part:
            if peer.left:
                peer.piece(data)
        part[:] = [peer for peer in part if peer.left]
        self.number += 1
        self.due += self.step
        asyncio.get_running_loop().call_later(max(0.0, self.due - time.monotonic()), self.tick)


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
        yield Streaming(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    finally:
        process.stdin.close()
        process.wait(5.0)


if __name__ == "__main__":
    asyncio.run(serve())
