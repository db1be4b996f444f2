"""How a task that awaits a reply goes on, whatever thread settles it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context

import pytest

from supervisors.awaiting import Wake, bag_here
from supervisors.reply import Reply


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def elsewhere(*replies: Reply[int]) -> None:
    """Settle them in another thread, and wait until that has been."""
    thread = threading.Thread(target=lambda: [reply.set(1) for reply in replies])
    thread.start()
    thread.join()


async def value_of(reply: Reply[int]) -> int:
    return await reply


def test_a_task_that_lets_a_system_exit_out_takes_no_other_wait_with_it(loop: asyncio.AbstractEventLoop) -> None:
    first, second = Reply[int](), Reply[int]()

    async def ends() -> None:
        await first
        raise SystemExit

    ending, other = loop.create_task(ends()), loop.create_task(value_of(second))
    loop.run_until_complete(asyncio.sleep(0))
    elsewhere(first, second)
    with pytest.raises(SystemExit):
        loop.run_until_complete(other)
    assert loop.run_until_complete(asyncio.wait_for(other, 5)) == 1
    assert isinstance(ending.exception(), SystemExit)


def test_a_step_that_runs_the_loop_itself_and_so_empties_the_bag_harms_nobody(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def two_wait() -> None:
        bag, first, second = bag_here(loop), Wake(None, None), Wake(None, None)
        first.add_done_callback(lambda _: bag._flush(), context=copy_context())
        second.add_done_callback(lambda _: seen.append("second"), context=copy_context())
        thread = threading.Thread(target=lambda: [first(), second()])
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    loop.run_until_complete(two_wait())
    assert (seen, complaints) == (["second"], [])


def test_a_step_that_runs_the_loop_itself_hears_of_the_waits_that_ended_with_its_own(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen: list[str] = []

    def run_the_loop(_: object) -> None:
        for handle in list(loop._ready):  # type: ignore[attr-defined]  # as `nest_asyncio` has it
            handle._run()
            handle.cancel()
        seen.append("the step is over")

    async def two_wait() -> None:
        first, second = Wake(None, None), Wake(None, None)
        first.add_done_callback(run_the_loop, context=copy_context())
        second.add_done_callback(lambda _: seen.append("second"), context=copy_context())
        thread = threading.Thread(target=lambda: [first(), second()])
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    loop.run_until_complete(two_wait())
    assert seen == ["second", "the step is over"]


def test_a_task_of_a_loop_that_goes_on_in_another_thread_hears_from_the_one_that_it_ran_in_before(
    loop: asyncio.AbstractEventLoop,
) -> None:
    reply, is_asleep = Reply[int](), threading.Event()
    task = loop.create_task(value_of(reply))
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(lambda: loop.call_soon(is_asleep.set))
    thread = threading.Thread(target=lambda: loop.run_until_complete(task))
    thread.start()
    assert is_asleep.wait(10)
    reply.set(1)
    thread.join(10)
    sleeps_on = thread.is_alive()
    loop.call_soon_threadsafe(lambda: None)  # wakes it in any case
    thread.join()
    assert not sleeps_on


def test_a_reply_that_is_settled_while_others_go_on_has_its_turn_after_what_waits(
    loop: asyncio.AbstractEventLoop,
) -> None:
    first, second = Reply[int](), Reply[int]()
    seen: list[str] = []

    async def settles() -> None:
        await first
        loop.call_soon(seen.append, "what waits")
        elsewhere(second)

    async def waits() -> None:
        await second
        seen.append("the other")

    both = [loop.create_task(settles()), loop.create_task(waits())]
    loop.run_until_complete(asyncio.sleep(0))
    elsewhere(first)
    loop.run_until_complete(asyncio.wait(both))
    assert seen == ["what waits", "the other"]


def test_a_reply_that_is_settled_in_the_loops_own_thread_does_not_run_the_task_in_there(
    loop: asyncio.AbstractEventLoop,
) -> None:
    reply = Reply[int]()
    task = loop.create_task(value_of(reply))
    loop.run_until_complete(asyncio.sleep(0))
    reply.set(1)
    assert not task.done()
    assert loop.run_until_complete(task) == 1


def test_a_task_that_is_cancelled_is_told_what_for(loop: asyncio.AbstractEventLoop) -> None:
    reply = Reply[int]()
    task = loop.create_task(value_of(reply))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        loop.run_until_complete(task)
    assert reply.cancelled()


def test_a_wait_that_is_over_keeps_its_cancellation_for_the_next(loop: asyncio.AbstractEventLoop) -> None:
    reply, never = Reply[int](), Reply[int]()

    async def both() -> None:
        await reply
        await never

    task = loop.create_task(both())
    loop.run_until_complete(asyncio.sleep(0))
    reply.set(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(asyncio.wait_for(task, 5))


def test_a_wait_that_ends_between_a_tasks_look_and_its_sleep_wakes_it(loop: asyncio.AbstractEventLoop) -> None:
    """As where the collector ends a call that settles the reply."""
    reply = Reply[int]()
    called: list[object] = []

    async def main() -> None:
        wake = reply.begin_wait(None, None)
        next(wake.__await__())
        reply.set(1)
        wake.add_done_callback(called.append, context=copy_context())
        await asyncio.sleep(0)
        assert called == [wake]

    loop.run_until_complete(main())


class Held:
    """Something in the frame of a task."""


@pytest.mark.parametrize("settle", [lambda reply: reply.set(1), elsewhere], ids=["here", "elsewhere"])
def test_a_task_that_fails_behind_its_wait_leaves_nothing_to_the_collector(
    loop: asyncio.AbstractEventLoop, settle: Callable[[Reply[int]], object]
) -> None:
    held: list[weakref.ref[Held]] = []

    async def fails(reply: Reply[int]) -> None:
        mark = Held()
        held.append(weakref.ref(mark))
        wake = reply.begin_wait(None, None)
        await wake
        raise ValueError

    async def main() -> None:
        reply = Reply[int]()
        task = asyncio.create_task(fails(reply))
        await asyncio.sleep(0)
        settle(reply)
        await asyncio.wait([task], timeout=10)
        assert isinstance(task.exception(), ValueError)

    gc.collect()
    gc.disable()
    try:
        loop.run_until_complete(main())
        assert held[0]() is None
    finally:
        gc.enable()
