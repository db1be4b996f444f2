"""A name whose holder has just died and is started again: who is waited for, how long, and who is not."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from supervisors.backoff import Backoff
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied
from supervisors.exits import Exit, NoProc, Normal
from supervisors.kernel import Kernel
from supervisors.partition import PartitionSupervisor
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from supervisors.via import Via
from tests.supervisors.actors import Background
from tests.supervisors.parking import parked
from tests.supervisors.workers import (
    ALL,
    BOOM,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    InlineWorker,
    LoopWorker,
    OwnThreadWorker,
    Script,
    Worker,
    end,
    ids,
    spec,
    supervise,
)

kinds = pytest.mark.parametrize("cls", [Worker, InlineWorker, LoopWorker, OwnThreadWorker])
ways = pytest.mark.parametrize("awaiting", [False, True])


@pytest.fixture
def registry() -> Registry:
    return Registry()


@contextmanager
def deaf(sup: Ref[Supervisor]) -> Iterator[None]:
    """While the block runs the supervisor is at the start of another child and restarts nobody."""
    go, began = threading.Event(), threading.Event()

    def start(_: Kernel) -> Any:
        began.set()
        go.wait(10)
        return IGNORE

    starting = sup.send_request(Supervisor.start_child, ChildSpec("slow", start))
    assert began.wait(5)
    try:
        yield
    finally:
        go.set()
        starting.get(5)


def ask(name: Via, awaiting: bool = False) -> str:
    said: str = asyncio.run(name.acall(Worker.hello)) if awaiting else name.call(Worker.hello)
    return said


def crash(name: Via) -> None:
    """Have its holder crash, and hear of it."""
    with pytest.raises(ActorDied) as caught:
        name.call(Worker.fail, BOOM)
    assert caught.value.maybe_handled


def waiting_for(registry: Registry, name: Via, awaiting: bool = False) -> Background:
    """A call that waits for a successor."""
    call = Background(ask, name, awaiting)
    for _ in range(5000):
        if registry._arrivals or not call.thread.is_alive():
            break
        threading.Event().wait(0.001)
    return call


def has_begun_to_wait(thread: threading.Thread) -> bool:
    """Whether it waits by a `ManualClock`, and knows until when: what is advanced from now on counts."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code is not ManualClock.wait.__code__:
        frame = frame.f_back
    return frame is not None and "until" in frame.f_locals


def refused(name: Via) -> ActorDied:
    """How a call to it is refused that waits for nothing; where time stands still."""
    with pytest.raises(ActorDied) as caught:
        Background(ask, name).value(3)
    return caught.value


# who is waited for


@kinds
@ways
def test_a_call_after_the_word_of_the_death_reaches_the_successor(
    kernel: Kernel, registry: Registry, cls: type[Worker], awaiting: bool
) -> None:
    name = registry.via("x")
    sup = supervise(kernel, [spec("a", Log(), cls, name=name)])
    with deaf(sup):
        crash(name)
        assert name.whereis() is None
        call = waiting_for(registry, name, awaiting)
    assert call.value() == "a"


def test_a_call_to_one_who_is_dead_and_has_not_yet_given_up_its_name_reaches_the_successor(
    kernel: Kernel, registry: Registry
) -> None:
    name = registry.via("x")
    supervise(kernel, [spec("a", Log(), name=name)])
    ref = name.whereis()
    assert ref is not None
    with parked("finish:dead", ref.mailbox) as gate:
        name.cast(Worker.fail, BOOM)
        gate.reached()
        call = waiting_for(registry, name)
        gate.open()
        assert call.value() == "a"


def test_the_successor_of_a_restart_that_failed_is_waited_for(
    still: Kernel, clock: ManualClock, registry: Registry
) -> None:
    name = registry.via("x")
    again = {"script": Script(None, BOOM, None), "backoff": Backoff(base=0.5, jitter=0.0)}
    sup = supervise(still, [spec("a", Log(), name=name, **again)])
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert sup.call(Supervisor.which_child, "a").ref == "waiting"
    call = waiting_for(registry, name)
    clock.advance(0.5)
    assert call.value() == "a"


def test_a_name_that_was_taken_in_init_is_waited_for(kernel: Kernel, registry: Registry) -> None:
    class Named(Worker):
        def init(self, *args: Any) -> Any:
            registry.register("x", self.ref)
            return super().init(*args)

    sup = supervise(kernel, [spec("a", Log(), Named)])
    name = registry.via("x")
    with deaf(sup):
        crash(name)
        call = waiting_for(registry, name)
    assert call.value() == "a"


def test_a_partition_that_has_just_died_is_waited_for(kernel: Kernel) -> None:
    child = ChildSpec("a", Worker, ("a", Log()))
    sup = kernel.spawn(PartitionSupervisor, child, partitions=2)
    name = PartitionSupervisor.via(sup, 1)
    routes: Any = sup.mailbox.actor._routes
    with deaf(sup):
        crash(name)
        call = waiting_for(routes, name)
    assert call.value() == "a"


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT])
def test_one_who_is_stopped_with_its_group_is_waited_for(kernel: Kernel, registry: Registry, restart: Any) -> None:
    began, go = threading.Event(), threading.Event()

    class Slow(Worker):
        def init(self, label: str, log: Log, script: Script | None = None) -> Any:
            if log.events:  # not the first time
                began.set()
                go.wait(10)
            return super().init(label, log, script)

    name = registry.via("b")
    group = [spec("a", Log(), Slow), spec("b", Log(), name=name, restart=restart)]
    sup = supervise(kernel, group, ALL)
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert began.wait(5)
    assert name.whereis() is None
    call = waiting_for(registry, name)
    go.set()
    assert call.value() == "b"


# how long


def test_a_successor_that_does_not_come_is_waited_for_a_second(
    still: Kernel, clock: ManualClock, registry: Registry
) -> None:
    name = registry.via("x")
    sup = supervise(still, [spec("a", Log(), name=name)])
    with deaf(sup):
        crash(name)
        call = waiting_for(registry, name)
        wait_until(lambda: has_begun_to_wait(call.thread))
        clock.advance(0.9)
        assert not call.ended(0.05)
        clock.advance(0.1)
        with pytest.raises(ActorDied) as caught:
            call.value()
    assert not caught.value.maybe_handled


def test_a_second_after_the_death_a_call_is_refused_at_once(
    still: Kernel, clock: ManualClock, registry: Registry
) -> None:
    name = registry.via("x")
    sup = supervise(still, [spec("a", Log(), name=name)])
    with deaf(sup):
        crash(name)
        clock.advance(1.0)
        assert refused(name).exit == NoProc()


def test_names_to_which_nobody_comes_back_are_forgotten(still: Kernel, clock: ManualClock, registry: Registry) -> None:
    for n in range(10):
        name = registry.via(n)
        supervise(still, [spec("a", Log(), name=name)], max_restarts=0)
        crash(name)
        clock.advance(1.0)
    assert len(registry._missed) == 1


# who is not waited for


@pytest.mark.parametrize("restart", [TEMPORARY, TRANSIENT])
def test_nobody_waits_for_one_who_is_not_started_again(still: Kernel, registry: Registry, restart: Any) -> None:
    name = registry.via("x")
    supervise(still, [spec("a", Log(), name=name, restart=restart)])
    ref = name.whereis()
    assert ref is not None
    if restart is TEMPORARY:
        crash(name)
    else:
        end(ref, Normal())
    assert refused(name).exit == NoProc()


def test_nobody_waits_for_one_who_has_no_supervisor(still: Kernel, registry: Registry) -> None:
    name = registry.via("x")
    still.spawn(Worker, "a", Log(), name=name)
    crash(name)
    assert refused(name).exit == NoProc()


def test_nobody_waits_for_one_whom_its_supervisor_has_stopped(still: Kernel, registry: Registry) -> None:
    name = registry.via("x")
    sup = supervise(still, [spec("a", Log(), name=name)])
    sup.call(Supervisor.terminate_child, "a")
    assert refused(name).exit == NoProc()


def test_nobody_waits_for_one_who_gave_up_its_name(still: Kernel, registry: Registry) -> None:
    name = registry.via("x")
    supervise(still, [spec("a", Log(), name=name)])
    ref = name.whereis()
    assert ref is not None
    registry.unregister("x", ref)
    assert refused(name).exit == NoProc()


def test_nobody_waits_for_one_whose_restart_came_to_nothing(still: Kernel, registry: Registry) -> None:
    name = registry.via("x")
    sup = supervise(still, [spec("a", Log(), name=name, script=Script(None, IGNORE))])
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert sup.call(Supervisor.which_child, "a").ref is None
    assert refused(name).exit == NoProc()


def test_nobody_waits_after_the_end_of_the_system(registry: Registry) -> None:
    kernel, name = Kernel(clock=ManualClock()), registry.via("x")
    again = {"script": Script(None, BOOM), "backoff": Backoff(base=0.5, jitter=0.0)}
    sup = supervise(kernel, [spec("a", Log(), name=name, **again)])
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert sup.call(Supervisor.which_child, "a").ref == "waiting"
    assert registry.missed("x") is not None
    kernel.close(2.0)
    assert refused(name).exit == NoProc()


def test_a_cast_and_a_request_do_not_wait(still: Kernel, registry: Registry) -> None:
    name, log = registry.via("x"), Log()
    sup = supervise(still, [spec("a", log, name=name)])
    with deaf(sup):
        crash(name)
        name.cast(Worker.fail, BOOM)
        with pytest.raises(ActorDied) as caught:
            name.send_request(Worker.hello).get(0)
    assert (caught.value.exit, ask(name), log.events) == (NoProc(), "a", ["+a", "xa", "+a"])


def test_nobody_waits_for_a_temporary_one_who_is_stopped_with_its_group(still: Kernel, registry: Registry) -> None:
    name = registry.via("b")
    sup = supervise(still, [spec("a", Log()), spec("b", Log(), name=name, restart=TEMPORARY)], ALL)
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert ids(sup) == ["a"]
    assert refused(name).exit == NoProc()


@pytest.mark.parametrize("place", ["init", "terminate"])
def test_who_holds_up_a_restart_does_not_wait_for_what_comes_of_it(
    still: Kernel, registry: Registry, place: str
) -> None:
    a, b, told = registry.via("a"), registry.via("b"), []

    def note(name: Via) -> None:
        try:
            told.append(name.call(Worker.hello))
        except ActorDied as died:
            told.append(died.exit)

    class First(Worker):
        def init(self, label: str, log: Log, script: Script | None = None) -> Any:
            if place == "init" and log.events:  # not the first time
                note(b)
            return super().init(label, log, script)

    class Second(Worker):
        def terminate(self, exit: Exit) -> None:
            if place == "terminate" and not told:
                note(a)

    sup = supervise(still, [spec("a", Log(), First, name=a), spec("b", Log(), Second, name=b)], ALL)
    end(sup.call(Supervisor.which_child, "a").ref)  # type: ignore[arg-type]  # it runs
    assert (ids(sup), told) == (["a", "b"], [NoProc()])


def test_a_supervisor_does_not_wait_for_a_successor_that_it_is_to_start_itself(
    still: Kernel, registry: Registry
) -> None:
    name = registry.via("x")

    class Asking(Supervisor):
        def ask(self) -> Exit:
            crash(name)
            with pytest.raises(ActorDied) as caught:
                name.call(Worker.hello)
            return caught.value.exit

    sup = still.spawn(Asking, [spec("a", Log(), name=name)], strategy=Strategy.ONE_FOR_ONE)
    assert Background(sup.call, Asking.ask).value(3) == NoProc()
    assert ask(name) == "a"


def test_an_init_waits_for_one_who_has_another_supervisor(kernel: Kernel, registry: Registry) -> None:
    name = registry.via("x")
    sup = supervise(kernel, [spec("a", Log(), name=name)])

    class Asking(Worker):
        def init(self, label: str, log: Log, script: Script | None = None) -> Any:
            log.add(ask(name))
            return super().init(label, log, script)

    log = Log()
    with deaf(sup):
        crash(name)
        starting = Background(supervise, kernel, [spec("b", log, Asking)])
        for _ in range(5000):
            if registry._arrivals or not starting.thread.is_alive():
                break
            threading.Event().wait(0.001)
    starting.value()
    assert log.events == ["a", "+b"]
