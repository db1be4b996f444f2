"""Reports: OTP's words, structlog's way, silence for clean exits, and never a reason to die."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied
from supervisors.exits import Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.many_tasks import yield_many
from supervisors.spec import BRUTAL_KILL, ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.tasks import Failed, Tasks, TaskSupervisor
from supervisors.testing import Log, wait_until
from supervisors.writer import REPORT_DELAY
from tests.supervisors.actors import Background
from tests.supervisors.parking import parked
from tests.supervisors.workers import (
    BOOM,
    CRASH,
    TRANSIENT,
    BadStop,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    supervise,
)


@pytest.fixture
def written() -> Iterator[list[dict[str, Any]]]:
    """What structlog was given, as configured by an application."""
    found: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append(dict(fields) | {"level": level})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    yield found
    structlog.reset_defaults()


def contexts(found: list[dict[str, Any]]) -> list[str]:
    return [fields.get("error_context", fields["event"]) for fields in found]


def test_a_crashed_child_is_reported_with_otps_keys(system: System, written: list[dict[str, Any]]) -> None:
    ref = system.start_child(spec("a", Log()))
    end(ref)
    ids(system.root)
    system.shutdown()
    (report,) = written

    assert report.pop("traceback").endswith("ValueError: boom")
    assert report == {
        "event": "supervisor.child_terminated",
        "level": "error",
        "supervisor": "root",
        "error_context": "child_terminated",
        "reason": "ValueError: boom",
        "offender": {
            "id": "a",
            "ref": ref.name,
            "start": "Worker",
            "restart": "permanent",
            "significant": False,
            "shutdown": 5.0,
            "type": "worker",
        },
        "ancestors": ["root"],
        "callers": [],
        "last_message": None,
        "state": {"label": "'a'", "log": "Log(['+a', 'xa', '+a', '-a'])"},
    }


def test_clean_exits_are_silent(written: list[dict[str, Any]]) -> None:
    with System(children=[spec("a", Log(), restart=TRANSIENT), spec("b", Log())]) as system:
        end(child(system.root, "a"), Normal())
        system.root.call(Supervisor.terminate_child, "b")

    assert written == []


@pytest.mark.parametrize("parked", [True, False])
def test_an_end_that_a_shutdown_overtakes_is_reported_as_what_it_was(
    system: System, written: list[dict[str, Any]], parked: bool
) -> None:
    """The supervisor hears of the end and of its own stop at once; the stop comes first."""
    a, b = (system.start_child(spec(name, Log())) for name in "ab")
    gate, began = threading.Event(), threading.Event()
    if parked:
        system.root.cast(Supervisor.start_child, ChildSpec("c", hold, (gate, began)))
        began.wait(5)
    for ref, exit in ((a, CRASH), (b, Shutdown("bored"))):  # noqa: A001
        end(ref, exit)
    system.root.exit(Shutdown())
    gate.set()
    gone(system.root)

    assert sorted((report["error_context"], report["reason"]) for report in written) == [
        ("child_terminated", "Shutdown(detail='bored')"),
        ("child_terminated", "ValueError: boom"),
    ]


def fail() -> None:
    raise BOOM


def hold(kernel: Kernel, gate: threading.Event, began: threading.Event) -> object:
    """A start function that keeps its supervisor busy, and then starts nothing."""
    began.set()
    gate.wait(5)
    return IGNORE


@pytest.mark.parametrize("how", ["abandon", "brutal", "late", "many"])
def test_a_task_that_its_caller_has_fenced_is_no_news(kernel: Kernel, written: list[dict[str, Any]], how: str) -> None:
    tasks = Tasks(kernel.spawn(TaskSupervisor))
    gate, began = threading.Event(), threading.Event()
    task = tasks.async_nolink(hold, kernel, gate, began)
    assert began.wait(5)
    match how:
        case "abandon":
            task.abandon()
        case "brutal":
            task.shutdown(BRUTAL_KILL)
        case "late":
            task.shutdown(0.001)
        case "many":
            yield_many([task], 0.001, on_timeout="kill_task")
    gate.set()
    tasks.ref.stop()

    assert written == []


def test_the_crash_of_a_task_is_reported_and_so_is_one_that_somebody_else_has_fenced(
    kernel: Kernel, written: list[dict[str, Any]]
) -> None:
    tasks = Tasks(kernel.spawn(TaskSupervisor))
    gate, began = threading.Event(), threading.Event()
    held = tasks.async_nolink(hold, kernel, gate, began)
    assert began.wait(5)
    assert held.ref is not None
    held.ref.fence()
    gate.set()
    with pytest.raises(ActorDied):
        tasks.async_nolink(fail).result()
    tasks.ref.stop()

    assert [report["reason"] for report in written] == ["Killed()", "ValueError: boom"]


def test_the_crash_of_a_task_that_was_told_to_end_is_reported(kernel: Kernel, written: list[dict[str, Any]]) -> None:
    tasks = Tasks(kernel.spawn(TaskSupervisor))
    gate, began = threading.Event(), threading.Event()

    def work() -> None:
        hold(kernel, gate, began)
        fail()

    task = tasks.async_nolink(work)
    assert began.wait(5)
    ending = Background(task.shutdown, 5.0)
    wait_until(lambda: task._job.unwanted)
    gate.set()
    assert ending.value() == Failed(CRASH)
    tasks.ref.stop()

    assert [report["reason"] for report in written] == ["ValueError: boom"]


def test_the_last_words_of_a_crash_are_reported_though_its_end_is_not_told_yet(
    kernel: Kernel, written: list[dict[str, Any]]
) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    ref = child(sup, "a")
    with parked("finish:dead", ref.mailbox) as gate:
        dying = Background(ref.call, Worker.fail, BOOM)
        gate.reached()
        sup.exit(Shutdown())
        gone(sup)
        gate.open()
        with pytest.raises(ActorDied):
            dying.value()
    (report,) = written

    assert (report["error_context"], report["last_message"]) == ("child_terminated", "fail(ValueError('boom'))")


def test_the_last_words_of_a_task_that_is_dead_before_it_is_watched_are_reported(
    kernel: Kernel, written: list[dict[str, Any]]
) -> None:
    """Its supervisor is told twice then, and the second time there is nothing left of it."""

    def until_nothing_is_left(event: object, measurements: object, metadata: Any) -> None:
        wait_until(lambda: metadata["ref"].mailbox.actor is None)

    kernel.telemetry.attach("test", ("supervisor", "child", "start"), until_nothing_is_left)
    tasks = Tasks(kernel.spawn(TaskSupervisor))
    tasks.start_child(fail)
    tasks.ref.stop()

    assert [report["last_message"] for report in written] == ["fail()"]


def test_a_permanent_child_that_ended_normally_is_reported(system: System, written: list[dict[str, Any]]) -> None:
    end(system.start_child(spec("a", Log())), Shutdown("bored"))
    ids(system.root)  # a stop would overtake the news of this end
    system.shutdown()

    assert [report["reason"] for report in written] == ["Shutdown(detail='bored')"]


def test_a_failed_restart_and_the_giving_up_are_reported(system: System, written: list[dict[str, Any]]) -> None:
    child_of_inner = spec("x", Log(), script=Script(None, BOOM))
    inner = ChildSpec(
        "in", Supervisor, ([child_of_inner],), {"strategy": Strategy.ONE_FOR_ONE, "max_restarts": 1}, restart=TRANSIENT
    )
    ref = system.start_child(inner)
    end(child(ref, "x"))
    gone(ref)

    assert contexts(written) == ["child_terminated", "start_error", "shutdown"]
    assert written[-1]["reason"] == "reached_max_restart_intensity"


def test_a_child_that_does_not_stop_in_peace_is_reported(written: list[dict[str, Any]]) -> None:
    with System(children=[spec("a", Log(), BadStop)]):
        pass

    assert [(report["error_context"], report["reason"]) for report in written] == [
        ("shutdown_error", "RuntimeError: cannot stop in peace")
    ]


def test_the_crash_of_an_actor_without_a_supervisor_is_reported(system: System, written: list[dict[str, Any]]) -> None:
    ref = system.spawn(Worker, "a", Log(), name="hermit")
    with pytest.raises(Exception, match="boom"):
        ref.call(Worker.fail, BOOM)
    system.shutdown()
    (report,) = written

    assert (report["event"], report["name"], report["actor"]["class"]) == ("actor.crash", "hermit", "Worker")


def test_an_unknown_message_is_reported(system: System, written: list[dict[str, Any]]) -> None:
    system.root.tell("what is this?")
    ids(system.root)

    assert contexts(written) == ["supervisor.unexpected_message"]


def test_reports_are_written_soon_and_one_by_one(written: list[dict[str, Any]], clock: ManualClock) -> None:
    with System(clock=clock, children=[spec(name, Log()) for name in "ab"]) as system:
        for name in "ab":
            end(child(system.root, name))
        ids(system.root)
        before = list(written)
        clock.advance(REPORT_DELAY)
        ids(system.root)
        ids(system.root)

        assert (before, [report["offender"]["id"] for report in written]) == ([], ["a", "b"])


def test_a_logger_that_fails_ends_nobody() -> None:
    def refuse(logger: object, level: str, fields: Any) -> Any:
        raise RuntimeError("the disk is full")

    failures = Log()
    structlog.configure(processors=[refuse])
    try:
        with System(children=[spec("a", Log())]) as system:
            failure = ("supervisor", "report", "failure")
            system.telemetry.attach("test", failure, lambda event, measurements, metadata: failures.add("seen"))
            end(child(system.root, "a"), CRASH)
            alive = ids(system.root)
            failures.wait_for("seen")
    finally:
        structlog.reset_defaults()

    assert (alive, failures.events) == (["a"], ["seen"])


def test_an_unconfigured_structlog_writes_to_stderr(system: System, capfd: pytest.CaptureFixture[str]) -> None:
    end(system.start_child(spec("a", Log())))
    ids(system.root)
    system.shutdown()
    said = capfd.readouterr()

    assert said.out == ""
    assert "supervisor.child_terminated" in said.err
