"""What a producer holds back because nobody has asked for it yet. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from supervisors.errors import SpecError

Keep: TypeAlias = Literal["first", "last"]


class _Info:
    """A message among the events: due when all before it are gone."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class Stored(NamedTuple):
    """What came of storing: how many events were thrown away, and which messages became due by that."""

    discarded: int
    due: list[Any]


class Taken(NamedTuple):
    """Events, and the messages that stood directly behind them."""

    events: list[Any]
    due: list[Any]


class Buffer:
    """Events in order, at most `size` of them (None: no bound), with messages in between.

    When it is full, `keep="last"` throws the oldest away and `"first"` what is new. Raises `SpecError`.
    """

    def __init__(self, size: int | None = 10_000, keep: Keep = "last") -> None:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise SpecError("buffer_size", size, "an int >= 0, or None for no bound")
        if keep not in ("first", "last"):
            raise SpecError("buffer_keep", keep, "'first' or 'last'")
        self._size = size
        self._keep = keep
        self._entries: deque[Any] = deque()
        self._events = 0

    def __len__(self) -> int:
        """How many events are in it."""
        return self._events

    def store(self, events: Sequence[Any]) -> Stored:
        """Put `events` behind what is there."""
        if self._size is None:
            fitting: Sequence[Any] = events
        elif self._keep == "first":
            fitting = events[: max(0, self._size - self._events)]
        else:
            fitting = events[max(0, len(events) - self._size) :]
        self._entries.extend(fitting)
        self._events += len(fitting)
        discarded = len(events) - len(fitting)
        due: list[Any] = []
        while self._size is not None and self._events > self._size:
            due += self._due()
            self._entries.popleft()
            self._events -= 1
            discarded += 1
        return Stored(discarded, due + self._due())

    def take(self, most: int) -> Taken:
        """Take up to `most` events from the front, but none from behind a message."""
        events: list[Any] = []
        entries = self._entries
        while len(events) < most and entries and type(entries[0]) is not _Info:
            events.append(entries.popleft())
        self._events -= len(events)
        return Taken(events, self._due())

    def info(self, message: Any) -> bool:
        """Put a message behind what is there. False if nothing is: then it is due at once and not kept."""
        if not self._entries:
            return False
        self._entries.append(_Info(message))
        return True

    def _due(self) -> list[Any]:
        due = []
        while self._entries and type(self._entries[0]) is _Info:
            due.append(self._entries.popleft().message)
        return due
