"""Section I: how many restarts within how much time."""

from __future__ import annotations

import pytest

from supervisors.backoff import Backoff
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import Restart
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import Log
from tests.conformance.actors import (
    ALL,
    Script,
    alive,
    child,
    end_child,
    ended_by,
    finish,
    fresh,
    letters,
    spec,
    states,
    supervise,
    tree_spec,
)
from tests.conformance.test_restart import written as written  # the fixture
from tests.conformance.words import BOOM, down, recorded


def test_i01_one_restart_too_many_stops_the_rest_in_reverse_and_ends_it(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("abc", log), max_restarts=2)
    survived = [end_child(sup, "b"), end_child(sup, "b")][-1]
    log.clear()
    end_child(sup, "b")

    assert {"alive_before": survived, "exit": down(sup), "log": log.events} == recorded("I01")


def test_i02_without_restarts_the_first_crash_ends_it(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log), max_restarts=0)
    end_child(sup, "a")

    assert {"exit": down(sup), "log": log.events} == recorded("I02")


def survives(still: Kernel, clock: ManualClock, seconds: float, period: float = 1.0) -> bool:
    """Whether a supervisor that may restart once a period bears two crashes so far apart."""
    sup = supervise(still, letters("a", Log()), max_restarts=1, max_seconds=period)
    end_child(sup, "a")
    clock.advance(seconds)
    return end_child(sup, "a")


@pytest.mark.parametrize("milliseconds", ["900", "2100"])
def test_i03_outside_of_otps_band_of_chance_the_window_is_otps(
    still: Kernel, clock: ManualClock, milliseconds: str
) -> None:
    assert survives(still, clock, int(milliseconds) / 1000) == recorded("I03")[milliseconds]


@pytest.mark.parametrize(("seconds", "expected"), [(0.999, False), (1.0, False), (1.001, True)])
def test_i03_the_window_is_inclusive_to_the_moment(
    still: Kernel, clock: ManualClock, seconds: float, expected: bool
) -> None:
    assert survives(still, clock, seconds) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, False), (1.0, False), (2.1, True)])
def test_i04_the_window_of_a_dynamic_supervisor_is_the_same(
    still: Kernel, clock: ManualClock, seconds: float, expected: bool
) -> None:
    sup = still.spawn(DynamicSupervisor, max_restarts=1, max_seconds=1.0)
    assert isinstance(sup, Ref)
    finish(sup.call(DynamicSupervisor.start_child, spec("a", Log())))
    (line,) = sup.call(DynamicSupervisor.which_children)
    clock.advance(seconds)
    assert isinstance(line.ref, Ref)
    finish(line.ref)

    assert alive(sup) is expected


def test_i05_old_restarts_are_forgotten_one_by_one(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, letters("a", Log()), max_restarts=2, max_seconds=2.0)
    survived = []
    for pause in (0.0, 1.9, 0.2, 1.7):  # at 2.1 the first is forgotten; at 3.8 there are those of 1.9 and 2.1
        clock.advance(pause)
        survived.append(end_child(sup, "a"))

    assert survived == [True, True, True, False]


def test_i06_each_failed_attempt_counts(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, [spec("a", log, script=Script(None, BOOM)), spec("b", log)], max_restarts=3)
    end_child(sup, "a")

    assert {"exit": down(sup), "log": log.events} == recorded("I06")


def test_i07_the_restart_of_a_group_counts_once(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("abcd", log), ALL, max_restarts=1)

    assert {"alive": end_child(sup, "b"), "log": log.events} == recorded("I07")


def test_i08_all_children_share_one_count(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("ab", Log()), max_restarts=1)
    assert [end_child(sup, "a"), end_child(sup, "b")] == recorded("I08")["shared"]


def test_i08_a_supervisor_that_is_restarted_begins_to_count_anew(kernel: Kernel) -> None:
    outer = supervise(kernel, [tree_spec("inner", letters("x", Log()), max_restarts=1)])
    first = child(outer, "inner")
    end_child(first, "x")
    finish(first)

    assert end_child(child(outer, "inner"), "x") == recorded("I08")["anew"]


def test_i09_the_last_straw_is_reported_with_its_child(written: list[str]) -> None:
    with System(max_restarts=0, children=letters("a", Log())) as system:
        sup = system.root
        end_child(sup, "a")
        down(sup)

    assert written == recorded("I09")


@pytest.mark.parametrize("restart", list(Restart))
def test_i10_a_supervisor_that_gave_up_ended_clean_for_the_one_above(kernel: Kernel, restart: Restart) -> None:
    outer = supervise(kernel, [tree_spec("inner", letters("x", Log()), restart=restart)])
    ended = ended_by(child(outer, "inner"), "x")

    assert {"exit": ended, "state": states(outer).get("inner", "removed")} == recorded("I10")[restart.value]


@pytest.mark.parametrize("limits", ["0 0", "0 2", "1 1", "1 2"])
def test_i11_the_limits_of_nested_supervisors_multiply(kernel: Kernel, limits: str) -> None:
    inside, outside = map(int, limits.split())
    outer = supervise(kernel, [tree_spec("inner", letters("x", Log()), max_restarts=inside)], max_restarts=outside)
    crashes = 0
    while alive(outer):
        inner = child(outer, "inner")
        gone = inner.down()
        if not end_child(inner, "x"):
            gone.get(5)
        crashes += 1

    assert crashes == recorded("I11")[limits]


def test_i12_without_a_backoff_a_failing_start_is_tried_again_at_once(still: Kernel) -> None:
    sup = supervise(still, [spec("a", Log(), script=Script(None, BOOM))], max_restarts=50)
    end_child(sup, "a")

    assert down(sup) == "shutdown"  # fifty attempts, and the clock never moved
    assert recorded("I12") == {"more_than_fifty": True}


def test_i12_a_backoff_waits_counts_and_can_be_interrupted(still: Kernel, clock: ManualClock) -> None:
    waits = Backoff(base=1.0, jitter=0.0)
    sup = supervise(still, [spec("a", Log(), script=Script(None, BOOM), backoff=waits)], max_restarts=2)
    end_child(sup, "a")
    waiting = states(sup)
    clock.advance(1.0)
    sup.call(Supervisor.terminate_child, "a")

    assert (waiting, states(sup)) == ({"a": "waiting"}, {"a": None})
