"""When an attempt is repeated, and after how long."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.errors import LMAuthError, LMError, LMRateLimitError, LMServerError, LMTimeoutError, LMTransportError
from dspy_actors.lm.retry import RetryPolicy

BUSY = LMServerError("busy", status=503)


class Highest(Random):
    """Always draws the most that may be drawn."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_longest_wait_doubles_up_to_the_cap() -> None:
    waits = [RetryPolicy(num_retries=9).delay(attempt, BUSY, None, Highest()) for attempt in range(1, 8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@given(st.integers(1, 2000), st.integers())
def test_a_wait_lies_between_nothing_and_the_cap(attempt: int, seed: int) -> None:
    wait = RetryPolicy(num_retries=5000).delay(attempt, BUSY, None, Random(seed))
    assert wait is not None
    assert 0.0 <= wait <= 8.0


def test_equal_failures_come_back_spread_out() -> None:
    waits = {RetryPolicy().delay(3, BUSY, None, Random(seed)) for seed in range(50)}
    assert len(waits) == 50


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, True), (4, False)])
def test_three_retries_are_three(attempt: int, again: bool) -> None:
    assert (RetryPolicy().delay(attempt, BUSY, None, Random(1)) is not None) is again


def test_no_retries_are_none() -> None:
    assert RetryPolicy(num_retries=0).delay(1, BUSY, None, Random(1)) is None


@pytest.mark.parametrize(
    "error",
    [
        LMAuthError("no", status=401),
        LMServerError("no such method", status=501),
        LMTransportError("bad certificate", provider_code="certificate"),
        LMError("whatever"),
    ],
)
def test_what_cannot_do_better_is_not_repeated(error: LMError) -> None:
    assert RetryPolicy().delay(1, error, None, Random(1)) is None


def test_a_timeout_is_repeated_once() -> None:
    error = LMTimeoutError("slow", phase="first_byte")
    assert RetryPolicy().delay(1, error, None, Random(1)) is not None
    assert RetryPolicy().delay(2, error, None, Random(1)) is None


@given(st.floats(0.0, 60.0), st.integers())
def test_the_server_is_given_the_time_it_asked_for(asked: float, seed: int) -> None:
    wait = RetryPolicy().delay(1, LMRateLimitError("slow", retry_after=asked), None, Random(seed))
    assert wait is not None
    assert asked <= wait <= asked * 1.1 + 1e-9


def test_more_than_a_minute_is_not_waited_for() -> None:
    assert RetryPolicy().delay(1, LMRateLimitError("slow", retry_after=60.1), None, Random(1)) is None


def test_a_wait_beyond_the_deadline_is_given_up_at_once() -> None:
    assert RetryPolicy().delay(1, LMRateLimitError("slow", retry_after=10.0), 9.0, Random(1)) is None


def test_jitter_alone_does_not_push_a_wait_beyond_the_deadline() -> None:
    error = LMRateLimitError("slow", retry_after=10.0)
    assert RetryPolicy().delay(1, error, 10.5, Highest()) == 10.0


def test_a_drawn_wait_beyond_the_deadline_is_given_up() -> None:
    assert RetryPolicy().delay(1, BUSY, 0.4, Highest()) is None
