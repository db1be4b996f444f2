"""The dynamic supervisor: many children of any kind, known by their refs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from supervisors.backoff import Backoff
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import AlreadyStarted, MaxChildren, NotFound, SpecError, StartFailed
from supervisors.exits import Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import BRUTAL_KILL
from supervisors.testing import Log
from tests.supervisors.workers import BOOM, CRASH, TEMPORARY, TRANSIENT, Script, Worker, end, gone, spec


def dynamic(kernel: Kernel, **options: Any) -> Ref[DynamicSupervisor]:
    ref = kernel.spawn(DynamicSupervisor, **options)
    assert isinstance(ref, Ref)
    return ref


def add(sup: Ref[DynamicSupervisor], label: str = "a", /, log: Log | None = None, **fields: Any) -> Ref[Worker]:
    return sup.call(DynamicSupervisor.start_child, spec(label, log if log is not None else Log(), **fields))


def refs(sup: Ref[DynamicSupervisor]) -> list[Any]:
    return [line.ref for line in sup.call(DynamicSupervisor.which_children)]


def test_one_spec_may_start_many_children(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    one = spec("a", Log())
    started = [sup.call(DynamicSupervisor.start_child, one) for _ in range(3)]

    assert refs(sup) == started
    assert sup.call(DynamicSupervisor.count_children) == (3, 3, 0, 3)


@pytest.mark.parametrize("limit", [0, 2])
def test_no_more_than_max_children_are_started(kernel: Kernel, limit: int) -> None:
    sup = dynamic(kernel, max_children=limit)
    for _ in range(limit):
        add(sup)
    with pytest.raises(MaxChildren) as caught:
        add(sup)

    assert caught.value.limit == limit


def test_a_child_that_ended_makes_room(kernel: Kernel) -> None:
    sup = dynamic(kernel, max_children=1)
    end(add(sup, restart=TEMPORARY), Normal())

    assert add(sup).is_alive()


@pytest.mark.parametrize("bad", [-1, True, 1.5, "3"])
def test_a_bad_max_children_is_refused(kernel: Kernel, bad: Any) -> None:
    with pytest.raises(StartFailed) as caught:
        dynamic(kernel, max_children=bad)

    assert isinstance(caught.value.cause, SpecError)


def test_a_start_that_fails_leaves_nothing(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    with pytest.raises(StartFailed) as caught:
        add(sup, script=Script(BOOM))

    assert (caught.value.cause, refs(sup)) == (BOOM, [])


def test_a_child_that_ignores_is_not_kept(kernel: Kernel) -> None:
    sup = dynamic(kernel)

    assert add(sup, script=Script(IGNORE)) is IGNORE
    assert refs(sup) == []


def test_a_taken_name_tells_who_has_it(kernel: Kernel) -> None:
    name = Registry().via("n")
    sup = dynamic(kernel)
    first = add(sup, name=name)
    with pytest.raises(AlreadyStarted) as caught:
        add(sup, name=name)

    assert caught.value.ref is first


def test_extra_arguments_go_first(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel, extra_arguments=["extra"])
    ref = sup.call(DynamicSupervisor.start_child, spec("a", log).override(args=(log,)))
    end(ref)
    refs(sup)

    assert log == ["+extra", "xextra", "+extra"]


def test_a_crashed_child_is_restarted_under_a_new_ref(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    old = add(sup)
    end(old)
    (new,) = refs(sup)

    assert (new is not old, new.call(Worker.hello)) == (True, "a")


@pytest.mark.parametrize(("restart", "exit"), [(TEMPORARY, CRASH), (TRANSIENT, Normal()), (TRANSIENT, Shutdown())])
def test_a_child_that_is_gone_for_good_is_forgotten(kernel: Kernel, restart: Any, exit: Any) -> None:
    sup = dynamic(kernel)
    end(add(sup, restart=restart), exit)

    assert refs(sup) == []


def test_a_restart_that_ignores_forgets_the_child(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    end(add(sup, script=Script(None, IGNORE)))

    assert refs(sup) == []


def test_terminate_child_stops_and_forgets_without_a_restart(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel, max_restarts=0)
    ref = add(sup, log=log)
    sup.call(DynamicSupervisor.terminate_child, ref)

    assert (refs(sup), log.events) == ([], ["+a", "-a"])


def test_a_ref_that_is_gone_is_not_found(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    ref = add(sup)
    sup.call(DynamicSupervisor.terminate_child, ref)

    with pytest.raises(NotFound):
        sup.call(DynamicSupervisor.terminate_child, ref)


def test_one_restart_too_many_ends_it(kernel: Kernel) -> None:
    sup = dynamic(kernel, max_restarts=1)
    other = add(sup, "other")
    for _ in range(2):
        ref = next(each for each in [*refs(sup), add(sup)] if each is not other)
        end(ref)

    assert (gone(sup), gone(other)) == (Shutdown("max_restarts"), Shutdown())


def test_a_waiting_child_takes_room_and_is_known_by_its_old_ref(still: Kernel, clock: ManualClock) -> None:
    sup = dynamic(still, max_children=1)
    ref = add(sup, script=Script(None, BOOM), backoff=Backoff(base=1.0))
    end(ref)
    waiting = refs(sup)
    with pytest.raises(MaxChildren):
        add(sup)
    sup.call(DynamicSupervisor.terminate_child, ref)

    assert (waiting, refs(sup)) == (["waiting"], [])


def test_a_waiting_child_comes_back(still: Kernel, clock: ManualClock) -> None:
    sup = dynamic(still)
    end(add(sup, script=Script(None, BOOM, None), backoff=Backoff(base=1.0, jitter=0.0)))
    refs(sup)
    clock.advance(1.0)

    assert isinstance(refs(sup)[0], Ref)


def test_children_stop_all_at_once(kernel: Kernel) -> None:
    """Each waits for the other in its terminate; stopped one after the other, they would have to be fenced."""
    barrier = threading.Barrier(3, timeout=5)

    class Meeting(Worker):
        def terminate(self, exit: object) -> None:
            barrier.wait()
            self.log.add("met")

    log = Log()
    sup = dynamic(kernel)
    for _ in range(3):
        add(sup, log=log, cls=Meeting)
    end(sup, Shutdown())

    assert log.events[3:] == ["met"] * 3


def test_each_child_has_its_own_time_to_stop(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    let_go = threading.Event()
    sup = dynamic(still)
    stuck = [add(sup, log=log, shutdown=seconds) for seconds in (1e9, 1.0, BRUTAL_KILL)]
    for ref in stuck:
        began = threading.Event()
        ref.cast(Worker.hang, let_go, began)
        began.wait(5)
    sup.exit(Shutdown())
    gone(stuck[2])
    while stuck[1].is_alive():  # the wait may begin after an advance
        clock.advance(1.0)
    still_there = stuck[0].is_alive()
    while stuck[0].is_alive():
        clock.advance(1e9)

    assert (still_there, gone(stuck[0]), gone(sup)) == (True, Killed(), Shutdown())
    let_go.set()


def test_an_unknown_message_is_ignored(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    sup.tell("what is this?")

    assert refs(sup) == []
