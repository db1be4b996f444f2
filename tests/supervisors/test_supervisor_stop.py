"""Stopping a tree: in reverse, each in its own time, whatever the children do; and no orphans."""

from __future__ import annotations

import threading
from typing import Any, Self

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied
from supervisors.exits import Crash, Exit, Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import BRUTAL_KILL, INFINITY, AutoShutdown, ChildSpec, Restart
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.supervisors.workers import (
    ALL,
    BOOM,
    CRASH,
    ONE,
    TEMPORARY,
    TRANSIENT,
    BadStop,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    supervise,
)


class Stuck:
    """A child that sits in a handler until it is let go."""

    def __init__(self, ref: Ref[Worker]) -> None:
        self.ref = ref
        self._let_go, began = threading.Event(), threading.Event()
        ref.cast(Worker.hang, self._let_go, began)
        began.wait(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()


def test_children_stop_in_reverse_order(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log) for name in "abc"])
    end(sup, Shutdown())

    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize("exit", [Normal(), Shutdown("x"), CRASH])
def test_children_are_stopped_whatever_ends_the_supervisor(kernel: Kernel, exit: Exit) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    ref = child(sup, "a")
    end(sup, exit)

    assert (gone(ref), gone(sup)) == (Shutdown(), exit)


def test_a_fenced_supervisor_leaves_no_orphans(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    ref = child(sup, "a")
    sup.fence()

    assert gone(ref) == Killed()


def test_a_child_of_a_start_function_is_no_orphan_either(kernel: Kernel) -> None:
    sup = supervise(kernel, [ChildSpec("a", lambda kernel: kernel.spawn(Worker, "a", Log()))])
    ref = child(sup, "a")
    sup.fence()

    assert gone(ref) == Killed()


def test_a_child_beyond_its_time_is_fenced_and_the_rest_goes_on(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    sup = supervise(still, [spec("a", log), spec("b", log, shutdown=2.0), spec("c", log)])
    b = child(sup, "b")
    with Stuck(b):
        sup.exit(Shutdown())
        log.wait_for("-c")
        while b.is_alive():
            clock.advance(1.0)
        assert (gone(b), gone(sup), still.zombies) == (Killed(), Shutdown(), 1)

    assert log.events[-2:] == ["-c", "-a"]
    wait_until(lambda: still.zombies == 0)


def test_a_child_with_infinite_time_is_waited_for(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, [spec("a", Log(), shutdown=INFINITY)])
    a = child(sup, "a")
    with Stuck(a):
        sup.exit(Shutdown())
        clock.advance(1e9)
        assert a.is_alive()

    assert gone(a) == Shutdown()


def test_a_brutal_kill_fences_at_once_without_terminate(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log, shutdown=BRUTAL_KILL)])
    a = child(sup, "a")
    end(sup, Shutdown())

    assert (gone(a), log.events) == (Killed(), ["+a"])


def test_no_time_at_all_still_asks_first(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), shutdown=0)])
    a = child(sup, "a")
    with Stuck(a):
        end(sup, Shutdown())

    assert gone(a) == Killed()


def test_a_child_that_fails_to_stop_does_not_stop_the_stopping(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log), spec("b", log, BadStop), spec("c", log)])
    b = child(sup, "b")
    end(sup, Shutdown())

    assert log.events[3:] == ["-c", "-b", "-a"]
    assert isinstance(gone(b), Crash)
    assert gone(sup) == Shutdown()


def test_a_supervisor_waits_for_the_children_of_its_children(kernel: Kernel) -> None:
    log = Log()
    inner = ChildSpec("inner", Supervisor, ([spec("x", log), spec("y", log)],), {"strategy": ONE})
    sup = supervise(kernel, [spec("a", log), inner, spec("z", log)])
    log.clear()
    end(sup, Shutdown())

    assert log == ["-z", "-y", "-x", "-a"]


def given_up(inner: Ref[Supervisor]) -> Exit:
    """Let a supervisor give up over its child "x", and wait until the one above it has been told; its exit."""
    down = inner.down()  # asked for before the end, as in `end`
    end(child(inner, "x"))
    return down.get(5)


def test_an_overflow_is_a_clean_exit_for_the_supervisor_above(kernel: Kernel) -> None:
    log = Log()
    inner = ChildSpec("inner", Supervisor, ([spec("x", log)],), {"strategy": ONE, "max_restarts": 0}, restart=TRANSIENT)
    sup = supervise(kernel, [inner])
    ref: Any = child(sup, "inner")

    assert given_up(ref) == Shutdown("max_restarts")
    assert sup.call(Supervisor.which_child, "inner").ref is None


def test_a_permanent_inner_supervisor_comes_back_with_its_first_children(kernel: Kernel) -> None:
    log = Log()
    inner = ChildSpec("inner", Supervisor, ([spec("x", log)],), {"strategy": ONE, "max_restarts": 0})
    sup = supervise(kernel, [inner])
    ref: Any = child(sup, "inner")
    ref.call(Supervisor.start_child, spec("late", log))
    given_up(ref)
    new: Any = child(sup, "inner")

    assert new is not ref
    assert ids(new) == ["x"]


def test_crashes_of_nested_supervisors_multiply(kernel: Kernel) -> None:
    inner = ChildSpec("inner", Supervisor, ([spec("x", Log())],), {"strategy": ONE, "max_restarts": 0})
    sup = supervise(kernel, [inner], max_restarts=2)
    for _ in range(3):
        given_up(child(sup, "inner"))

    assert gone(sup) == Shutdown("max_restarts")


def test_a_child_that_calls_its_supervisor_while_it_stops_is_fenced_in_time(still: Kernel, clock: ManualClock) -> None:
    class Clingy(Actor):
        def init(self, log: Log) -> None:
            self.log = log

        def terminate(self, exit: Exit) -> None:
            self.log.add("asks")
            boss[0].within(1000).call(Supervisor.which_children)

    log = Log()
    sup = supervise(still, [ChildSpec("a", Clingy, (log,), shutdown=1.0)])
    boss = [sup]
    sup.exit(Shutdown())
    log.wait_for("asks")
    while sup.is_alive():
        clock.advance(0.5)

    assert gone(sup) == Shutdown()


def test_callers_of_a_supervisor_that_ended_are_told(kernel: Kernel) -> None:
    sup = supervise(kernel)
    end(sup, Shutdown())

    with pytest.raises(ActorDied):
        sup.call(Supervisor.which_children)


# --- significant children -----------------------------------------------------------------------------------------


def significant(name: str, restart: Restart) -> ChildSpec:
    return spec(name, Log(), restart=restart, significant=True)


ANY, EVERY = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


@pytest.mark.parametrize(("restart", "exit"), [(TRANSIENT, Normal()), (TEMPORARY, Normal()), (TEMPORARY, CRASH)])
def test_the_end_of_a_significant_child_ends_its_supervisor(kernel: Kernel, restart: Restart, exit: Exit) -> None:
    sup = supervise(kernel, [significant("a", restart), spec("b", Log())], auto_shutdown=ANY)
    end(child(sup, "a"), exit)

    assert gone(sup) == Shutdown("auto_shutdown")


def test_the_crash_of_a_transient_significant_child_is_a_restart(kernel: Kernel) -> None:
    sup = supervise(kernel, [significant("a", TRANSIENT)], auto_shutdown=ANY)
    end(child(sup, "a"), CRASH)

    assert ids(sup) == ["a"]


def test_the_end_of_any_other_child_does_not_matter(kernel: Kernel) -> None:
    children = [significant("a", TRANSIENT), spec("b", Log(), restart=TEMPORARY)]
    sup = supervise(kernel, children, auto_shutdown=ANY)
    end(child(sup, "b"), Normal())

    assert ids(sup) == ["a"]


def test_all_significant_waits_for_the_last_one(kernel: Kernel) -> None:
    sup = supervise(kernel, [significant("a", TEMPORARY), significant("b", TRANSIENT)], auto_shutdown=EVERY)
    end(child(sup, "a"), Normal())
    left = ids(sup)
    end(child(sup, "b"), Normal())

    assert (left, gone(sup)) == (["b"], Shutdown("auto_shutdown"))


def test_a_significant_child_stopped_by_hand_does_not_end_its_supervisor(kernel: Kernel) -> None:
    sup = supervise(kernel, [significant("a", TRANSIENT), significant("b", TRANSIENT)], auto_shutdown=EVERY)
    sup.call(Supervisor.terminate_child, "a")
    end(child(sup, "b"), Normal())

    assert gone(sup) == Shutdown("auto_shutdown")


def test_a_significant_child_that_goes_along_with_a_sibling_does_not_end_its_supervisor(kernel: Kernel) -> None:
    sup = supervise(kernel, [significant("a", TRANSIENT), spec("b", Log())], ALL, auto_shutdown=ANY)
    end(child(sup, "b"), CRASH)

    assert ids(sup) == ["a", "b"]


def test_a_child_that_is_being_restarted_holds_up_the_shutdown_of_all(kernel: Kernel) -> None:
    failing = spec("a", Log(), script=Script(None, BOOM), restart=TRANSIENT, significant=True)
    sup = supervise(kernel, [failing, significant("b", TRANSIENT)], max_restarts=10**9, auto_shutdown=EVERY)
    end(child(sup, "a"), CRASH)
    end(child(sup, "b"), Normal())

    assert ids(sup) == ["a", "b"]


def test_an_auto_shutdown_of_a_significant_supervisor_climbs(kernel: Kernel) -> None:
    options = {"strategy": ONE, "auto_shutdown": ANY}
    inner = ChildSpec("in", Supervisor, ([significant("a", TRANSIENT)],), options, restart=TRANSIENT, significant=True)
    sup = supervise(kernel, [inner], auto_shutdown=ANY)
    ref: Any = child(sup, "in")
    end(child(ref, "a"), Normal())

    assert gone(sup) == Shutdown("auto_shutdown")
