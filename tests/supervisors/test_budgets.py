"""Beyond OTP: children that share a key share a budget of restarts, and are given up when it is used up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.backoff import Backoff
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import SpecError
from supervisors.exits import Normal, Shutdown
from supervisors.intensity import Budgets, Intensity
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import AutoShutdown, ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import Log
from tests.supervisors.workers import (
    ALL,
    BOOM,
    REST,
    TEMPORARY,
    TRANSIENT,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    state,
    supervise,
)


def keyed(log: Log, *names: str, key: str = "k", **fields: Any) -> list[ChildSpec]:
    return [spec(name, log, budget_key=key, **fields) for name in names]


def crash(sup: Ref[Supervisor], id: str, times: int = 1) -> None:
    for _ in range(times):
        end(child(sup, id))
        ids(sup)


def test_six_unrelated_bad_inputs_do_not_take_down_all(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log, budget_key=name) for name in "abcdef"])
    for name in "abcdef":
        crash(sup, name)
    assert [isinstance(state(sup, name), Ref) for name in "abcdef"] == [True] * 6


def test_those_that_share_a_key_share_a_budget(kernel: Kernel) -> None:
    sup = supervise(kernel, keyed(Log(), "a", "b"), max_restarts=3)
    crash(sup, "a", 2)
    crash(sup, "b", 2)
    assert (state(sup, "a"), state(sup, "b")) == (None, None)


def test_a_key_that_is_used_up_stops_its_children_in_reverse_order_and_nobody_else(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("x", log), *keyed(log, "a", "b", "c"), spec("y", log)], max_restarts=0)
    log.clear()
    crash(sup, "b")
    assert log.events == ["xb", "-c", "-a"]
    assert [isinstance(state(sup, name), Ref) for name in "xabcy"] == [True, False, False, False, True]


def test_what_a_key_uses_is_not_taken_from_the_others(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [*keyed(log, "a"), spec("x", log)], max_restarts=1)
    crash(sup, "a")
    crash(sup, "x")
    assert sup.is_alive()
    end(child(sup, "x"))
    assert gone(sup) == Shutdown("max_restarts")


def test_a_budget_is_a_sliding_window(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, keyed(Log(), "a"), max_restarts=1, max_seconds=5.0)
    for _ in range(5):
        crash(sup, "a")
        clock.advance(5.1)
    assert isinstance(state(sup, "a"), Ref)


def test_failed_starts_use_the_budget_too(kernel: Kernel) -> None:
    script = Script(None, BOOM)
    sup = supervise(kernel, keyed(Log(), "a", script=script), max_restarts=3)
    crash(sup, "a")
    for _ in range(5):
        ids(sup)
    assert (script.starts, state(sup, "a")) == (4, None)


def test_a_child_that_was_given_up_can_be_started_by_hand_with_a_new_budget(kernel: Kernel) -> None:
    sup = supervise(kernel, keyed(Log(), "a"), max_restarts=1)
    crash(sup, "a", 2)
    sup.call(Supervisor.restart_child, "a")
    crash(sup, "a")
    assert isinstance(state(sup, "a"), Ref)


def test_a_sibling_that_waits_for_its_backoff_is_given_up_too(still: Kernel, clock: ManualClock) -> None:
    waiting = spec("a", Log(), script=Script(None, BOOM), budget_key="k", backoff=Backoff(base=9.0, jitter=0.0))
    sup = supervise(still, [waiting, *keyed(Log(), "b")], max_restarts=1)
    crash(sup, "a")
    before = state(sup, "a")
    crash(sup, "b")
    clock.advance(20.0)
    assert (before, state(sup, "a"), state(sup, "b")) == ("waiting", None, None)


def test_a_temporary_child_of_the_key_is_forgotten(kernel: Kernel) -> None:
    sup = supervise(kernel, [*keyed(Log(), "a"), *keyed(Log(), "t", restart=TEMPORARY)], max_restarts=0)
    crash(sup, "a")
    assert ids(sup) == ["a"]


def test_a_significant_child_that_is_given_up_has_ended(kernel: Kernel) -> None:
    special = keyed(Log(), "a", restart=TRANSIENT, significant=True)
    sup = supervise(kernel, special, max_restarts=0, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    end(child(sup, "a"))
    assert gone(sup) == Shutdown("auto_shutdown")


@pytest.mark.parametrize("strategy", [REST, ALL])
def test_children_that_lean_on_each_other_have_no_keys(kernel: Kernel, strategy: Any) -> None:
    with pytest.raises(Exception, match="lean on each other"):
        supervise(kernel, keyed(Log(), "a"), strategy)
    sup = supervise(kernel, [], strategy)
    with pytest.raises(SpecError, match="budget_key"):
        sup.call(Supervisor.start_child, keyed(Log(), "a")[0])
    assert sup.is_alive()


def test_a_key_must_be_hashable() -> None:
    with pytest.raises(SpecError, match="budget_key"):
        ChildSpec("a", Worker, budget_key=[])  # type: ignore[arg-type]


# dynamic children


def dynamic(kernel: Kernel, *specs: ChildSpec, **options: Any) -> tuple[Ref[DynamicSupervisor], list[Ref[Any]]]:
    sup = kernel.spawn(DynamicSupervisor, **options)
    return sup, [sup.call(DynamicSupervisor.start_child, each) for each in specs]


def running(sup: Ref[DynamicSupervisor]) -> list[Any]:
    return [line.id for line in sup.call(DynamicSupervisor.which_children)]


def test_dynamic_children_of_a_used_up_key_are_forgotten(kernel: Kernel) -> None:
    log = Log()
    sup, (a, *_) = dynamic(kernel, *keyed(log, "a", "b"), *keyed(log, "c", key="other"), max_restarts=0)
    end(a)
    assert running(sup) == ["c"]


def test_dynamic_children_have_a_budget_for_each_key(kernel: Kernel) -> None:
    log = Log()
    specs = [spec(str(n), log, budget_key=n) for n in range(6)]
    sup, refs = dynamic(kernel, *specs, max_restarts=1)
    for ref in refs:
        end(ref)
    assert running(sup) == [str(n) for n in range(6)]


# told


def test_giving_up_is_an_event(kernel: Kernel) -> None:
    seen = Log()
    event = ("supervisor", "budget", "exhausted")
    kernel.telemetry.attach("test", event, lambda _, numbers, about: seen.add(numbers["children"], about["ids"]))
    sup = supervise(kernel, keyed(Log(), "a", "b"), max_restarts=0)
    crash(sup, "a")
    assert seen.events == [(2, ["a", "b"])]


def test_giving_up_is_reported_child_by_child(written: list[dict[str, Any]]) -> None:
    with System(children=keyed(Log(), "a", "b"), max_restarts=0) as system:
        crash(system.root, "a")
    said = [(each["error_context"], each["offender"]["id"]) for each in written]
    assert said == [("child_terminated", "a"), ("given_up", "a"), ("given_up", "b")]


# the rule


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 3.0))), st.integers(0, 3))
def test_a_key_is_as_if_it_were_alone(crashes: list[tuple[str, float]], most: int) -> None:
    budgets, alone, now = Budgets(most, 5.0), {key: Intensity(most, 5.0) for key in "abc"}, 0.0
    for key, later in crashes:
        now += later
        assert budgets.admit(key, now) == alone[key].admit(now)


def test_windows_in_which_nothing_counts_are_forgotten() -> None:
    budgets = Budgets(3, 5.0)
    for n in range(1000):
        budgets.admit(n, float(n))
    assert len(budgets) <= 7


def test_a_normal_end_of_a_transient_child_uses_nothing(kernel: Kernel) -> None:
    sup = supervise(kernel, keyed(Log(), "a", restart=TRANSIENT), max_restarts=0)
    end(child(sup, "a"), Normal())
    sup.call(Supervisor.restart_child, "a")
    assert isinstance(state(sup, "a"), Ref)
