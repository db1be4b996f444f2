"""Section C: child specs and how they are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.cell import IGNORE
from supervisors.children import published
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import NotFound, SpecError, StartFailed
from supervisors.exits import Normal
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import (
    BRUTAL_KILL,
    INFINITY,
    AutoShutdown,
    ChildSpec,
    ChildType,
    Restart,
    check_childspecs,
    child_spec,
)
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import ONE, TEMPORARY, Worker, letters, spec, supervise
from tests.conformance.words import BOOM, recorded


def refused(make: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether it is refused as a spec."""
    try:
        make(*args, **kwargs)
    except SpecError:
        return True
    except StartFailed as failed:
        return isinstance(failed.cause, SpecError | TypeError)
    return False


def as_recorded(row: str, seen: dict[str, bool], part: str | None = None) -> None:
    """What was refused (True) here was refused there, and nothing else."""
    there = recorded(row) if part is None else recorded(row)[part]
    assert seen == {key: there[key] != "ok" for key in seen}


def test_c01_a_spec_of_id_and_start_has_otps_defaults() -> None:
    made, otp = ChildSpec("a", Worker), recorded("C01")
    assert isinstance(made.shutdown, float)
    assert (made.restart.value, made.significant) == (otp["restart"], otp["significant"])
    assert (made.shutdown * 1000, ChildType.WORKER.value) == (otp["shutdown"], otp["type"])


def test_c02_a_supervisor_has_all_the_time_it_needs_to_stop() -> None:
    assert recorded("C02") == {"shutdown": "infinity", "type": "supervisor"}
    assert ChildSpec("a", Supervisor).shutdown == ChildSpec("a", Worker, type=ChildType.SUPERVISOR).shutdown == INFINITY


def test_c03_the_default_limits_are_elixirs(kernel: Kernel) -> None:
    sup = kernel.spawn(Supervisor, strategy=ONE)
    assert isinstance(sup, Ref)
    children = published(sup)
    assert children is not None
    facts = children.facts()

    assert {"intensity": facts["max_restarts"], "period": facts["max_seconds"]} == recorded("C03")


def test_c04_an_id_twice_starts_nothing(kernel: Kernel) -> None:
    log = Log()
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, letters("aa", log))
    assert isinstance(caught.value.cause, SpecError)

    assert (caught.value.cause.field, log) == ("id", recorded("C04")["log"])


def test_c05_a_spec_without_id_or_start_is_refused() -> None:
    assert recorded("C05") == {"id": "missing_id", "start": "missing_start"}
    with pytest.raises(TypeError, match="'start'"):
        ChildSpec("a")  # type: ignore[call-arg]
    with pytest.raises(SpecError, match="id cannot be None"):
        ChildSpec(None, Worker)


def test_c06_only_the_three_restart_types_are_taken() -> None:
    values = {each.value: each for each in Restart} | {"always": "always", "1": 1}
    as_recorded("C06", {key: refused(ChildSpec, "a", Worker, restart=value) for key, value in values.items()})


@pytest.mark.parametrize("type", list(ChildType))
def test_c07_a_shutdown_is_seconds_infinity_or_brutal_kill(type: ChildType) -> None:
    values = {"0": 0, "10": 0.01, "infinity": INFINITY, "brutal_kill": BRUTAL_KILL, "-10": -0.01, "never": "never"}
    seen = {key: refused(ChildSpec, "a", Worker, shutdown=value, type=type) for key, value in values.items()}
    as_recorded("C07", seen, type.value)


def test_c08_a_type_is_worker_or_supervisor() -> None:
    values = {each.value: each for each in ChildType} | {"boss": "boss"}
    as_recorded("C08", {key: refused(ChildSpec, "a", Worker, type=value) for key, value in values.items()})


@pytest.mark.parametrize("start", ["not callable", 42, object])
def test_c09_a_start_that_is_neither_actor_nor_function_is_refused(start: Any) -> None:
    with pytest.raises(SpecError, match=r"^start cannot be"):
        ChildSpec("a", start)


def test_c11_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="silly_flag"):
        ChildSpec("a", Worker, silly_flag=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("child", [42, "a", None, {"id": "a"}])
def test_c12_something_that_is_no_spec_is_refused(kernel: Kernel, child: Any) -> None:
    assert refused(check_childspecs, [child])
    assert refused(supervise, kernel, [child])


def test_c13_significant_needs_an_auto_shutdown(kernel: Kernel) -> None:
    made = spec("a", Log(), significant=True, restart=TEMPORARY)
    modes = {mode.value: mode for mode in AutoShutdown} | {"init": AutoShutdown.NEVER}
    del modes["never"]
    seen = {key: refused(supervise, kernel, [made], auto_shutdown=mode) for key, mode in modes.items()}
    seen["start_child"] = refused(supervise(kernel).call, Supervisor.start_child, made)

    as_recorded("C13", seen)


def test_c14_a_permanent_child_cannot_be_significant() -> None:
    as_recorded("C14", {r.value: refused(ChildSpec, "a", Worker, restart=r, significant=True) for r in Restart})


def test_c15_significant_is_a_bool() -> None:
    values = {"false": False, "1": 1}
    seen = {key: refused(ChildSpec, "a", Worker, significant=v, restart=TEMPORARY) for key, v in values.items()}
    as_recorded("C15", seen)


def test_c16_check_childspecs_says_what_is_wrong_and_starts_nothing() -> None:
    log = Log()
    good = spec("a", log)
    as_recorded(
        "C16",
        {
            "good": refused(check_childspecs, [good]),
            "twice": refused(check_childspecs, [good, good]),
            "bad": refused(lambda: check_childspecs([ChildSpec("a", Worker, restart="always")])),  # type: ignore[arg-type]
            "no_list": refused(check_childspecs, good),
        },
    )
    assert log == recorded("C16")["log"]


def test_c17_bad_options_of_a_supervisor_are_refused(kernel: Kernel) -> None:
    bad: dict[str, dict[str, Any]] = {
        "strategy": {"strategy": "best"},
        "intensity_negative": {"max_restarts": -1},
        "intensity_infinity": {"max_restarts": INFINITY},
        "period_zero": {"max_seconds": 0},
        "period_infinity": {"max_seconds": INFINITY},
        "auto_shutdown": {"auto_shutdown": "sometimes"},
    }
    as_recorded("C17", {key: refused(supervise, kernel, **options) for key, options in bad.items()})


def test_c18_an_unknown_option_of_a_supervisor_is_refused(kernel: Kernel) -> None:
    with pytest.raises(StartFailed, match="silly_flag"):
        supervise(kernel, silly_flag=True)


def test_c19_a_dynamic_supervisor_stands_for_simple_one_for_one(kernel: Kernel) -> None:
    assert "simple_one_for_one" not in [each.value for each in Strategy]
    assert refused(kernel.spawn, DynamicSupervisor, letters("ab", Log()))


def test_c20_an_init_that_gives_something_odd_is_a_failed_start(kernel: Kernel) -> None:
    class Odd(Supervisor):
        def init(self) -> Any:  # type: ignore[override]
            return 42

    assert recorded("C20") == "bad_return"
    with pytest.raises(StartFailed, match="gave int"):
        kernel.spawn(Odd)

    assert kernel.live() == []


def test_c21_an_init_that_raises_fails_the_start_and_ends_the_supervisor(kernel: Kernel) -> None:
    class Raises(Supervisor):
        def init(self) -> None:  # type: ignore[override]
            raise BOOM

    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Raises)

    assert recorded("C21")["answer"] == "error"
    assert (caught.value.cause, kernel.live()) == (BOOM, [])


def test_c22_an_init_that_ignores_starts_no_supervisor_and_ends_it_normally(kernel: Kernel) -> None:
    refs: list[Ref[Any]] = []

    class Ignores(Supervisor):
        def init(self) -> Any:  # type: ignore[override]
            refs.append(self.ref)
            return IGNORE

    assert recorded("C22") == {"answer": "ignore", "exit": "normal"}
    given: Any = kernel.spawn(Ignores)
    assert given is IGNORE
    assert refs[0].down().get(5) == Normal()


def test_c23_get_childspec_gives_the_whole_spec(kernel: Kernel) -> None:
    made = spec("a", Log())
    sup = supervise(kernel, [made])

    assert sup.call(Supervisor.get_childspec, "a") == made
    assert recorded("C23")["unknown"] == "not_found"
    with pytest.raises(NotFound):
        sup.call(Supervisor.get_childspec, "b")


class Named(Actor):
    """Brings its own spec."""

    @classmethod
    def child_spec(cls, arg: str) -> ChildSpec:
        return ChildSpec(f"named {arg}", cls, restart=Restart.TRANSIENT)


def test_c24_a_class_brings_its_own_child_spec() -> None:
    assert {recorded("C24")["id"], recorded("C24")["bare"]} == {"Plain"}
    assert (child_spec(Named, "x").id, child_spec(Worker).id) == ("named x", "Worker")


@pytest.mark.parametrize("what", [42, object, "Worker"])
def test_c24_what_has_no_child_spec_is_refused_in_the_caller(what: Any) -> None:
    assert {recorded("C24")[key] for key in ("missing", "no_child_spec")} == {"ArgumentError"}
    with pytest.raises(SpecError):
        child_spec(what)


def test_c25_a_child_spec_can_be_overridden_and_only_in_fields_it_has() -> None:
    made = child_spec(Worker, id="x", restart=Restart.TRANSIENT)
    assert (made.id, made.restart.value) == (recorded("C25")["id"], recorded("C25")["restart"])
    with pytest.raises(SpecError, match=r"^colour cannot be"):
        child_spec(Worker, colour="red")


def test_c26_a_strategy_must_be_given(kernel: Kernel) -> None:
    assert recorded("C26") == "ArgumentError"
    with pytest.raises(StartFailed, match="strategy"):
        kernel.spawn(Supervisor)
