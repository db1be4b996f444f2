"""Section Z: significant children."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.dynamic import DynamicSupervisor
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import AutoShutdown, ChildSpec, Restart
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import (
    ALL,
    ONE,
    REST,
    TEMPORARY,
    TRANSIENT,
    alive,
    child,
    end_child,
    ended_by,
    finish,
    fresh,
    letters,
    spec,
    states,
    supervise,
)
from tests.conformance.words import down, recorded

NEVER, ANY, EVERY = AutoShutdown.NEVER, AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


def significant(kernel: Kernel, log: Log, mode: AutoShutdown, restart: Restart = TRANSIENT) -> Ref[Supervisor]:
    """Significant a and s, and z, which is not."""
    children = [spec(name, log, significant=True, restart=restart) for name in "as"]
    return fresh(kernel, log, [*children, spec("z", log, restart=TEMPORARY)], auto_shutdown=mode)


def outcome(sup: Ref[Supervisor], log: Log) -> dict[str, Any]:
    """As recorded: how it ended and what was logged, or who is there."""
    if alive(sup):
        return {"exit": "alive", "states": states(sup), "log": log.events}
    return {"exit": down(sup), "log": log.events}


def after(kernel: Kernel, mode: AutoShutdown, restart: Restart, who: str, how: str) -> dict[str, Any]:
    """What comes of that child's end."""
    log = Log()
    sup = significant(kernel, log, mode, restart)
    end_child(sup, who, how)
    return outcome(sup, log)


@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown done"])
def test_z01_the_clean_end_of_a_significant_transient_child_ends_all(kernel: Kernel, how: str) -> None:
    assert after(kernel, ANY, TRANSIENT, "a", how) == recorded("Z01")[how]


def test_z02_its_crash_is_a_restart_as_any(kernel: Kernel) -> None:
    assert after(kernel, ANY, TRANSIENT, "a", "crash") == recorded("Z02")


@pytest.mark.parametrize("how", ["normal", "shutdown", "crash"])
def test_z03_any_end_of_a_significant_temporary_child_ends_all(kernel: Kernel, how: str) -> None:
    assert after(kernel, ANY, TEMPORARY, "a", how) == recorded("Z03")[how]


@pytest.mark.parametrize("mode", [ANY, EVERY])
def test_z04_the_end_of_another_child_does_not_matter(kernel: Kernel, mode: AutoShutdown) -> None:
    assert after(kernel, mode, TRANSIENT, "z", "normal") == recorded("Z04")[mode.value]


def test_z05_a_significant_child_stopped_by_hand_ends_nobody(kernel: Kernel) -> None:
    log = Log()
    sup = significant(kernel, log, ANY)
    sup.call(Supervisor.terminate_child, "a")

    assert outcome(sup, log) == recorded("Z05")


def test_z06_all_significant_waits_for_the_last(kernel: Kernel) -> None:
    log = Log()
    sup = significant(kernel, log, EVERY)
    end_child(sup, "a", "normal")
    first = outcome(sup, log)
    end_child(sup, "s", "normal")

    assert (first, down(sup)) == (recorded("Z06")["first"], recorded("Z06")["last"])


def test_z06_one_that_was_stopped_by_hand_is_not_waited_for(kernel: Kernel) -> None:
    sup = significant(kernel, Log(), EVERY)
    sup.call(Supervisor.terminate_child, "a")
    end_child(sup, "s", "normal")

    assert down(sup) == recorded("Z06")["last_after_api_stop"]


@pytest.mark.parametrize("strategy", [ALL, REST])
def test_z07_a_significant_bystander_ends_nobody(kernel: Kernel, strategy: Any) -> None:
    log = Log()
    children = [spec("a", log), spec("s", log, significant=True, restart=TEMPORARY)]
    sup = fresh(kernel, log, children, strategy, auto_shutdown=ANY)
    end_child(sup, "a")

    assert outcome(sup, log) == recorded("Z07")


@pytest.mark.parametrize("kind", ["significant", "other"])
def test_z08_an_auto_shutdown_climbs_through_significant_supervisors(kernel: Kernel, kind: str) -> None:
    leaf = spec("x", Log(), significant=True, restart=TEMPORARY)
    options = {"strategy": ONE, "auto_shutdown": ANY}
    made = ChildSpec("inner", Supervisor, ([leaf],), options, restart=TEMPORARY, significant=kind == "significant")
    sup = supervise(kernel, [made, *letters("a", Log())], auto_shutdown=ANY)
    ended = ended_by(child(sup, "inner"), "x", "normal")

    assert {"inner": ended, "outer": "alive" if alive(sup) else down(sup)} == recorded("Z08")[kind]


@pytest.mark.parametrize("mode", [ANY, EVERY])
def test_z09_a_dynamic_supervisor_ends_with_the_first_or_with_the_last_of_its_children(
    kernel: Kernel, mode: AutoShutdown
) -> None:
    log = Log()
    sup = kernel.spawn(DynamicSupervisor, auto_shutdown=mode)
    made = [spec(name, log, significant=True, restart=TEMPORARY) for name in "ab"]
    a, b = [sup.call(DynamicSupervisor.start_child, each) for each in made]
    log.clear()
    finish(a, "normal")
    after_one = alive(sup)
    if after_one:
        finish(b, "normal")

    assert {"after_one": after_one, "exit": down(sup), "log": log.events} == recorded("Z09")[mode.value]
