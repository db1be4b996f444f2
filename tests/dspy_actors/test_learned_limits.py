"""Limits that a provider tells late, or that cannot be meant, hold nobody up for longer than they can be meant to."""

from __future__ import annotations

import math

import pytest

from dspy_actors.lm.bucket import Bucket
from dspy_actors.lm.limiter import LimiterSettings, Need, RateLimiter, Reservation
from dspy_actors.lm.line import Ending, Line
from dspy_actors.lm.rate_headers import SILENT, Quota, RateReading, read_rate_headers
from supervisors.clock import ManualClock

NEED = Need(500, 500)
TOLD = read_rate_headers(
    {"x-ratelimit-limit-tokens": "10000", "x-ratelimit-remaining-tokens": "9000", "x-ratelimit-limit-requests": "60"}
)


def under_way(line: Line, count: int) -> list[Reservation]:
    """So many requests that were sent."""
    made = []
    for _ in range(count):
        one = line.enter(NEED)
        assert isinstance(one, Reservation)
        line.sent(one)
        made.append(one)
    return made


def wait_of(limiter: RateLimiter, clock: ManualClock) -> float:
    return limiter.wait(NEED, clock.now())


@pytest.mark.parametrize("how", [Ending(refused=True, retry_after=5.0), Ending()], ids=["refused", "failed"])
def test_what_was_under_way_as_the_limit_was_told_is_no_debt_of_hours(how: Ending) -> None:
    """A hundred minutes; the provider itself said five seconds."""
    clock = ManualClock()
    limiter = RateLimiter(LimiterSettings(), clock.now())
    line = Line("m", limiter, clock)
    first, *others = under_way(line, 1000)
    line.settle(first, Ending(answered=True, seconds=1.0, used=Need(500, 500), limits=TOLD))
    for each in others:
        line.settle(each, how)
    assert wait_of(limiter, clock) <= 120.0
    clock.advance(120.0)
    assert wait_of(limiter, clock) == 0.0


def test_a_refused_request_has_taken_no_tokens() -> None:
    clock = ManualClock()
    limiter = RateLimiter(LimiterSettings(tokens_per_minute=1000), clock.now())
    line = Line("m", limiter, clock)
    (one,) = under_way(line, 1)
    line.settle(one, Ending(refused=True, retry_after=1.0))
    assert limiter.tokens.level(clock.now()) == 1000.0


def test_a_limit_below_one_request_lets_one_through_every_two_periods_at_least() -> None:
    clock = ManualClock()
    limiter = RateLimiter(LimiterSettings(), clock.now())
    line = Line("m", limiter, clock)
    tiny = RateReading(tokens=Quota(limit=1, remaining=0))
    for limits in (tiny, SILENT, SILENT):
        (one,) = under_way(line, 1)
        line.settle(one, Ending(answered=True, seconds=1.0, used=NEED, limits=limits))
        assert wait_of(limiter, clock) <= 120.0
        clock.advance(120.0)


def test_a_limit_that_was_given_is_kept_to_whatever_was_taken() -> None:
    found = Bucket(1000.0, 0.0)
    found.take(5000.0, 0.0)
    assert found.wait(1000.0, 0.0) == pytest.approx(300.0)


def test_what_is_given_back_fills_a_bucket_and_no_more() -> None:
    found = Bucket(None, 0.0)
    found.learn(Quota(limit=100), 0.0, 0.0, 0.0)
    found.take(5000.0, 0.0)
    found.take(-5000.0, 0.0)
    assert (found.level(0.0), found.level(math.inf)) == (100.0, 100.0)
