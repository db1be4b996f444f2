"""Timers that wait can be found, by what they are to call."""

from __future__ import annotations

from functools import partial

from supervisors.clock import ManualClock, waiting_timers
from supervisors.kernel import Kernel
from supervisors.leaks import left, seen, timers
from tests.supervisors.actors import Counter, spawn


class Reminder(Counter):
    def remind(self) -> None:
        self.send_after(5.0, Reminder.add, 1)


def remember(what: str) -> None:
    """Never called."""


def test_a_timer_is_named_by_its_function(clock: ManualClock) -> None:
    clock.call_at(5.0, partial(remember, "milk"))
    found = list(timers())
    clock.advance(5.0)
    assert ("timer for remember" in found, "timer for remember" in timers()) == (True, False)


def test_a_timer_of_an_actor_is_named_by_its_message(still: Kernel) -> None:
    ref = spawn(still, Reminder)
    ref.call(Reminder.remind)
    assert f"timer for MessageTimer._fire of <MessageTimer of {ref.name}: add>" in timers()


def test_a_cancelled_timer_does_not_wait(clock: ManualClock) -> None:
    before = waiting_timers()
    clock.call_at(5.0, dict).cancel()
    assert waiting_timers() == before


def test_a_closed_kernel_leaves_no_timers(clock: ManualClock) -> None:
    before = seen()
    kernel = Kernel(clock=clock)
    spawn(kernel, Reminder).call(Reminder.remind)
    during = left(before, settling=0.01)
    kernel.close()
    assert (any("MessageTimer" in said for said in during), left(before)) == (True, [])
