"""Section Y: dynamic supervisors."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.cell import IGNORE
from supervisors.children import published
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import SpecError, StartFailed
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.testing import Log
from tests.conformance.actors import (
    ALL,
    Gate,
    Script,
    SlowEnd,
    Worker,
    alive,
    api,
    child,
    counts,
    finish,
    spec,
    supervise,
)
from tests.conformance.words import BOOM, down, recorded

START, TERMINATE = DynamicSupervisor.start_child, DynamicSupervisor.terminate_child


def dynamic(kernel: Kernel, **options: Any) -> Ref[DynamicSupervisor]:
    return kernel.spawn(DynamicSupervisor, **options)


def refs(sup: Ref[Any]) -> list[Any]:
    return [line.ref for line in sup.call(sup.actor_class.which_children)]


def test_y01_a_dynamic_supervisor_has_one_strategy(kernel: Kernel) -> None:
    assert recorded("Y01") == "invalid_strategy"
    with pytest.raises(StartFailed, match="strategy"):
        dynamic(kernel, strategy=ALL)


def test_y02_an_id_may_be_there_twice(kernel: Kernel) -> None:
    sup = dynamic(kernel)

    assert [api(sup, START, spec("a", Log())) for _ in range(2)] == recorded("Y02")["answers"]


def test_y03_max_children_is_a_limit(kernel: Kernel) -> None:
    sup = dynamic(kernel, max_children=1)
    seen = {
        "first": api(sup, START, spec("a", Log())),
        "second": api(sup, START, spec("b", Log())),
        "none": api(dynamic(kernel, max_children=0), START, spec("c", Log())),
        "counts": counts(sup),
    }

    assert seen == recorded("Y03")


def garbage(kernel: Kernel) -> object:
    return 42


STARTS: dict[str, ChildSpec] = {
    "ignore": spec("a", Log(), script=Script(IGNORE)),
    "stop": spec("a", Log(), script=Script(SystemExit(1))),
    "raise": spec("a", Log(), script=Script(BOOM)),
    "garbage": ChildSpec("a", garbage),
}


@pytest.mark.parametrize("how", STARTS)
def test_y04_a_start_that_gives_no_child_leaves_nothing(kernel: Kernel, how: str) -> None:
    sup = dynamic(kernel)
    answered, otp = api(sup, START, STARTS[how]), recorded("Y04")[how]

    assert (answered == "ignore") is (otp["answer"] == "ignore")
    assert (answered in ("ignore", "start_failed"), counts(sup)) == (True, otp["counts"])


def test_y05_an_invalid_spec_is_refused_before_anybody_is_asked() -> None:
    assert recorded("Y05") == "error"
    with pytest.raises(SpecError):
        ChildSpec("a", "no start")  # type: ignore[arg-type]


def test_y06_extra_arguments_come_first_also_at_a_restart(kernel: Kernel) -> None:
    log = Log()

    def start(kernel: Kernel, *args: Any) -> Ref[Any]:
        log.add(list(args))
        return kernel.spawn(Worker, "a", Log())

    sup = dynamic(kernel, extra_arguments=["extra"])
    finish(sup.call(START, ChildSpec("a", start, ("own",))))
    alive(sup)

    assert log == recorded("Y06")


def test_y07_terminate_child_is_no_restart_and_the_child_is_forgotten(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel, max_restarts=0)
    ref = sup.call(START, spec("a", log))
    seen = {"first": api(sup, TERMINATE, ref), "again": api(sup, TERMINATE, ref), "counts": counts(sup)}

    assert seen | {"log": log.events} == recorded("Y07")


def test_y08_the_defaults_are_three_in_five_seconds_and_no_limit(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    children = published(sup)
    assert children is not None
    facts = children.facts()
    for _ in range(50):
        sup.call(START, spec("a", Log()))

    limits = {"intensity": facts["max_restarts"], "period": facts["max_seconds"], "max_children": "infinity"}
    assert limits == recorded("Y08")


def test_y09_one_restart_too_many_ends_all(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel, max_restarts=2)
    sup.call(START, spec("z", log))
    sup.call(START, spec("a", log))
    log.clear()
    survived = []
    for _ in range(3):
        a = refs(sup)[-1]
        finish(a)
        survived.append(alive(sup))

    assert {"alive": survived, "exit": down(sup), "log": log.events} == recorded("Y09")


def test_y10_a_restart_that_ignores_removes_the_child(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel)
    finish(sup.call(START, spec("a", log, script=Script(None, IGNORE))))

    assert {"counts": counts(sup), "log": log.events} == recorded("Y10")


def test_y11_the_children_stop_together(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    sup = dynamic(kernel)
    for name in "abc":
        sup.call(START, spec(name, log, SlowEnd, gate=gate))
    log.clear()
    sup.exit(Shutdown())
    for name in "abc":
        log.wait_for(f"<{name}")
    gate.open()

    assert (down(sup), [event[0] for event in log.events]) == ("shutdown", recorded("Y11"))


def test_y12_an_unknown_message_is_ignored(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    sup.call(START, spec("a", Log()))
    sup.tell("what is this")

    assert counts(sup) == recorded("Y12")


def test_y13_after_its_own_restart_it_is_empty(kernel: Kernel) -> None:
    outer = supervise(kernel, [DynamicSupervisor])
    inner = child(outer, "DynamicSupervisor")
    inner.call(START, spec("a", Log()))
    finish(inner, "killed")

    assert counts(child(outer, "DynamicSupervisor")) == recorded("Y13")
