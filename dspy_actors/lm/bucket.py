"""`Bucket`: one limit of a provider, tracked here, put right by what the provider says of it. Pure.

Providers write a limit without its period. Most mean a minute, some a second or a day; the time until the bucket is
full again tells which. A reading is put right for what was taken after the request that it belongs to was sent, so that
a hundred answers in flight do not each bring an old state of things back.
"""

from __future__ import annotations

import math

from dspy_actors.lm.rate_headers import Quota

MINUTE = 60.0
PERIODS = (1.0, MINUTE, 3600.0, 86_400.0)
"""What limits are written for: a second, a minute, an hour, a day."""


class Bucket:
    """Refills by `limit` a `period`, up to `limit`. A limit of `None` is none. Not locked.

    `taken` counts all that was ever taken, less what was given back.
    """

    __slots__ = ("_at", "_full_at", "_full_from", "_guess", "_level", "configured", "limit", "period", "taken")

    def __init__(self, configured: float | None, now: float) -> None:
        self.configured = configured
        self.limit = configured
        self.period = MINUTE
        self.taken = 0.0
        self._level = configured or 0.0
        self._at = now
        self._full_at = math.inf
        self._full_from = 0.0
        self._guess = MINUTE

    @property
    def rate(self) -> float:
        """What comes back a second."""
        return math.inf if self.limit is None else self.limit / self.period

    def level(self, now: float) -> float:
        """What is there now; below zero is a debt that refills first."""
        limit = self.limit
        if limit is None:
            return math.inf
        if now > self._at:
            level = self._level + (now - self._at) * limit / self.period
            self._level = limit if level > limit else level
            self._at = now
        if now >= self._full_at:
            self._full_at = math.inf
            self._level = max(self._level, self._when_full(limit))
        return self._level

    def is_full(self, now: float) -> bool:
        """Whether all that was taken has come back."""
        return self.limit is None or self.level(now) >= self.limit

    def wait(self, amount: float, now: float, kept: float = 0.0) -> float:
        """Seconds until `amount` is there and the share `kept` of the limit above it; a full bucket is enough."""
        limit = self.limit
        if limit is None:
            return 0.0
        wanted = amount + kept * limit
        if wanted > limit:
            wanted = limit
        level = self.level(now)
        if level >= wanted:
            return 0.0
        refilled = (wanted - level) * self.period / limit
        if self._full_at - now < refilled and self._when_full(limit) >= wanted:
            return self._full_at - now
        return refilled

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, or give it back where it is negative."""
        self.taken += amount
        limit = self.limit
        if limit is not None:
            level = self.level(now) - amount
            self._level = level if -limit <= level <= limit else self._sensible(level, limit)

    def learn(self, quota: Quota, mark: float, sent_at: float, now: float, quiet: float = 0.0) -> None:
        """Believe what an answer says: its request was sent at `sent_at`, when `taken` had come to `mark`.

        For `quiet` seconds after that no other request was sent.
        """
        own = self.level(now)
        if quota.limit is not None:
            self.limit = float(quota.limit) if self.configured is None else min(self.configured, quota.limit)
            self._at = now
        limit = self.limit
        if limit is None:
            return
        if self.configured is None:
            self._learn_period(quota)
        since = self.taken - mark
        if quota.remaining is not None:
            # what was taken since then is missing; what has come back since then is there, if the server looked then,
            # and before the next request was sent only as much as there was room for
            rate = limit / self.period
            there = min(limit, quota.remaining + quiet * rate) + (now - sent_at - quiet) * rate - since
            if self.configured is not None:
                self._level = min(own, there, limit)
            else:
                level = min(there, max(own if own < math.inf else 0.0, min(quota.remaining, there)))
                self._level = self._sensible(level, limit)
        else:
            self._level = self._sensible(own if own < math.inf else limit - since, limit)
        if quota.reset is not None and self.configured is None:
            self._full_at, self._full_from = now + quota.reset, mark

    def _when_full(self, limit: float) -> float:
        """The level at the instant that the provider names as full: without what was taken after it said so."""
        return self._sensible(limit - max(0.0, self.taken - self._full_from), limit)

    def _sensible(self, level: float, limit: float) -> float:
        """A level that can be meant. A provider lends no more than what comes back in a period: it refuses.

        What was under way when it first told its limit may be a hundred times that, and is mostly refused. A limit
        that was given here is kept to whatever was taken.
        """
        lowest = -limit if self.configured is None else -math.inf
        return limit if level > limit else lowest if level < lowest else level

    def _learn_period(self, quota: Quota) -> None:
        """Which period the limit is for: two readings in a row that agree. No bucket takes longer than that to fill."""
        limit, reset = self.limit, quota.reset
        assert limit is not None
        if reset is None:
            return
        if reset > 1.2 * self.period:
            self.period = self._guess = next((each for each in PERIODS if each >= reset / 1.2), PERIODS[-1])
        elif quota.remaining is not None and quota.remaining < limit:
            from_empty = limit * reset / (limit - quota.remaining)
            guess = next((each for each in PERIODS if 0.8 * each <= from_empty <= 1.2 * each), None)
            if guess is not None:
                if guess == self._guess:
                    self.period = guess
                self._guess = guess
