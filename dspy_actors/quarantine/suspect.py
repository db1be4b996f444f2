"""`Suspect`: one input over which calls have failed, but not often enough to set it aside. Pure; not locked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Suspect:
    """The instants `at` which its faults came that count, and how many there were in `total`.

    `first_at` is the date of the first one, in seconds since 1970. Faults count for so many `seconds`.
    """

    first_at: float
    at: deque[float] = field(default_factory=deque)
    total: int = 0

    def is_old(self, now: float, seconds: float) -> bool:
        """Whether none of its faults counts any more."""
        return now - self.at[-1] >= seconds

    def add(self, now: float, seconds: float) -> int:
        """One fault more; how many count now."""
        self.at.append(now)
        self.total += 1
        while now - self.at[0] >= seconds:
            self.at.popleft()
        return len(self.at)
