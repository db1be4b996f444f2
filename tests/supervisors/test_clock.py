"""Clocks: real time and time that stands still."""

from __future__ import annotations

import asyncio
import threading
from _thread import allocate_lock
from collections.abc import Iterator

import pytest

from supervisors import steps
from supervisors.clock import ManualClock, SystemClock
from supervisors.errors import SpecError


@pytest.fixture
def real() -> Iterator[SystemClock]:
    clock = SystemClock()
    yield clock
    clock.close()


def test_a_manual_clock_stands_still(clock: ManualClock) -> None:
    assert clock.now() == clock.now() == 0.0


def test_a_manual_clock_runs_what_falls_due_in_order(clock: ManualClock) -> None:
    seen: list[tuple[str, float]] = []
    for name, when in (("b", 2.0), ("a", 1.0), ("c", 9.0)):
        clock.call_at(when, lambda name=name: seen.append((name, clock.now())))
    clock.advance(5.0)
    assert seen == [("a", 1.0), ("b", 2.0)]
    assert clock.now() == 5.0


def test_a_timer_set_by_a_timer_runs_in_the_same_advance(clock: ManualClock) -> None:
    seen: list[float] = []
    clock.call_at(1.0, lambda: clock.call_at(clock.now() + 1.0, lambda: seen.append(clock.now())))
    clock.advance(3.0)
    assert seen == [2.0]


def test_cancel_tells_the_seconds_that_were_left(clock: ManualClock) -> None:
    timer = clock.call_at(10.0, lambda: None)
    clock.advance(4.0)
    assert timer.cancel() == 6.0
    assert timer.cancel() is None


def test_a_timer_that_has_run_cannot_be_cancelled(clock: ManualClock) -> None:
    timer = clock.call_at(1.0, lambda: None)
    clock.advance(1.0)
    assert timer.cancel() is None


def test_a_cancelled_timer_does_not_run(clock: ManualClock) -> None:
    seen: list[int] = []
    clock.call_at(1.0, lambda: seen.append(1)).cancel()
    clock.advance(2.0)
    assert seen == []


def test_a_manual_clock_wakes_its_sleepers(clock: ManualClock) -> None:
    async def main() -> str:
        sleeper = asyncio.create_task(clock.sleep(60))
        await asyncio.sleep(0)
        clock.advance(60)
        await sleeper
        return "awake"

    assert asyncio.run(main()) == "awake"


def test_waiting_for_a_lock_ends_with_the_time_of_the_clock(clock: ManualClock) -> None:
    lock = allocate_lock()
    lock.acquire()
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(clock.wait(lock, 30.0)))
    waiter.start()
    while waiter.is_alive():
        clock.advance(10.0)
    waiter.join()
    assert got == [False]


def test_a_released_lock_is_acquired_at_once(clock: ManualClock) -> None:
    assert clock.wait(allocate_lock(), 30.0)
    assert clock.wait(allocate_lock(), None)


def test_a_real_timer_runs_in_the_clocks_thread(real: SystemClock) -> None:
    done, names = threading.Event(), []
    real.call_at(real.now() + 0.001, lambda: (names.append(threading.current_thread().name), done.set()))
    assert done.wait(5)
    assert names == ["supervisors-clock"]


def test_an_earlier_timer_overtakes_a_later_one(real: SystemClock) -> None:
    early, late = threading.Event(), threading.Event()
    real.call_at(real.now() + 600, late.set)
    real.call_at(real.now() + 0.001, early.set)
    assert early.wait(5)
    assert not late.is_set()


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_a_timer_beyond_all_time_does_not_end_the_clock(real: SystemClock, seconds: float) -> None:
    real.call_at(real.now() + seconds, lambda: None)
    for _ in range(2):  # the thread has looked at the far one before it comes to the second
        fired = threading.Event()
        real.call_at(real.now() + 0.01, fired.set)
        assert fired.wait(5)


def test_an_instant_that_is_no_number_is_refused(clock: ManualClock) -> None:
    with pytest.raises(SpecError):
        clock.call_at(float("nan"), lambda: None)
    assert clock.pending() == 0


def test_cancelled_timers_do_not_pile_up(real: SystemClock) -> None:
    for _ in range(50_000):
        real.call_at(real.now() + 600.0, lambda: None).cancel()
    assert real.pending() < 500


def test_long_timers_that_are_alive_survive_the_sweep(real: SystemClock) -> None:
    kept = [real.call_at(real.now() + 600.0, lambda: None) for _ in range(10)]
    for _ in range(1000):
        real.call_at(real.now() + 600.0, lambda: None).cancel()
    assert all((timer.cancel() or 0) > 500 for timer in kept)


def test_a_timer_beyond_the_next_look_runs_without_a_knock() -> None:
    clock, ran, looked = SystemClock(linger=0.02), threading.Event(), threading.Event()
    try:
        clock.call_at(clock.now(), looked.set)
        assert looked.wait(5)
        while clock._due == float("inf"):
            threading.Event().wait(0.001)
        clock.call_at(clock._due + 0.02, ran.set)
        assert ran.wait(5)
    finally:
        clock.close()


def test_timeouts_that_are_taken_back_knock_once_in_a_while(real: SystemClock) -> None:
    looked = threading.Event()
    real.call_at(real.now(), looked.set)
    assert looked.wait(5)
    while real._due == float("inf"):
        threading.Event().wait(0.001)
    horizon = real._due
    for _ in range(100):
        real.call_at(real.now() + 30.0, looked.set).cancel()
    assert real._due == horizon


@pytest.mark.parametrize("naps", [1, 2])
def test_a_timer_that_the_clocks_own_thread_sets_as_it_goes_to_sleep_runs(naps: int) -> None:
    """As the collector makes it do. At first it looks again by itself; then it has no reason to."""
    clock, ran = SystemClock(linger=0.001), threading.Event()
    seen: list[object] = []

    def sleeping(step: str, about: object) -> None:
        if step == "clock:sleeping" and about is clock:
            seen.append(about)
            if len(seen) == naps:
                clock.call_at(clock.now() + 0.01, ran.set)

    with steps.installed(sleeping):
        clock.call_at(clock.now(), lambda: None)
        try:
            assert ran.wait(5)
        finally:
            clock.close()


def test_an_idle_clock_has_no_thread() -> None:
    before = threading.active_count()
    clock = SystemClock()
    clock.now()
    assert threading.active_count() == before


def test_a_closed_clock_ends_its_thread_and_drops_its_timers() -> None:
    clock = SystemClock()
    seen: list[int] = []
    clock.call_at(clock.now() + 60, lambda: seen.append(1))
    clock.close()
    clock.call_at(clock.now(), lambda: seen.append(2))
    assert "supervisors-clock" not in {thread.name for thread in threading.enumerate()}
    assert seen == []


def test_a_timer_that_raises_does_not_stop_the_clock(real: SystemClock) -> None:
    reported = threading.Event()
    hook, threading.excepthook = threading.excepthook, lambda _: reported.set()
    try:
        real.call_at(real.now(), lambda: 1 // 0)
        assert reported.wait(5)
    finally:
        threading.excepthook = hook
    done = threading.Event()
    real.call_at(real.now(), done.set)
    assert done.wait(5)
