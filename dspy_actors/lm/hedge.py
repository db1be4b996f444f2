"""`Hedge` and `Lane`: when a second request is sent beside a slow one, and how often that may be. Pure.

The times of a model's whole answers are known for each model at each endpoint, its lane; a request that takes longer
than most of them did is probably stuck somewhere, and the same question asked again is probably answered sooner.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from dspy_actors.arguments import number
from dspy_actors.errors import LMConfigurationError
from supervisors.published_lock import PublishedLock

KEPT = 256
"""Answers of which the times are remembered."""

RENEWED = 16
"""Answers after which the percentile is worked out anew."""

BURST = 10.0
"""The most hedges that may be saved up for a bad moment."""


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second, equal request is sent when the first one takes longer than `percentile` of the model's answers did.

    Not before `samples` answers have told how long those take, for at most `share` of the requests, and only where the
    retry budget pays for it. It waits at the limiter in the class and for the tenant of its call. What answers first is
    the answer; the other one is cancelled. Providers bill both.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    percentile: float = 0.95
    share: float = 0.05
    samples: int = 50

    def __post_init__(self) -> None:
        number("Hedge", "percentile", self.percentile)
        number("Hedge", "share", self.share)
        if not 0 < self.percentile < 1:
            msg = f"Hedge(percentile={self.percentile!r}): between 0 and 1"
            raise LMConfigurationError(msg)
        if not 0 < self.share <= 1:
            msg = f"Hedge(share={self.share!r}): more than 0, and 1 at most"
            raise LMConfigurationError(msg)
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or not 1 <= self.samples <= KEPT:
            msg = f"Hedge(samples={self.samples!r}): a whole number from 1 to {KEPT}"
            raise LMConfigurationError(msg)


class Lane:
    """The times of one model at one endpoint, and how many hedges its requests have earned. Safe from any thread."""

    __slots__ = ("_earned", "_lock", "_new", "_sorted", "_times")

    def __init__(self) -> None:
        self._lock = PublishedLock()
        self._times: deque[float] = deque(maxlen=KEPT)
        self._sorted: list[float] = []
        self._new = 0
        self._earned = 0.0

    def learn(self, seconds: float) -> None:
        """A whole answer took `seconds`; or one that was given up for a quicker one had taken that long."""
        with self._lock:
            self._times.append(seconds)
            self._new += 1

    def begin(self, hedge: Hedge) -> float | None:
        """A request begins: the seconds after which another may be sent, `None` where too little is known."""
        with self._lock:
            self._earned = min(BURST, self._earned + hedge.share)
            if len(self._times) < hedge.samples:
                return None
            if self._new >= RENEWED or not self._sorted:
                self._sorted, self._new = sorted(self._times), 0
            return self._rank(hedge.percentile)

    def take(self) -> bool:
        """Send a hedge, if requests have earned one."""
        with self._lock:
            if self._earned < 1.0 - 1e-9:
                return False
            self._earned -= 1.0
            return True

    def reading(self) -> dict[str, float | int | None]:
        """How many times are known, their median and their 95th percentile in seconds, as plain data."""
        with self._lock:
            self._sorted, self._new = sorted(self._times), 0
            known = bool(self._sorted)
            return {
                "answers": len(self._times),
                "p50_seconds": round(self._rank(0.5), 4) if known else None,
                "p95_seconds": round(self._rank(0.95), 4) if known else None,
            }

    def _rank(self, share: float) -> float:
        """The time that `share` of the known ones do not exceed."""
        found = self._sorted
        return found[min(len(found) - 1, math.ceil(share * len(found)) - 1)]
