"""Tasks whose value nobody waits for, and tasks that are tied to their caller or let go."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import structlog

from supervisors.actor import Actor
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import BlockingCallOnLoop, MaxChildren
from supervisors.exits import Crash, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.spec import ChildSpec
from supervisors.system import System
from supervisors.tasks import Tasks, TaskSupervisor
from supervisors.testing import Log, wait_until
from tests.supervisors.workers import BOOM, end


class Boss(Actor):
    def begin(self, tasks: Tasks, fn: Any, *args: Any) -> Any:
        return tasks.async_(fn, *args)


def fail(error: BaseException) -> None:
    raise error


@pytest.fixture
def tasks(kernel: Kernel) -> Tasks:
    return Tasks(kernel.spawn(TaskSupervisor))


def test_a_task_runs_for_what_it_does(tasks: Tasks) -> None:
    log = Log()
    ref = tasks.start_child(log.add, "done")
    assert (ref.down().get(5), log.events) == (Normal(), ["done"])


def test_a_coroutine_function_runs_on_the_loop(tasks: Tasks) -> None:
    log = Log()

    async def note() -> None:
        log.add(asyncio.get_running_loop().is_running())

    tasks.start_child(note)
    log.wait_for(True)


def test_its_crash_harms_nobody_and_it_is_not_started_again(tasks: Tasks) -> None:
    ref = tasks.start_child(fail, BOOM)
    assert ref.down().get(5) == Crash(BOOM)
    # Its supervisor may be told after us: there is no order between those who watch.
    wait_until(lambda: tasks.ref.call(DynamicSupervisor.which_children) == [])


def test_its_crash_is_reported(system: System) -> None:
    written: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        written.append(dict(fields))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        tasks = Tasks(system.start_child(ChildSpec("tasks", TaskSupervisor)))
        tasks.start_child(fail, BOOM).down().get(5)
        system.shutdown()
    finally:
        structlog.reset_defaults()
    assert [each["last_message"] for each in written] == ["fail(ValueError('boom'))"]


def test_it_takes_room_like_any_task(kernel: Kernel) -> None:
    tasks = Tasks(kernel.spawn(TaskSupervisor, max_children=0))
    with pytest.raises(MaxChildren):
        tasks.start_child(fail, BOOM)


def test_it_is_stopped_with_its_supervisor(tasks: Tasks, gate: threading.Event) -> None:
    began = threading.Event()
    ref = tasks.start_child(lambda: (began.set(), gate.wait(10)))
    began.wait(5)
    gate.set()
    tasks.ref.exit(Shutdown())
    assert ref.down().get(5) in (Normal(), Shutdown())


def test_a_loop_starts_one_too(tasks: Tasks) -> None:
    log = Log()

    async def main() -> None:
        with pytest.raises(BlockingCallOnLoop):
            tasks.start_child(log.add, "never")
        await tasks.astart_child(log.add, "done")

    asyncio.run(main())
    log.wait_for("done")


# tied to the caller


def test_a_tied_task_ends_with_its_caller(kernel: Kernel, tasks: Tasks) -> None:
    boss = kernel.spawn(Boss)
    task = boss.call(Boss.begin, tasks, asyncio.Event().wait)
    end(boss)
    assert task.ref.down().get(5) == Crash(BOOM)


def test_an_ignored_task_outlives_its_caller(kernel: Kernel, tasks: Tasks, gate: threading.Event) -> None:
    boss = kernel.spawn(Boss)
    task = boss.call(Boss.begin, tasks, gate.wait, 10)
    ignored = task.ignore()
    end(boss)
    gate.set()
    assert (ignored, task.result()) == (None, True)


def test_a_tied_task_that_crashes_leaves_its_caller_alone(kernel: Kernel, tasks: Tasks) -> None:
    boss = kernel.spawn(Boss)
    task = boss.call(Boss.begin, tasks, fail, BOOM)
    with pytest.raises(Exception, match="boom"):
        task.result()
    assert boss.is_alive()
