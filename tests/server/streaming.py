"""An answer that is streamed: its events one after the other, as fast as the client takes them or with a gap between.

The transport's buffer pushes back: a client that does not read stops the events. Faults count the pieces, which are
the events between the beginning of an answer and its end.
"""

from __future__ import annotations

import asyncio

from tests.server.connection import Connection
from tests.server.counters import Counters
from tests.server.exchange import Answer, Exchange
from tests.server.faults import Fault
from tests.server.streams import Score

_BATCH = 64
"""Events that go into one write where there is no gap between them."""

_PING_GAP = 0.01


class Performance:
    """What is played of a score: `events` in order, then `loop` for ever if there is one, then the `end`."""

    def __init__(self, score: Score, fault: Fault) -> None:
        pieces = list(score.pieces)
        self.lead = len(score.begin)
        """How many events come before the pieces; those from `tail` on come after them."""
        self.loop: list[bytes] = pieces if "endless" in fault else [score.ping] if "pings" in fault else []
        if "pings" in fault:
            pieces = []
        self.end = "close" if "unframed" in fault or "close" in fault else "keep"
        for name, extra in (("bad_utf8", b"data: \xff"), ("malformed", b'data: {"choices": [')):
            if name in fault:
                pieces.insert(score.place(int(fault[name] or 1)), extra)
        last = score.end
        for name, end in (("cut_after", "close"), ("reset_after", "reset"), ("stall", "stall")):
            if name in fault:
                pieces, last, self.end, self.loop = pieces[: score.place(int(fault[name]))], [], end, []
        if "error_after" in fault:
            pieces, last, self.loop = pieces[: score.place(int(fault["error_after"]))], [score.error], []
        held = int(fault.get("hold_after", 0 if "hold_each" in fault else 10**9))
        self.hold_from = self.lead + (held if held == 10**9 else score.place(held))
        self.tail = 10**9 if self.loop else self.lead + len(pieces)
        line = b"\r\n" if "crlf" in fault else b"\n"
        whole = [*score.begin, *pieces, *([] if self.loop else last)]
        self.events = [_framed(event, line, fault) for event in whole]
        self.loop = [_framed(event, line, fault) for event in self.loop]
        if self.loop and "split" not in fault:
            self.loop *= -(-4 * _BATCH // len(self.loop))  # so that a batch may begin anywhere but near its end
        if self.end == "keep" and not self.loop:
            self.events.append(b"0\r\n\r\n")

    @property
    def is_cut(self) -> bool:
        return self.end == "close"


def _framed(event: bytes, line: bytes, fault: Fault) -> bytes:
    data = event.replace(b"\n", line) + line + line
    if "unframed" in fault:
        return data
    if "split" in fault:
        return b"".join(b"1\r\n%c\r\n" % byte for byte in data)
    return b"%x\r\n%b\r\n" % (len(data), data)


class StreamExchange(Exchange):
    """Plays a performance. Held between pieces (`hold_after`, `hold_each`), a release lets it go on."""

    __slots__ = ("_gap", "_hold_each", "_hold_from", "_index", "_paused", "_playing", "_show")

    def __init__(
        self,
        connection: Connection,
        counters: Counters,
        fault: Fault,
        answer: Answer,
        gate: list[Exchange],
        show: Performance,
    ) -> None:
        super().__init__(connection, counters, fault, answer, gate)
        self._show = show
        self._index = 0
        self._paused = self._playing = False
        self._gap = float(fault.get("gap", 0)) / 1000 or (_PING_GAP if "pings" in fault else 0.0)
        self._hold_from = show.hold_from
        self._hold_each = "hold_each" in fault

    def go(self) -> None:
        if not self._playing:
            super().go()
            return
        self._leave_gate()
        self._play()

    def _begin(self) -> None:
        if "reset" in self.fault or "drop" in self.fault:
            super()._begin()
            return
        self._timer = None
        self._playing = True
        self.counters.statuses[self.answer.status] += 1
        self.connection.write(self.answer.head())
        self._play()

    def paused(self, paused: bool) -> None:
        """The client does not read, or reads again."""
        self._paused = paused
        if not paused and self._timer is None and not self._held and self._playing:
            self._play()

    def _play(self) -> None:
        """Write what comes next, and see to it that the rest follows."""
        self._timer = None
        if self._over or self._paused:
            return
        show, index = self._show, self._index
        total = len(show.events)
        if index >= total and not show.loop:
            self._close()
            return
        if self._hold_from <= index < max(show.tail, show.hold_from + 1):
            self._hold_from = index + 1 if self._hold_each else 10**9
            self._wait()
            return
        count = 1 if self._gap or "split" in self.fault else max(1, min(_BATCH, self._hold_from - index))
        if index < total:
            events = show.events[index : index + count]
        else:
            at = (index - total) % len(show.loop)
            events = show.loop[at : at + count]
        self._index += len(events)
        data = b"".join(events)
        self.counters.written += len(data)
        self.counters.pieces += max(0, min(self._index, show.tail) - max(index, show.lead))
        self._send(data)
        loop = asyncio.get_running_loop()
        if self._index >= total and not show.loop:
            self._play()
        elif self._gap and self._index > show.lead:
            self._timer = loop.call_later(self._gap, self._play)
        else:
            self._timer = loop.call_soon(self._play)

    def _send(self, data: bytes) -> None:
        """In one write; split, in a write for each six bytes, which carry one byte of the body."""
        if "split" not in self.fault:
            self.connection.write(data)
            return
        step = 1 if "unframed" in self.fault else 6
        for at in range(0, len(data), step):
            self.connection.write(data[at : at + step])

    def _wait(self) -> None:
        self._gate.append(self)
        self._held = True
        self.counters.held += 1
        self.counters.changed()

    def _close(self) -> None:
        end = self._show.end
        if end == "stall":
            return
        if end == "reset":
            if self._end():
                self.connection.reset()
            return
        self._finish()

    def _finish(self) -> None:
        if self._end():
            self.counters.answered += 1
            self.counters.changed()
            if self._show.is_cut:
                self.connection.close()
            else:
                self.connection.done()
