"""Tasks: beside their caller, each ending in a value or a typed error, and none left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from supervisors import sys
from supervisors.clock import ManualClock
from supervisors.deadline import current_deadline, deadline_at
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, CallTimeout, Fenced, MaxChildren, SpecError
from supervisors.exits import Crash, Killed, Shutdown
from supervisors.kernel import Kernel
from supervisors.many_tasks import aawait_many, await_many, yield_many
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.spec import BRUTAL_KILL
from supervisors.task_stream import async_stream
from supervisors.tasks import TIMEOUT, Failed, Ok, Task, Tasks, TaskSupervisor
from supervisors.testing import Log, wait_until
from tests.supervisors.actors import Background
from tests.supervisors.workers import BOOM, gone

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def double(n: int) -> int:
    return 2 * n


async def adouble(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def fail(error: BaseException) -> None:
    raise error


async def afail(error: BaseException) -> None:
    raise error


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def tasks(kernel: Kernel) -> Tasks:
    return tasks_of(kernel)


def tasks_of(kernel: Kernel, **options: Any) -> Tasks:
    ref = kernel.spawn(TaskSupervisor, **options)
    assert isinstance(ref, Ref)
    return Tasks(ref)


@pytest.mark.parametrize("fn", [double, adouble])
def test_a_task_gives_its_value(tasks: Tasks, fn: Callable[[int], Any]) -> None:
    assert tasks.async_nolink(fn, 4).result() == 8


def test_a_value_can_be_had_again(tasks: Tasks) -> None:
    task = tasks.async_nolink(double, 4)

    assert [task.result(), task.result(), task.yield_()] == [8, 8, Ok(8)]


def test_a_finished_task_is_forgotten_by_its_supervisor(tasks: Tasks) -> None:
    task = tasks.async_nolink(double, 4)
    assert task.ref is not None
    gone(task.ref)

    # Its supervisor may be told after us: there is no order between those who watch.
    wait_until(lambda: tasks.ref.call(DynamicSupervisor.which_children) == [])


@pytest.mark.parametrize("fn", [fail, afail])
@pytest.mark.parametrize("error", [BOOM, SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_crash_is_raised_with_its_cause(tasks: Tasks, fn: Callable[..., Any], error: BaseException) -> None:
    with pytest.raises(ActorDied) as caught:
        tasks.async_nolink(fn, error).result()

    assert caught.value.exit == Crash(error)
    assert tasks.ref.is_alive()


def test_a_crash_is_named_after_its_function(tasks: Tasks) -> None:
    with pytest.raises(ActorDied) as caught:
        tasks.async_nolink(fail, BOOM).result()

    assert caught.value.name.startswith("fail#")


def test_a_crash_is_yielded_as_a_value(tasks: Tasks) -> None:
    assert tasks.async_nolink(fail, BOOM).yield_() == Failed(Crash(BOOM))


def test_waiting_too_long_for_a_result_leaves_the_task_running(tasks: Tasks, gate: threading.Event) -> None:
    task = tasks.async_nolink(gate.wait, 10)
    with pytest.raises(CallTimeout):
        task.result(0.001)
    gate.set()

    assert task.result() is True


def test_yield_gives_none_while_the_task_runs(tasks: Tasks, gate: threading.Event) -> None:
    task = tasks.async_nolink(gate.wait, 10)

    assert task.yield_(0.001) is None


def test_a_result_is_waited_for_until_the_callers_deadline(still: Kernel, gate: threading.Event) -> None:
    tasks = tasks_of(still)
    task = tasks.async_nolink(gate.wait, 10)
    with deadline_at(0.0), pytest.raises(CallTimeout):
        task.result()


def test_a_task_sees_the_context_of_its_caller(tasks: Tasks) -> None:
    async def colour() -> str:
        return COLOUR.get()

    COLOUR.set("red")
    with deadline_at(42.0):
        seen = [tasks.async_nolink(fn).result(5) for fn in (COLOUR.get, colour, current_deadline)]

    assert seen == ["red", "red", 42.0]


def test_more_than_max_children_are_refused_in_the_caller(kernel: Kernel, gate: threading.Event) -> None:
    tasks = tasks_of(kernel, max_children=1)
    tasks.async_nolink(gate.wait, 10)

    with pytest.raises(MaxChildren):
        tasks.async_nolink(double, 1)


def test_a_supervisor_that_is_gone_is_told_at_once(tasks: Tasks) -> None:
    tasks.ref.exit(Shutdown())
    gone(tasks.ref)

    with pytest.raises(ActorDied):
        tasks.async_nolink(double, 1)


def test_tasks_end_with_their_supervisor(tasks: Tasks) -> None:
    task = tasks.async_nolink(forever)
    tasks.ref.exit(Shutdown())

    with pytest.raises(ActorDied):
        task.result()
    assert task.ref is not None
    assert gone(task.ref) == Shutdown()


# --- on a loop ----------------------------------------------------------------------------------------------------


def test_a_task_can_be_awaited_and_started_on_a_loop(tasks: Tasks) -> None:
    async def main() -> list[Any]:
        return [await tasks.async_nolink(double, 4), await tasks.async_nolink(adouble, 5).aresult(5)]

    assert asyncio.run(main()) == [8, 10]


def test_a_refusal_comes_out_of_the_await(kernel: Kernel) -> None:
    tasks = tasks_of(kernel, max_children=0)

    async def main() -> None:
        await tasks.async_nolink(double, 4)

    with pytest.raises(MaxChildren):
        asyncio.run(main())


def test_giving_up_an_await_ends_the_task(tasks: Tasks) -> None:
    began: Reply[None] = Reply()

    async def work() -> None:
        began.set()
        await forever()

    async def main() -> Any:
        task = tasks.async_nolink(work)
        waiting = asyncio.ensure_future(task.aresult(10))
        await began
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return task

    task = asyncio.run(main())

    assert gone(task.ref) == Shutdown("nobody waits for it")


def test_ayield_gives_none_or_the_outcome(tasks: Tasks) -> None:
    async def main() -> list[Any]:
        return [await tasks.async_nolink(forever).ayield(0.001), await tasks.async_nolink(double, 1).ayield()]

    assert asyncio.run(main()) == [None, Ok(2)]


# --- shutdown -----------------------------------------------------------------------------------------------------


def test_shutdown_of_a_running_coroutine_is_clean(tasks: Tasks) -> None:
    task = tasks.async_nolink(forever)

    assert task.shutdown() is None
    with pytest.raises(ActorDied) as caught:
        task.result()
    assert caught.value.exit == Shutdown("task shutdown")


def test_shutdown_of_a_finished_task_gives_its_outcome(tasks: Tasks) -> None:
    task = tasks.async_nolink(double, 4)
    task.result()

    assert task.shutdown() == Ok(8)


def stuck(tasks: Tasks, gate: threading.Event) -> Task[bool]:
    """A task whose function has begun, and waits at the gate: before that nobody's thread is in it."""
    begun = threading.Event()

    def wait() -> bool:
        begun.set()
        return gate.wait(10)

    task = tasks.async_nolink(wait)
    assert begun.wait(10)
    return task


def test_shutdown_of_a_stuck_function_fences_it(kernel: Kernel, tasks: Tasks, gate: threading.Event) -> None:
    task = stuck(tasks, gate)

    assert (task.shutdown(0.001), kernel.zombies) == (Failed(Killed()), 1)
    gate.set()
    wait_until(lambda: kernel.zombies == 0)


def test_a_brutal_shutdown_does_not_wait(kernel: Kernel, tasks: Tasks, gate: threading.Event) -> None:
    task = stuck(tasks, gate)

    assert (task.shutdown(BRUTAL_KILL), kernel.zombies) == (None, 1)


def test_what_an_abandoned_task_sends_is_refused(kernel: Kernel, tasks: Tasks, gate: threading.Event) -> None:
    log, began = Log(), threading.Event()

    def late() -> None:
        began.set()
        gate.wait(10)
        try:
            tasks.ref.call(DynamicSupervisor.count_children)
        except Fenced:
            log.add("refused")

    task = tasks.async_nolink(late)
    assert began.wait(10)  # one that has not begun is not begun any more
    task.abandon()
    gate.set()

    log.wait_for("refused")


# --- many ---------------------------------------------------------------------------------------------------------


def test_await_many_gives_values_in_order(tasks: Tasks) -> None:
    assert await_many([tasks.async_nolink(fn, n) for n, fn in enumerate([double, adouble, double])]) == [0, 2, 4]


def test_await_many_of_nothing_is_nothing() -> None:
    assert await_many([]) == []


def test_await_many_raises_at_the_first_failure(tasks: Tasks, gate: threading.Event) -> None:
    running = tasks.async_nolink(gate.wait, 10)

    with pytest.raises(ActorDied) as caught:
        await_many([running, tasks.async_nolink(fail, BOOM)])
    assert caught.value.exit == Crash(BOOM)
    assert not running.done()


def test_await_many_has_one_deadline_for_all(tasks: Tasks, gate: threading.Event) -> None:
    running = [tasks.async_nolink(gate.wait, 10) for _ in range(2)]

    with pytest.raises(CallTimeout, match="2 of 3 tasks"):
        await_many([*running, tasks.async_nolink(double, 1)], 0.05)


def test_who_waited_too_long_for_tasks_is_told_what_gives_them_longer(tasks: Tasks, gate: threading.Event) -> None:
    task = tasks.async_nolink(gate.wait, 10)
    waits: list[Callable[[], Any]] = [
        lambda: task.result(0.001),
        lambda: await_many([task], 0.001),
        lambda: asyncio.run(aawait_many([task], 0.001)),
    ]
    for wait in waits:
        with pytest.raises(CallTimeout, match="give it longer with timeout="):
            wait()
    assert not task.done()


def test_who_awaited_a_task_too_long_is_told_what_gives_it_longer(tasks: Tasks, gate: threading.Event) -> None:
    with pytest.raises(CallTimeout, match=r"Event\.wait did not .* give it longer with timeout="):
        asyncio.run(tasks.async_nolink(gate.wait, 10).aresult(0.001))


def test_many_can_be_awaited_on_a_loop(tasks: Tasks) -> None:
    async def main() -> list[Any]:
        return await aawait_many([tasks.async_nolink(adouble, n) for n in range(3)])

    assert asyncio.run(main()) == [0, 2, 4]


def test_yield_many_gives_what_is_there(tasks: Tasks, gate: threading.Event) -> None:
    running, done = tasks.async_nolink(gate.wait, 10), tasks.async_nolink(double, 1)
    done.result()

    assert yield_many([running, done], 0.001) == [(running, None), (done, Ok(2))]


# --- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [double, adouble])
def test_a_stream_is_in_the_order_of_its_items(tasks: Tasks, fn: Callable[[int], Any]) -> None:
    outcomes = list(async_stream(tasks, fn, range(20), max_concurrency=3))

    assert outcomes == [Ok(2 * n, n) for n in range(20)]


def test_a_failing_item_is_a_value_and_the_others_go_on(tasks: Tasks) -> None:
    def odd(n: int) -> int:
        if n == 1:
            raise BOOM
        return n

    assert list(async_stream(tasks, odd, range(3))) == [Ok(0, 0), Failed(Crash(BOOM), 1), Ok(2, 2)]


def test_never_more_tasks_run_than_may(tasks: Tasks) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(n: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1

    list(async_stream(tasks, work, range(50), max_concurrency=2))

    assert 1 <= most <= 2


def test_a_task_that_finishes_as_the_next_is_started_is_not_waited_for(tasks: Tasks, gate: threading.Event) -> None:
    window = async_stream(tasks, lambda n: gate.wait(10), [1], max_concurrency=1)._window
    assert window.fill()
    assert window.pop() is None
    gate.set()
    wait_until(lambda: bool(window._finished))
    window.fill()
    Background(window.wait).value()
    slot = window.pop()
    assert slot is not None
    assert slot.outcome == Ok(True, 1)


def test_items_are_pulled_only_as_slots_become_free(tasks: Tasks, gate: threading.Event) -> None:
    pulled = []

    def items() -> Iterator[int]:
        for n in range(100):
            pulled.append(n)
            yield n

    stream = iter(async_stream(tasks, lambda n: n if n == 0 else gate.wait(10), items(), max_concurrency=3))
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert first == Ok(0, 0)
    assert pulled in ([0, 1, 2], [0, 1, 2, 3])


def test_unordered_outcomes_come_as_they_come(tasks: Tasks, gate: threading.Event) -> None:
    def work(n: int) -> int:
        if n == 0:
            gate.wait(10)
        else:
            gate.set()
        return n

    outcomes = list(async_stream(tasks, work, range(2), max_concurrency=2, ordered=False))

    assert sorted(outcomes, key=str) == [Ok(0, 0), Ok(1, 1)]


def test_a_task_beyond_its_time_is_abandoned_and_the_stream_goes_on(
    still: Kernel, clock: ManualClock, gate: threading.Event
) -> None:
    tasks = tasks_of(still)
    began = threading.Event()

    def work(n: int) -> int:
        if n == 0:
            began.set()
            gate.wait(10)
        return n

    def advance() -> None:
        began.wait(5)
        clock.advance(2.0)

    mover = threading.Thread(target=advance)
    mover.start()
    first, second = async_stream(tasks, work, range(2), max_concurrency=1, timeout=2.0)
    mover.join()

    assert isinstance(first, Failed)
    assert isinstance(first.exit, Crash)
    assert isinstance(first.exit.error, CallTimeout)
    assert (first.input, second, still.zombies) == (0, Ok(1, 1), 1)


def test_a_consumer_that_stops_early_leaves_no_task(tasks: Tasks) -> None:
    async def work(n: int) -> int:
        if n:
            await forever()
        return n

    stream = iter(async_stream(tasks, work, range(100), max_concurrency=4))
    next(stream)
    assert tasks.ref.call(DynamicSupervisor.count_children).specs > 0
    stream.close()  # type: ignore[attr-defined]

    wait_until(lambda: tasks.ref.call(DynamicSupervisor.count_children).specs == 0)


def test_a_failing_source_of_items_leaves_no_task(tasks: Tasks) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise BOOM

    with pytest.raises(ValueError, match="boom"):
        list(async_stream(tasks, lambda n: n, items(), max_concurrency=2))


def test_a_stream_can_be_iterated_on_a_loop(tasks: Tasks) -> None:
    async def main() -> list[Any]:
        return [outcome async for outcome in async_stream(tasks, adouble, range(10), max_concurrency=3)]

    assert asyncio.run(main()) == [Ok(2 * n, n) for n in range(10)]


def test_a_full_supervisor_is_the_failure_of_the_item(kernel: Kernel) -> None:
    tasks = tasks_of(kernel, max_children=0)
    (outcome,) = async_stream(tasks, double, [1])

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.exit, Crash)
    assert isinstance(outcome.exit.error, MaxChildren)


@pytest.mark.parametrize("bad", [{"max_concurrency": 0}, {"max_concurrency": True}, {"timeout": 0}])
def test_bad_options_are_refused_before_anything_runs(tasks: Tasks, bad: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        async_stream(tasks, double, [1], **bad)


def test_a_task_that_its_caller_gave_up_starting_never_runs(still: Kernel, clock: ManualClock) -> None:
    tasks, ran = tasks_of(still), Log()
    sys.suspend(tasks.ref)
    starting = Background(tasks.async_nolink, ran.add, "late")
    while not starting.ended(0.01):
        clock.advance(TIMEOUT)
    with pytest.raises(CallTimeout):
        starting.value()
    sys.resume(tasks.ref)
    assert tasks.async_nolink(double, 2).result() == 4
    assert ran == []


def test_a_stream_that_is_given_the_supervisor_itself_is_told_what_to_write(tasks: Tasks) -> None:
    supervisor: Any = tasks.ref
    with pytest.raises(SpecError, match=r"tasks cannot be .*; allowed: Tasks\(ref\) of a TaskSupervisor"):
        async_stream(supervisor, double, [1])
