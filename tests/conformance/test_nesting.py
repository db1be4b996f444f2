"""Section N: supervisors under supervisors."""

from __future__ import annotations

import pytest

from supervisors.errors import StartFailed
from supervisors.kernel import Kernel
from supervisors.spec import ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import (
    ALL,
    ONE,
    Script,
    child,
    end_child,
    ended_by,
    finish,
    fresh,
    ids,
    letters,
    spec,
    states,
    supervise,
    tree_spec,
)
from tests.conformance.words import BOOM, down, recorded


def test_n01_a_supervisor_comes_back_with_the_children_it_began_with(kernel: Kernel) -> None:
    log = Log()
    outer = supervise(kernel, [tree_spec("inner", letters("xy", log))])
    inner = child(outer, "inner")
    inner.call(Supervisor.start_child, spec("added", log))
    log.clear()
    ended = ended_by(inner, "x")

    assert {"inner": ended, "ids": ids(child(outer, "inner")), "log": log.events} == recorded("N01")


def test_n02_giving_up_climbs_and_is_a_shutdown_at_every_level(kernel: Kernel) -> None:
    log = Log()
    outer = fresh(kernel, log, [tree_spec("inner", letters("x", log)), spec("z", log)], max_restarts=0)
    end_child(child(outer, "inner"), "x")

    assert {"exit": down(outer), "log": log.events} == recorded("N02")


def test_n03_a_group_restart_brings_back_also_what_was_stopped_by_hand_below(kernel: Kernel) -> None:
    log = Log()
    outer = supervise(kernel, [tree_spec("inner", letters("x", log)), tree_spec("inner2", letters("yz", log))], ALL)
    child(outer, "inner2").call(Supervisor.terminate_child, "y")
    log.clear()
    finish(child(outer, "inner"), "killed")
    inner, inner2 = child(outer, "inner"), child(outer, "inner2")

    assert {"log": log.events, "inner": states(inner), "inner2": states(inner2)} == recorded("N03")


def test_n04_a_failing_tree_names_the_child_at_every_level(kernel: Kernel) -> None:
    leaf = spec("leaf", Log(), script=Script(BOOM))
    middle = ChildSpec("mid", Supervisor, ([leaf],), {"strategy": ONE})
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, [middle])
    error: BaseException | None = caught.value
    path = []
    while isinstance(error, StartFailed):
        path.append(error.id)
        error = error.__cause__

    assert (path[1:], error) == (recorded("N04")[:2], BOOM)
