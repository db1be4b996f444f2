"""Child specs are data: complete after construction, refused there if they make no sense."""

from __future__ import annotations

import math
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.backoff import Backoff
from supervisors.errors import SpecError
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
from supervisors.supervisor import Supervisor


class Worker(Actor):
    def init(self, *args: object) -> None:
        self.args = args


class Described(Actor):
    @classmethod
    def child_spec(cls, size: int = 1) -> ChildSpec:
        return ChildSpec("described", cls, (size,), restart=Restart.TRANSIENT)


def test_a_spec_of_id_and_start_is_complete() -> None:
    spec = ChildSpec("a", Worker)

    assert (spec.restart, spec.shutdown, spec.type, spec.significant, spec.args, dict(spec.kwargs)) == (
        Restart.PERMANENT,
        5.0,
        ChildType.WORKER,
        False,
        (),
        {},
    )


def test_a_supervisor_is_recognised_and_gets_all_the_time_it_needs() -> None:
    spec = ChildSpec("tree", Supervisor)

    assert (spec.type, spec.shutdown) == (ChildType.SUPERVISOR, INFINITY)


def test_a_function_is_a_worker_unless_the_spec_says_otherwise() -> None:
    assert ChildSpec("a", lambda kernel: None, type=ChildType.SUPERVISOR).shutdown == INFINITY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", []),
        ("start", 42),
        ("start", "Worker"),
        ("start", dict),
        ("args", "abc"),
        ("kwargs", [("a", 1)]),
        ("kwargs", {1: 2}),
        ("restart", "permanent"),
        ("shutdown", -10),
        ("shutdown", True),
        ("shutdown", math.nan),
        ("shutdown", "brutal_kill"),
        ("type", "worker"),
        ("significant", 1),
        ("name", "a name"),
        ("start_timeout", 0),
        ("start_timeout", None),
        ("backoff", 1.0),
    ],
)
def test_a_bad_field_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        ChildSpec(**({"id": "a", "start": Worker} | {field: value}))

    assert (caught.value.field, caught.value.value) == (field, value)


@pytest.mark.parametrize("shutdown", [0, 1, 0.5, INFINITY, BRUTAL_KILL])
@pytest.mark.parametrize("start", [Worker, Supervisor])
def test_every_kind_of_shutdown_is_valid_for_every_type(start: Any, shutdown: Any) -> None:
    assert ChildSpec("a", start, shutdown=shutdown).shutdown == shutdown


def test_a_permanent_child_cannot_be_significant() -> None:
    with pytest.raises(SpecError, match="significant"):
        ChildSpec("a", Worker, significant=True)


def test_an_unknown_field_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError, match="silly"):
        ChildSpec("a", Worker, silly=True)  # type: ignore[call-arg]


def test_a_spec_does_not_see_later_changes_of_its_arguments() -> None:
    kwargs = {"size": 1}
    spec = ChildSpec("a", Worker, kwargs=kwargs)
    kwargs["size"] = 2

    assert dict(spec.kwargs) == {"size": 1}


def test_override_gives_a_checked_copy() -> None:
    spec = ChildSpec("a", Worker)

    assert spec.override(id="b", restart=Restart.TEMPORARY) == ChildSpec("b", Worker, restart=Restart.TEMPORARY)
    assert spec.id == "a"


def test_override_refuses_a_field_that_does_not_exist() -> None:
    with pytest.raises(SpecError, match="silly"):
        ChildSpec("a", Worker).override(silly=True)


def test_the_spec_of_a_class_is_named_after_it() -> None:
    assert child_spec(Worker, 1, 2, restart=Restart.TRANSIENT) == ChildSpec(
        "Worker", Worker, (1, 2), restart=Restart.TRANSIENT
    )


def test_a_class_can_bring_its_own_spec() -> None:
    assert child_spec(Described, 7, id="seven") == ChildSpec("seven", Described, (7,), restart=Restart.TRANSIENT)


def test_a_spec_is_its_own_spec() -> None:
    spec = ChildSpec("a", Worker, backoff=Backoff())

    assert child_spec(spec) is spec


def test_the_spec_of_something_else_is_refused_in_the_caller() -> None:
    with pytest.raises(SpecError, match="start"):
        child_spec(dict)


def test_the_same_id_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="'a'"):
        check_childspecs([ChildSpec("a", Worker), ChildSpec("b", Worker), ChildSpec("a", Worker)])


def test_a_list_of_children_may_hold_classes() -> None:
    assert [spec.id for spec in check_childspecs([Worker, ChildSpec("a", Worker)])] == ["Worker", "a"]


def test_a_significant_child_needs_a_supervisor_that_shuts_down_by_itself() -> None:
    spec = ChildSpec("a", Worker, restart=Restart.TEMPORARY, significant=True)

    assert check_childspecs([spec], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT) == (spec,)
    with pytest.raises(SpecError, match="significant"):
        check_childspecs([spec])


def test_children_that_are_no_list_are_refused() -> None:
    with pytest.raises(SpecError, match="children"):
        check_childspecs(42)  # type: ignore[arg-type]
