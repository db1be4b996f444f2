"""The restart window slides, counts floats and is inclusive."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.backoff import Backoff
from supervisors.errors import SpecError
from supervisors.intensity import Intensity


def test_as_many_restarts_as_allowed_are_admitted() -> None:
    window = Intensity(3, 5.0)

    assert [window.admit(0.0) for _ in range(4)] == [True, True, True, False]


def test_zero_admits_none() -> None:
    assert not Intensity(0, 5.0).admit(0.0)


def test_a_restart_exactly_one_period_ago_still_counts() -> None:
    window = Intensity(1, 5.0)
    window.admit(10.0)

    assert not window.admit(15.0)


def test_a_restart_just_over_one_period_ago_is_forgotten() -> None:
    window = Intensity(1, 5.0)
    window.admit(10.0)

    assert window.admit(15.001)


def test_the_window_slides() -> None:
    window = Intensity(2, 10.0)

    assert [window.admit(t) for t in (0.0, 9.0, 11.0, 12.0)] == [True, True, True, False]


def test_recent_says_what_counted_at_the_last_restart() -> None:
    window = Intensity(5, 10.0)
    for now in (0.0, 4.0, 12.0):
        window.admit(now)

    assert window.recent == 2


@pytest.mark.parametrize("bad", [-1, True, 1.5, math.inf, None])
def test_max_restarts_must_be_a_count(bad: object) -> None:
    with pytest.raises(SpecError, match="max_restarts"):
        Intensity(bad, 5.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [0, -1.0, math.inf, math.nan, True, "5"])
def test_max_seconds_must_be_positive_and_finite(bad: object) -> None:
    with pytest.raises(SpecError, match="max_seconds"):
        Intensity(3, bad)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 50), max_size=30), st.integers(0, 4), st.floats(0.5, 20))
def test_no_window_ever_admits_more_than_it_may(gaps: list[float], most: int, seconds: float) -> None:
    window, now, admitted = Intensity(most, seconds), 0.0, []
    for gap in gaps:
        now += gap
        if not window.admit(now):
            return
        admitted.append(now)
        assert sum(now - then <= seconds for then in admitted) <= most


def test_backoff_grows_to_its_cap() -> None:
    backoff = Backoff(base=1.0, cap=10.0, factor=3.0, jitter=0.0)

    assert [round(backoff.delay(n), 6) for n in (1, 2, 3, 4, 9999)] == [1.0, 3.0, 9.0, 10.0, 10.0]


def test_jitter_takes_at_most_its_share() -> None:
    backoff = Backoff(base=8.0, cap=8.0, jitter=0.25)

    assert (backoff.delay(1, lambda: 0.0), backoff.delay(1, lambda: 1.0)) == (8.0, 6.0)


def test_a_long_life_begins_a_new_series() -> None:
    assert [Backoff(cap=10.0).is_new_series(lived) for lived in (9.9, 10.0)] == [False, True]


def test_healthy_replaces_the_cap_as_the_measure_of_a_long_life() -> None:
    assert Backoff(cap=10.0, healthy=2.0).is_new_series(2.0)


@pytest.mark.parametrize(
    "bad", [{"base": 0}, {"base": 2.0, "cap": 1.0}, {"factor": 0.5}, {"jitter": 1.5}, {"healthy": -1.0}]
)
def test_backoff_refuses_values_without_sense(bad: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=f"backoff.{list(bad)[-1]}"):
        Backoff(**bad)
