"""`InFlight`: how many requests may be under way at once, found out from how the server takes them. Pure.

For servers that send no rate headers. A refusal as too fast takes a share off the bound, answers put a little back on
(the rule by which TCP shares a line). With `follow_latency`, answers that take twice as long as the quickest count as
a sign of a queue too, which servers of one's own build without a word; what the quickest is, is measured anew now and
then, with half as many under way.
"""

from __future__ import annotations

import math

START = 8
"""The first bound where the latency is followed; it doubles with each round of answers until a queue shows. A refusal
takes no bound below it: with so few under way it is not their number that is too large."""

SAMPLES = 8
"""Answers between two looks at the latency."""

ERA = 200
"""Answers (ten rounds at least) after which the quickest is measured anew; what it was stands for another era."""

SHRINK_REFUSED = 0.7
SHRINK_SLOW = 0.8
GROWTH = 0.05
"""How much a whole round of answers adds to the bound, as a share of it; at least one request."""


class InFlight:
    """The bound on requests under way, `None` for none. Not locked.

    `most` is the user's bound, which holds whatever is found out. `now` is how many are under way.
    """

    __slots__ = (
        "_before",
        "_left",
        "_pressed",
        "_quickest",
        "_round",
        "_steep",
        "bound",
        "follow_latency",
        "most",
        "now",
    )

    def __init__(self, most: int | None, *, follow_latency: bool) -> None:
        self.most = most
        self.follow_latency = follow_latency
        self.bound: float | None = float(START) if follow_latency else None
        self.now = 0
        self._pressed = False  # somebody had to wait for the bound
        self._steep = True
        self._round: list[float] = []
        self._quickest = (math.inf, math.inf)  # of this era, of the one before
        self._left = ERA  # answers until the era ends
        self._before: float | None = None  # the bound to go back to after the quickest was measured

    @property
    def limit(self) -> int | None:
        """How many may be under way."""
        if self.bound is None:
            return self.most
        own = max(1, int(self.bound))
        return own if self.most is None else min(own, self.most)

    def is_full(self, kept: float = 0.0) -> bool:
        """Whether no more may begin now, the share `kept` of the bound left alone; whoever asks wants to begin one."""
        if self.bound is None and self.most is None:
            return False
        limit = self.limit
        if limit is not None and kept:
            limit = max(1, int(limit * (1.0 - kept) + 1e-9))
        if limit is None or self.now < limit:
            return False
        self._pressed = True
        return True

    def told(self) -> None:
        """The server sends rate headers: they say it better."""
        self.bound = self._before = None
        self.follow_latency = False

    def refused(self) -> None:
        """The server called it too fast; call once a pause, not once a refusal."""
        self._shrink(SHRINK_REFUSED, START)

    def answered(self, seconds: float) -> None:
        """An answer came, `seconds` after its request; call while that one still counts as under way."""
        if self.bound is None:
            return
        if self._pressed and self._before is None:
            self.bound += 1.0 if self._steep else max(GROWTH, 1.0 / self.bound)
            self._pressed = self.now * 2 > self.bound
        if self.follow_latency:
            self._round.append(seconds)
            if len(self._round) >= SAMPLES:
                self._look()

    def _look(self) -> None:
        from statistics import median  # only where the latency is followed

        took = median(self._round)
        self._round.clear()
        self._quickest = (min(self._quickest[0], took), self._quickest[1])
        if took > 2.0 * min(self._quickest) and self._before is None:
            assert self.bound is not None
            if self.bound < 2.0:  # one at a time is no queue of ours: answers have become longer
                self._quickest, self._steep = (took, math.inf), True
            else:
                self._shrink(SHRINK_SLOW, 1)
        self._left -= SAMPLES
        if self._left <= 0:
            self._turn()

    def _turn(self) -> None:
        """An era ends: half as many for a round, to measure the quickest; then as many as before."""
        assert self.bound is not None
        if self._before is not None:
            self.bound, self._before = self._before, None
            self._left = max(ERA, 10 * int(self.bound))
        elif self._steep:
            self._left = ERA
        else:
            self._quickest = (math.inf, self._quickest[0])
            self._left = int(self.bound) + SAMPLES
            self._before, self.bound = self.bound, max(1.0, self.bound / 2)

    def _shrink(self, share: float, least: int) -> None:
        under_way = float(max(1, self.now))
        self.bound = max(float(least), min(under_way, self.bound or under_way) * share)
        self._steep = False
        self._before = None
