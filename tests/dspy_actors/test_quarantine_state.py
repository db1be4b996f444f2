"""The life of an entry, by the hand of a clock: counted, set aside, due, probed, released or set aside again."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from dspy_actors.errors import QuarantinedInput, QuarantineError
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.held import LEASE_SECONDS
from dspy_actors.quarantine.names import Scope
from dspy_actors.quarantine.preview import preview_of
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import Quarantine
from supervisors.clock import ManualClock

SCOPE: Scope = ("tenant", "program", b"v1")
BAD, OTHER = b"bad" * 10, b"other" * 6


class Ward:
    """A quarantine, its clocks, and the words that the tests need."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(100.0)
        self.woken = 0
        self.quarantine = Quarantine(
            QuarantineSettings(**settings), self.clock, wake=self._wake, wall=lambda: 1_000_000.0 + self.clock.now()
        )

    def _wake(self) -> None:
        self.woken += 1

    def fault(self, reason: str = "parse", began: float | None = None) -> Fault:
        return Fault(self.clock.now() if began is None else began, reason, "E", lambda: preview_of({"text": "hi"}))

    def fail(self, count: int = 1, scope: Scope = SCOPE, name: bytes = BAD, lease: int = 0) -> None:
        for _ in range(count):
            self.quarantine.failed(scope, name, self.fault(), lease)
            self.clock.advance(1.0)

    def lets_through(self, scope: Scope = SCOPE, name: bytes = BAD, until: float | None = None) -> int | None:
        """The lease (0: none needed), or `None` where the input is set aside."""
        try:
            return self.quarantine.check(scope, name, until)
        except QuarantinedInput:
            return None

    def succeeds(self, scope: Scope = SCOPE) -> None:
        """A call with other inputs has succeeded."""
        self.quarantine.answered(scope)

    def due(self, **settings: Any) -> int:
        """Set the input aside, wait until it is due, and take the probe; its lease."""
        self.fail(3)
        self.clock.advance(3600.0)
        lease = self.lets_through()
        assert lease
        return lease

    def steps(self) -> list[tuple[str, str]]:
        return [(change.step, change.why) for change in self.quarantine.take_changes()]


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_two_faults_set_nothing_aside(ward: Ward) -> None:
    ward.fail(2)
    assert ward.lets_through() == 0


def test_the_third_fault_does(ward: Ward) -> None:
    ward.fail(3)
    assert ward.lets_through() is None


def test_the_refusal_says_until_when_and_why(ward: Ward) -> None:
    ward.fail(3)
    with pytest.raises(QuarantinedInput) as caught:
        ward.quarantine.check(SCOPE, BAD)
    error = caught.value
    assert (error.reason, error.retry_after) == ("parse", 3599.0)
    assert error.until == 1_000_000.0 + ward.clock.now() + 3599.0
    assert error.entry == ward.quarantine.entries()[0].id


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (("another", "program", b"v1"), BAD),
        (("tenant", "another", b"v1"), BAD),
        (("tenant", "program", b"v2"), BAD),
        (SCOPE, OTHER),
    ],
    ids=["tenant", "program", "version", "input"],
)
def test_whatever_differs_is_untouched(ward: Ward, scope: Scope, name: bytes) -> None:
    ward.fail(3)
    assert ward.lets_through(scope, name) == 0


def test_a_success_in_between_clears_the_count(ward: Ward) -> None:
    ward.fail(2)
    ward.quarantine.succeeded(SCOPE, BAD)
    ward.fail(2)
    assert ward.lets_through() == 0


def test_faults_that_are_too_old_do_not_count() -> None:
    ward = Ward(fault_seconds=10.0)
    ward.fail(2)
    ward.clock.advance(9.0)
    ward.fail(1)
    assert ward.lets_through() == 0
    ward.fail(1)
    assert ward.lets_through() == 0
    ward.fail(1)
    assert ward.lets_through() is None


def test_a_window_of_faults_slides() -> None:
    ward = Ward(fault_seconds=10.0)
    for _ in range(6):
        ward.fail(1)
        ward.clock.advance(5.0)
    assert ward.lets_through() == 0
    ward.fail(2)
    assert ward.lets_through() is None


def test_calls_that_ran_at_the_same_time_count_once(ward: Ward) -> None:
    faults = [ward.fault() for _ in range(100)]
    ward.clock.advance(1.0)
    for fault in faults:
        ward.quarantine.failed(SCOPE, BAD, fault)
    ward.clock.advance(1.0)
    ward.fail(1)
    assert ward.lets_through() == 0
    ward.fail(1)
    assert ward.lets_through() is None


def test_a_call_that_began_before_the_input_was_set_aside_adds_nothing_when_it_fails(ward: Ward) -> None:
    early = ward.fault()
    ward.fail(3)
    ward.quarantine.failed(SCOPE, BAD, early)
    (entry,) = ward.quarantine.entries()
    assert (entry.faults, entry.times) == (3, 1)


def test_a_call_that_began_before_the_input_was_set_aside_does_not_release_it(ward: Ward) -> None:
    ward.fail(3)
    ward.quarantine.succeeded(SCOPE, BAD)
    assert ward.lets_through() is None


def test_it_is_due_after_its_seconds_and_not_before(ward: Ward) -> None:
    ward.fail(3)
    ward.clock.advance(3598.9)
    assert ward.lets_through() is None
    ward.clock.advance(0.1)
    assert ward.lets_through() == 1


def test_one_call_probes_and_the_others_wait(ward: Ward) -> None:
    ward.due()
    assert [ward.lets_through() for _ in range(5)] == [None] * 5


def test_a_good_probe_releases(ward: Ward) -> None:
    ward.quarantine.succeeded(SCOPE, BAD, ward.due())
    assert ward.lets_through() == 0
    assert ward.quarantine.entries() == []


def test_a_bad_probe_sets_the_input_aside_for_as_long_again(ward: Ward) -> None:
    ward.fail(1, lease=ward.due())
    (entry,) = ward.quarantine.entries()
    assert (entry.faults, entry.times) == (4, 2)
    ward.clock.advance(3598.9)
    assert ward.lets_through() is None
    ward.clock.advance(0.1)
    assert ward.lets_through()


def test_a_probe_that_says_nothing_gives_its_turn_back(ward: Ward) -> None:
    first = ward.due()
    ward.quarantine.undecided(SCOPE, BAD, first)
    second = ward.lets_through()
    assert second
    assert second != first


def test_a_probe_that_is_lost_gives_way_after_its_lease(ward: Ward) -> None:
    ward.due()
    ward.clock.advance(LEASE_SECONDS - 0.1)
    assert ward.lets_through() is None
    ward.clock.advance(0.1)
    assert ward.lets_through()


def test_a_lease_lasts_until_a_second_after_the_deadline_of_its_call(ward: Ward) -> None:
    ward.fail(3)
    ward.clock.advance(3600.0)
    assert ward.lets_through(until=ward.clock.now() + 200.0)
    ward.clock.advance(200.9)
    assert ward.lets_through() is None
    ward.clock.advance(0.1)
    assert ward.lets_through()


@pytest.mark.parametrize("end", ["succeeded", "failed", "undecided"])
def test_a_probe_that_comes_back_after_its_lease_decides_nothing(ward: Ward, end: str) -> None:
    late = ward.due()
    ward.clock.advance(LEASE_SECONDS)
    assert ward.lets_through()
    if end == "failed":
        ward.fail(1, lease=late)
    else:
        getattr(ward.quarantine, end)(SCOPE, BAD, late)
    (entry,) = ward.quarantine.entries()
    assert entry.times == 1
    assert ward.lets_through() is None


def test_an_input_that_was_released_under_its_probe_begins_anew(ward: Ward) -> None:
    lease = ward.due()
    ward.quarantine.release(ward.quarantine.entries()[0].id)
    ward.fail(1, lease=lease)
    assert ward.lets_through() == 0
    assert ward.quarantine.stats().watched == 1


def test_a_release_forgets_everything(ward: Ward) -> None:
    ward.fail(3)
    released = ward.quarantine.release(ward.quarantine.entries()[0].id)
    assert released.reason == "parse"
    ward.fail(2)
    assert ward.lets_through() == 0


@pytest.mark.parametrize("ask", ["entry", "release"])
def test_an_entry_that_is_not_there_is_named(ward: Ward, ask: str) -> None:
    with pytest.raises(QuarantineError, match="'nowhere'") as caught:
        getattr(ward.quarantine, ask)("nowhere")
    assert caught.value.to_wire()["entry"] == "nowhere"


def test_every_change_is_told_once_and_wakes_once(ward: Ward) -> None:
    ward.fail(10)
    assert ward.woken == 1
    assert ward.steps() == [("entered", "")]
    assert ward.steps() == []


def test_a_life_is_told_in_its_order(ward: Ward) -> None:
    lease = ward.due()
    ward.fail(1, lease=lease)
    ward.clock.advance(3600.0)
    ward.quarantine.succeeded(SCOPE, BAD, ward.lets_through() or 0)
    assert ward.steps() == [
        ("entered", ""),
        ("probation", ""),
        ("renewed", ""),
        ("probation", ""),
        ("released", "success"),
    ]


def test_the_one_that_nobody_has_asked_for_longest_goes_first() -> None:
    ward = Ward(entries=3, threshold=1)
    for number in range(3):
        ward.fail(1, name=bytes([number]))
        ward.succeeds()
    ward.lets_through(name=b"\x00")
    ward.fail(1, name=b"\x03")
    assert [ward.lets_through(name=bytes([number])) for number in range(4)] == [None, 0, None, None]
    assert ("released", "evicted") in ward.steps()


def test_those_that_are_watched_are_bounded_too() -> None:
    ward = Ward(entries=3)
    for number in range(100):
        ward.fail(1, name=bytes([number]))
        ward.succeeds()
    assert ward.quarantine.stats().watched == 3


def test_a_sweep_forgets_what_no_longer_counts() -> None:
    ward = Ward(fault_seconds=10.0)
    ward.fail(2, name=OTHER)
    ward.fail(3)
    ward.clock.advance(3600.0 + 3595.0)
    ward.quarantine.sweep()
    assert (ward.quarantine.stats().watched, ward.quarantine.stats().held) == (0, 1)
    ward.clock.advance(10.0)
    ward.quarantine.sweep()
    assert ward.quarantine.stats().held == 0
    assert ward.steps()[-1] == ("released", "forgotten")


def test_a_sweep_leaves_an_input_whose_probe_is_out(ward: Ward) -> None:
    ward.fail(3)
    ward.clock.advance(7100.0)
    lease = ward.lets_through(until=ward.clock.now() + 1000.0)
    ward.clock.advance(500.0)
    ward.quarantine.sweep()
    ward.quarantine.succeeded(SCOPE, BAD, lease or 0)
    assert ward.steps()[-1] == ("released", "success")


def test_an_entry_that_another_process_made_is_taken_over_quietly(ward: Ward) -> None:
    ward.fail(3)
    (entry,) = ward.quarantine.entries()
    other = Ward()
    other.quarantine.adopt(entry)
    assert other.lets_through() is None
    assert other.steps() == []
    assert other.quarantine.stats().entered == 0


def test_an_entry_is_taken_over_for_the_time_it_has_left(ward: Ward) -> None:
    ward.fail(3)
    (entry,) = ward.quarantine.entries()
    other = Ward()
    other.clock.advance(3000.0)
    other.quarantine.adopt(entry)
    assert other.lets_through() is None
    other.clock.advance(601.9)
    assert other.lets_through() is None
    other.clock.advance(0.1)
    assert other.lets_through() == 1


def test_a_clock_that_was_put_back_holds_nobody_longer_than_the_settings_say(ward: Ward) -> None:
    ward.clock.advance(1_000_000.0)
    ward.fail(3)
    (entry,) = ward.quarantine.entries()
    other = Ward()
    other.quarantine.adopt(entry)
    other.clock.advance(3600.0)
    assert other.lets_through() == 1


def test_100_callers_at_once_get_exactly_one_probe_between_them(ward: Ward) -> None:
    ward.fail(3)
    ward.clock.advance(3600.0)
    found: Counter[bool] = Counter()
    start = threading.Barrier(100)
    lock = threading.Lock()

    def call() -> None:
        start.wait()
        is_probe = ward.lets_through() is not None
        with lock:
            found[is_probe] += 1

    threads = [threading.Thread(target=call) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {True: 1, False: 99}


def test_a_check_that_overlaps_a_renewal_lets_nobody_pass(ward: Ward) -> None:
    """The look-up finds the entry of before, and the decision is made by the one of now."""
    lease = ward.due()
    found = ward.quarantine.held.get(SCOPE, BAD)
    ward.fail(1, lease=lease)
    assert ward.quarantine.held.get(SCOPE, BAD) is not found
    with pytest.raises(QuarantinedInput):
        ward.quarantine._admit(SCOPE, BAD, None)


def test_a_check_that_overlaps_a_release_lets_the_call_pass(ward: Ward) -> None:
    ward.fail(3)
    ward.quarantine.release(ward.quarantine.entries()[0].id)
    assert ward.quarantine._admit(SCOPE, BAD, None) == 0


def test_a_scope_is_published_exactly_while_something_is_kept_for_it(ward: Ward) -> None:
    assert ward.quarantine.suspects.scopes == {}
    ward.fail(1)
    assert set(ward.quarantine.suspects.scopes) == {SCOPE}
    ward.fail(2)
    assert ward.quarantine.suspects.scopes == {}
    assert set(ward.quarantine.held.scopes) == {SCOPE}
    ward.quarantine.release(ward.quarantine.entries()[0].id)
    assert ward.quarantine.held.scopes == {}
