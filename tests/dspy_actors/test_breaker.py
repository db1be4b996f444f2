"""The breaker: when it opens, whom it lets through, whom it believes. Time is a number."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_actors.errors import CircuitOpen, LMConfigurationError
from dspy_actors.lm.breaker import Breaker, Permit, State, Verdict
from dspy_actors.lm.breaker_settings import FIVE_IN_A_ROW, BreakerSettings
from dspy_actors.lm.window import Window

EXACT = BreakerSettings(jitter=0.0)
"""The defaults, without chance."""


def breaker(**changes: Any) -> Breaker:
    return Breaker("m", BreakerSettings(**{"jitter": 0.0, **changes}))


def call(found: Breaker, verdict: Verdict, now: float = 0.0, times: int = 1) -> None:
    for _ in range(times):
        found.report(found.permit(now), verdict, now)


def opened(now: float = 0.0, **changes: Any) -> Breaker:
    found = breaker(**changes)
    call(found, Verdict.FAILURE, now, found.settings.minimum)
    assert found.state is State.OPEN
    return found


def half_open(**changes: Any) -> tuple[Breaker, Permit]:
    """A breaker whose probe is under way since second 5, with a deadline at second 10."""
    found = opened(**changes)
    return found, found.permit(5.0, 10.0)


# -- when it opens -----------------------------------------------------------------------------------------------------


def test_it_stays_closed_below_the_minimum_of_calls() -> None:
    found = breaker()
    call(found, Verdict.FAILURE, times=9)
    assert found.state is State.CLOSED


def test_it_opens_when_half_of_the_calls_failed() -> None:
    found = breaker()
    call(found, Verdict.SUCCESS, times=5)
    call(found, Verdict.FAILURE, times=5)
    assert found.state is State.OPEN


def test_it_stays_closed_when_fewer_than_half_failed() -> None:
    found = breaker()
    call(found, Verdict.SUCCESS, times=6)
    call(found, Verdict.FAILURE, times=5)
    assert found.state is State.CLOSED


def test_it_opens_when_most_calls_were_slow_though_none_failed() -> None:
    found = breaker()
    call(found, Verdict.SUCCESS, times=2)
    call(found, Verdict.SLOW, times=8)
    assert (found.state, found.generation) == (State.OPEN, 2)


def test_what_says_nothing_of_the_provider_is_not_counted() -> None:
    found = breaker()
    call(found, Verdict.NOTHING, times=100)
    assert found.reading(0.0).calls == 0


def test_failures_older_than_the_window_are_forgotten() -> None:
    found = breaker()
    call(found, Verdict.FAILURE, 0.0, times=9)
    call(found, Verdict.FAILURE, 30.0)
    assert (found.state, found.reading(30.0).calls) == (State.CLOSED, 1)


def test_it_opens_at_once_under_a_thousand_calls_in_parallel() -> None:
    found = breaker()
    permits = [found.permit(0.0) for _ in range(1000)]
    for permit in permits:
        found.report(permit, Verdict.FAILURE, 0.0)
    assert (found.state, found.generation) == (State.OPEN, 2)


def test_five_failures_in_a_row_open_the_preset_for_a_minute() -> None:
    found = Breaker("m", FIVE_IN_A_ROW, rng=Random(1))
    call(found, Verdict.SUCCESS, times=100)
    call(found, Verdict.FAILURE, times=5)
    assert found.state is State.OPEN
    assert 48.0 <= found.reading(0.0).retry_after <= 72.0


def test_an_answer_between_failures_starts_the_preset_s_count_again() -> None:
    found = Breaker("m", FIVE_IN_A_ROW)
    for _ in range(10):
        call(found, Verdict.FAILURE, times=4)
        call(found, Verdict.SUCCESS)
    assert found.state is State.CLOSED


def test_one_good_probe_closes_the_preset() -> None:
    found = Breaker("m", FIVE_IN_A_ROW)
    call(found, Verdict.FAILURE, times=5)
    call(found, Verdict.SUCCESS, now=80.0)
    assert found.state is State.CLOSED


# -- while it is open --------------------------------------------------------------------------------------------------


def test_an_open_breaker_refuses_and_says_when_to_come_back() -> None:
    found = opened()
    with pytest.raises(CircuitOpen, match=r"m is not asked.*try again in 3\.0 s") as caught:
        found.permit(2.0)
    assert caught.value.retry_after == 3.0


def test_a_look_refuses_like_a_permit_and_takes_nothing() -> None:
    found = opened()
    with pytest.raises(CircuitOpen):
        found.check(4.9)
    found.check(5.0)
    assert found.state is State.OPEN


def test_the_open_time_doubles_with_each_failed_probe_up_to_the_longest() -> None:
    found = opened()
    waits, now = [], 0.0
    for _ in range(6):
        wait = found.reading(now).retry_after
        waits.append(wait)
        now += wait
        call(found, Verdict.FAILURE, now)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_the_open_time_is_short_again_after_the_breaker_was_closed() -> None:
    found = opened()
    call(found, Verdict.FAILURE, 5.0)
    call(found, Verdict.SUCCESS, 15.0, times=2)
    call(found, Verdict.FAILURE, 15.0, times=10)
    assert found.reading(15.0).retry_after == 5.0


def test_jitter_spreads_the_open_time_by_a_fifth_either_way() -> None:
    waits = []
    for seed in range(200):
        found = Breaker("m", BreakerSettings(), rng=Random(seed))
        call(found, Verdict.FAILURE, times=10)
        waits.append(found.reading(0.0).retry_after)
    assert 4.0 <= min(waits) < 4.1
    assert 5.9 < max(waits) <= 6.0


# -- half open ---------------------------------------------------------------------------------------------------------


def test_exactly_one_of_many_is_let_through_as_a_probe() -> None:
    found, _ = half_open()
    for _ in range(99):
        with pytest.raises(CircuitOpen):
            found.permit(5.0)


def test_two_good_probes_close_it() -> None:
    found, probe = half_open()
    found.report(probe, Verdict.SUCCESS, 6.0)
    assert found.state is State.HALF_OPEN
    call(found, Verdict.SUCCESS, 6.0)
    assert found.state is State.CLOSED


def test_a_failed_probe_opens_it_again() -> None:
    found, probe = half_open()
    found.report(probe, Verdict.FAILURE, 6.0)
    assert (found.state, found.reading(6.0).retry_after) == (State.OPEN, 10.0)


def test_a_slow_probe_opens_it_again() -> None:
    found, probe = half_open()
    found.report(probe, Verdict.SLOW, 6.0)
    assert found.state is State.OPEN


def test_a_cancelled_probe_leaves_it_half_open_for_the_next() -> None:
    found, probe = half_open()
    found.report(probe, Verdict.NOTHING, 6.0)
    assert found.state is State.HALF_OPEN
    assert found.permit(6.0).probe == probe.probe + 1


def test_a_cancelled_probe_is_no_success() -> None:
    found, probe = half_open(probes_to_close=1)
    found.report(probe, Verdict.NOTHING, 6.0)
    assert found.state is State.HALF_OPEN


def test_a_lost_probe_blocks_nobody_after_its_deadline() -> None:
    found, lost = half_open()
    with pytest.raises(CircuitOpen):
        found.permit(10.9)
    assert found.permit(11.0).probe == lost.probe + 1


def test_a_probe_without_deadline_blocks_nobody_for_longer_than_a_minute() -> None:
    found = opened()
    found.permit(5.0)
    assert found.permit(65.0).probe == 2


def test_a_lost_probe_that_reports_after_all_does_not_speak_for_the_new_one() -> None:
    found, lost = half_open()
    found.permit(11.0)
    found.report(lost, Verdict.SUCCESS, 12.0)
    found.report(lost, Verdict.SUCCESS, 12.0)
    assert found.state is State.HALF_OPEN


def test_calls_from_before_it_opened_say_nothing_any_more() -> None:
    found = breaker()
    early = [found.permit(0.0) for _ in range(50)]
    call(found, Verdict.FAILURE, times=10)
    probe = found.permit(5.0, 10.0)
    for permit in early:
        found.report(permit, Verdict.FAILURE, 5.0)
    found.report(probe, Verdict.SUCCESS, 6.0)
    assert found.state is State.HALF_OPEN


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_breaker_forced_open_waits_for_its_reset() -> None:
    found = breaker()
    found.force_open()
    with pytest.raises(CircuitOpen, match="by hand"):
        found.permit(1e6)
    found.reset()
    assert found.permit(1e6)


def test_a_probe_s_answer_after_a_reset_is_ignored() -> None:
    found, probe = half_open()
    found.reset()
    found.report(probe, Verdict.FAILURE, 6.0)
    assert (found.state, found.reading(6.0).calls) == (State.CLOSED, 0)


def test_a_reset_forgets_what_was_counted_and_how_long_it_was_open() -> None:
    found = opened()
    call(found, Verdict.FAILURE, 5.0)
    found.reset()
    call(found, Verdict.FAILURE, 6.0, times=10)
    assert found.reading(6.0).retry_after == 5.0


# -- what others see ---------------------------------------------------------------------------------------------------


def test_every_change_of_state_is_told_once_and_in_order() -> None:
    told: list[tuple[str, State, State]] = []
    found = Breaker("m", EXACT, changed=lambda *change: told.append(change))
    call(found, Verdict.FAILURE, times=10)
    call(found, Verdict.SUCCESS, 5.0, times=2)
    states = [State.CLOSED, State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert told == [("m", before, after) for before, after in pairwise(states)]


def test_whoever_is_told_of_a_change_may_ask_the_breaker() -> None:
    seen: list[State] = []
    found = Breaker("m", EXACT, changed=lambda *_: seen.append(found.reading(0.0).state))
    found.force_open()
    assert seen == [State.FORCED_OPEN]


def test_a_reading_counts_calls_failures_and_slow_ones() -> None:
    found = breaker(minimum=100)
    call(found, Verdict.SUCCESS, times=3)
    call(found, Verdict.FAILURE, times=2)
    call(found, Verdict.SLOW)
    reading = found.reading(0.0)
    assert (reading.calls, reading.failures, reading.slow, reading.retry_after) == (6, 2, 1, 0.0)


def test_a_reading_of_a_breaker_that_is_due_says_that_a_call_would_be_let_through() -> None:
    assert opened().reading(5.0).retry_after == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window_seconds", 0),
        ("window_seconds", math.inf),
        ("buckets", 0),
        ("buckets", 2.5),
        ("minimum", 0),
        ("failure_ratio", 0.0),
        ("failure_ratio", 1.1),
        ("failure_ratio", math.nan),
        ("slow_ratio", -0.1),
        ("slow_seconds", 0),
        ("patience_seconds", -1),
        ("open_seconds", 0),
        ("open_seconds", 61.0),
        ("jitter", 1.0),
        ("probes_to_close", 0),
        ("consecutive", 0),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_field_and_bound(field: str, value: float) -> None:
    named = "longest_open_seconds" if value == 61.0 else field
    with pytest.raises(LMConfigurationError, match=rf"BreakerSettings\({named}=.*\): "):
        BreakerSettings(**{field: value})  # type: ignore[arg-type]


# -- properties --------------------------------------------------------------------------------------------------------


class Model:
    """What a breaker does, written down plainly: every call with its time, no buckets, no locks."""

    def __init__(self, rules: BreakerSettings) -> None:
        self.rules, self.state, self.calls = rules, "closed", []  # type: ignore[var-annotated]
        self.open_for, self.until, self.probe, self.good = rules.open_seconds, 0.0, False, 0

    def asks(self, now: float) -> bool:
        if self.state == "open" and now >= self.until:
            self.state, self.probe, self.good = "half_open", False, 0
        if self.state == "half_open" and not self.probe:
            self.probe = True
            return True
        return self.state == "closed"

    def says(self, verdict: Verdict, now: float) -> None:
        rules = self.rules
        if self.state == "half_open":
            self.probe = False
            self.good += verdict is Verdict.SUCCESS
            if verdict in (Verdict.FAILURE, Verdict.SLOW):
                self.open_for = min(2 * self.open_for, rules.longest_open_seconds)
                self.state, self.until = "open", now + self.open_for
            elif self.good == rules.probes_to_close:
                self.state, self.calls, self.open_for = "closed", [], rules.open_seconds
        elif verdict is not Verdict.NOTHING:
            self.calls.append((now, verdict))
            width = rules.window_seconds / rules.buckets
            oldest = int(now / width) - rules.buckets + 1
            recent = [said for then, said in self.calls if int(then / width) >= oldest]
            failed, slow = recent.count(Verdict.FAILURE) / len(recent), recent.count(Verdict.SLOW) / len(recent)
            too_much = failed >= 0.5 or slow >= 0.8
            if verdict is not Verdict.SUCCESS and len(recent) >= rules.minimum and too_much:
                self.state, self.calls, self.until = "open", [], now + self.open_for


STEPS = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(Verdict)), max_size=120)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_it_does_what_the_plain_model_does_one_call_after_the_other(steps: list[tuple[int, Verdict]]) -> None:
    rules = BreakerSettings(window_seconds=10, buckets=5, minimum=4, longest_open_seconds=20, jitter=0.0)
    found, model, now = Breaker("m", rules), Model(rules), 0.0
    for pause, verdict in steps:
        now += pause
        allowed = model.asks(now)
        try:
            permit = found.permit(now)
        except CircuitOpen:
            assert not allowed
            continue
        assert allowed
        found.report(permit, verdict, now)
        model.says(verdict, now)
        assert found.state.value == model.state


@given(st.lists(st.tuples(st.sampled_from(["ask", *Verdict, "force", "reset"]), st.integers(0, 30)), max_size=150))
@settings(max_examples=200, deadline=None)
def test_never_more_than_one_probe_is_out_and_open_refuses_whatever_is_reported_late(
    steps: list[tuple[object, int]],
) -> None:
    found, now, out = Breaker("m", EXACT), 0.0, list[Permit]()
    for step, number in steps:
        now += 0.5
        if step == "ask":
            try:
                out.append(found.permit(now, now + 1000.0))
            except CircuitOpen:
                assert found.state is not State.CLOSED
        elif step == "force":
            found.force_open()
        elif step == "reset":
            found.reset()
        elif out:
            assert isinstance(step, Verdict)
            found.report(out.pop(number % len(out)), step, now)
        probes = [permit for permit in out if permit.probe and permit.generation == found.generation]
        assert len(probes) <= 1
        assert not (probes and found.state is not State.HALF_OPEN)


def test_an_answer_from_before_the_breaker_opened_counts_no_more() -> None:
    found = breaker(minimum=2)
    late = found.permit(0.0)
    call(found, Verdict.FAILURE, times=2)
    found.answered(late, 1.0, 1.0)
    reading = found.reading(1.0)
    assert (reading.state, reading.calls, reading.since_answer) == (State.OPEN, 0, 0.0)


def test_a_probe_that_is_answered_gives_its_lease_back_and_closes_the_breaker_at_last() -> None:
    found = opened(probes_to_close=2, open_seconds=5.0)
    for now, state in ((10.0, State.HALF_OPEN), (11.0, State.CLOSED)):
        found.answered(found.permit(now), 1.0, now)
        assert found.state is state


ANSWERS = {Verdict.SUCCESS: 1.0, Verdict.SLOW: EXACT.slow_seconds + 1.0}


@given(st.lists(st.tuples(st.sampled_from(["ask", *Verdict]), st.integers(0, 30)), max_size=150))
@settings(max_examples=200, deadline=None)
def test_an_answer_told_by_its_seconds_counts_as_a_report_of_it_does(
    steps: list[tuple[object, int]],
) -> None:
    quick = BreakerSettings(jitter=0.0, minimum=2, open_seconds=1.0)
    one, other, now, out = Breaker("m", quick), Breaker("m", quick), 0.0, list[tuple[Permit, Permit]]()
    for step, number in steps:
        now += 0.5
        if step == "ask":
            with suppress(CircuitOpen):
                out.append((one.permit(now), other.permit(now)))
        elif out:
            assert isinstance(step, Verdict)
            mine, yours = out.pop(number % len(out))
            seconds = ANSWERS.get(step)
            if seconds is None:
                one.report(mine, step, now)
                other.report(yours, step, now)
            else:
                one.answered(mine, seconds, now)
                other.report(yours, step, now, "it took 121.0 s" if step is Verdict.SLOW else None)
        assert one.reading(now) == other.reading(now)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=100))
@settings(max_examples=100, deadline=None)
def test_a_window_holds_what_its_buckets_cover(steps: list[tuple[float, bool]]) -> None:
    window, now, added = Window(10.0, 5), 0.0, list[tuple[float, bool]]()
    for pause, failed in steps:
        now += pause
        (window.add_failure if failed else window.add)(now)
        added.append((now, failed))
        recent = [failed for then, failed in added if int(then / 2.0) > int(now / 2.0) - 5]
        assert window.totals(now) == (len(recent), sum(recent), 0)


# -- what it knows of the provider -------------------------------------------------------------------------------------


def test_a_refusal_carries_the_last_failure() -> None:
    found = breaker(minimum=2)
    for number in (1, 2):
        found.report(found.permit(0.0), Verdict.FAILURE, 0.0, f"lm_server: number {number}")
    with pytest.raises(CircuitOpen) as caught:
        found.permit(1.0)
    assert caught.value.last_failure == "lm_server: number 2"
    assert "its last failure was lm_server: number 2" in caught.value.message
    assert caught.value.fresh().to_wire() == caught.value.to_wire()


def test_a_closed_breaker_has_forgotten_the_failures_that_opened_it() -> None:
    found = breaker(minimum=2, probes_to_close=1)
    for _ in range(2):
        found.report(found.permit(0.0), Verdict.FAILURE, 0.0, "down")
    found.report(found.permit(10.0), Verdict.SUCCESS, 11.0)
    assert (found.state, found.reading(11.0).last_failure) == (State.CLOSED, None)


def test_a_reading_says_how_long_ago_the_last_answer_came() -> None:
    found = breaker()
    assert found.reading(1.0).since_answer is None
    call(found, Verdict.SUCCESS, 2.0)
    call(found, Verdict.FAILURE, 3.0)
    assert found.reading(5.0).since_answer == 3.0


# -- rest ---------------------------------------------------------------------------------------------------------


def test_a_closed_breaker_is_at_rest_when_its_window_is_empty() -> None:
    found = breaker()
    assert found.is_at_rest(0.0)
    call(found, Verdict.FAILURE)
    assert not found.is_at_rest(29.0)
    assert found.is_at_rest(30.0)


def test_an_open_breaker_is_at_rest_when_nobody_has_made_its_probe_for_long() -> None:
    found = opened()
    assert not found.is_at_rest(64.9)  # 5 s open, and a minute more
    assert found.is_at_rest(65.0)


def test_a_breaker_whose_probe_never_ended_is_at_rest_as_long_after_its_lease() -> None:
    found, _ = half_open()
    assert not found.is_at_rest(70.9)
    assert found.is_at_rest(71.0)


def test_a_breaker_opened_by_hand_is_never_at_rest() -> None:
    found = breaker()
    found.force_open()
    assert not found.is_at_rest(1e9)
