"""Threads and loops: grown when handlers block, given back after, never stopped by what runs on them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.blocking import blocking
from supervisors.cell import Cell
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.dispatchers.pool import Pool
from supervisors.errors import SystemStopped
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.supervisors.actors import Background, Counter, OnLoop, OnThread, spawn


def _until(condition: Any) -> None:
    while not condition():
        threading.Event().wait(0.001)


def pool_of(kernel: Kernel) -> Pool:
    pool = kernel.dispatcher("pool")
    assert isinstance(pool, Pool)
    return pool


# pool


def test_a_thousand_idle_actors_need_no_thread_each(kernel: Kernel) -> None:
    refs = [spawn(kernel) for _ in range(1000)]
    assert sum(ref.call(Counter.add, 1) for ref in refs) == 1000
    assert pool_of(kernel).threads() <= 4


def test_nested_blocking_calls_are_made_up_for(kernel: Kernel) -> None:
    chain = [spawn(kernel) for _ in range(200)]
    assert chain[0].within(20).call(Counter.ask_back, *chain[1:]) == 1
    assert pool_of(kernel).threads() > 100


def test_an_idle_thread_keeps_nothing_of_the_actor_that_it_ran_last() -> None:
    class OnSmall(Counter):
        dispatcher = "small"

    def is_kept() -> bool:
        return any(isinstance(each, Cell) and each.kind is OnSmall for each in gc.get_objects())

    kernel = Kernel()
    kernel.install("small", Pool("small", size=1))
    ref = spawn(kernel, OnSmall)
    assert (ref.call(Counter.add, 1), is_kept()) == (1, True)
    ref.stop()
    del ref
    wait_until(lambda: gc.collect() >= 0 and not is_kept())
    kernel.close()


def test_surplus_threads_go_when_they_are_idle() -> None:
    kernel = Kernel()
    kernel.install("small", Pool("small", size=1, surplus_idle=0.01))
    small = kernel.dispatcher("small")
    assert isinstance(small, Pool)

    class OnSmall(Counter):
        dispatcher = "small"

    chain = [spawn(kernel, OnSmall) for _ in range(20)]
    assert chain[0].call(Counter.ask_back, *chain[1:]) == 1
    _until(lambda: small.threads() == 1)
    assert chain[0].call(Counter.add, 1) == 1
    kernel.close()


def test_handlers_that_block_without_saying_so_are_noticed(kernel: Kernel) -> None:
    go = threading.Event()
    stuck = [spawn(kernel) for _ in range(20)]
    requests = [ref.send_request(Counter.wait_for, go) for ref in stuck]
    assert spawn(kernel).call(Counter.add, 1) == 1
    go.set()
    assert {request.get(5) for request in requests} == {"waited"}


def test_a_block_that_says_so_is_made_up_for_at_once(kernel: Kernel) -> None:
    class Blocking(Actor):
        def wait(self, event: threading.Event) -> None:
            with blocking():
                event.wait(10)

    go = threading.Event()
    refs = [kernel.spawn(Blocking) for _ in range(5)]
    requests = [ref.send_request(Blocking.wait, go) for ref in refs]  # type: ignore[union-attr]
    assert spawn(kernel).call(Counter.add, 1) == 1
    go.set()
    for request in requests:
        request.get(5)


def test_blocking_off_the_pool_does_nothing() -> None:
    before = threading.active_count()
    with blocking():
        assert threading.active_count() <= before


def test_a_zombie_does_not_cost_the_pool_a_thread(kernel: Kernel) -> None:
    go, zombies = threading.Event(), [spawn(kernel) for _ in range(4)]
    for ref in zombies:
        began = threading.Event()
        ref.cast(Counter.wait_for, go, began)
        began.wait(5)
        ref.fence()
    pool = pool_of(kernel)
    assert pool._blocked == 4
    assert spawn(kernel).call(Counter.add, 1) == 1
    go.set()
    _until(lambda: pool._blocked == 0)


class Back:
    """What a pool runs, once. Its thread comes back in the look, of this number, of who gives that thread up."""

    def __init__(self, look: int, late: bool) -> None:
        self.began, self.go, self.looks, self.look, self.late = threading.Event(), threading.Event(), 0, look, late
        self.sched = False
        self.pool = Pool("back", 1)
        self._host: Any = None

    def activate(self, budget: int, host: Any) -> bool:
        self._host = host
        self.began.set()
        self.go.wait(10)
        self._host = None
        return False

    @property
    def host(self) -> Any:
        host, self.looks = self._host, self.looks + 1
        if self.looks == self.look:
            self.go.set()
            _until(lambda: self.pool._finished == 1 and (self.pool._idle or host.abandoned))
        return self._host if self.late else host


@pytest.mark.parametrize(("look", "late"), [(1, False), (2, False), (2, True)])
def test_a_thread_that_comes_back_as_it_is_given_up_is_one_of_the_pools_again(look: int, late: bool) -> None:
    """Just behind the look, or (`late`) just before it, when the thread is marked as lost already."""
    back: Any = Back(look, late)
    pool = back.pool
    pool.submit(back)
    assert back.began.wait(5)
    pool.abandon(back)
    _until(lambda: pool._idle)
    try:
        assert pool._blocked == 0
    finally:
        pool.stop(5.0)
    _until(lambda: pool.threads() == 0)


def test_an_actor_that_writes_to_itself_for_ever_lets_others_live(kernel: Kernel) -> None:
    class Busy(Counter):
        def again(self) -> None:
            self.ref.cast(Busy.again)

    busy = [spawn(kernel, Busy) for _ in range(4)]
    for ref in busy:
        ref.cast(Busy.again)
    assert spawn(kernel).call(Counter.add, 1) == 1
    for ref in busy:
        ref.fence()


# thread


def test_each_thread_actor_has_a_thread_of_its_own_until_its_death(kernel: Kernel) -> None:
    refs = [spawn(kernel, OnThread) for _ in range(3)]
    names = {ref.call(Counter.thread_name) for ref in refs}
    assert names == {f"supervisors-{ref.name}" for ref in refs}
    for ref in refs:
        ref.stop()
    _until(lambda: not names & {thread.name for thread in threading.enumerate()})


# loop


@pytest.fixture
def loop() -> Iterator[LoopDispatcher]:
    dispatcher = LoopDispatcher("test")
    yield dispatcher
    dispatcher.stop(5.0)


def test_a_loop_starts_on_first_use(loop: LoopDispatcher) -> None:
    assert loop.loop.is_running()
    loop.start()


def test_run_gives_the_value_of_a_coroutine(loop: LoopDispatcher) -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert loop.run(answer()).get(5) == 7


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_run_gives_the_exception_of_a_coroutine(loop: LoopDispatcher, error: BaseException) -> None:
    async def fail() -> None:
        raise error

    reply = loop.run(fail())
    with pytest.raises(type(error)):
        reply.get(5)
    assert loop.loop.is_running()


def test_cancelling_the_reply_cancels_the_coroutine(loop: LoopDispatcher) -> None:
    began, ended = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    reply = loop.run(work())
    began.wait(5)
    assert reply.cancel()
    assert ended.wait(5)


def test_stop_cancels_what_runs_and_settles_its_replies(loop: LoopDispatcher) -> None:
    began = threading.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    reply = loop.run(work())
    began.wait(5)
    assert loop.stop(5.0)
    assert reply.cancelled()
    with pytest.raises(SystemStopped):
        loop.run(work())


def test_a_task_made_in_the_last_turn_of_a_loop_can_clean_up(loop: LoopDispatcher) -> None:
    inside, go_on, cleaned = threading.Event(), threading.Event(), threading.Event()
    running, tasks = loop.loop, []

    def hold() -> None:
        inside.set()
        go_on.wait(5)

    async def holds() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    running.call_soon_threadsafe(hold)
    assert inside.wait(5)
    running.call_soon_threadsafe(lambda: tasks.append(running.create_task(holds())))
    stopping = threading.Thread(target=loop.stop, args=(5,))
    stopping.start()
    _until(lambda: loop._stopped)
    go_on.set()
    stopping.join(5)
    assert cleaned.is_set()


def test_a_coroutine_that_will_not_end_with_its_loop_keeps_nobody_waiting(loop: LoopDispatcher) -> None:
    began = threading.Event()

    async def stubborn() -> None:
        began.set()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    reply = loop.run(stubborn())
    began.wait(5)
    loop.stop(5.0)
    assert reply.cancelled()


def test_a_coroutine_that_is_not_wanted_any_more_never_begins(loop: LoopDispatcher) -> None:
    held, gate, began = threading.Event(), threading.Event(), threading.Event()

    async def hold() -> None:
        held.set()
        gate.wait(5)

    async def work() -> None:
        began.set()

    loop.run(hold())
    assert held.wait(5)
    unwanted = loop.run(work())
    assert unwanted.cancel()
    gate.set()
    loop.run(asyncio.sleep(0)).get(5)
    assert not began.is_set()


def test_a_foreign_task_that_exits_does_not_stop_the_loop(loop: LoopDispatcher) -> None:
    async def foreign() -> None:
        raise SystemExit

    async def start() -> None:
        task = asyncio.get_running_loop().create_task(foreign())
        task.add_done_callback(lambda done: done.exception())

    loop.run(start()).get(5)

    async def answer() -> int:
        return 7

    assert loop.run(answer()).get(5) == 7


def test_a_loop_stopped_from_itself_does_not_wait_for_itself(loop: LoopDispatcher) -> None:
    async def stop() -> bool:
        return loop.stop(5.0)

    assert loop.run(stop()).get(5) is False
    assert loop.stop(5.0)


def test_a_busy_actor_of_a_loop_lets_the_others_live(kernel: Kernel) -> None:
    class Busy(OnLoop):
        async def again(self) -> None:
            self.ref.cast(Busy.again)

    busy, other = spawn(kernel, Busy), spawn(kernel, OnLoop)
    busy.cast(Busy.again)
    assert other.call(OnLoop.pause, 0.0) == 0.0
    busy.fence()


def test_an_actor_knows_the_tasks_it_has_started_until_they_end(kernel: Kernel) -> None:
    class Starts(OnLoop):
        def begin(self) -> list[bool]:
            began = [self.start_task(asyncio.sleep(60.0)) for _ in range(2)]
            seen = [self.list_tasks() == began, self.running_tasks == 2]
            began[0].cancel()
            return seen

        def left(self) -> int:
            assert len(self.list_tasks()) == self.running_tasks
            return self.running_tasks

    ref = spawn(kernel, Starts)
    assert ref.call(Starts.left) == 0
    assert ref.call(Starts.begin) == [True, True]
    wait_until(lambda: ref.call(Starts.left) == 1)


def test_ten_thousand_deferred_replies_wait_on_one_loop(kernel: Kernel) -> None:
    class Sleepy(OnLoop):
        def nap(self) -> Reply[str]:
            reply: Reply[str] = self.defer()
            self.start_task(self._nap(reply))
            return reply

        async def _nap(self, reply: Reply[str]) -> None:
            await asyncio.sleep(0.05)
            reply.set("woken")

    ref = spawn(kernel, Sleepy)
    replies = [ref.send_request(Sleepy.nap) for _ in range(10_000)]  # type: ignore[arg-type]
    assert {reply.get(10) for reply in replies} == {"woken"}


def test_a_closed_asyncio_loop_harms_nobody(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)

    async def main() -> asyncio.Task[int]:
        return asyncio.create_task(ref.acall(Counter.add, 1))

    asyncio.run(main())
    go.set()
    assert ref.call(Counter.add, 0) in (0, 1)


def test_many_loops_may_await_one_actor(kernel: Kernel) -> None:
    ref = spawn(kernel, OnLoop)

    async def ask() -> int:
        return sum([await ref.acall(OnLoop.pause, 0.0) == 0.0 for _ in range(50)])

    assert [each.value() for each in [Background(asyncio.run, ask()) for _ in range(4)]] == [50] * 4
