"""`RateLimiter`: requests and tokens a minute, reserved before a request and settled after it. Pure, not locked.

It needs no configuration: without limits it lets everything through, and it learns the limits, and what is left of
them, from the headers of the first answers. Where a server sends no such headers, a bound on requests under way is
found out instead. A `429` pauses everybody until the provider said to come back, `LONGEST_PAUSE` at most and a little
jitter; then one request goes ahead, and the others follow in growing numbers: those who waited do not arrive together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from dspy_actors.arguments import a
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.bucket import MINUTE, Bucket
from dspy_actors.lm.in_flight import InFlight
from dspy_actors.lm.rate_headers import RateReading

FIRST_PAUSE = 1.0
"""Seconds to pause after a 429 that does not say when to come back; twice as long after each that follows."""

LONGEST_UNASKED = 30.0
"""The longest pause that the provider did not ask for."""

LONGEST_PAUSE = 600.0
"""A provider that asks for more is asked again after this: a wrong header must not lock a model for a day."""

PAUSE_JITTER = 0.1
"""The share of a pause, the longest too, that is added at random, for the sake of other processes with the same key."""

RAMP_SECONDS = 1.0
"""After a pause, the number of requests let through at once doubles this often, and with every answer."""

RAMP_END = 256

UNLIMITED = 1000.0
"""Tokens a second by which a request's share is measured where no limit is known; a request counts as one more."""


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """Limits that are known beforehand; `None` is learned from headers, or unlimited where none come.

    A limit given here holds even where the provider allows more, as a token bucket: a minute's worth may go at once,
    and that rate from then on, so the first minute may see almost twice the limit, and so may one after a rest. Give
    half to a provider that counts by the clock. `max_in_flight` bounds requests under way. With `follow_latency` that
    bound moves: it grows while answers come as fast as the fastest did, and shrinks when they take twice as long; for
    servers that queue without a word. `None` follows the latency of the provider `local` only, whose servers do.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_in_flight: int | None = None
    follow_latency: bool | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "max_in_flight"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                msg = f"LimiterSettings({name}={value!r}): more than 0, or None for no limit known"
                raise LMConfigurationError(msg)
        a((bool, type(None)), "LimiterSettings", "follow_latency", self.follow_latency, "True, False or None")
        if self.max_in_flight is not None and self.max_in_flight != int(self.max_in_flight):
            msg = f"LimiterSettings(max_in_flight={self.max_in_flight!r}): a whole number of requests"
            raise LMConfigurationError(msg)


class Need(NamedTuple):
    """What a request may take: tokens of its prompt, and of its answer at most."""

    prompt: int = 0
    answer: int = 0

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.prompt + self.answer


@dataclass(slots=True, eq=False)
class Reservation:
    """Room for one request. `at` is when it was made, and once it was sent, when that was.

    The three sums are what the buckets had given out by then, and of that, once it was sent, what was sent: requests
    do not reach the provider in the order in which they got room. `followed_at` is when the next one was sent.
    """

    need: Need
    at: float
    epoch: int
    requests: float
    prompt: float
    answer: float
    is_sent: bool = False
    followed_at: float | None = None
    settled: bool = False


class RateLimiter:
    """The limits of one model at one endpoint with one key. `line.Line` locks it and lets callers wait for it."""

    __slots__ = (
        "_buckets",
        "_epoch",
        "_is_limited",
        "_last_sent",
        "_learned_at",
        "_out",
        "_pauses",
        "_ramp",
        "_random",
        "_resumed_at",
        "_unsent",
        "_unsent_answer",
        "_unsent_prompt",
        "in_flight",
        "input_tokens",
        "output_tokens",
        "paused_until",
        "requests",
        "settings",
        "tokens",
    )

    def __init__(
        self, settings: LimiterSettings, now: float, *, follow_latency: bool = False, rng: Random | None = None
    ) -> None:
        self.settings = settings
        self.requests = Bucket(settings.requests_per_minute, now)
        self.tokens = Bucket(settings.tokens_per_minute, now)
        self.input_tokens = Bucket(None, now)
        self.output_tokens = Bucket(None, now)
        self._buckets = (self.requests, self.tokens, self.input_tokens, self.output_tokens)
        self._is_limited = any(bucket.limit is not None for bucket in self._buckets)
        follows = follow_latency if settings.follow_latency is None else settings.follow_latency
        self.in_flight = InFlight(settings.max_in_flight, follow_latency=follows)
        self.paused_until = -math.inf
        self._random = rng or Random()
        self._learned_at = -math.inf
        self._pauses = 0  # in a row, without an answer between them
        self._ramp: int | None = None  # how many may be out after a pause, None without one
        self._resumed_at = 0.0
        self._out = 0  # of those reserved since the last pause
        self._epoch = 0
        self._last_sent: Reservation | None = None
        self._unsent = self._unsent_prompt = self._unsent_answer = 0  # requests and tokens with room and not sent yet

    def wait(self, need: Need, now: float, kept: float = 0.0) -> float:
        """Seconds until there may be room for a request that leaves the share `kept` of every limit alone.

        `math.inf` means: when a request now under way has ended.
        """
        if self.in_flight.is_full(kept):
            return math.inf
        pause = self.paused_until - now
        wait = pause if pause > 0.0 else 0.0
        if self._ramp is not None:
            wait = max(wait, self._ramp_wait(now))
        if not self._is_limited:
            return wait
        prompt, answer = need
        if self.requests.limit is not None:
            wait = max(wait, self.requests.wait(1, now, kept))
        if self.tokens.limit is not None:
            wait = max(wait, self.tokens.wait(prompt + answer, now, kept))
        if self.input_tokens.limit is not None:
            wait = max(wait, self.input_tokens.wait(prompt, now, kept))
        if self.output_tokens.limit is not None:
            wait = max(wait, self.output_tokens.wait(answer, now, kept))
        return wait

    def share(self, need: Need) -> float:
        """What a request takes of the limit that it takes most of: the seconds in which that much comes back."""
        found = max(
            1.0 / self.requests.rate,
            need.tokens / self.tokens.rate,
            need.prompt / self.input_tokens.rate,
            need.answer / self.output_tokens.rate,
        )
        return found or (1.0 + need.tokens) / UNLIMITED

    def reserve(self, need: Need, now: float, kept: float = 0.0) -> Reservation | float:
        """Room for a request, or the seconds after which to ask again: see `wait`."""
        wait = self.wait(need, now, kept)
        if wait > 1e-9:
            return wait
        prompt, answer = need
        self._take(1, prompt, answer, now)
        self.in_flight.now += 1
        self._out += 1
        self._unsent += 1
        self._unsent_prompt += prompt
        self._unsent_answer += answer
        return Reservation(
            need, now, self._epoch, self.requests.taken, self.input_tokens.taken, self.output_tokens.taken
        )

    def sent(self, reservation: Reservation, now: float) -> None:
        """The whole request is on its way, before all that has room and is not sent yet."""
        if reservation.settled:
            return
        if not reservation.is_sent:
            self._no_longer_unsent(reservation)
        last = self._last_sent
        if last is not None:
            last.followed_at = now
        self._last_sent = reservation
        reservation.at, reservation.followed_at = now, None
        reservation.requests = self.requests.taken - self._unsent
        reservation.prompt = self.input_tokens.taken - self._unsent_prompt
        reservation.answer = self.output_tokens.taken - self._unsent_answer

    def settle(self, reservation: Reservation, used: Need | None, now: float, *, sent: bool) -> None:
        """The request has ended: put the tokens right, and give everything back where nothing was sent.

        `used` is `None` where nobody counted: then what was reserved counts as used. A second settlement is ignored.
        """
        if reservation.settled:
            return
        reservation.settled = True
        self.in_flight.now -= 1
        if not reservation.is_sent:
            self._no_longer_unsent(reservation)
        if reservation.epoch == self._epoch:
            self._out -= 1
        prompt, answer = reservation.need
        if not sent:
            self._take(-1, -prompt, -answer, now)
        elif used is not None:
            self._take(0, used[0] - prompt, used[1] - answer, now)

    def answered(self, reservation: Reservation, seconds: float) -> None:
        """An answer came, `seconds` after its request; call before `settle`."""
        if reservation.epoch == self._epoch:  # an answer from before the pause does not say that it is over
            self._pauses = 0
            if self._ramp is not None:
                self._ramp *= 2
                if self._ramp >= RAMP_END:
                    self._ramp = None
        self.in_flight.answered(seconds)

    def learn(self, reservation: Reservation, reading: RateReading, now: float) -> None:
        """Take over what an answer's headers say, unless those of a request sent later have said it already.

        Call before `settle`.
        """
        if not reading or reservation.at < self._learned_at:
            return
        self._learned_at = reservation.at
        self.in_flight.told()
        quotas = (reading.requests, reading.tokens, reading.input_tokens, reading.output_tokens)
        followed_at = now if reservation.followed_at is None else reservation.followed_at
        quiet = followed_at - reservation.at if reservation.is_sent else 0.0
        prompt, answer = reservation.prompt, reservation.answer
        marks = (reservation.requests, prompt + answer, prompt, answer)
        self.tokens.taken = self.input_tokens.taken + self.output_tokens.taken
        for bucket, quota, mark in zip(self._buckets, quotas, marks, strict=True):
            if quota:
                bucket.learn(quota, mark, reservation.at, now, quiet)
        self._is_limited = any(bucket.limit is not None for bucket in self._buckets)

    def refused(self, reservation: Reservation, after: float | None, now: float) -> None:
        """The provider called it too fast, and to come back `after` seconds: let nobody through until then.

        Those refused together count as one. Call before `settle`.
        """
        if reservation.epoch == self._epoch:
            if not self._is_limited:
                self.in_flight.refused()
            self._epoch += 1
            self._pauses += 1
            self._out = 0
            self._ramp = 1
        pause = min(FIRST_PAUSE * 2.0 ** min(self._pauses - 1, 16), LONGEST_UNASKED) if after is None else after
        pause = min(pause, LONGEST_PAUSE) * (1.0 + PAUSE_JITTER * self._random.random())
        self.paused_until = max(self.paused_until, now + pause)
        self._resumed_at = self.paused_until

    def resume(self, now: float) -> None:
        """End a pause: one request goes ahead now, and the others follow as after any pause."""
        if now < self.paused_until:
            self.paused_until = self._resumed_at = now
            self._pauses = 0

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing of the past counts any more: what was taken has come back, and no pause has an effect."""
        since = LONGEST_PAUSE if self._pauses else 0.0  # who was refused and never answered is kept in mind so long
        if self.in_flight.now or now < self.paused_until + since:
            return False
        if self._ramp is not None and self._ramp_allows(now) < RAMP_END:
            return False
        return all(bucket.is_full(now) for bucket in self._buckets)

    def reading(self, now: float) -> dict[str, float | int | None]:
        """The limits and levels now, as plain data."""
        found: dict[str, float | int | None] = {}
        for name, bucket in zip(("requests", "tokens", "input_tokens", "output_tokens"), self._buckets, strict=True):
            if bucket.limit is not None or name in ("requests", "tokens"):
                known = bucket.limit is not None
                found[f"{name}_per_minute"] = round(bucket.rate * MINUTE, 3) if known else None
                found[f"{name}_left"] = round(bucket.level(now), 2) if known else None
        found["in_flight"] = self.in_flight.now
        found["in_flight_limit"] = self.in_flight.limit
        found["paused_seconds"] = round(max(0.0, self.paused_until - now), 3)
        return found

    def _no_longer_unsent(self, reservation: Reservation) -> None:
        reservation.is_sent = True
        prompt, answer = reservation.need
        self._unsent -= 1
        self._unsent_prompt -= prompt
        self._unsent_answer -= answer

    def _take(self, requests: int, prompt: int, answer: int, now: float) -> None:
        if not self._is_limited:  # as the buckets would do it, without asking each; `learn` makes the sum of both
            self.requests.taken += requests
            self.input_tokens.taken += prompt
            self.output_tokens.taken += answer
            return
        if requests:
            self.requests.take(requests, now)
        if prompt or answer:
            self.tokens.take(prompt + answer, now)
            self.input_tokens.take(prompt, now)
            self.output_tokens.take(answer, now)

    def _ramp_wait(self, now: float) -> float:
        """Seconds until one more may follow after a pause; nothing where it may now."""
        assert self._ramp is not None
        allowed = self._ramp_allows(now)
        if allowed >= RAMP_END:
            self._ramp = None
            return 0.0
        if self._out < allowed:
            return 0.0
        needed = math.ceil(math.log2((self._out + 1) / self._ramp))
        return self._resumed_at + needed * RAMP_SECONDS - now

    def _ramp_allows(self, now: float) -> int:
        """How many of those reserved since the last pause may be under way now."""
        assert self._ramp is not None
        doublings = int(max(0.0, now - self._resumed_at) / RAMP_SECONDS)
        return self._ramp * int(2 ** min(doublings, 16))
