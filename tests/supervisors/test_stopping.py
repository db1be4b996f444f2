"""Stops from outside are synchronous; stops from below are refused; calls answered too late are counted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.deadline import deadline_at
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, CallTimeout, StopFromBelow
from supervisors.exits import Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import INFINITY, ChildSpec
from supervisors.stopping import astop, stop
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.supervisors.actors import Background, Counter, spawn
from tests.supervisors.workers import BOOM, BadStop, Worker, child, spec, supervise


class Doer(Actor):
    """Does what it is told, in its own place."""

    def do(self, fn: Any, *args: Any) -> Any:
        return fn(*args)


class Slow(Worker):
    def init(self, name: str, log: Log, gate: threading.Event) -> None:
        super().init(name, log)
        self.gate = gate

    def terminate(self, exit: object) -> None:
        self.gate.wait(10)
        self.log.add("-slow")


# stop


def test_a_stop_returns_when_the_whole_tree_is_down(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log), spec("b", log)])
    stop(sup)
    assert (sup.is_alive(), log.events[2:]) == (False, ["-b", "-a"])


def test_a_stop_may_give_a_reason(kernel: Kernel) -> None:
    ref = spawn(kernel)
    stop(ref, Shutdown("enough"))
    assert ref.down().get(0) == Shutdown("enough")


def test_a_stop_of_a_name_stops_its_holder(kernel: Kernel) -> None:
    registry = Registry()
    ref = spawn(kernel, Counter, name=registry.via("x"))
    stop(registry.via("x"))
    assert not ref.is_alive()


def test_nobody_cannot_be_stopped(kernel: Kernel) -> None:
    ref = spawn(kernel)
    stop(ref)
    for address in (ref, Registry().via("x")):
        with pytest.raises(ActorDied):
            stop(address)


def test_a_stop_that_takes_too_long_goes_on(kernel: Kernel) -> None:
    log, gate = Log(), threading.Event()
    sup = supervise(kernel, [ChildSpec("a", Slow, ("a", log, gate))])
    with pytest.raises(CallTimeout):
        stop(sup, timeout=0.01)
    gate.set()
    assert (sup.down().get(5), log.events) == (Normal(), ["+a", "-slow"])


def test_a_stop_takes_no_longer_than_the_callers_deadline(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), threading.Event()
    ref = still.spawn(Slow, "a", log, gate)
    with deadline_at(clock.now() - 1.0), pytest.raises(CallTimeout):
        stop(ref)
    gate.set()
    ref.down().get(5)


def test_an_end_for_another_reason_is_told(kernel: Kernel) -> None:
    with pytest.raises(ActorDied, match="cannot stop in peace"):
        stop(kernel.spawn(BadStop, "a", Log()), timeout=INFINITY)


def test_a_loop_can_wait_for_a_stop(kernel: Kernel) -> None:
    ref, gate = spawn(kernel), threading.Event()
    asyncio.run(astop(ref))
    slow = kernel.spawn(Slow, "a", Log(), gate)
    with pytest.raises(CallTimeout, match="Slow"):
        asyncio.run(astop(slow, timeout=0.01))
    gate.set()
    slow.down().get(5)
    assert not ref.is_alive()


# from below


def below(kernel: Kernel) -> tuple[Ref[Supervisor], Ref[Supervisor], Ref[Doer]]:
    """A supervisor, one below it, and a worker below that."""
    inner = ChildSpec("inner", Supervisor, ([ChildSpec("doer", Doer)],), {"strategy": Strategy.ONE_FOR_ONE})
    top = supervise(kernel, [inner])
    middle: Any = child(top, "inner")
    worker: Any = child(middle, "doer")
    return top, middle, worker


def test_nobody_terminates_itself_through_its_supervisor(kernel: Kernel) -> None:
    _, middle, doer = below(kernel)
    with pytest.raises(ActorDied) as caught:
        doer.call(Doer.do, middle.call, Supervisor.terminate_child, "doer")
    assert isinstance(caught.value.__cause__, StopFromBelow)
    assert caught.value.__cause__.path == (doer.name, doer.name)


def test_nobody_terminates_the_tree_it_belongs_to(kernel: Kernel) -> None:
    top, middle, doer = below(kernel)
    with pytest.raises(ActorDied, match="would wait for its own end"):
        doer.call(Doer.do, top.call, Supervisor.terminate_child, "inner")
    assert middle.is_alive()


def test_a_request_through_somebody_else_is_refused_too(kernel: Kernel) -> None:
    top, middle, doer = below(kernel)
    other = kernel.spawn(Doer)
    with pytest.raises(ActorDied, match="would wait for its own end"):
        doer.call(Doer.do, other.call, Doer.do, top.call, Supervisor.terminate_child, "inner")
    assert middle.is_alive()


@pytest.mark.parametrize("how", [stop, lambda ref: ref.stop()])
def test_a_stop_from_below_is_refused(kernel: Kernel, how: Any) -> None:
    top, _, doer = below(kernel)
    with pytest.raises(ActorDied, match="would wait for its own end"):
        doer.call(Doer.do, how, top)
    assert top.is_alive()


def test_a_dynamic_child_does_not_terminate_itself(kernel: Kernel) -> None:
    sup = kernel.spawn(DynamicSupervisor)
    ref = sup.call(DynamicSupervisor.start_child, ChildSpec("doer", Doer))
    with pytest.raises(ActorDied, match="would wait for its own end"):
        ref.call(Doer.do, sup.call, DynamicSupervisor.terminate_child, ref)


def test_who_does_not_wait_may_ask_for_its_own_end(kernel: Kernel) -> None:
    top, middle, doer = below(kernel)
    doer.call(Doer.do, top.cast, Supervisor.terminate_child, "inner")
    assert (middle.down().get(5), top.is_alive()) == (Shutdown(), True)


def test_a_sibling_may_be_terminated(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log), ChildSpec("doer", Doer)])
    doer: Any = child(sup, "doer")
    doer.call(Doer.do, sup.call, Supervisor.terminate_child, "a")
    assert log.events == ["+a", "-a"]


# late answers


def test_an_answer_after_the_timeout_is_dropped_and_counted(kernel: Kernel) -> None:
    late, gate = Log(), threading.Event()
    kernel.telemetry.attach("test", ("call", "late"), lambda event, numbers, about: late.add(about["name"]))
    ref = spawn(kernel)
    with pytest.raises(CallTimeout):
        ref.within(0.01).call(Counter.wait_for, gate)
    before = kernel.late_replies
    gate.set()
    late.wait_for(ref.name)
    assert (before, kernel.late_replies) == (0, 1)


def test_an_answer_that_a_loop_no_longer_waits_for_is_counted(kernel: Kernel) -> None:
    gate, ref = threading.Event(), spawn(kernel)
    with pytest.raises(CallTimeout):
        asyncio.run(ref.within(0.01).acall(Counter.wait_for, gate))
    gate.set()
    wait_until(lambda: kernel.late_replies == 1)


def test_a_death_after_the_timeout_is_no_late_answer(kernel: Kernel) -> None:
    ref = spawn(kernel)
    with pytest.raises(CallTimeout):
        ref.within(0.01).call(Counter.late)
    ref.cast(Counter.crash, BOOM)
    ref.down().get(5)
    assert kernel.late_replies == 0


def test_an_answer_in_time_is_not_counted(kernel: Kernel) -> None:
    ref = spawn(kernel)
    Background(ref.call, Counter.add, 1).value()
    assert kernel.late_replies == 0
