"""Section H: stopping."""

from __future__ import annotations

from typing import Any

import pykka
import pytest

from supervisors import links, stopping
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, StopFromBelow
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import BRUTAL_KILL, INFINITY, ChildSpec, ChildType
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.conformance.actors import (
    KINDS,
    ONE,
    Background,
    BadEnd,
    Gate,
    SlowEnd,
    Worker,
    alive,
    answer,
    child,
    finish,
    fresh,
    let_time_pass,
    letters,
    spec,
    stop,
    supervise,
    tree_spec,
    worker,
)
from tests.conformance.test_restart import written as written  # the fixture
from tests.conformance.words import EXITS, down, recorded

kinds = pytest.mark.parametrize("cls", KINDS)


def stopped(kernel: Kernel, cls: type[Worker] = Worker, **fields: Any) -> dict[str, Any]:
    """A tree of b and a is stopped: how a ended, how the supervisor did, what was logged."""
    log = Log()
    sup = fresh(kernel, log, [spec("b", log), spec("a", log, cls, **fields)])
    a = child(sup, "a")
    ended = stop(sup)
    return {"child": down(a), "exit": ended, "log": log.events}


@kinds
def test_h01_children_stop_one_by_one_in_reverse_order(kernel: Kernel, cls: type[Worker]) -> None:
    log = Log()
    sup = fresh(kernel, log, [spec(name, log, cls) for name in "abc"])

    assert {"exit": stop(sup), "log": log.events} == recorded("H01")


@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown done", "crash"])
def test_h01_children_stop_so_whatever_ends_their_supervisor(kernel: Kernel, how: str) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("abc", log))

    assert (stop(sup, EXITS[how]), log.events) == (how, recorded("H01")["log"])


def test_h02_the_next_is_told_when_the_one_before_it_is_down(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    sup = fresh(kernel, log, [spec(name, log, SlowEnd, gate=gate) for name in "abc"])
    b = child(sup, "b")
    sup.exit(Shutdown())
    log.wait_for("<c")
    meanwhile = b.call(Worker.hello)
    gate.open()

    assert (down(sup), meanwhile, log.events) == ("shutdown", "b", recorded("H02"))


@kinds
def test_h03_a_child_is_told_shutdown_and_runs_terminate(kernel: Kernel, cls: type[Worker]) -> None:
    assert stopped(kernel, cls) == recorded("H03")


def test_h04_no_child_can_be_ended_without_its_terminate(kernel: Kernel) -> None:
    otp = recorded("H04")
    assert stopped(kernel) == otp | {"log": ["-a shutdown", *otp["log"]]}


def beyond(still: Kernel, clock: ManualClock, shutdown: float) -> dict[str, Any]:
    """As `stopped`, of a child whose end takes longer than it may."""
    log, gate = Log(), Gate()
    sup = fresh(still, log, [spec("b", log), spec("a", log, SlowEnd, gate=gate, shutdown=shutdown)])
    a = child(sup, "a")
    sup.exit(Shutdown())
    with gate:
        log.wait_for("<a")
        let_time_pass(clock, lambda: not sup.is_alive())
        seen = {"child": down(a), "exit": down(sup), "log": log.events}
    wait_until(lambda: still.zombies == 0)
    return seen


def test_h05_a_child_beyond_its_time_is_killed_and_the_stop_goes_on(still: Kernel, clock: ManualClock) -> None:
    assert beyond(still, clock, 2.0) == recorded("H05")


def test_h06_a_child_with_infinite_time_is_waited_for(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    sup = fresh(still, log, [spec("b", log), spec("a", log, SlowEnd, gate=gate, shutdown=INFINITY)])
    a = child(sup, "a")
    sup.exit(Shutdown())
    log.wait_for("<a")
    clock.advance(1e9)
    gate.open()

    assert {"child": down(a), "exit": down(sup), "log": log.events} == recorded("H06")


@kinds
def test_h07_a_brutal_kill_does_not_run_terminate(kernel: Kernel, cls: type[Worker]) -> None:
    assert stopped(kernel, cls, shutdown=BRUTAL_KILL) == recorded("H07")


def test_h07_a_brutal_kill_asks_nothing_of_the_child(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), shutdown=BRUTAL_KILL)])
    a = child(sup, "a")
    stop(sup)

    assert a.mailbox.sysq is None  # no request to exit was ever left there


def test_h08_no_time_at_all_is_told_and_killed_at_once(kernel: Kernel) -> None:
    otp = recorded("H08")
    log, gate = Log(), Gate()
    sup = fresh(kernel, log, [spec("b", log), spec("a", log, Worker, shutdown=0)])
    a = child(sup, "a")
    with gate:
        a.cast(Worker.hold, gate)
        gate.reached()

        assert {"child": (stop(sup), down(a))[1], "exit": down(sup), "log": log.events} == otp


def test_h09_a_child_that_dies_by_itself_meanwhile_does_not_hold_up_the_stop(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    sup = fresh(kernel, log, [*letters("ab", log), spec("c", log, SlowEnd, gate=gate)])
    b = child(sup, "b")
    sup.exit(Shutdown())
    log.wait_for("<c")
    finish(b)
    gate.open()

    assert {"exit": down(sup), "log": log.events} == recorded("H09")


@pytest.mark.parametrize("how", ["normal", "crash"])
def test_h09_an_end_of_its_own_during_the_stop_is_reported(kernel: Kernel, written: list[str], how: str) -> None:
    log, gate = Log(), Gate()
    sup = supervise(kernel, [spec("a", log), spec("b", log, SlowEnd, gate=gate)])
    a = child(sup, "a")
    sup.exit(Shutdown())
    log.wait_for("<b")
    finish(a, how)
    gate.open()
    down(sup)

    assert written == ["shutdown_error"]


def test_h10_a_child_that_fails_to_end_changes_nothing_for_the_others(kernel: Kernel) -> None:
    assert stopped(kernel, BadEnd) == recorded("H10")


def test_h11_a_child_that_cut_the_bond_to_its_supervisor_does_not_hold_it_up(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log))
    b = child(sup, "b")
    sup.mailbox.unwatch(b.mailbox)
    b.mailbox.unwatch(sup.mailbox)

    assert (stop(sup), log.events) == ("shutdown", ["-b shutdown", "-a shutdown"])


@pytest.mark.parametrize("how", ["normal", "shutdown", "crash"])
def test_h12_a_tree_ends_with_the_one_who_started_it_and_with_its_exit(kernel: Kernel, how: str) -> None:
    log = Log()
    parent = worker(kernel)
    sup = fresh(kernel, log, letters("ab", log), parent=parent)
    finish(parent, how)

    assert {"exit": down(sup), "log": log.events} == recorded("H12")[how]


@pytest.mark.parametrize("how", ["normal", "shutdown"])
def test_h13_an_exit_signal_from_anybody_but_its_parent_does_not_end_a_supervisor(kernel: Kernel, how: str) -> None:
    sup = supervise(kernel, letters("a", Log()))
    links.exit(sup, EXITS[how])

    assert alive(sup) is recorded("H13")[how]


def test_h14_an_unknown_message_is_reported_and_ignored(kernel: Kernel, written: list[str]) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("a", log))
    sup.tell("what is this")

    assert {"alive": alive(sup), "log": log.events} == recorded("H14")
    stop(sup)
    assert written == ["supervisor.unexpected_message"]


def test_h15_a_killed_supervisor_takes_its_children_along(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log))
    children = [child(sup, name) for name in "ab"]
    sup.fence()

    assert {"children": [down(each) for each in children], "log": sorted(log.events)} == recorded("H15")


def test_h16_a_stop_returns_when_all_children_are_down(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log))
    sup.stop()

    assert (sup.is_alive(), log.events) == (False, recorded("H16")["log"])


def test_h16_a_stop_that_takes_too_long_for_its_caller_goes_on(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    sup = supervise(still, [spec("a", log, SlowEnd, gate=gate)])
    stopping = Background(lambda: sup.stop(timeout=0.02))
    log.wait_for("<a")
    let_time_pass(clock, stopping.done)
    with pytest.raises(pykka.Timeout):
        stopping.value()
    gate.open()

    assert (down(sup), log.events[-1]) == ("normal", ">a")


def test_h16_a_stop_ends_it_with_the_exit_that_is_said(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log))
    answered = answer(stopping.stop, sup, Shutdown())

    seen = {"answer": answered, "log": log.events, "ends_later": down(sup)}
    assert recorded("H16") | seen == recorded("H16")


class Suicidal(Worker):
    """Asks for the end of others."""

    def stop_it(self, ref: Ref[Any]) -> None:
        stopping.stop(ref)

    def stop_it_as_pykka(self, ref: Ref[Any]) -> None:
        ref.stop()


@pytest.mark.parametrize("way", [Suicidal.stop_it, Suicidal.stop_it_as_pykka])
def test_h17_a_stop_from_below_is_refused_at_once(kernel: Kernel, way: Any) -> None:
    outer = supervise(kernel, [tree_spec("inner", [spec("x", Log(), Suicidal)])])
    x = child(child(outer, "inner"), "x")
    with pytest.raises(ActorDied) as caught:
        x.call(way, outer)

    assert isinstance(caught.value.__cause__, StopFromBelow)
    assert outer.is_alive()


def test_h18_a_short_shutdown_of_a_supervisor_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "supervisors"):
        ChildSpec("inner", Supervisor, kwargs={"strategy": ONE}, shutdown=1.0)

    assert "'inner' is a supervisor" in caplog.text


def test_h18_a_supervisor_beyond_its_time_leaves_no_orphans(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    children = [spec("x", log), spec("y", log, SlowEnd, gate=gate, shutdown=INFINITY)]
    made = ChildSpec("inner", Supervisor, (children,), {"strategy": ONE}, shutdown=1.0, type=ChildType.SUPERVISOR)
    outer = supervise(still, [made])
    x = child(child(outer, "inner"), "x")
    outer.exit(Shutdown())
    with gate:
        log.wait_for("<y")
        let_time_pass(clock, lambda: not outer.is_alive())

        assert down(x) == "killed"
    wait_until(lambda: still.zombies == 0)


def test_h19_dynamic_children_stop_together_each_in_its_own_time(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    sup = still.spawn(DynamicSupervisor)
    assert isinstance(sup, Ref)
    slow, stuck = Gate(), gate
    for name, seconds, held in (("a", 50.0, slow), ("b", INFINITY, slow), ("c", 2.0, stuck)):
        c = sup.call(DynamicSupervisor.start_child, spec(name, log, SlowEnd, gate=held, shutdown=seconds))
    log.clear()
    sup.exit(Shutdown())
    for name in "abc":
        log.wait_for(f"<{name}")
    with stuck:
        let_time_pass(clock, lambda: not c.is_alive())
        slow.open()
        down(sup)

        assert {"begun": sorted(log.events[:3]), "ended": sorted(log.events[3:])} == recorded("H19")
    wait_until(lambda: still.zombies == 0)


def test_h19_the_times_of_dynamic_children_run_together(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    sup = still.spawn(DynamicSupervisor)
    for name in "abc":
        sup.call(DynamicSupervisor.start_child, spec(name, log, SlowEnd, gate=gate, shutdown=2.0))
    sup.exit(Shutdown())
    for name in "abc":
        log.wait_for(f"<{name}")
    with gate:
        let_time_pass(clock, lambda: clock.now() > 3.5, 0.05)
        wait_until(lambda: not sup.is_alive())  # it needs a moment, but no more of the clock's time
    wait_until(lambda: still.zombies == 0)
