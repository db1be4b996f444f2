"""Every "store, then look again" of the kernel, forced: one thread is parked between the halves, the other passes.

Each test fails when the second look is taken out; traffic alone would not show it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from supervisors.blocking import blocking
from supervisors.clock import ManualClock
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.dispatchers.pool import Pool
from supervisors.errors import ActorDied, StartFailed, SystemStopped
from supervisors.exits import Exit, Killed, Normal
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.supervisor import Supervisor
from tests.supervisors.actors import Background, Counter, Inline, OnLoop, OnThread, spawn
from tests.supervisors.parking import all_parked, parked
from tests.supervisors.workers import CRASH, supervise

owned = pytest.mark.parametrize("cls", [Counter, OnThread, OnLoop])


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    for _ in range(5000):
        if condition():
            return
        threading.Event().wait(0.001)
    pytest.fail("it never came true")


# a sender and the owner


@owned
def test_a_message_left_while_the_owner_lets_go_is_handled(kernel: Kernel, cls: type[Counter]) -> None:
    ref, handled = spawn(kernel, cls), threading.Event()
    with parked("own:releasing", ref.mailbox) as gate:
        ref.cast(Counter.add, 1)
        gate.reached()
        ref.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)


def test_a_message_left_while_an_inline_caller_lets_go_is_handled(kernel: Kernel) -> None:
    ref, handled = spawn(kernel, Inline), threading.Event()
    with parked("own:releasing", ref.mailbox) as gate:
        call = Background(ref.call, Counter.add, 1)
        gate.reached()
        ref.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)
    assert call.value() == 1


def test_an_activation_that_finds_the_actor_owned_leaves_it_its_thread(kernel: Kernel) -> None:
    """Else a supervisor would leave the rest of a restart to a thread that knows nothing of it."""
    ref, pool = spawn(kernel), kernel.dispatcher("pool")
    assert isinstance(pool, Pool)
    gate, began = threading.Event(), threading.Event()
    waiting = ref.send_request(Counter.wait_for, gate, began)
    assert began.wait(5)
    host = ref.mailbox.host
    done = pool._finished
    pool.submit(ref.mailbox)
    until(lambda: pool._finished > done)
    assert ref.mailbox.host is host
    gate.set()
    assert waiting.get(5) == "waited"


def test_an_activation_that_finds_the_actor_owned_can_be_followed_by_another(kernel: Kernel) -> None:
    ref, handled = spawn(kernel, Inline), threading.Event()
    with parked("own:releasing", ref.mailbox) as gate:
        call = Background(ref.call, Counter.add, 1)
        gate.reached()
        ref.mailbox.sched = True
        kernel.dispatcher("pool").submit(ref.mailbox)
        until(lambda: not ref.mailbox.sched)
        ref.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)
    assert call.value() == 1


@owned
def test_a_message_that_meets_a_death_is_rejected(kernel: Kernel, cls: type[Counter]) -> None:
    ref, go, began = spawn(kernel, cls), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    with parked("put:appending", ref.mailbox) as gate:
        sending = Background(ref.send_request, Counter.add, 1)
        gate.reached()
        ref.fence()
        gate.open()
        with pytest.raises(ActorDied) as caught:
            sending.value().get(3)
    go.set()
    assert not caught.value.maybe_handled


# the owner and who ends it


@owned
def test_a_message_in_hand_is_not_handled_after_the_death(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref = spawn(kernel, cls, 0, log)
    with parked("handle:taken", ref.mailbox) as gate:
        request = ref.send_request(Counter.note, "after death")
        gate.reached()
        ref.fence()
        gate.open()
        with pytest.raises(ActorDied) as caught:
            request.get(3)
    assert not caught.value.maybe_handled
    assert log == []


@owned
def test_a_cast_in_hand_is_not_handled_after_the_death(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref = spawn(kernel, cls, 0, log)
    with parked("handle:taken", ref.mailbox) as gate:
        ref.cast(Counter.note, "after death")
        gate.reached()
        ref.fence()
        gate.open()
        until(lambda: not ref.mailbox.own.locked())
    assert (log, ref.mailbox.last, ref.mailbox.handled) == ([], None, 1)


@owned
def test_a_message_taken_while_its_actor_is_being_finished_is_failed(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref = spawn(kernel, cls, 0, log)
    with parked("finish:dead", ref.mailbox) as gate:
        fencing = Background(ref.fence)
        gate.reached()
        request = ref.send_request(Counter.note, "after death")
        with pytest.raises(ActorDied):
            request.get(3)
        gate.open()
        fencing.value()
    assert log == []


@owned
def test_an_owner_whose_end_comes_second_handles_nothing_more(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ending, go = threading.Event(), threading.Event()

    class Slow(cls):  # type: ignore[misc, valid-type]
        def terminate(self, exit: Exit) -> None:
            ending.set()
            go.wait(10)

    ref = spawn(kernel, Slow, 0, log)
    ref.cast(Counter.end, Normal())
    assert ending.wait(5)
    requests = [ref.send_request(Counter.note, "after death") for _ in range(2)]
    with parked("finish:dead", ref.mailbox) as gate:
        fencing = Background(ref.fence)
        gate.reached()
        go.set()
        until(lambda: not ref.mailbox.own.locked())
        gate.open()
        fencing.value()
    for request in requests:
        with pytest.raises(ActorDied):
            request.get(3)
    assert log == []


@owned
def test_a_zombie_that_comes_back_while_it_is_counted_is_no_zombie(kernel: Kernel, cls: type[Counter]) -> None:
    ref, go, began = spawn(kernel, cls), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    with parked("fence:counting", ref.mailbox) as gate:
        fencing = Background(ref.fence)
        gate.reached()
        go.set()
        until(lambda: not ref.mailbox.own.locked())
        gate.open()
        fencing.value()
    assert kernel.zombies == 0


# watchers, names, timers, starts


def test_a_watcher_that_meets_the_death_is_told(kernel: Kernel) -> None:
    ref = spawn(kernel)
    with parked("watch:adding", ref.mailbox) as gate:
        asking = Background(ref.down)
        gate.reached()
        ref.fence()
        gate.open()
        assert asking.value().get(3) == Killed()


def test_a_monitor_that_meets_the_death_is_told(kernel: Kernel) -> None:
    ref, told = spawn(kernel), threading.Event()

    class Watching(Counter):
        def on_info(self, message: Any) -> None:
            told.set()

    watching = spawn(kernel, Watching)
    with parked("watch:adding", ref.mailbox) as gate:
        watching.cast(Counter.watch_over, ref)
        gate.reached()
        ref.fence()
        gate.open()
        assert told.wait(3)


def test_a_name_that_meets_the_death_of_its_holder_is_free(kernel: Kernel) -> None:
    ref, registry = spawn(kernel), Registry()
    with parked("names:adding", ref.mailbox) as gate:
        registering = Background(registry.register, "x", ref)
        gate.reached()
        ref.fence()
        gate.open()
        with pytest.raises(ActorDied):
            registering.value()
    assert not registry._table
    assert not ref.mailbox.names


def test_who_waits_for_a_name_outlives_a_holder_that_died_while_it_took_it(kernel: Kernel) -> None:
    ref, registry = spawn(kernel), Registry()
    arrival = registry.arrival("x")
    with parked("names:adding", ref.mailbox) as gate:
        registering = Background(registry.register, "x", ref)
        gate.reached()
        ref.fence()
        gate.open()
        with pytest.raises(ActorDied):
            registering.value()
    successor = spawn(kernel)
    registry.register("x", successor)
    assert arrival.get(0) is successor


@pytest.mark.parametrize("step", ["timer:adding", "timer:added"])
def test_a_timer_that_meets_the_death_of_its_actor_is_cancelled(still: Kernel, clock: ManualClock, step: str) -> None:
    class Timed(Counter):
        def later(self) -> None:
            self.send_after(600.0, Counter.add, 1)

    ref = spawn(still, Timed)
    with parked(step, ref.mailbox) as gate:
        ref.cast(Timed.later)
        gate.reached()
        down = ref.down()
        ref.fence()
        assert down.done()
        gate.open()
        until(lambda: still.zombies == 0)
    clock.advance(0)
    assert clock.pending() == 0


@owned
def test_a_start_that_meets_the_close_of_its_kernel_is_refused(cls: type[Counter]) -> None:
    kernel = Kernel()
    with parked("spawn:adding", kernel) as gate:
        starting = Background(lambda: kernel.spawn(cls))
        gate.reached()
        assert kernel.close(2.0)
        gate.open()
        with pytest.raises(SystemStopped):
            starting.value()
    assert kernel.live() == []


@owned
def test_who_is_fenced_under_its_name_while_it_starts_is_gone(kernel: Kernel, cls: type[Counter]) -> None:
    registry = Registry()
    before = threading.active_count()
    with parked("spawn:adding", kernel) as gate:
        starting = Background(lambda: kernel.spawn(cls, name=registry.via("x")))
        gate.reached()
        ref = registry.whereis("x")
        assert ref is not None
        ref.fence()
        gate.open()
        with pytest.raises(StartFailed):
            starting.value()
    assert kernel.live() == []
    if cls is OnThread:
        until(lambda: threading.active_count() == before)


def test_a_restart_that_its_supervisor_does_not_live_to_see_leaves_nobody_behind(kernel: Kernel) -> None:
    sup = supervise(kernel, [ChildSpec("a", Counter)])
    ref = sup.call(Supervisor.which_child, "a").ref
    assert isinstance(ref, Ref)
    with parked("spawn:adding", kernel) as gate:
        ref.exit(CRASH)
        gate.reached()
        sup.fence()
        gate.open()
        until(lambda: (kernel.live(), kernel.zombies) == ([], 0))


@pytest.mark.parametrize("held", [True, False])
def test_who_is_fenced_while_it_takes_its_name_did_not_start(kernel: Kernel, held: bool) -> None:
    registry = Registry()
    with parked("names:adding") as gate:
        starting = Background(lambda: kernel.begin(Counter, name=registry.via("x"), owned=held))
        gate.reached()
        ref = registry.whereis("x")
        assert ref is not None
        ref.fence()
        gate.open()
        with pytest.raises(StartFailed):
            starting.value()
    assert (kernel.live(), kernel.zombies) == ([], 0)


@owned
def test_a_start_that_slips_in_while_its_kernel_closes_is_fenced(cls: type[Counter]) -> None:
    kernel = Kernel()
    with all_parked(("spawn:adding", "close:fenced"), kernel) as (adding, closing):
        starting = Background(lambda: kernel.spawn(cls))
        adding.reached()
        end = Background(kernel.close, 2.0)
        closing.reached()  # everybody it knew is fenced, the dispatchers still run
        adding.open()
        with pytest.raises(SystemStopped):
            starting.value()
        closing.open()
        end.value()
    assert kernel.live() == []


def test_a_start_that_meets_the_end_of_its_loop_is_refused(kernel: Kernel) -> None:
    class Local(OnLoop):
        dispatcher = "local"

    loop = LoopDispatcher("local")
    kernel.install("local", loop)
    with parked("loop:attaching") as gate:
        starting = Background(lambda: kernel.spawn(Local))
        gate.reached()
        assert loop.stop(2.0)
        gate.open()
        with pytest.raises(SystemStopped):
            starting.value()
    assert kernel.live() == []


# replies


def test_a_coroutine_sent_to_a_loop_that_is_closing_is_settled() -> None:
    async def work() -> None:
        pass

    loop = LoopDispatcher()
    loop.start()
    with all_parked(("loop:sending", "loop:closing"), loop) as (sending, closing):
        reply = Background(loop.run, work())
        sending.reached()
        stopping = Background(loop.stop, 5.0)
        closing.reached()
        sending.open()
        assert isinstance(reply.value().exception(), SystemStopped)
        closing.open()
        assert stopping.value()


@pytest.mark.parametrize("step", ["sent:taken", "sent:begun"])
def test_a_coroutine_that_is_cancelled_while_it_begins_on_a_loop_is_cancelled_once(step: str) -> None:
    loop, cancels = LoopDispatcher("local"), list[int]()

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.Event().wait()
        finally:
            cancels.append(task.cancelling())

    loop.start()
    with parked(step) as gate:
        reply = loop.run(work())
        gate.reached()
        assert reply.cancel()
    until(lambda: bool(cancels))
    assert loop.stop(5.0)
    assert cancels == [1]


def test_who_waits_for_a_reply_that_settles_meanwhile_sees_it(clock: ManualClock) -> None:
    reply: Reply[int] = Reply()
    with parked("reply:joining", reply) as gate:
        waiting = Background(reply.wait, 60.0, clock)
        gate.reached()
        reply.set(1)
        gate.open()
        assert waiting.value(3)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_who_awaits_a_reply_that_settles_meanwhile_sees_it(seconds: float | None, clock: ManualClock) -> None:
    reply: Reply[int] = Reply()
    with parked("reply:joining", reply) as gate:
        waiting = Background(lambda: asyncio.run(asyncio.wait_for(reply.aget(seconds, clock), 3)))
        gate.reached()
        reply.set(1)
        gate.open()
        assert waiting.value() == 1


def test_a_callback_added_while_the_reply_settles_runs() -> None:
    reply: Reply[int] = Reply()
    seen: list[int] = []
    with parked("reply:joining", reply) as gate:
        adding = Background(reply.add_done_callback, lambda done: seen.append(done.get()))
        gate.reached()
        reply.set(1)
        gate.open()
        adding.value()
    assert seen == [1]


def test_a_reply_that_settles_while_it_is_entered_as_pending_is_pending_no_more() -> None:
    reply: Reply[int] = Reply()
    table: dict[Reply[Any], None] = {}
    with parked("reply:joining", reply) as gate:
        entering = Background(reply.stay_in, table)
        gate.reached()
        reply.set(1)
        gate.open()
        entering.value()
    assert table == {}


def test_who_comes_between_the_result_and_the_waking_does_not_wait() -> None:
    reply: Reply[int] = Reply()
    with parked("reply:settled", reply) as gate:
        settling = Background(reply.set, 1)
        gate.reached()
        assert reply.get(0) == 1
        gate.open()
        assert settling.value()


def test_a_future_added_while_its_loop_empties_the_bag_is_set() -> None:
    first, second = Reply[int](), Reply[int]()
    both = threading.Event()

    async def main() -> list[int]:
        tasks = [asyncio.create_task(reply.aget()) for reply in (first, second)]
        await asyncio.sleep(0)
        both.set()
        return await asyncio.wait_for(asyncio.gather(*tasks), 3)

    with parked("bag:emptied") as gate:
        waiting = Background(lambda: asyncio.run(main()))
        both.wait(5)
        first.set(1)
        gate.reached()
        second.set(2)
        gate.open()
        assert waiting.value() == [1, 2]


# dispatchers


def test_an_actor_submitted_while_its_loop_sweeps_is_run(kernel: Kernel) -> None:
    ref, other, handled = spawn(kernel, OnLoop), spawn(kernel, OnLoop), threading.Event()
    with parked("loop:swept") as gate:
        ref.cast(Counter.add, 1)
        gate.reached()
        other.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)


class OnSmall(Counter):
    """On a pool of one thread, which `kernel` gets by `small`."""

    dispatcher = "small"

    def block(self, event: threading.Event, began: threading.Event) -> None:
        with blocking():
            self.wait_for(event, began)


@pytest.fixture
def small(kernel: Kernel) -> Pool:
    pool = Pool("small", size=1, surplus_idle=0.02)
    kernel.install("small", pool)
    return pool


@pytest.mark.parametrize(("name", "step"), [("pool", "pool:starting"), ("thread", "thread:starting")])
def test_a_dispatcher_that_is_stopped_while_it_starts_a_thread_waits_for_it(name: str, step: str) -> None:
    kernel = Kernel()
    dispatcher = kernel.dispatcher(name)
    with parked(step, dispatcher) as gate:
        starting = Background(lambda: kernel.begin(Counter if name == "pool" else OnThread))
        gate.reached()
        stopping = Background(dispatcher.stop, 5.0)
        assert not stopping.ended(0.05)
        gate.open()
        assert stopping.value()
        starting.value()
    kernel.close(0.1)


def test_a_thread_that_retires_while_work_counts_on_it_stays(kernel: Kernel, small: Pool) -> None:
    blocked, stuck, ref = (spawn(kernel, OnSmall) for _ in range(3))
    go, began, end, began_too, handled = (threading.Event() for _ in range(5))
    blocked.cast(OnSmall.block, go, began)
    began.wait(5)
    stuck.cast(Counter.wait_for, end, began_too)  # on the thread that makes up for the blocked one
    began_too.wait(5)
    with parked("pool:retiring", small) as gate:
        go.set()
        gate.reached()  # idle for too long, and still in the list of the idle
        ref.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)
    end.set()


def test_work_that_comes_while_the_watchman_goes_to_sleep_is_seen(kernel: Kernel, small: Pool) -> None:
    end, began, handled = (threading.Event() for _ in range(3))
    with parked("watch:parking", small) as gate:
        stuck, ref = kernel.begin(OnSmall), kernel.begin(OnSmall)
        gate.reached()
        for _, started in (stuck, ref):
            started.get(5)
        stuck[0].ref.cast(Counter.wait_for, end, began)
        began.wait(5)
        ref[0].ref.cast(Counter.wait_for, handled, handled)
        gate.open()
        assert handled.wait(3)
    end.set()


def test_a_sleeping_watchman_is_woken_by_work_that_nobody_takes(kernel: Kernel, small: Pool) -> None:
    stuck, ref = spawn(kernel, OnSmall), spawn(kernel, OnSmall)
    end, began, handled = (threading.Event() for _ in range(3))
    until(lambda: small._parked)
    stuck.cast(Counter.wait_for, end, began)
    began.wait(5)
    ref.cast(Counter.wait_for, handled, handled)
    assert handled.wait(3)
    end.set()
