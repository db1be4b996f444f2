"""`Window`: calls, failures and slow calls of the last seconds. Pure."""

from __future__ import annotations


class Window:
    """Counts in buckets of time that fall out one by one. Not locked."""

    __slots__ = ("_counts", "_current", "_number", "_until", "_width")

    def __init__(self, seconds: float, buckets: int) -> None:
        self._width = seconds / buckets
        self._counts = [[0, 0, 0] for _ in range(buckets)]
        self._number = 0
        self._until = self._width  # when the current bucket ends
        self._current = self._counts[0]

    def add(self, now: float) -> None:
        """Count one call that was answered in time."""
        if now >= self._until:
            self._turn(now)
        self._current[0] += 1

    def add_failure(self, now: float) -> None:
        """Count one call that failed."""
        self.add(now)
        self._current[1] += 1

    def add_slow(self, now: float) -> None:
        """Count one call that was answered too late."""
        self.add(now)
        self._current[2] += 1

    def totals(self, now: float) -> tuple[int, int, int]:
        """Calls, failures and slow calls."""
        self._turn(now)
        calls, failures, slow = (sum(column) for column in zip(*self._counts, strict=True))
        return calls, failures, slow

    def clear(self) -> None:
        """Forget everything."""
        for counts in self._counts:
            counts[:] = (0, 0, 0)

    def _turn(self, now: float) -> None:
        """Let fall out what is too old by now."""
        number = int(now / self._width)
        behind = number - self._number
        if behind > 0:
            for step in range(min(behind, len(self._counts))):
                self._counts[(number - step) % len(self._counts)][:] = (0, 0, 0)
            self._number = number
            self._until = (number + 1) * self._width
            self._current = self._counts[number % len(self._counts)]
