"""Section J: tasks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, CallTimeout, MaxChildren, SpecError
from supervisors.exits import Crash
from supervisors.kernel import Kernel
from supervisors.many_tasks import await_many, yield_many
from supervisors.ref import Ref
from supervisors.spec import BRUTAL_KILL
from supervisors.system import System
from supervisors.task_stream import async_stream
from supervisors.tasks import Failed, Ok, Task, Tasks, TaskSupervisor
from supervisors.testing import Log, wait_until
from tests.conformance.actors import (
    Background,
    Gate,
    Worker,
    answer,
    api,
    counts,
    finish,
    let_time_pass,
    worker,
)
from tests.conformance.words import BOOM, down, recorded, word


def crash(_: Any = None) -> None:
    raise BOOM


async def acrash(_: Any = None) -> None:
    raise BOOM


async def forever(_: Any = None) -> None:
    await asyncio.Event().wait()


crashes = pytest.mark.parametrize("fn", [crash, acrash])


def tasks_of(kernel: Kernel, **options: Any) -> Tasks:
    return Tasks(kernel.spawn(TaskSupervisor, **options))


@pytest.fixture
def tasks(kernel: Kernel) -> Tasks:
    return tasks_of(kernel)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Something for plain functions to wait at; open at the end in any case."""
    with Gate() as gate:
        yield gate


def outcome(given: Any) -> Any:
    """As recorded."""
    match given:
        case Ok(value):
            return ["ok", value]
        case Failed(Crash(CallTimeout())):
            return ["exit", "timeout"]
        case Failed(exit):
            return ["exit", word(exit)]
    return given


def test_j01_a_task_gives_its_value(tasks: Tasks) -> None:
    assert tasks.async_nolink(lambda: 42).result() == recorded("J01")["value"]


def test_j02_anybody_may_wait_for_a_task(tasks: Tasks) -> None:
    assert recorded("J02") == "ArgumentError"
    task = tasks.async_nolink(lambda: 42)

    assert Background(task.result).value() == 42


def test_j03_a_wait_that_times_out_does_not_end_the_task(still: Kernel, clock: ManualClock, gate: Gate) -> None:
    task = tasks_of(still).async_nolink(gate.pass_)
    waiting = Background(task.result, 1.0)
    let_time_pass(clock, waiting.done)
    with pytest.raises(CallTimeout):
        waiting.value()
    assert task.ref is not None

    assert {"await": "timeout", "alive": task.ref.is_alive(), "mailbox": 0} == recorded("J03")


def test_j04_a_result_can_be_had_again(tasks: Tasks) -> None:
    assert recorded("J04") == [42, "timeout"]
    task = tasks.async_nolink(lambda: 42)

    assert [task.result(), task.result()] == [42, 42]


@crashes
def test_j05_a_crash_is_raised_where_it_is_awaited_with_its_cause(tasks: Tasks, fn: Callable[[], Any]) -> None:
    with pytest.raises(ActorDied) as caught:
        tasks.async_nolink(fn).result()

    assert (f"exit {word(caught.value.exit)}", caught.value.__cause__) == (recorded("J05")["raises"], BOOM)


@crashes
def test_j06_a_crash_harms_its_owner_only_when_awaited(kernel: Kernel, tasks: Tasks, fn: Callable[[], Any]) -> None:
    class Owner(Worker):
        def begin(self) -> list[Task[Any]]:
            return [tasks.async_nolink(fn)]

    assert recorded("J06") == "crash"
    owner: Ref[Any] = worker(kernel, cls=Owner)
    (task,) = owner.call(Owner.begin)
    task.yield_()

    assert owner.call(Worker.hello) == "a"


class Owner(Worker):
    """Starts a task that waits for ever."""

    def begin(self, tasks: Tasks, kind: str) -> list[Any]:
        return [getattr(tasks, kind)(forever)]


def test_j07_a_task_ends_with_the_actor_that_started_it_and_with_its_exit(kernel: Kernel, tasks: Tasks) -> None:
    owner: Ref[Any] = worker(kernel, cls=Owner)
    (task,) = owner.call(Owner.begin, tasks, "async_")
    finish(owner, "crash")

    assert down(task.ref) == recorded("J07")


def test_j07_a_task_without_a_link_outlives_the_actor_that_started_it(kernel: Kernel, tasks: Tasks) -> None:
    owner: Ref[Any] = worker(kernel, cls=Owner)
    (task,) = owner.call(Owner.begin, tasks, "async_nolink")
    finish(owner, "crash")

    assert task.yield_(0) is None
    assert task.ref.is_alive()


def test_j08_a_yield_that_is_too_early_is_none_and_can_be_repeated(
    still: Kernel, clock: ManualClock, gate: Gate
) -> None:
    def held() -> str:
        gate.pass_()
        return "done"

    task = tasks_of(still).async_nolink(held)
    early = Background(task.yield_, 1.0)
    let_time_pass(clock, early.done)
    gate.open()

    assert [early.value(), outcome(task.yield_())] == recorded("J08")[:2]


def shut_down(tasks: Tasks, fn: Callable[[], Any], *args: Any, begun: Callable[[], object] | None = None) -> Any:
    """How a shutdown tells of a task: one that is `forever`, one that has `begun`, or one that is done."""
    task = tasks.async_nolink(fn)
    if begun is not None:
        begun()
    elif fn is not forever:
        wait_until(task.done)
    return outcome(task.shutdown(*args))


def test_j09_a_shutdown_tells_how_the_task_ended(kernel: Kernel, tasks: Tasks, gate: Gate) -> None:
    seen = {
        "clean": shut_down(tasks, forever),
        "finished": shut_down(tasks, lambda: 42),
        "stuck": shut_down(tasks, gate.pass_, 0.01, begun=gate.reached),
        "brutal": shut_down(tasks, forever, BRUTAL_KILL),
    }
    gate.open()
    wait_until(lambda: kernel.zombies == 0)

    assert seen == recorded("J09")


def test_j10_a_task_that_is_ignored_goes_on(tasks: Tasks, gate: Gate) -> None:
    task = tasks.async_nolink(gate.pass_)
    assert task.ref is not None
    seen = {"ignore": task.ignore(), "alive": task.ref.is_alive()}
    gate.open()

    assert seen | {"end": down(task.ref), "mailbox": 0} == recorded("J10")


def test_j11_many_results_are_in_the_order_of_their_tasks(tasks: Tasks) -> None:
    log = Log()

    def after(number: int, others: list[int]) -> int:
        for other in others:
            log.wait_for(other)
        log.add(number)
        return number

    made = [tasks.async_nolink(after, number, others) for number, others in ((3, [1, 2]), (1, []), (2, [1]))]

    assert (await_many(made), log.events) == (recorded("J11")["values"], [1, 2, 3])


@crashes
def test_j11_the_first_failure_ends_the_wait_for_many(tasks: Tasks, gate: Gate, fn: Callable[[], Any]) -> None:
    with pytest.raises(ActorDied) as caught:
        await_many([tasks.async_nolink(gate.pass_), tasks.async_nolink(fn)])

    assert f"exit {word(caught.value.exit)}" == recorded("J11")["failure"]


def test_j11_many_have_one_deadline(tasks: Tasks) -> None:
    assert recorded("J11")["late"] == "timeout"
    many = [tasks.async_nolink(forever) for _ in range(50)]
    began = time.monotonic()
    with pytest.raises(CallTimeout):
        await_many(many, 0.05)

    assert time.monotonic() - began < 50 * 0.05


def three(tasks: Tasks, gate: Gate) -> list[Task[Any]]:
    """One that goes on, one that is done, one that failed."""
    made: list[Task[Any]] = [tasks.async_nolink(gate.pass_), tasks.async_nolink(lambda: 1), tasks.async_nolink(crash)]
    for task in made[1:]:
        task.yield_()
    return made


def test_j12_a_yield_of_many_tells_what_is_there_in_order(tasks: Tasks, gate: Gate) -> None:
    made = three(tasks, gate)
    seen = [outcome(each) for _, each in yield_many(made, 0.01)]
    ref = made[0].ref
    assert ref is not None

    assert {"outcomes": seen, "slow_alive": ref.is_alive()} == recorded("J12")


def test_j12_those_that_are_late_may_be_killed(tasks: Tasks) -> None:
    task = tasks.async_nolink(forever)
    ref = task.ref
    assert ref is not None

    assert [each for _, each in yield_many([task], 0.01, on_timeout="kill_task")] == [None]
    assert down(ref) == "killed"


def test_j12_a_limit_is_enough(tasks: Tasks, gate: Gate) -> None:
    made = three(tasks, gate)
    seen = [outcome(each) for _, each in yield_many(made, 60.0, limit=2)]

    assert seen == recorded("J12")["outcomes"]


def test_j13_a_stream_is_in_the_order_of_its_items_or_of_their_ends(tasks: Tasks) -> None:
    def seen(ordered: bool) -> list[Any]:
        log = Log()

        def after(number: int) -> int:
            for other in range(1, number):
                log.wait_for(other)
            log.add(number)
            return number

        return [outcome(each) for each in async_stream(tasks, after, [3, 1, 2], max_concurrency=3, ordered=ordered)]

    ordered, unordered = seen(True), seen(False)
    assert ordered == recorded("J13")["ordered"]
    assert sorted(unordered) == sorted(recorded("J13")["unordered"])


def test_j13_an_unordered_stream_gives_first_what_ends_first(tasks: Tasks, gate: Gate) -> None:
    def held(number: int) -> int:
        if number == 3:
            gate.pass_()
        return number

    stream = iter(async_stream(tasks, held, [3, 1], max_concurrency=2, ordered=False))
    first = next(stream)
    gate.open()

    assert [outcome(first), outcome(next(stream))] == [["ok", 1], ["ok", 3]]


def test_j14_no_more_tasks_run_than_may(tasks: Tasks) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def count(_: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    list(async_stream(tasks, count, range(20), max_concurrency=2))

    assert most[0] == recorded("J14")["most"]


def test_j14_no_task_at_a_time_is_refused(tasks: Tasks) -> None:
    assert recorded("J14")["zero"] == "ArgumentError"
    with pytest.raises(SpecError):
        async_stream(tasks, crash, [1], max_concurrency=0)


def test_j15_an_item_beyond_its_time_is_a_failure_and_the_stream_goes_on(
    still: Kernel, clock: ManualClock, gate: Gate
) -> None:
    tasks, log = tasks_of(still), Log()

    def slow(number: int) -> int:
        if number == 1:
            gate.pass_()
        log.add(number)
        return number

    stream = Background(
        lambda: [outcome(each) for each in async_stream(tasks, slow, [1, 2], max_concurrency=2, timeout=1.0)]
    )
    gate.reached()
    log.wait_for(2)
    wait_until(lambda: counts(tasks.ref)["active"] == 1)  # no time passes for the other
    let_time_pass(clock, stream.done)

    assert (stream.value(), still.zombies) == (recorded("J15")["kill_task"], 1)
    gate.open()
    wait_until(lambda: still.zombies == 0)


def test_j16_a_consumer_that_stops_early_leaves_no_task(tasks: Tasks) -> None:
    async def held(number: int) -> int:
        if number > 1:
            await forever()
        return number

    stream = iter(async_stream(tasks, held, range(1, 11), max_concurrency=3))
    taken = [outcome(next(stream))]
    stream.close()  # type: ignore[attr-defined]
    wait_until(lambda: counts(tasks.ref)["specs"] == 0)

    assert {"taken": taken, "left": counts(tasks.ref)["specs"], "mailbox": 0} == recorded("J16")


def test_j17_items_are_pulled_only_as_slots_are_free(tasks: Tasks, gate: Gate) -> None:
    pulled = []

    def items() -> Iterator[int]:
        for number in range(100):
            pulled.append(number)
            yield number

    async def held(number: int) -> int:
        if number:
            await forever()
        return number

    stream = iter(async_stream(tasks, held, items(), max_concurrency=3, ordered=False))
    next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert len(pulled) == recorded("J17")


def stream_with_a_crash(tasks: Tasks) -> list[Any]:
    def fail_one(number: int) -> int:
        if number == 1:
            crash()
        return number

    return list(async_stream(tasks, fail_one, [1, 2]))


def test_j18_the_crash_of_an_item_is_an_element(tasks: Tasks) -> None:
    assert [outcome(each) for each in stream_with_a_crash(tasks)] == recorded("J18")


def test_j23_a_failure_brings_the_item_it_was_given(tasks: Tasks) -> None:
    failed, fine = stream_with_a_crash(tasks)

    assert [["exit", failed.input, word(failed.exit)], ["ok", fine.value]] == recorded("J23")


@crashes
def test_j19_a_crash_is_a_value_for_who_wants_one(tasks: Tasks, fn: Callable[[], Any]) -> None:
    assert outcome(tasks.async_nolink(fn).yield_()) == recorded("J19")


def test_j20_a_task_is_never_restarted_and_forgotten_when_it_ended(tasks: Tasks) -> None:
    log = Log()

    def run() -> None:
        log.add("ran")
        crash()

    down(tasks.start_child(run))
    wait_until(lambda: counts(tasks.ref)["specs"] == 0)

    assert {"ran": len(log), "children": counts(tasks.ref)["specs"]} == recorded("J20")


def test_j21_more_tasks_than_max_children_are_refused(kernel: Kernel) -> None:
    assert recorded("J21") == {"start_child": "max_children", "async": "RuntimeError"}
    tasks = tasks_of(kernel, max_children=0)
    with pytest.raises(MaxChildren):
        tasks.async_nolink(lambda: 1)

    assert answer(tasks.start_child, lambda: 1) == recorded("J21")["start_child"]


def test_j22_a_task_can_be_terminated_by_its_ref(tasks: Tasks) -> None:
    ref = tasks.start_child(forever)
    seen = {
        "known": api(tasks.ref, TaskSupervisor.terminate_child, ref),
        "alive": ref.is_alive(),
        "again": api(tasks.ref, TaskSupervisor.terminate_child, ref),
    }

    assert seen == recorded("J22")


def test_j24_a_task_is_temporary(tasks: Tasks, gate: Gate) -> None:
    tasks.async_nolink(gate.pass_)
    (line,) = [entry.spec for entry in tasks_children(tasks)]

    assert line.restart.value == recorded("J24")


def tasks_children(tasks: Tasks) -> Any:
    from supervisors.children import published

    children = published(tasks.ref)
    assert children is not None
    return children.entries()


def test_j25_the_crash_of_a_task_is_reported_under_the_name_of_its_function() -> None:
    found: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append(dict(fields))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        with System() as system:
            Tasks(system.spawn(TaskSupervisor)).async_nolink(crash).yield_()
    finally:
        structlog.reset_defaults()

    assert [report["offender"]["ref"].startswith("crash#") for report in found] == [True]
