"""`RateLimiter`: requests and tokens a minute, reserved before a request and settled after it. Pure.

It needs no configuration: without limits it lets everything through, and it learns the limits, and what is left of
them, from the headers of the first answers. Where a server sends no such headers, a limit on requests in flight can
follow its latency instead. A `429` pauses everybody until the provider said to come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.rate_headers import Quota, RateReading

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """Limits that are known beforehand; `None` is learned from headers, or unlimited where none come.

    `max_concurrency` bounds requests in flight. With `follow_latency` that bound moves: it grows while answers come
    as fast as the fastest did, and shrinks when they take twice as long (for servers that queue without a word).

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_concurrency: int | None = None
    follow_latency: bool = False

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "max_concurrency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"LimiterSettings({name}={value!r}): more than 0, or None for no limit known"
                raise LMConfigurationError(msg)


@dataclass(slots=True)
class Reservation:
    """Room for one request: `tokens` expected, made at `at` (an instant)."""

    tokens: int
    at: float
    settled: bool = False


class Bucket:
    """Refills by `per_minute` a minute, up to a minute's worth. `None` is no limit."""

    __slots__ = ("_at", "_level", "per_minute")

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute or 0.0
        self._at = now

    def level(self, now: float) -> float:
        """What is there now."""
        if self.per_minute is None:
            return math.inf
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / MINUTE)
        self._at = now
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; more than a minute's worth needs a full bucket."""
        if self.per_minute is None:
            return 0.0
        missing = min(amount, self.per_minute) - self.level(now)
        return max(0.0, missing * MINUTE / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`; a level below zero is a debt that refills first."""
        if self.per_minute is not None:
            self._level = self.level(now) - amount

    def learn(self, quota: Quota, in_flight: float, now: float) -> None:
        """Believe what the provider says: its limit, and what is left once what is under way has arrived."""
        if quota.limit is not None:
            self.per_minute = float(quota.limit)
        if self.per_minute is not None and quota.remaining is not None:
            self._level = min(self.level(now), quota.remaining - in_flight)


class RateLimiter:
    """The limits of one model at one endpoint with one key. Not locked: it lives on the io loop.

    `in_flight`, `paused_until` and `limits` may be read from anywhere.
    """

    __slots__ = (
        "_fastest",
        "_learned_at",
        "_tokens_in_flight",
        "concurrency",
        "in_flight",
        "paused_until",
        "requests",
        "settings",
        "tokens",
    )

    def __init__(self, settings: LimiterSettings, now: float) -> None:
        self.settings = settings
        self.requests = Bucket(settings.requests_per_minute, now)
        self.tokens = Bucket(settings.tokens_per_minute, now)
        self.concurrency: float | None = settings.max_concurrency
        if settings.follow_latency and self.concurrency is None:
            self.concurrency = 8.0
        self.in_flight = 0
        self.paused_until = 0.0
        self._tokens_in_flight = 0
        self._learned_at = -math.inf
        self._fastest: float | None = None

    def reserve(self, tokens: int, now: float) -> Reservation | float:
        """Room for a request of `tokens`, or the seconds after which to ask again.

        `math.inf` means: when a request now under way has ended.
        """
        if self.concurrency is not None and self.in_flight >= int(self.concurrency):
            return math.inf
        wait = max(self.paused_until - now, self.requests.wait(1, now), self.tokens.wait(tokens, now))
        if wait > 1e-9:
            return wait
        self.requests.take(1, now)
        self.tokens.take(tokens, now)
        self.in_flight += 1
        self._tokens_in_flight += tokens
        return Reservation(tokens, now)

    def settle(self, reservation: Reservation, used: int | None, now: float, *, sent: bool = True) -> None:
        """The request has ended: put the tokens right, and give everything back where nothing was sent."""
        if reservation.settled:
            return
        reservation.settled = True
        self.in_flight -= 1
        self._tokens_in_flight -= reservation.tokens
        if not sent:
            self.requests.take(-1, now)
            self.tokens.take(-reservation.tokens, now)
        elif used is not None:
            self.tokens.take(used - reservation.tokens, now)

    def learn(self, reading: RateReading, sent_at: float, now: float) -> None:
        """Take over what an answer's headers say, unless those of a request sent later have said it already."""
        if not reading or sent_at < self._learned_at:
            return
        self._learned_at = sent_at
        self.requests.learn(reading.requests, max(0, self.in_flight - 1), now)
        self.tokens.learn(reading.tokens, self._tokens_in_flight, now)

    def pause(self, seconds: float, now: float) -> None:
        """Let nobody through for `seconds`: the provider said so."""
        self.paused_until = max(self.paused_until, now + seconds)

    def measured(self, seconds: float) -> None:
        """An answer took `seconds`: move the bound on requests in flight, where it follows the latency."""
        if not self.settings.follow_latency or self.concurrency is None:
            return
        self._fastest = seconds if self._fastest is None else min(self._fastest * 1.001, seconds)
        if seconds > 2.0 * self._fastest:
            self.concurrency = max(1.0, self.concurrency * 0.9)
        elif self.in_flight + 1 >= int(self.concurrency):
            self.concurrency += 1.0 / self.concurrency

    def reading(self, now: float) -> dict[str, float | int | None]:
        """The limits and levels now, as plain data."""
        return {
            "requests_per_minute": self.requests.per_minute,
            "requests_left": None if self.requests.per_minute is None else round(self.requests.level(now), 2),
            "tokens_per_minute": self.tokens.per_minute,
            "tokens_left": None if self.tokens.per_minute is None else round(self.tokens.level(now), 1),
            "concurrency": self.concurrency,
            "in_flight": self.in_flight,
            "paused_seconds": round(max(0.0, self.paused_until - now), 3),
        }
