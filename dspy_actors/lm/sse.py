"""Server-sent events, read from bytes as they come: the WHATWG grammar, strict about UTF-8 and about size.

Pure. Any way of cutting the bytes into reads gives the same events.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from dspy_actors.errors import LMUnexpectedError

MAX_EVENT = 1024 * 1024
"""Bytes that one event may have."""

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event. `event` is its name, `message` where the server gave none; `data` its data lines, joined by LF."""

    event: str
    data: str


_event = partial(tuple.__new__, Event)
"""`Event` of a pair, without the call of a Python function that its own constructor is."""


class EventReader:
    """Bytes in, events out. Comments, ids and retry times are skipped, and so is an event without data."""

    __slots__ = ("_begun", "_cr", "_parts", "_size", "fault")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the event that is not whole yet, line ends as LF
        self._size = 0
        self._cr = False
        self._begun = False
        self.fault: LMUnexpectedError | None = None
        """What ended the reading: bytes that are no UTF-8, an event above `MAX_EVENT`. Events before it were given."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order. After a fault there are no more; see `fault`."""
        if self.fault is not None or not data:
            return []
        if data[:6] == b"data: " and data.find(b"\n") == len(data) - 2 and self._may_be_alone(data):
            events: list[Event] = []  # one event in one read, as most come
            self._take(data[:-2], events)
            return events
        if not self._begun:
            data = self._begin(data)
        if self._cr or b"\r" in data:
            data = self._line_ends(data)
        parts = self._parts
        if parts:
            if b"\n\n" not in data and not (data[:1] == b"\n" and parts[-1][-1:] == b"\n"):
                if data:
                    self._hold(data)
                return []
            parts.append(data)
            data = b"".join(parts)
            parts.clear()
            self._size = 0
        *blocks, rest = data.split(b"\n\n")
        events = []
        for block in blocks:
            if not self._take(block, events):
                return events
        if rest:
            self._hold(rest)
        return events

    def end(self) -> list[Event]:
        """The bytes are over: an event whose blank line is missing counts, where its last line was whole."""
        if self.fault is not None:
            return []
        rest = b"".join(self._parts)
        self._parts.clear()
        events: list[Event] = []
        if rest.endswith(b"\n"):
            self._take(rest[:-1], events)
        return events

    def _may_be_alone(self, data: bytes) -> bool:
        """Whether nothing came before `data` that it belongs to, and its lines end in LF."""
        return self._begun and not self._parts and not self._cr and data[-1:] == b"\n" and b"\r" not in data

    def _begin(self, data: bytes) -> bytes:
        """Drop a byte order mark, which may arrive byte by byte."""
        data = b"".join(self._parts) + data
        self._parts.clear()
        self._size = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._parts.append(data)
            return b""
        self._begun = True
        return data.removeprefix(_BOM)

    def _line_ends(self, data: bytes) -> bytes:
        """CR and CRLF as LF, also where the two arrive apart."""
        if self._cr and data[:1] == b"\n":
            data = data[1:]
            self._cr = False
        if data:
            self._cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_EVENT + 1:  # the end of its last line may be among them
            self._fail(f"an event of more than {MAX_EVENT} bytes")

    def _take(self, block: bytes, events: list[Event]) -> bool:
        """Add the event of a block of lines, if it is one; whether reading goes on."""
        if len(block) > MAX_EVENT:
            return self._fail(f"an event of more than {MAX_EVENT} bytes")
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return self._fail("an event that is not UTF-8")
        if text.startswith("data: ") and "\n" not in text:  # nearly all of them
            events.append(_event(("message", text[6:])))
        else:
            _read_lines(text, events)
        return True

    def _fail(self, what: str) -> bool:
        self.fault = LMUnexpectedError(what)
        self._parts.clear()
        return False


def _read_lines(text: str, events: list[Event]) -> None:
    name = ""
    data: list[str] = []
    for line in text.split("\n"):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    if data:
        events.append(Event(name or "message", "\n".join(data)))
