"""Replies: settled once, waited for in every way, watched, cancelled, raised without growing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from supervisors.clock import ManualClock, SystemClock
from supervisors.errors import ActorDied, BlockingCallOnLoop, CallTimeout, fresh
from supervisors.exits import Crash, NoProc
from supervisors.reply import Reply
from tests.supervisors.actors import Background


def test_the_first_to_settle_wins() -> None:
    reply: Reply[int] = Reply()
    assert reply.set(1)
    assert not reply.set(2)
    assert not reply.fail(ValueError())
    assert not reply.cancel()
    assert reply.get() == 1


def test_an_open_reply_is_not_done() -> None:
    reply: Reply[int] = Reply()
    assert not reply.done()
    with pytest.raises(RuntimeError, match="not settled"):
        reply.exception()


def test_get_raises_what_it_failed_with() -> None:
    reply: Reply[int] = Reply()
    reply.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        reply.get()
    assert isinstance(reply.exception(), ValueError)


def test_an_exception_is_a_value_when_it_is_set() -> None:
    error = ValueError("a value")
    reply: Reply[ValueError] = Reply()
    reply.set(error)
    assert reply.get() is error
    assert reply.exception() is None


def test_get_waits_for_another_thread() -> None:
    reply: Reply[int] = Reply()
    waiter = Background(reply.get)
    reply.set(7)
    assert waiter.value() == 7


def test_many_threads_may_wait() -> None:
    reply: Reply[int] = Reply()
    waiters = [Background(reply.get, 10) for _ in range(8)]
    reply.set(7)
    assert [waiter.value() for waiter in waiters] == [7] * 8


def test_get_gives_up_after_its_timeout() -> None:
    reply: Reply[int] = Reply()
    with pytest.raises(CallTimeout) as caught:
        reply.get(timeout=0.001)
    assert isinstance(caught.value, pykka.Timeout)
    assert isinstance(caught.value, TimeoutError)
    assert reply.set(1)


def test_wait_goes_by_the_given_clock(clock: ManualClock) -> None:
    reply: Reply[int] = Reply()
    waiter = Background(reply.wait, 60.0, clock)
    while waiter.thread.is_alive():
        clock.advance(30.0)
    assert waiter.value() is False


def test_a_wait_that_timed_out_leaves_nothing_behind() -> None:
    reply: Reply[int] = Reply()
    for _ in range(3):
        assert not reply.wait(0.0, SystemClock())
    assert len(reply._waiters) == 1


def test_get_on_a_running_loop_raises_at_once() -> None:
    async def main() -> None:
        Reply[int]().get()

    with pytest.raises(BlockingCallOnLoop, match="acall"):
        asyncio.run(main())


def test_get_of_a_settled_reply_is_allowed_on_a_loop() -> None:
    async def main() -> int:
        reply: Reply[int] = Reply()
        reply.set(3)
        return reply.get()

    assert asyncio.run(main()) == 3


def test_a_reply_can_be_awaited() -> None:
    async def main() -> int:
        reply: Reply[int] = Reply()
        asyncio.get_running_loop().call_soon(reply.set, 5)
        return await reply

    assert asyncio.run(main()) == 5


def test_a_reply_settled_by_a_thread_wakes_its_tasks() -> None:
    async def main() -> list[int]:
        replies: list[Reply[int]] = [Reply() for _ in range(100)]
        thread = threading.Thread(target=lambda: [reply.set(n) for n, reply in enumerate(replies)])
        thread.start()
        values = [await reply for reply in replies]
        thread.join()
        return values

    assert asyncio.run(main()) == list(range(100))


def test_two_tasks_may_await_one_reply() -> None:
    async def main() -> list[int]:
        reply: Reply[int] = Reply()
        asyncio.get_running_loop().call_soon(reply.set, 5)
        return await asyncio.gather(reply.aget(), reply.aget(1.0))

    assert asyncio.run(main()) == [5, 5]


def test_aget_gives_up_after_its_seconds(clock: ManualClock) -> None:
    async def main() -> None:
        reply: Reply[int] = Reply()
        waiter = asyncio.create_task(reply.aget(60.0, clock))
        await asyncio.sleep(0)
        clock.advance(60.0)
        await waiter

    with pytest.raises(CallTimeout):
        asyncio.run(main())
    assert clock.pending() == 0


def test_a_wait_for_a_reply_of_nobody_needs_no_thread() -> None:
    async def wait() -> None:
        with pytest.raises(CallTimeout):
            await Reply().aget(0.001)

    before = threading.active_count()
    asyncio.run(wait())
    assert threading.active_count() == before


def test_an_answer_in_time_takes_its_timer_back(clock: ManualClock) -> None:
    async def main() -> int:
        reply: Reply[int] = Reply()
        asyncio.get_running_loop().call_soon(reply.set, 1)
        return await reply.aget(60.0, clock)

    assert asyncio.run(main()) == 1
    clock.advance(0)
    assert clock.pending() == 0


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_cancelled_task_cancels_the_reply(seconds: float | None) -> None:
    async def main() -> Reply[int]:
        reply: Reply[int] = Reply()
        task = asyncio.create_task(reply.aget(seconds, ManualClock()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return reply

    assert asyncio.run(main()).cancelled()


def test_a_cancelled_reply_raises_an_ordinary_exception() -> None:
    reply: Reply[int] = Reply()
    assert reply.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        reply.get()


def test_callbacks_run_in_the_settling_thread() -> None:
    reply: Reply[int] = Reply()
    seen: list[Any] = []
    reply.add_done_callback(lambda done: seen.append((done.get(), threading.current_thread().name)))
    thread = threading.Thread(target=reply.set, args=(1,), name="settler")
    thread.start()
    thread.join()
    assert seen == [(1, "settler")]


def test_a_callback_on_a_settled_reply_runs_here_and_now() -> None:
    reply: Reply[int] = Reply()
    reply.set(1)
    seen: list[int] = []
    reply.add_done_callback(lambda done: seen.append(done.get()))
    assert seen == [1]


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    reply: Reply[int] = Reply()
    seen: list[int] = []
    reply.add_done_callback(lambda _: 1 // 0)
    reply.add_done_callback(lambda _: seen.append(1))
    assert reply.set(1)
    assert seen == [1]
    assert "callback" in caplog.text


def test_one_that_is_told_of_a_settlement_and_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    reply: Reply[int] = Reply()
    seen: list[int] = []
    reply.on_settled(lambda: 1 // 0)
    reply.on_settled(lambda: seen.append(1))
    assert reply.set(1)
    assert seen == [1]
    assert "callback" in caplog.text


class Ear:
    def __init__(self) -> None:
        self.heard = 0

    def reply_cancelled(self) -> None:
        self.heard += 1


def test_who_asks_for_cancellations_is_told_of_one() -> None:
    reply, ear = Reply[int](), Ear()
    reply.tell_if_cancelled(ear)
    assert ear.heard == 0
    reply.cancel()
    reply.cancel()
    assert ear.heard == 1


def test_who_asks_for_cancellations_too_late_is_told_at_once() -> None:
    reply, ear = Reply[int](), Ear()
    reply.cancel()
    reply.tell_if_cancelled(ear)
    assert ear.heard == 1


@pytest.mark.parametrize("settle", [lambda reply: reply.set(1), lambda reply: reply.fail(ValueError())])
def test_who_asks_for_cancellations_is_told_of_nothing_else(settle: Callable[[Reply[int]], bool]) -> None:
    reply, ear = Reply[int](), Ear()
    reply.tell_if_cancelled(ear)
    assert settle(reply)
    reply.cancel()
    reply.tell_if_cancelled(ear)
    assert ear.heard == 0


@pytest.mark.parametrize(
    "settle", [lambda reply: reply.set(1), lambda reply: reply.fail(ValueError()), lambda reply: reply.cancel()]
)
def test_a_settled_reply_keeps_nobody_who_asked_for_cancellations(settle: Callable[[Reply[int]], bool]) -> None:
    """Who asks holds the reply as a rule: each call would be left to the collector, with all that it asked."""
    reply, before, after = Reply[int](), Ear(), Ear()
    first, second = weakref.ref(before), weakref.ref(after)
    gc.disable()
    try:
        reply.tell_if_cancelled(before)
        settle(reply)
        del before
        assert first() is None
        reply.tell_if_cancelled(after)
        del after
        assert second() is None
    finally:
        gc.enable()


def test_who_asks_for_cancellations_is_told_of_one_of_the_reply_that_is_followed() -> None:
    reply, other, ear = Reply[int](), Reply[int](), Ear()
    reply.follow(other)
    reply.tell_if_cancelled(ear)
    other.cancel()
    assert (reply.cancelled(), ear.heard) == (True, 1)


def test_one_that_is_told_of_a_cancellation_and_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf:
        def reply_cancelled(self) -> None:
            raise ValueError("deaf")

    reply: Reply[int] = Reply()
    reply.tell_if_cancelled(Deaf())
    assert reply.cancel()
    assert "deaf" in caplog.text


@pytest.mark.parametrize("error", [ActorDied("a", Crash(ValueError("x")), True), OSError(2, "gone")])
def test_a_shared_exception_does_not_grow(error: Exception) -> None:
    reply: Reply[int] = Reply()
    reply.fail(error)
    lengths = []
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            reply.get()
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(lengths)) == 1


def test_a_copied_exception_keeps_its_fields_and_cause() -> None:
    died = ActorDied("a", Crash(ValueError("x")), False)
    twin = fresh(died)
    assert isinstance(twin, ActorDied)
    assert twin is not died
    assert (twin.name, twin.maybe_handled, twin.__cause__) == ("a", False, died.__cause__)


@pytest.mark.parametrize("error", [OSError(2, "gone"), SystemExit(3), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")])
def test_an_exception_that_a_copy_would_damage_is_raised_itself(error: BaseException) -> None:
    assert fresh(error) is error


def test_cf_follows_the_reply() -> None:
    reply: Reply[int] = Reply()
    future = reply.cf
    reply.set(4)
    assert future.result(1) == 4


def test_cancelling_the_cf_future_cancels_the_reply() -> None:
    reply: Reply[int] = Reply()
    assert reply.cf.cancel()
    assert reply.cancelled()


def test_pykkas_derived_futures_work() -> None:
    reply: Reply[int] = Reply()
    doubled, both = reply.map(lambda n: n * 2), reply.join(reply)
    reply.set(2)
    assert doubled.get() == 4
    assert list(both.get(timeout=1)) == [2, 2]
    assert pykka.get_all([reply], timeout=1) == [2]


def test_a_derived_future_can_be_awaited_without_stopping_the_loop() -> None:
    async def main() -> int:
        reply: Reply[int] = Reply()
        asyncio.get_running_loop().call_later(0.01, reply.set, 2)
        return await reply.map(lambda n: n * 2)

    assert asyncio.run(main()) == 4


def test_set_exception_takes_the_exception_being_handled() -> None:
    reply: Reply[int] = Reply()
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        reply.set_exception()
    with pytest.raises(ZeroDivisionError):
        reply.get()


def test_a_following_reply_settles_as_the_other() -> None:
    first: Reply[int] = Reply()
    second: Reply[int] = Reply()
    second.follow(first)
    first.fail(ActorDied("a", NoProc(), False))
    assert isinstance(second.exception(), ActorDied)


def test_cancelling_the_following_reply_cancels_the_other() -> None:
    first: Reply[int] = Reply()
    second: Reply[int] = Reply()
    second.follow(first)
    second.cancel()
    assert first.cancelled()
