"""How many restarts a supervisor performs before it gives up: a sliding window, pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

from supervisors.errors import SpecError


class Intensity:
    """At most `max_restarts` restarts within `max_seconds`; the next one is refused.

    The instants come from the caller, so that the rule needs no clock of its own. OTP counts whole seconds, which
    lets its real window vary between T and T + 1 s; this one counts floats and is inclusive: a restart exactly
    `max_seconds` ago still counts. Every attempt counts, a failed one too, and a group restart counts once.

    Not thread safe: it belongs to one supervisor.
    """

    __slots__ = ("_instants", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int = 3, max_seconds: float = 5.0) -> None:
        if isinstance(max_restarts, bool) or not isinstance(max_restarts, int) or max_restarts < 0:
            raise SpecError("max_restarts", max_restarts, "an int >= 0")
        if isinstance(max_seconds, bool) or not isinstance(max_seconds, int | float) or not 0 < max_seconds < math.inf:
            raise SpecError("max_seconds", max_seconds, "a finite number of seconds > 0")
        self.max_restarts = max_restarts
        self.max_seconds = float(max_seconds)
        self._instants: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Book one restart at `now` (monotonic seconds, never decreasing); False if it is one too many."""
        instants = self._instants
        self._forget(now)
        instants.append(now)
        return len(instants) <= self.max_restarts

    def has_room(self, now: float) -> bool:
        """Whether a restart at `now` would be admitted; books nothing."""
        self._forget(now)
        return len(self._instants) < self.max_restarts

    @property
    def recent(self) -> int:
        """Restarts which counted when the last one was booked. May be read from any thread."""
        return len(self._instants)

    def is_over(self, now: float) -> bool:
        """Whether nothing that was booked counts any more."""
        return not self._instants or now - self._instants[-1] > self.max_seconds

    def _forget(self, now: float) -> None:
        instants = self._instants
        while instants and now - instants[0] > self.max_seconds:
            instants.popleft()


class Budgets:
    """A window of restarts for each key, all of the same size. Beyond OTP.

    Children that share a key share a window, so that failures which have nothing to do with each other do not use up
    one budget. Windows in which nothing counts any more are forgotten. Not thread safe, as above.
    """

    __slots__ = ("_size", "_windows")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._size = (max_restarts, max_seconds)
        self._windows: dict[Hashable, Intensity] = {}  # the one that was used last is last

    def __len__(self) -> int:
        return len(self._windows)

    def admit(self, key: Hashable, now: float) -> bool:
        """Book one restart of `key` at `now` (monotonic seconds, never decreasing); False if it is one too many."""
        window = self._windows.pop(key, None) or Intensity(*self._size)
        while self._windows and self._windows[oldest := next(iter(self._windows))].is_over(now):
            del self._windows[oldest]
        self._windows[key] = window
        return window.admit(now)

    def renew(self, key: Hashable) -> None:
        """Give `key` a new window: what it used does not count any more."""
        self._windows.pop(key, None)
