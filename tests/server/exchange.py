"""One request from its arrival to the last byte of its answer, with the faults it was given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tests.server.connection import Connection
from tests.server.counters import Counters
from tests.server.faults import Fault

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Answer:
    """What is to be sent. `pieces` is the body; with `gap` seconds between them when the answer is slow."""

    status: int
    pieces: list[bytes]
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "application/json"
    chunked: bool = False
    unframed: bool = False
    gap: float = 0.0
    end: str = "keep"
    """`keep` the connection, `close` it, or `hang`: neither."""
    show: Any = None
    """The `streaming.Performance` of an answer that is streamed."""

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}", f"content-type: {self.content_type}"]
        size = sum(map(len, self.pieces))
        if not self.unframed:
            lines.append("transfer-encoding: chunked" if self.chunked else f"content-length: {size}")
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def whole(self) -> bytes:
        return b"".join(self.framed(piece) for piece in self.pieces) + (b"0\r\n\r\n" if self.chunked else b"")

    def framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked and piece else piece


class Exchange:
    """Counts itself in and out; ends exactly once, by its last byte, by the client leaving or by a fault."""

    __slots__ = ("_gate", "_held", "_over", "_timer", "answer", "connection", "counters", "fault")

    def __init__(
        self, connection: Connection, counters: Counters, fault: Fault, answer: Answer, gate: list[Exchange]
    ) -> None:
        self.connection = connection
        self.counters = counters
        self.fault = fault
        self.answer = answer
        self._timer: asyncio.Handle | None = None
        self._gate = gate
        self._held = False
        self._over = False

    def start(self) -> None:
        """Begin to answer, unless the fault says otherwise. The exchange is already the connection's current one."""
        if self.fault.get("hang") == "headers":
            return
        if "hold" in self.fault:
            self._gate.append(self)
            self._held = True
            self.counters.held += 1
            self.counters.changed()
        else:
            self.go()

    def go(self) -> None:
        """Answer, after the fault's delay; for a held exchange this is the release."""
        self._leave_gate()
        delay = float(self.fault.get("delay", 0)) / 1000
        if delay > 0:
            self._timer = asyncio.get_running_loop().call_later(delay, self._begin)
        else:
            self._begin()

    def _leave_gate(self) -> None:
        if self._held:
            self._held = False
            self._gate.remove(self)
            self.counters.held -= 1

    def _begin(self) -> None:
        self._timer = None
        if "reset" in self.fault or "drop" in self.fault:
            self._end()
            if "reset" in self.fault:
                self.connection.reset()
            else:
                self.connection.close()
            return
        answer = self.answer
        self.counters.statuses[answer.status] += 1
        if answer.gap or answer.end != "keep" or "cut" in self.fault:
            self.connection.write(answer.head())
            self._piecewise(0, self._cut())
            return
        self.connection.write(answer.head() + answer.whole())
        self._finish()

    def _cut(self) -> int:
        size = sum(map(len, self.answer.pieces))
        if self.answer.end == "hang":
            return size // 2
        return min(size, int(self.fault.get("cut", size)))

    def _piecewise(self, index: int, left: int) -> None:
        self._timer = None
        answer = self.answer
        while index < len(answer.pieces) and left > 0:
            piece = answer.pieces[index][:left]
            self.connection.write(answer.framed(piece))
            index, left = index + 1, left - len(piece)
            if answer.gap and index < len(answer.pieces) and left > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(answer.gap, self._piecewise, index, left)
                return
        if answer.end == "hang":
            return
        if answer.chunked and "cut" not in self.fault:
            self.connection.write(b"0\r\n\r\n")
        self._finish()

    def _finish(self) -> None:
        if self._end():
            self.counters.answered += 1
            self.counters.changed()
            if self.answer.end == "close" or "cut" in self.fault:
                self.connection.close()
            else:
                self.connection.done()

    def paused(self, paused: bool) -> None:
        """What is not streamed is written at once, whether the client reads or not."""

    def client_left(self) -> None:
        """The client closed the connection before the last byte."""
        if self._end():
            self.counters.aborted += 1
            self.counters.changed()

    def abandon(self) -> None:
        """The server was reset while this was under way."""
        if self._end():
            self.connection.reset()

    def _end(self) -> bool:
        if self._over:
            return False
        self._over = True
        self._leave_gate()
        if self._timer is not None:
            self._timer.cancel()
        self.counters.in_flight -= 1
        self.counters.changed()
        return True
