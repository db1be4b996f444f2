"""Calls, casts and deferred replies, on every kind of dispatcher."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.deadline import deadline_at
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import (
    ActorDied,
    BlockingCallOnLoop,
    CallCycle,
    CallTimeout,
    MailboxFull,
    UnknownMessage,
)
from supervisors.exits import NoProc
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from tests.supervisors.actors import KINDS, Background, Counter, Inline, OnLoop, OnThread, idle, in_thread, spawn

kinds = pytest.mark.parametrize("cls", KINDS)


@kinds
def test_a_call_returns_what_the_handler_returns(kernel: Kernel, cls: type[Counter]) -> None:
    assert spawn(kernel, cls, 5).call(Counter.add, 2) == 7


@kinds
def test_a_call_from_another_thread_too(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert in_thread(ref.call, Counter.add, 2) == 2


@kinds
def test_a_call_can_be_awaited(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert asyncio.run(ref.acall(Counter.add, 2)) == 2


@kinds
def test_casts_of_one_sender_are_handled_in_order(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    for n in range(200):
        ref.cast(Counter.note, n)
    assert ref.call(Counter.notes) == list(range(200))


@kinds
def test_a_request_is_answered_later(kernel: Kernel, cls: type[Counter]) -> None:
    assert spawn(kernel, cls).send_request(Counter.add, 1).get(5) == 1


@kinds
def test_a_deferred_reply_is_set_by_a_later_message(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    reply = ref.send_request(Counter.late)
    assert ref.call(Counter.settle, "now")
    assert reply.get(5) == "now"


@kinds
def test_a_deferred_call_waits_for_its_answer(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    call = Background(ref.call, Counter.late)
    while not ref.call(Counter.add, 0) and ref.mailbox.pending in (None, {}):
        pass
    ref.cast(Counter.settle, 8)
    assert call.value() == 8


@kinds
def test_a_second_answer_is_ignored(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    reply = ref.send_request(Counter.late)
    assert ref.call(Counter.settle, 1)
    assert not ref.call(Counter.settle, 2)
    assert reply.get(5) == 1


@kinds
def test_a_handler_that_returns_anothers_reply_passes_the_answer_on(kernel: Kernel, cls: type[Counter]) -> None:
    class Front(cls):  # type: ignore[misc, valid-type]
        def pass_on(self, ref: Any) -> Any:
            return ref.send_request(Counter.add, 3)

    front, back = spawn(kernel, Front), spawn(kernel)
    assert front.call(Front.pass_on, back) == 3


def test_a_coroutine_handler_is_a_call_like_any(kernel: Kernel) -> None:
    ref = spawn(kernel, OnLoop)
    assert ref.call(OnLoop.pause, 0.001) == 0.001
    assert asyncio.run(ref.acall(OnLoop.pause, 0.001)) == 0.001


def test_coroutine_handlers_of_one_actor_run_one_after_the_other(kernel: Kernel) -> None:
    class Overlap(OnLoop):
        async def step(self, n: int) -> None:
            self.log.append(("in", n))
            await asyncio.sleep(0)
            self.log.append(("out", n))

    ref = spawn(kernel, Overlap)
    replies = [ref.send_request(Overlap.step, n) for n in range(3)]
    [reply.get(5) for reply in replies]
    assert ref.call(Counter.notes) == [(word, n) for n in range(3) for word in ("in", "out")]


def test_a_subclass_override_answers(kernel: Kernel) -> None:
    class Double(Counter):
        def add(self, n: int) -> int:
            return super().add(2 * n)

    assert spawn(kernel, Double).call(Counter.add, 1) == 2


def test_a_function_that_is_not_on_the_class_is_refused(kernel: Kernel) -> None:
    ref = spawn(kernel)
    for wrong in (OnLoop.pause, len, lambda _: None):
        with pytest.raises(UnknownMessage):
            ref.call(wrong)  # type: ignore[arg-type, call-overload]
    assert ref.is_alive()


@kinds
def test_a_call_to_a_dead_actor_fails_at_once(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    ref.stop()
    for call in (lambda: ref.call(Counter.add, 1), lambda: asyncio.run(ref.acall(Counter.add, 1))):
        with pytest.raises(ActorDied) as caught:
            call()
        assert caught.value.exit == NoProc()
        assert not caught.value.maybe_handled


@kinds
def test_a_cast_to_a_dead_actor_is_dropped(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    ref.stop()
    ref.cast(Counter.add, 1)
    assert (ref.is_alive(), ref.snapshot()["queue"]) == (False, 0)


def test_a_call_gives_up_after_five_seconds(still: Kernel, clock: ManualClock) -> None:
    ref, go = spawn(still), threading.Event()
    ref.cast(Counter.wait_for, go)
    call = Background(ref.call, Counter.add, 1)
    while call.thread.is_alive():
        clock.advance(0.5)
    go.set()
    with pytest.raises(CallTimeout) as caught:
        call.value()
    assert caught.value.seconds == 5.0


def test_within_gives_a_call_another_timeout(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)
    with pytest.raises(CallTimeout):
        ref.within(0.01).call(Counter.add, 1)
    with pytest.raises(CallTimeout):
        asyncio.run(ref.within(0.01).acall(Counter.add, 1))
    go.set()
    assert ref.within(None).call(Counter.add, 0) == 2


def test_a_call_that_timed_out_is_still_handled(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)
    with pytest.raises(CallTimeout):
        ref.within(0.005).call(Counter.add, 1)
    go.set()
    assert ref.call(Counter.add, 0) == 1


def test_a_call_takes_what_is_left_of_the_callers_deadline(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)
    with deadline_at(kernel.clock.now() + 0.02), pytest.raises(CallTimeout) as caught:
        ref.call(Counter.add, 1)
    go.set()
    assert caught.value.seconds <= 0.02


def test_a_call_after_the_deadline_is_not_sent(kernel: Kernel) -> None:
    ref = spawn(kernel)
    with deadline_at(kernel.clock.now() - 1), pytest.raises(CallTimeout):
        ref.call(Counter.add, 1)
    assert ref.call(Counter.add, 0) == 0


def test_an_actor_does_not_inherit_the_deadline_of_its_starter(kernel: Kernel) -> None:
    with deadline_at(kernel.clock.now() + 60):
        front, back = spawn(kernel), spawn(kernel)
    assert front.call(Counter.ask_back, back) == 1


@pytest.mark.parametrize("cls", [Counter, OnThread, OnLoop])
def test_a_blocking_call_on_a_running_loop_raises_at_once(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)

    async def main() -> None:
        ref.call(Counter.add, 1)

    with pytest.raises(BlockingCallOnLoop, match="acall"):
        asyncio.run(main())
    assert ref.call(Counter.add, 0) == 0


def test_a_blocking_call_of_an_idle_inline_actor_is_allowed_on_a_loop(kernel: Kernel) -> None:
    ref = idle(spawn(kernel, Inline))

    async def main() -> int:
        return ref.call(Counter.add, 1)

    assert in_thread(asyncio.run, main()) == 1


def test_a_blocking_call_in_a_loop_actor_crashes_it_and_not_the_loop(kernel: Kernel) -> None:
    blocker, other = spawn(kernel, OnLoop), spawn(kernel, OnLoop)
    with pytest.raises(ActorDied) as caught:
        blocker.call(Counter.ask_back, other)
    assert isinstance(caught.value.__cause__, BlockingCallOnLoop)
    assert other.call(Counter.add, 1) == 1


@pytest.mark.parametrize("cls", [Counter, Inline, OnThread])
def test_a_call_to_oneself_raises_at_once(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    with pytest.raises(ActorDied) as caught:
        ref.call(Counter.ask_back, ref)
    assert isinstance(caught.value.__cause__, CallCycle)
    assert caught.value.__cause__.path == (ref.name,)


@pytest.mark.parametrize("caller", [lambda fn, *args: fn(*args), in_thread])
@pytest.mark.parametrize("cls", [Counter, Inline, OnThread])
def test_a_ring_of_calls_raises_at_once(kernel: Kernel, cls: type[Counter], caller: Any) -> None:
    a, b = spawn(kernel, cls), spawn(kernel, cls)
    with pytest.raises(ActorDied) as caught:
        caller(a.call, Counter.ask_back, b, a)
    ring = caught.value.__cause__
    while isinstance(ring, ActorDied):
        ring = ring.__cause__
    assert isinstance(ring, CallCycle)
    assert set(ring.path) == {a.name, b.name}


class Awaiting(OnLoop):
    async def ask_back(self, ref: Ref[Counter], *rest: Any) -> Any:  # type: ignore[override]
        return await (ref.acall(Counter.ask_back, *rest) if rest else ref.acall(Counter.add, 1))


@pytest.mark.parametrize("first", [Awaiting, Counter, OnThread])
@pytest.mark.parametrize("second", [Awaiting, Counter, OnThread])
def test_a_ring_in_which_somebody_awaits_raises_at_once(
    kernel: Kernel, first: type[Counter], second: type[Counter]
) -> None:
    a, b = spawn(kernel, first), spawn(kernel, second)
    with pytest.raises(ActorDied) as caught:
        a.within(60).call(Counter.ask_back, b, a)
    ring = caught.value.__cause__
    while isinstance(ring, ActorDied):
        ring = ring.__cause__
    assert isinstance(ring, CallCycle)
    assert set(ring.path) == {a.name, b.name}


def test_who_gives_up_waiting_closes_no_ring(kernel: Kernel) -> None:
    class Impatient(Awaiting):
        async def ask_in_vain(self, ref: Ref[Counter], gate: threading.Event) -> int:
            with suppress(CallTimeout):
                await ref.within(0.01).acall(Counter.wait_for, gate)
            gate.set()
            return await ref.acall(Counter.add, 1)

    ref, slow = spawn(kernel, Impatient), spawn(kernel)
    assert ref.call(Impatient.ask_in_vain, slow, threading.Event()) == 1
    assert slow.call(Counter.ask_back, ref) == 1


def test_waiting_for_an_actor_that_deferred_is_no_cycle(kernel: Kernel) -> None:
    class Later(Counter):
        def begin(self, back: Any) -> Any:
            reply = self.defer()
            back.cast(Counter.ask_back, self.ref)
            return reply

        def add(self, n: int) -> int:
            assert self._cell.pending
            next(iter(self._cell.pending)).set("done")
            return super().add(n)

    later, back = spawn(kernel, Later), spawn(kernel)
    assert later.call(Later.begin, back) == "done"
    assert back.is_alive()


def test_a_coroutine_handler_that_awaits_itself_raises_at_once(kernel: Kernel) -> None:
    class Selfish(OnLoop):
        async def ask_self(self) -> int:
            return await self.ref.acall(Counter.add, 1)

    with pytest.raises(ActorDied) as caught:
        spawn(kernel, Selfish).call(Selfish.ask_self)
    assert isinstance(caught.value.__cause__, CallCycle)


def test_a_task_beside_the_mailbox_may_call_its_own_actor(kernel: Kernel) -> None:
    class Beside(OnLoop):
        def begin(self) -> Any:
            reply = self.defer()
            self.start_task(self.work(reply))
            return reply

        async def work(self, reply: Any) -> None:
            reply.set(await self.ref.acall(Counter.add, 1) + await asyncio.to_thread(self.ref.call, Counter.add, 1))

    assert spawn(kernel, Beside).call(Beside.begin) == 3


def test_a_coroutine_that_a_loop_runs_for_an_actor_may_call_it(kernel: Kernel) -> None:
    class Delegating(Counter):
        def begin(self) -> Any:
            async def work() -> int:
                return await self.ref.acall(Counter.add, 1)

            loop = self.kernel.dispatcher("loop")
            assert isinstance(loop, LoopDispatcher)
            return loop.run(work())

    spawn(kernel, OnLoop)
    assert spawn(kernel, Delegating).call(Delegating.begin) == 1


def test_a_bounded_mailbox_refuses_what_is_too_much(kernel: Kernel) -> None:
    class Small(Counter):
        mailbox = 2

    ref, go, began = spawn(kernel, Small), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.cast(Counter.add, 1)
    ref.cast(Counter.add, 1)
    with pytest.raises(MailboxFull) as caught:
        ref.cast(Counter.add, 1)
    assert caught.value.bound == 2
    go.set()
    assert ref.stop()


def test_a_cancelled_request_that_was_not_begun_is_dropped(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)
    assert ref.send_request(Counter.add, 1).cancel()
    go.set()
    assert ref.call(Counter.add, 0) == 0


def test_cancelling_the_awaiting_task_cancels_the_request(kernel: Kernel) -> None:
    ref, go = spawn(kernel), threading.Event()
    ref.cast(Counter.wait_for, go)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref.acall(Counter.add, 1), 0.01)

    asyncio.run(main())
    go.set()
    assert ref.call(Counter.add, 0) == 0


def test_a_handler_sees_that_its_deferred_reply_was_cancelled(kernel: Kernel) -> None:
    seen = threading.Event()

    class Watching(Counter):
        def late(self) -> Any:
            reply = self.defer()
            reply.add_done_callback(lambda done: seen.set() if done.cancelled() else None)
            return reply

    ref = spawn(kernel, Watching)
    request = ref.send_request(Counter.late)
    ref.call(Counter.add, 0)
    assert request.cancel()
    assert seen.is_set()


def test_a_coroutine_handler_off_the_loop_is_refused_at_class_creation() -> None:
    with pytest.raises(TypeError, match="async def"):

        class Wrong(Actor):
            async def work(self) -> None: ...

    with pytest.raises(TypeError, match="async def"):
        type("Moved", (OnLoop,), {"dispatcher": "pool"})


@pytest.mark.parametrize("dispatcher", ["loop", "thread"])
def test_inline_off_the_pool_is_refused_at_class_creation(dispatcher: str) -> None:
    with pytest.raises(TypeError, match="inline"):
        type("Wrong", (Counter,), {"dispatcher": dispatcher, "inline": True})
