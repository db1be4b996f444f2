"""Section R: which exit restarts which child."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisors.cell import IGNORE
from supervisors.errors import ActorDied
from supervisors.exits import NoProc
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, Restart
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import (
    KINDS,
    STRATEGIES,
    TEMPORARY,
    TRANSIENT,
    Script,
    Worker,
    alive,
    api,
    child,
    end_child,
    finish,
    fresh,
    ids,
    spec,
    states,
    stop,
    supervise,
    worker,
)
from tests.conformance.test_start import tells_more
from tests.conformance.words import CRASH, EXITS, down, recorded

ends = pytest.mark.parametrize("restart", list(Restart))
children = pytest.mark.parametrize(
    ("cls", "restart"),
    [*((Worker, restart) for restart in Restart), *((cls, Restart.PERMANENT) for cls in KINDS[1:])],
)


def became(kernel: Kernel, cls: type[Worker], restart: Restart, how: str) -> dict[str, Any]:
    """What became of a child that ended so: restarted, kept or removed; and what was logged."""
    log = Log()
    sup = fresh(kernel, log, [spec("a", log, cls, restart=restart)])
    end_child(sup, "a", how)
    now = states(sup).get("a", "removed")
    return {"became": {"running": "restarted", None: "kept"}.get(now, now), "log": log.events}


@children
def test_r01_after_a_normal_exit(kernel: Kernel, cls: type[Worker], restart: Restart) -> None:
    assert became(kernel, cls, restart, "normal") == recorded("R01")[restart.value]


@children
def test_r02_after_a_shutdown(kernel: Kernel, cls: type[Worker], restart: Restart) -> None:
    assert became(kernel, cls, restart, "shutdown") == recorded("R02")[restart.value]


@children
def test_r03_after_a_shutdown_with_a_detail(kernel: Kernel, cls: type[Worker], restart: Restart) -> None:
    assert became(kernel, cls, restart, "shutdown done") == recorded("R03")[restart.value]


@children
def test_r04_after_a_crash(kernel: Kernel, cls: type[Worker], restart: Restart) -> None:
    assert became(kernel, cls, restart, "crash") == recorded("R04")[restart.value]


@children
def test_r05_after_it_was_killed(kernel: Kernel, cls: type[Worker], restart: Restart) -> None:
    assert became(kernel, cls, restart, "killed") == recorded("R05")[restart.value]


def test_r06_the_restart_after_a_normal_exit_counts(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, [spec("a", log)], max_restarts=0)
    end_child(sup, "a", "normal")

    assert (down(sup), log) == (recorded("R06")["exit"], recorded("R06")["log"])


def test_r07_an_exit_without_a_restart_does_not_count(kernel: Kernel) -> None:
    children = [spec("a", Log(), restart=TRANSIENT), spec("b", Log(), restart=TEMPORARY)]
    sup = supervise(kernel, children, max_restarts=0)
    end_child(sup, "a", "shutdown")
    end_child(sup, "b", "crash")

    assert states(sup) == recorded("R07")


def test_r08_what_the_api_does_is_not_counted(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_restarts=0)
    terminate, restart, delete = Supervisor.terminate_child, Supervisor.restart_child, Supervisor.delete_child
    answers = [api(sup, method, "a") for method in (terminate, restart, terminate, delete)]

    assert {"answers": answers, "alive": alive(sup), "ids": ids(sup)} == recorded("R08")


@pytest.fixture
def written() -> Iterator[list[str]]:
    """The error contexts that structlog was given."""
    found: list[str] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append(fields.get("error_context", fields["event"]))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    yield found
    structlog.reset_defaults()


@pytest.mark.parametrize("how", EXITS)
@ends
def test_r09_a_permanent_childs_end_is_reported_and_anothers_if_not_clean(
    kernel: Kernel, written: list[str], restart: Restart, how: str
) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=restart)])
    end_child(sup, "a", how)
    stop(sup)
    expected = restart is Restart.PERMANENT or how in ("crash", "killed")

    assert written == ["child_terminated"] * expected


class Payload:
    """Something that can be watched for being let go."""


def test_r10_the_arguments_of_a_temporary_child_are_not_kept(kernel: Kernel) -> None:
    class Forgets(Worker):
        def init(self, name: str, log: Log, script: Script | None = None, payload: Payload | None = None) -> Any:
            return super().init(name, log, script)

    payload = Payload()
    gone = weakref.ref(payload)
    made = spec("a", Log(), Forgets, restart=TEMPORARY).override(kwargs={"payload": payload})
    sup = supervise(kernel)
    sup.call(Supervisor.start_child, made)
    del payload, made
    gc.collect()

    assert (gone(), states(sup)) == (None, {"a": "running"})


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_r11_a_temporary_bystander_is_stopped_and_forgotten(kernel: Kernel, strategy: str) -> None:
    log = Log()
    children = [spec("a", log), spec("t", log, restart=TEMPORARY), spec("c", log)]
    sup = fresh(kernel, log, children, STRATEGIES[strategy])
    end_child(sup, "a")

    assert {"ids": ids(sup), "log": log.events} == recorded("R11")[strategy]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_r12_a_finished_and_a_stopped_child_start_again_with_their_group(kernel: Kernel, strategy: str) -> None:
    log = Log()
    children = [spec("a", log), spec("job", log, restart=TRANSIENT), spec("c", log)]
    sup = fresh(kernel, log, children, STRATEGIES[strategy])
    end_child(sup, "job", "normal")
    sup.call(Supervisor.terminate_child, "c")
    end_child(sup, "a")

    assert {"states": states(sup), "log": log.events} == recorded("R12")[strategy]


def test_r13_a_restart_that_ignores_is_no_failure_and_is_not_tried_again(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, [spec("a", log, script=Script(None, IGNORE, None))])
    end_child(sup, "a")
    seen = states(sup)

    assert {"states": seen, "again": api(sup, Supervisor.restart_child, "a"), "log": log.events} == recorded("R13")


def test_r14_a_restart_may_tell_more_than_the_child(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, [ChildSpec("a", tells_more, (log,))])
    sup.call(Supervisor.terminate_child, "a")
    answered: Any = sup.call(Supervisor.restart_child, "a")
    end_child(sup, "a")

    assert {"restart_child": answered[1], "states": states(sup), "log": log.events} == recorded("R14")


def test_r15_word_of_a_stranger_or_of_an_earlier_life_is_ignored(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, [spec("a", log)], max_restarts=1)
    old = child(sup, "a")
    end_child(sup, "a")
    sup.cast(Supervisor.child_ended, old, CRASH)
    sup.cast(Supervisor.child_ended, worker(kernel), CRASH)

    assert {"states": states(sup), "log": log.events} == recorded("R15")


def test_r16_a_new_life_begins_afresh_and_the_old_ref_stays_dead(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    old = child(sup, "a")
    old.call(Worker.bump, 5)
    end_child(sup, "a")
    with pytest.raises(ActorDied) as caught:
        old.call(Worker.hello)

    assert caught.value.exit == NoProc()
    assert child(sup, "a").call(Worker.bump, 1) == recorded("R16")["new"]


def test_r16_what_the_old_life_had_not_handled_is_lost(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log)])
    old = child(sup, "a")
    finish(old)
    old.cast(Worker.note, "lost")
    child(sup, "a").call(Worker.hello)

    assert "lost" not in log.events


def test_r17_the_name_leads_to_the_new_life(kernel: Kernel) -> None:
    name = Registry().via("the name")
    sup = supervise(kernel, [spec("a", Log(), name=name)])
    old = name.whereis()
    end_child(sup, "a")

    assert {"is_new": name.whereis() is not old, "is_child": name.whereis() is child(sup, "a")} == recorded("R17")
