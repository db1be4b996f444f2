"""How actors start and end, on every kind of dispatcher."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from supervisors import links
from supervisors.actor import IGNORE, Actor
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, AlreadyStarted, BlockingCallOnLoop, CallTimeout, Fenced, NoSystem, StartFailed
from supervisors.exits import Crash, Exit, Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.stopping import stop
from supervisors.testing import wait_until
from tests.supervisors.actors import FATAL, KINDS, Background, Counter, Ignored, Inline, OnLoop, idle, in_thread, spawn

kinds = pytest.mark.parametrize("cls", KINDS)


# starting


@kinds
def test_init_gets_the_arguments_of_spawn(kernel: Kernel, cls: type[Counter]) -> None:
    assert spawn(kernel, cls, value=3).call(Counter.add, 0) == 3


@kinds
@pytest.mark.parametrize("error", FATAL)
def test_an_init_that_raises_is_a_failed_start(kernel: Kernel, cls: type[Counter], error: BaseException) -> None:
    log: list[Any] = []

    class Broken(cls):  # type: ignore[misc, valid-type]
        def init(self) -> None:
            self.log = log
            raise error

    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Broken)
    assert caught.value.cause is error
    assert kernel.live() == []
    assert log == []  # nothing had started, so nothing is terminated


@kinds
@pytest.mark.parametrize("exit", [Normal(), Shutdown("not today"), Crash(ValueError("no"))])
def test_an_init_that_stops_is_a_failed_start(kernel: Kernel, cls: type[Counter], exit: Exit) -> None:
    log: list[Any] = []

    class Stopping(cls):  # type: ignore[misc, valid-type]
        def init(self) -> None:
            self.log = log
            self.stop(exit)

    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Stopping)
    cause = caught.value.cause
    assert cause.exit == exit if isinstance(cause, ActorDied) else cause is getattr(exit, "error", None)
    assert kernel.live() == []
    assert log == []


def test_a_coroutine_init_that_stops_is_a_failed_start_too(kernel: Kernel) -> None:
    class Stopping(OnLoop):
        async def init(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.stop()

    with pytest.raises(StartFailed):
        kernel.spawn(Stopping)
    assert kernel.live() == []


@pytest.mark.parametrize("what", [lambda actor: actor.defer(), lambda actor: actor.stop(reply=1)])
def test_nobody_waits_for_an_answer_in_init(kernel: Kernel, what: Callable[[Counter], object]) -> None:
    class Odd(Counter):
        def init(self) -> None:
            what(self)

    with pytest.raises(StartFailed, match="nobody waits"):
        kernel.spawn(Odd)


def test_init_with_wrong_arguments_is_a_failed_start(kernel: Kernel) -> None:
    with pytest.raises(StartFailed, match="no arguments"):
        kernel.spawn(Actor, 1)


def test_an_init_may_decline(kernel: Kernel) -> None:
    assert kernel.spawn(Ignored) is IGNORE
    assert kernel.live() == []


@kinds
def test_an_init_that_gives_a_value_is_a_failed_start(kernel: Kernel, cls: type[Counter]) -> None:
    class Odd(cls):  # type: ignore[misc, valid-type]
        def init(self) -> int:
            return 42

    with pytest.raises(StartFailed, match="gave int; it may give nothing, or IGNORE"):
        kernel.spawn(Odd)
    assert kernel.live() == []


def test_an_init_that_takes_too_long_is_fenced(still: Kernel, clock: ManualClock) -> None:
    go = threading.Event()

    class Slow(Actor):
        def init(self) -> None:
            go.wait(10)

    start = Background(lambda: still.spawn(Slow, start_timeout=3.0))
    while start.thread.is_alive():
        clock.advance(1.0)
    go.set()
    with pytest.raises(StartFailed) as caught:
        start.value()
    assert isinstance(caught.value.cause, CallTimeout)
    assert still.live() == []


def test_a_coroutine_init_is_awaited(kernel: Kernel) -> None:
    class Async(OnLoop):
        async def init(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            super().init(9)

    assert spawn(kernel, Async).call(Counter.add, 0) == 9


def test_actors_start_from_a_loop_without_blocking_it(kernel: Kernel) -> None:
    async def main() -> int:
        ref = await kernel.aspawn(Counter, 4)
        assert ref is not IGNORE
        return await ref.acall(Counter.add, 0)  # type: ignore[union-attr]

    assert asyncio.run(main()) == 4


def test_a_failed_start_from_a_loop_raises_the_same(kernel: Kernel) -> None:
    with pytest.raises(StartFailed):
        asyncio.run(kernel.aspawn(Actor, 1))


def test_a_blocking_start_on_a_loop_is_refused_before_it_begins(kernel: Kernel) -> None:
    async def main() -> None:
        kernel.spawn(Counter)

    with pytest.raises(BlockingCallOnLoop):
        asyncio.run(main())
    assert kernel.live() == []


def test_start_uses_the_kernel_that_was_entered(kernel: Kernel) -> None:
    with kernel.entered():
        Counter.start(1)
    assert [ref.actor_class for ref in kernel.live()] == [Counter]


def test_start_inside_an_actor_uses_its_kernel(kernel: Kernel) -> None:
    class Parent(Actor):
        def spawn(self) -> Any:
            return Counter.start(1)

    parent = kernel.spawn(Parent)
    assert parent.call(Parent.spawn) in kernel.live()  # type: ignore[union-attr]


def test_start_outside_of_any_system_is_refused() -> None:
    with pytest.raises(NoSystem):
        Counter.start()


def test_a_name_is_taken_before_init_and_only_once(kernel: Kernel) -> None:
    via = Registry().via("one")
    first = spawn(kernel, Counter, 1, name=via)
    with pytest.raises(AlreadyStarted) as caught:
        kernel.spawn(Counter, 2, name=via)
    assert caught.value.ref is first
    assert first.name == "one"


def test_continue_with_runs_before_any_other_message(kernel: Kernel) -> None:
    registry = Registry()

    class Loading(Counter):
        def init(self, began: Any, go: Any) -> None:  # type: ignore[override]
            super().init()
            self.continue_with(Counter.note, "loaded")
            began.set()
            go.wait(5)

    began, go = threading.Event(), threading.Event()
    start = Background(lambda: kernel.spawn(Loading, began, go, name=registry.via("x")))
    began.wait(5)
    registry.via("x").cast(Counter.note, "hello")
    go.set()
    assert start.value().call(Counter.notes) == ["loaded", "hello"]


# crashing


@kinds
@pytest.mark.parametrize("error", FATAL)
def test_any_exception_ends_this_actor_and_no_other(kernel: Kernel, cls: type[Counter], error: BaseException) -> None:
    ref, other = spawn(kernel, cls), spawn(kernel, cls)
    with pytest.raises(ActorDied) as caught:
        ref.call(Counter.crash, error)
    assert caught.value.__cause__ is error
    assert caught.value.maybe_handled
    assert not ref.is_alive()
    assert other.call(Counter.add, 1) == 1


@pytest.mark.parametrize("error", FATAL)
def test_any_exception_of_a_coroutine_handler_too(kernel: Kernel, error: BaseException) -> None:
    ref, other = spawn(kernel, OnLoop), spawn(kernel, OnLoop)
    with pytest.raises(ActorDied) as caught:
        ref.call(OnLoop.crash_later, error)
    assert caught.value.exit == Crash(error)
    assert other.call(OnLoop.pause, 0.0) == 0.0


@pytest.mark.parametrize("error", FATAL)
def test_any_exception_of_a_started_task_too(kernel: Kernel, error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        return  # that is how a task ends when somebody cancels it
    ref, other = spawn(kernel, OnLoop), spawn(kernel, OnLoop)

    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    ref.cast(OnLoop.beside, work())
    assert ref.down().get(5) == Crash(error)
    assert other.call(OnLoop.pause, 0.0) == 0.0


@kinds
def test_a_crash_in_a_cast_ends_the_actor(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    error = ValueError("no")
    ref.cast(Counter.crash, error)
    assert ref.down().get(5) == Crash(error)


@kinds
def test_a_crash_fails_deferred_and_queued_calls(kernel: Kernel, cls: type[Counter]) -> None:
    ref, go, began = spawn(kernel, cls), threading.Event(), threading.Event()
    deferred = ref.send_request(Counter.late)
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.cast(Counter.crash, ValueError())
    queued = ref.send_request(Counter.add, 1)
    go.set()
    ref.down().get(5)
    died = [reply.exception() for reply in (deferred, queued)]
    assert [each.maybe_handled for each in died if isinstance(each, ActorDied)] == [True, False]


@kinds
def test_terminate_runs_once_after_a_crash(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref, error = spawn(kernel, cls, 0, log), ValueError()
    ref.cast(Counter.crash, error)
    ref.down().get(5)
    assert log == [Crash(error)]


@kinds
@pytest.mark.parametrize("error", FATAL)
def test_a_terminate_that_raises_replaces_the_exit(kernel: Kernel, cls: type[Counter], error: BaseException) -> None:
    class Messy(cls):  # type: ignore[misc, valid-type]
        def terminate(self, exit: Any) -> None:
            raise error

    ref = spawn(kernel, Messy)
    ref.exit(Normal())
    assert ref.down().get(5) == Crash(error)


@kinds
def test_the_caller_of_the_crashing_message_is_told_when_the_death_is_official(
    kernel: Kernel, cls: type[Counter]
) -> None:
    registry, seen = Registry(), []
    ref = spawn(kernel, cls, name=registry.via("x"))
    request = ref.send_request(Counter.add, 0)
    request.get(5)
    ref.mailbox.watch("test", lambda _: seen.append("watcher"))
    crash = ref.send_request(Counter.crash, ValueError())
    crash.add_done_callback(lambda _: seen.append(("caller", registry.whereis("x"), ref.is_alive())))
    ref.down().get(5)
    with pytest.raises(ActorDied):
        crash.get(5)
    wait_until(lambda: len(seen) == 2)  # who waits may have the answer before the callbacks are run
    assert seen == ["watcher", ("caller", None, False)]


# stopping


@kinds
def test_exit_overtakes_what_is_queued(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref, go, began = spawn(kernel, cls, 0, log), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    queued = ref.send_request(Counter.add, 1)
    ref.exit(Shutdown("now"))
    go.set()
    assert ref.down().get(5) == Shutdown("now")
    assert log == [Shutdown("now")]
    died = queued.exception()
    assert isinstance(died, ActorDied)
    assert not died.maybe_handled


@kinds
def test_stop_lets_what_was_sent_before_be_handled(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref = spawn(kernel, cls, 0, log)
    ref.cast(Counter.note, "before")
    assert ref.stop()
    assert log == ["before", Normal()]


@kinds
def test_an_actor_stops_itself_with_an_answer(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert ref.call(Counter.end, Shutdown("done"), reply="bye") == "bye"
    assert ref.down().get(5) == Shutdown("done")


@kinds
def test_an_actor_that_stops_itself_without_an_answer_tells_its_exit(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    with pytest.raises(ActorDied) as caught:
        ref.call(Counter.end, Shutdown("done"))
    assert caught.value.exit == Shutdown("done")


def test_exit_cancels_a_coroutine_handler(kernel: Kernel) -> None:
    ref, began = spawn(kernel, OnLoop), threading.Event()
    request = ref.send_request(OnLoop.sleep_for_ever, began)
    began.wait(5)
    ref.exit(Shutdown())
    assert ref.down().get(5) == Shutdown()
    assert isinstance(request.exception(), ActorDied)


def test_the_tasks_of_an_actor_end_before_its_death_is_official(kernel: Kernel) -> None:
    order: list[str] = []

    class Owner(OnLoop):
        async def work(self, began: Any) -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                order.append("task ended")

        def begin(self, began: Any) -> None:
            self.start_task(self.work(began))

        async def terminate(self, exit: Any) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            order.append("terminated")

    ref, began = spawn(kernel, Owner), threading.Event()
    ref.cast(Owner.begin, began)
    began.wait(5)
    ref.exit(Normal())
    assert ref.down().get(5) == Normal()
    assert order == ["task ended", "terminated"]


def test_a_task_may_say_itself_that_it_is_over(kernel: Kernel) -> None:
    class Owner(OnLoop):
        async def work(self, counted: Reply[tuple[int, int]]) -> None:
            before = self.running_tasks
            task = asyncio.current_task()
            assert task is not None
            self.end_task(task)
            self.end_task(task)
            counted.set((before, self.running_tasks))
            raise ValueError("nobody hears of it")

        def begin(self, counted: Reply[tuple[int, int]]) -> None:
            self.task = self.start_task(self.work(counted))

        async def look(self) -> str:
            await asyncio.wait([self.task])
            return str(self.task.exception())

    ref, counted = spawn(kernel, Owner), Reply[tuple[int, int]]()
    ref.cast(Owner.begin, counted)
    assert counted.get(5) == (1, 0)
    assert ref.call(Owner.look) == "nobody hears of it"
    ref.exit(Normal())
    assert ref.down().get(5) == Normal()


def test_a_task_that_will_not_end_does_not_hold_up_the_death_for_ever(still: Kernel, clock: ManualClock) -> None:
    ref, began, release = spawn(still, OnLoop), threading.Event(), threading.Event()

    async def stubborn() -> None:
        began.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass

    ref.cast(OnLoop.beside, stubborn())
    began.wait(5)
    ref.exit(Normal())
    down = ref.down()
    while not down.done():
        clock.advance(1.0)
    release.set()
    assert down.get() == Normal()


def test_down_of_a_dead_actor_is_its_exit(kernel: Kernel) -> None:
    ref = spawn(kernel)
    ref.stop()
    assert ref.down().get(0) == Normal()


def test_a_living_actor_forgets_those_who_wait_for_its_end_no_longer(kernel: Kernel) -> None:
    ref = spawn(kernel)
    kept = ref.down()
    for _ in range(100):
        assert ref.down().cancel()

    async def impatient() -> None:
        waiting = asyncio.create_task(_awaited(ref.down()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(impatient())
    assert len(ref.mailbox.watchers) == 1
    ref.stop()
    assert kept.get(5) == Normal()


def test_a_living_actor_forgets_a_reply_that_nobody_has_any_more(kernel: Kernel) -> None:
    ref = spawn(kernel)
    kept = ref.down()
    for _ in range(100):
        assert not ref.down().wait(0.0, kernel.clock)
        with pytest.raises(CallTimeout):
            ref.down().get(0.0)
    assert len(ref.mailbox.watchers) == 1
    ref.stop()
    assert kept.get(5) == Normal()


def test_who_has_left_a_callback_is_told_of_the_end_though_nobody_has_the_reply(kernel: Kernel) -> None:
    ref = spawn(kernel)
    told: Reply[Exit] = Reply()
    ref.down().add_done_callback(lambda down: told.set(down.take()))
    future = ref.down().cf
    other: Reply[Exit] = Reply()
    other.follow(ref.down())
    gc.collect()
    ref.stop()
    assert (told.get(5), future.result(5), other.get(5)) == (Normal(), Normal(), Normal())


async def _awaited(reply: Reply[Exit]) -> Exit:
    return await reply


def test_all_who_ask_for_the_event_of_an_actors_end_get_one(kernel: Kernel) -> None:
    ref = spawn(kernel)
    stopped = ref.actor_stopped
    assert all(ref.actor_stopped is stopped for _ in range(100))
    assert len(ref.mailbox.watchers) == 1
    assert not stopped.is_set()
    ref.stop()
    assert stopped.wait(5)
    assert ref.actor_stopped.is_set()


def test_a_child_ends_with_its_parent(kernel: Kernel) -> None:
    parent = spawn(kernel)
    child = spawn(kernel, Counter, parent=parent)
    parent.exit(Shutdown("both"))
    assert child.down().get(5) == Shutdown("both")


def test_a_child_of_a_dead_parent_does_not_start(kernel: Kernel) -> None:
    parent = spawn(kernel)
    parent.stop()
    with pytest.raises(StartFailed):
        kernel.spawn(Counter, parent=parent)


def test_on_down_is_told_once_the_actor_had_started(kernel: Kernel) -> None:
    seen: list[Any] = []
    ref = spawn(kernel, Counter, on_down=lambda *down: seen.append(down))
    with pytest.raises(StartFailed):
        kernel.spawn(Actor, 1, on_down=lambda *_: seen.append("no"))
    ref.stop()
    assert seen == [(ref, Normal())]


def test_a_watcher_that_raises_does_not_keep_the_death_from_the_others(kernel: Kernel) -> None:
    ref, failures = spawn(kernel, Counter, on_down=lambda *_: 1 // 0), []
    kernel.telemetry.attach("t", ("actor", "watcher", "failure"), lambda *event: failures.append(event[2]["error"]))
    down = ref.down()
    ref.stop()
    assert down.get(0) == Normal()
    assert [type(error) for error in failures] == [ZeroDivisionError]


def test_an_actor_may_close_its_own_system() -> None:
    kernel = Kernel()

    class Last(Counter):
        def close(self) -> bool:
            return self.kernel.close(5.0)

    other = spawn(kernel)
    down = spawn(kernel, Last)
    with pytest.raises(ActorDied):
        down.call(Last.close)
    assert isinstance(other.down().get(0), Shutdown)


# fencing


@kinds
def test_fencing_frees_the_callers_and_counts_a_zombie(kernel: Kernel, cls: type[Counter]) -> None:
    ref, go, began = spawn(kernel, cls), threading.Event(), threading.Event()
    current = ref.send_request(Counter.wait_for, go, began)
    began.wait(5)
    queued = ref.send_request(Counter.add, 1)
    ref.fence()
    died = [reply.exception() for reply in (current, queued)]
    assert [(each.exit, each.maybe_handled) for each in died if isinstance(each, ActorDied)] == [
        (Killed(), True),
        (Killed(), False),
    ]
    assert kernel.zombies == 1
    assert ref.snapshot()["zombie"]
    go.set()
    while kernel.zombies:
        threading.Event().wait(0.001)


@kinds
def test_a_zombie_can_neither_send_nor_register_nor_start(kernel: Kernel, cls: type[Counter]) -> None:
    sink, registry, refused, done = spawn(kernel), Registry(), [], threading.Event()
    registry.register("sink", sink, 1)

    class Zombie(cls):  # type: ignore[misc, valid-type]
        def haunt(self, go: Any, began: Any) -> None:
            began.set()
            go.wait(5)
            for attempt in (
                lambda: sink.cast(Counter.add, 1),
                lambda: sink.call(Counter.add, 1),
                lambda: sink.send_request(Counter.add, 1),
                lambda: sink.tell("raw"),
                lambda: sink.ask("raw"),
                lambda: sink.exit(Normal()),
                lambda: sink.fence(),
                lambda: stop(sink),
                lambda: self.link(sink),
                lambda: links.exit(sink, Shutdown()),
                lambda: registry.register("x", sink),
                lambda: registry.unregister("sink", sink),
                lambda: registry.update_value("sink", sink, lambda value: value + 1),
                lambda: registry.put_meta("x", 1),
                lambda: Counter.start(),
                lambda: self.kernel.begin(Counter),
            ):
                try:
                    attempt()
                except (Fenced, BlockingCallOnLoop) as error:
                    refused.append(error)
            done.set()

    ref, go, began = spawn(kernel, Zombie), threading.Event(), threading.Event()
    ref.cast(Zombie.haunt, go, began)
    began.wait(5)
    ref.fence()
    go.set()
    done.wait(5)
    assert len(refused) == 16
    assert registry.lookup("sink") == [(sink, 1)]
    assert sink.call(Counter.notes) == []
    assert sink.call(Counter.add, 0) == 0


def test_terminate_does_not_run_when_fenced(kernel: Kernel) -> None:
    log: list[Any] = []
    ref = spawn(kernel, Counter, 0, log)
    idle(ref).fence()
    ref.fence()
    assert log == []
    assert ref.down().get(0) == Killed()
    assert kernel.zombies == 0


def test_fencing_really_cancels_a_coroutine_handler(kernel: Kernel) -> None:
    ref, began = spawn(kernel, OnLoop), threading.Event()
    ref.cast(OnLoop.sleep_for_ever, began)
    began.wait(5)
    ref.fence()
    while kernel.zombies:
        threading.Event().wait(0.001)
    assert spawn(kernel, OnLoop).call(OnLoop.pause, 0.0) == 0.0


def test_an_inline_caller_of_a_fenced_target_is_told(kernel: Kernel) -> None:
    ref, go, began = spawn(kernel, Inline), threading.Event(), threading.Event()
    call = Background(ref.call, Counter.wait_for, go, began)
    began.wait(5)
    ref.fence()
    go.set()
    with pytest.raises(ActorDied) as caught:
        call.value()
    assert caught.value.exit == Killed()
    wait_until(lambda: kernel.zombies == 0)


def test_a_dead_actors_state_is_not_kept_by_its_ref(kernel: Kernel) -> None:
    ref = spawn(kernel)
    ref.stop()
    wait_until(lambda: ref.mailbox.actor is None)  # let go of a moment after the death was told


# inline


def test_an_inline_call_runs_in_the_callers_thread(kernel: Kernel) -> None:
    ref = idle(spawn(kernel, Inline))
    names = in_thread(lambda: (ref.call(Counter.thread_name), threading.current_thread().name))
    assert names[0] == names[1]


def test_an_awaited_inline_call_runs_in_the_loops_thread(kernel: Kernel) -> None:
    ref = idle(spawn(kernel, Inline))
    names = in_thread(lambda: (asyncio.run(ref.acall(Counter.thread_name)), threading.current_thread().name))
    assert names[0] == names[1]


def test_the_main_thread_goes_through_the_pool(kernel: Kernel) -> None:
    assert spawn(kernel, Inline).call(Counter.thread_name).startswith("supervisors-pool")


def test_the_main_thread_runs_in_place_when_the_signal_handlers_were_replaced(kernel: Kernel) -> None:
    kernel.main_thread_inline = True
    assert idle(spawn(kernel, Inline)).call(Counter.thread_name) == threading.main_thread().name


def test_casts_and_requests_never_run_in_the_callers_place(kernel: Kernel) -> None:
    ref = spawn(kernel, Inline)
    name = in_thread(lambda: ref.send_request(Counter.thread_name).get(5))
    assert name.startswith("supervisors-pool")


def test_an_inline_call_runs_what_was_sent_before_it(kernel: Kernel) -> None:
    ref, go, began = spawn(kernel, Inline), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    for n in range(5):
        ref.cast(Counter.note, n)
    call = Background(ref.call, Counter.notes)
    go.set()
    assert call.value() == [0, 1, 2, 3, 4]


def test_a_long_chain_of_inline_calls_does_not_overflow_the_stack(kernel: Kernel) -> None:
    chain = [spawn(kernel, Inline) for _ in range(400)]
    assert in_thread(chain[0].within(20).call, Counter.ask_back, *chain[1:]) == 1


def test_the_context_of_the_caller_stays_out_of_an_inline_actor(kernel: Kernel) -> None:
    from supervisors.deadline import current_deadline, deadline_at

    class Curious(Inline):
        def deadline(self) -> float | None:
            return current_deadline()

    ref = spawn(kernel, Curious)

    def ask() -> float | None:
        with deadline_at(kernel.clock.now() + 60):
            return ref.call(Curious.deadline)

    assert in_thread(ask) is None
