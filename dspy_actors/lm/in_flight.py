"""`InFlight`: how many requests may be under way at once, found out from how the server takes them. Pure.

For servers that send no rate headers. A refusal as too fast takes a share off the bound, answers put one back on (the
rule by which TCP shares a line); with `follow_latency` answers that take twice as long as the quickest did count as a
sign of a queue, which servers of one's own build without a word.
"""

from __future__ import annotations

from statistics import median

START = 8
"""The first bound where the latency is followed; it doubles with each round of answers until a queue shows."""

SAMPLES = 8
"""Answers between two looks at the latency."""

SHRINK_REFUSED = 0.7
SHRINK_SLOW = 0.8
FORGET = 1.05
"""By how much the quickest round fades with each look, so that longer answers are not taken for a queue for ever."""


class InFlight:
    """The bound on requests under way, `None` for none. Not locked.

    `most` is the user's bound, which holds whatever is found out.
    """

    __slots__ = ("_last", "_quickest", "_round", "_steep", "bound", "follow_latency", "most", "now", "peak")

    def __init__(self, most: int | None, *, follow_latency: bool) -> None:
        self.most = most
        self.follow_latency = follow_latency
        self.bound: float | None = float(START if most is None else min(START, most)) if follow_latency else None
        self.now = 0
        self.peak = 0
        self._steep = True
        self._quickest: float | None = None
        self._last: float | None = None
        self._round: list[float] = []

    @property
    def limit(self) -> int | None:
        """How many may be under way."""
        if self.bound is None:
            return self.most
        own = max(1, int(self.bound))
        return own if self.most is None else min(own, self.most)

    def full(self) -> bool:
        """Whether no more may begin now."""
        limit = self.limit
        return limit is not None and self.now >= limit

    def begin(self) -> None:
        """A request begins."""
        self.now += 1
        self.peak = max(self.peak, self.now)

    def end(self) -> None:
        """A request has ended."""
        self.now -= 1

    def told(self) -> None:
        """The server sends rate headers: they say it better."""
        self.bound = None
        self.follow_latency = False

    def refused(self) -> None:
        """The server called it too fast; call once a pause, not once a refusal."""
        self._shrink(SHRINK_REFUSED)

    def answered(self, seconds: float) -> None:
        """An answer came, `seconds` after its request; call before `end`."""
        if self.bound is None:
            return
        if self.now >= int(self.bound):
            self.bound += 1.0 if self._steep else 1.0 / self.bound
        elif not self.follow_latency and self.bound > 4 * max(self.peak, START):
            self.bound = None  # found out long ago, and nobody comes near it
        if self.follow_latency:
            self._round.append(seconds)
            if len(self._round) >= SAMPLES:
                self._look()

    def _look(self) -> None:
        took = median(self._round)
        self._round.clear()
        self._quickest = took if self._quickest is None else min(self._quickest * FORGET, took)
        if took > 2.0 * self._quickest:
            self._shrink(SHRINK_SLOW)

    def _shrink(self, share: float) -> None:
        under_way = float(max(1, self.now))
        self.bound = max(1.0, min(under_way, self.bound or under_way) * share)
        self._steep = False
        self.peak = self.now
