"""Section L: a restart that fails is tried again."""

from __future__ import annotations

import pytest

from supervisors.backoff import Backoff
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.conformance.actors import (
    ONE,
    PLENTY,
    REST,
    Script,
    alive,
    api,
    busy,
    child,
    counts,
    end_child,
    finish,
    fresh,
    spec,
    states,
)
from tests.conformance.words import BOOM, down, recorded


def looping(kernel: Kernel, log: Log, around: str = "b", strategy: Strategy = ONE) -> Ref[Supervisor]:
    """A supervisor whose child b crashed and does not come up again."""
    children = [spec(name, log, script=Script(None, BOOM) if name == "b" else None) for name in around]
    sup = fresh(kernel, log, children, strategy, PLENTY)
    end_child(sup, "b")
    return sup


def test_l01_a_child_that_does_not_come_up_is_restarting_and_its_supervisor_answers(kernel: Kernel) -> None:
    sup = looping(kernel, Log(), "ab")
    assert {"states": states(sup), "alive": alive(sup)} == recorded("L01")


def test_l02_a_restarting_child_is_listed_and_counted_but_not_active(kernel: Kernel) -> None:
    assert counts(looping(kernel, Log(), "ab")) == recorded("L02")


def test_l03_its_id_is_already_present(kernel: Kernel) -> None:
    assert api(looping(kernel, Log()), Supervisor.start_child, spec("b", Log())) == recorded("L03")


def test_l04_it_can_be_neither_restarted_nor_deleted_by_hand(kernel: Kernel) -> None:
    sup = looping(kernel, Log())
    answers = {"restart": api(sup, Supervisor.restart_child, "b"), "delete": api(sup, Supervisor.delete_child, "b")}

    assert answers == recorded("L04")


def test_l05_terminate_child_ends_the_attempts(kernel: Kernel) -> None:
    log = Log()
    sup = looping(kernel, log)
    answered = api(sup, Supervisor.terminate_child, "b")
    log.clear()
    seen = [states(sup) for _ in range(20)][-1]

    assert {"answer": answered, "states": seen, "later": log.events} == recorded("L05")


def test_l05_an_attempt_that_was_overtaken_is_not_made(still: Kernel, clock: ManualClock) -> None:
    log, script = Log(), Script(None, BOOM)
    waits = spec("b", log, script=script, backoff=Backoff(base=1.0, jitter=0.0))
    sup = fresh(still, log, [spec("a", log), waits], REST, PLENTY)
    a = child(sup, "a")
    end_child(sup, "b")
    with busy(sup):  # its next attempt is due, but before that comes the end of a, which begins the wait anew
        finish(a)
        clock.advance(1.0)

    assert (states(sup), script.starts) == ({"a": "running", "b": "waiting"}, 3)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_l06_a_supervisor_stops_in_the_middle_of_the_attempts(kernel: Kernel, strategy: Strategy) -> None:
    sup = looping(kernel, Log(), "abc", strategy)
    sup.exit(Shutdown())

    assert down(sup) == "shutdown"


def test_l07_those_behind_it_wait_and_those_before_it_run(kernel: Kernel) -> None:
    assert states(looping(kernel, Log(), "abc", REST)) == recorded("L07")


@pytest.mark.parametrize("limit", ["2", "3"])
def test_l08_every_attempt_before_the_one_that_succeeds_counts(kernel: Kernel, limit: str) -> None:
    log = Log()
    made = spec("a", log, script=Script(None, BOOM, BOOM, None))
    sup = fresh(kernel, log, [made], max_restarts=int(limit))
    end_child(sup, "a")
    wait_until(lambda: not sup.is_alive() or "+a" in log.events)

    assert {"alive": alive(sup), "log": log.events} == recorded("L08")[limit]


def test_l09_a_dynamic_child_that_is_restarting_takes_its_place_and_ends_by_its_old_ref(kernel: Kernel) -> None:
    sup = kernel.spawn(DynamicSupervisor, max_children=1, max_restarts=PLENTY)
    assert isinstance(sup, Ref)
    ref = sup.call(DynamicSupervisor.start_child, spec("a", Log(), script=Script(None, BOOM)))
    finish(ref)
    seen = {
        "states": list(states(sup).values()),
        "full": api(sup, DynamicSupervisor.start_child, spec("b", Log())),
        "terminate": api(sup, DynamicSupervisor.terminate_child, ref),
        "counts": counts(sup),
    }

    assert seen == recorded("L09")
