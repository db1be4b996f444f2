"""What crash reports say of the dead: last message, state as far as it may be seen, who started it and who asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.brief import LIMIT, brief
from supervisors.exits import Crash
from supervisors.kernel import Kernel
from supervisors.lineage import MAX_LINEAGE, ancestors
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.tasks import Tasks, TaskSupervisor
from supervisors.testing import Log
from tests.supervisors.workers import BOOM, gone, spec


class Till(Actor):
    """Keeps a secret."""

    secret = "tr0ub4dor"

    def init(self, secret: str = "tr0ub4dor") -> None:
        self.secret, self.total = secret, 7

    def divide(self, by: int, *, note: str = "") -> int:
        return self.total // by

    def ask(self, method: Any, *args: Any) -> Any:
        return method(*args)


class Discreet(Till):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"state": status["state"] | {"secret": "hidden"}, "message": "hidden", "reason": "hidden"}


class Broken(Till):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("typo")


class OnLoop(Till):
    dispatcher = "loop"

    async def divide_later(self, by: int) -> int:
        return self.total // by


class Inline(Till):
    inline = True


def crashed(system: System, cls: type[Till] = Till, method: Any = None, **kwargs: Any) -> Ref[Till]:
    """A child that divided by zero, and whose end was reported."""
    ref = system.start_child(ChildSpec("till", cls))
    with pytest.raises(Exception, match="by zero"):
        ref.call(method or cls.divide, 0, **kwargs)
    system.shutdown()
    return ref


def test_a_report_has_the_last_message_and_the_state(system: System, written: list[dict[str, Any]]) -> None:
    crashed(system, note="evening")
    (report,) = written
    assert report["last_message"] == "divide(0, note='evening')"
    assert report["state"] == {"secret": "'tr0ub4dor'", "total": "7"}


def test_the_actor_decides_what_is_shown_of_it(system: System, written: list[dict[str, Any]]) -> None:
    crashed(system, Discreet)
    (report,) = written
    assert report["state"] == {"secret": "'hidden'", "total": "7"}
    assert (report["last_message"], report["reason"]) == ("hidden", "hidden")
    assert "traceback" not in report


def test_where_the_decision_fails_nothing_is_shown(system: System, written: list[dict[str, Any]]) -> None:
    crashed(system, Broken)
    assert written[0]["state"] == "<format_status of Broken raised KeyError>"
    assert "tr0ub4dor" not in str(written)


def test_a_coroutine_handlers_message_is_told_too(system: System, written: list[dict[str, Any]]) -> None:
    crashed(system, OnLoop, OnLoop.divide_later)
    assert written[0]["last_message"] == "divide_later(0)"


def test_an_actor_without_a_supervisor_is_reported_as_fully(system: System, written: list[dict[str, Any]]) -> None:
    with pytest.raises(Exception, match="by zero"):
        system.spawn(Discreet, name="hermit").call(Till.divide, 0)
    system.shutdown()
    (report,) = written
    assert (report["name"], report["last_message"], report["ancestors"]) == ("hermit", "hidden", [])
    assert report["state"]["secret"] == "'hidden'"


def test_a_stop_for_another_reason_leaves_no_last_message(system: System, written: list[dict[str, Any]]) -> None:
    ref = system.start_child(ChildSpec("till", Till))
    ref.exit(Crash(BOOM))
    gone(ref)
    system.shutdown()
    assert written[0]["last_message"] is None


def test_a_dead_actors_last_message_is_not_kept(system: System, written: list[dict[str, Any]]) -> None:
    ref = crashed(system)
    assert (ref.mailbox.last, ref.mailbox.actor) == (None, None)


# ancestors and callers


def test_ancestors_are_named_nearest_first(kernel: Kernel) -> None:
    inner = ChildSpec("inner", Supervisor, ([spec("a", Log())],), {"strategy": Strategy.ONE_FOR_ONE})
    top = kernel.spawn(Supervisor, [inner], strategy=Strategy.ONE_FOR_ONE)
    middle = top.call(Supervisor.which_child, "inner").ref
    assert isinstance(middle, Ref)
    a = middle.call(Supervisor.which_child, "a").ref
    assert isinstance(a, Ref)
    assert ancestors(a.mailbox) == [middle.name, top.name]


def test_who_starts_an_actor_by_itself_is_its_ancestor(kernel: Kernel) -> None:
    ref = kernel.spawn(Till)
    started = ref.call(Till.ask, Till.start)
    assert ancestors(started.mailbox) == [ref.name]


def test_an_endless_line_of_successors_does_not_fill_the_memory(kernel: Kernel) -> None:
    first = ref = kernel.spawn(Inline)
    for _ in range(3 * MAX_LINEAGE):
        ref = ref.call(Till.ask, Inline.start)
    assert len(ancestors(ref.mailbox)) <= MAX_LINEAGE
    assert first.name not in ancestors(ref.mailbox)


@pytest.mark.parametrize("kind", [Till, Inline])
def test_callers_are_named_nearest_first(system: System, written: list[dict[str, Any]], kind: type[Till]) -> None:
    till = system.start_child(ChildSpec("till", kind))
    near, far = (system.spawn(Till, name=name) for name in ("near", "far"))
    with pytest.raises(Exception, match="by zero"):
        far.call(Till.ask, near.call, Till.ask, till.call, Till.divide, 0)
    system.shutdown()
    (report,) = (each for each in written if each.get("offender"))
    assert report["callers"] == ["near", "far"]


def test_a_tasks_report_names_function_arguments_and_on_whose_behalf(
    system: System, written: list[dict[str, Any]]
) -> None:
    tasks = Tasks(system.start_child(ChildSpec("tasks", TaskSupervisor)))
    boss = system.spawn(Till, name="boss")
    task = boss.call(Till.ask, tasks.async_nolink, divide, 0)
    with pytest.raises(Exception, match="by zero"):
        task.result()
    system.shutdown()
    (report,) = written
    assert (report["last_message"], report["callers"]) == ("divide(0)", ["boss"])
    assert report["ancestors"] == [tasks.ref.name, "root"]


def divide(by: int) -> float:
    return 1 / by


def test_a_task_of_a_task_names_both(system: System, written: list[dict[str, Any]]) -> None:
    tasks = Tasks(system.start_child(ChildSpec("tasks", TaskSupervisor)))

    def outer() -> Any:
        return tasks.async_nolink(divide, 0)

    boss = system.spawn(Till, name="boss")
    inner = boss.call(Till.ask, tasks.async_nolink, outer).result()
    with pytest.raises(Exception, match="by zero"):
        inner.result()
    system.shutdown()
    first, second = written[0]["callers"]
    assert (first.split("#")[0].endswith("outer"), second) == (True, "boss")


# values in brief


@dataclass
class Row:
    name: str
    hidden: str = field(default="tr0ub4dor", repr=False)


@dataclass
class Shy:
    name: str

    def __repr__(self) -> str:
        return "<Shy>"


@dataclass
class Rows:
    rows: list[Row]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Row("a"), "Row(name='a')"),
        (Shy("a"), "<Shy>"),
        ({"a": (1, 2.5)}, "{'a': (1, 2.5)}"),
        (Rude(), "<Rude instance at"),
        (Rows([Row("a")]), "Rows(rows=[Row(name='a')])"),
    ],
)
def test_a_value_is_shown_as_repr_would(value: object, said: str) -> None:
    assert brief(value).startswith(said)


def test_a_large_value_is_cut_before_it_is_written_out() -> None:
    assert len(brief(Rows([Row("x" * 10_000)] * 1_000_000))) <= LIMIT
    assert brief(list(range(1_000_000))) == "[0, 1, 2, 3, 4, 5, ...]"
