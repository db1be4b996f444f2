"""Monitors and timers: messages that come exactly once, or not at all."""

from __future__ import annotations

import threading

import pytest

from supervisors.clock import ManualClock
from supervisors.exits import Crash, Killed, NoProc, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from tests.supervisors.actors import KINDS, Counter, OnLoop, downs, spawn


@pytest.mark.parametrize("watcher", KINDS)
@pytest.mark.parametrize("cls", KINDS)
def test_a_monitor_tells_the_end_once(kernel: Kernel, cls: type[Counter], watcher: type[Counter]) -> None:
    ref, watching = spawn(kernel, cls), spawn(kernel, watcher)
    monitor = watching.call(Counter.watch_over, ref)
    ref.exit(Shutdown("x"))
    ref.down().get(5)
    assert [(down.monitor, down.ref, down.exit) for down in downs(watching)] == [(monitor, ref, Shutdown("x"))]


def test_two_monitors_tell_twice(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    monitors = [watching.call(Counter.watch_over, ref) for _ in range(2)]
    ref.stop()
    assert [down.monitor for down in downs(watching)] == monitors


def test_a_dead_actor_is_reported_at_once_as_noproc(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    ref.stop()
    watching.call(Counter.watch_over, ref)
    assert [down.exit for down in downs(watching)] == [NoProc()]


def test_a_fenced_actor_is_reported_as_killed(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    watching.call(Counter.watch_over, ref)
    ref.fence()
    assert [down.exit for down in downs(watching)] == [Killed()]


def test_a_monitor_that_was_taken_back_tells_nothing(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    monitor = watching.call(Counter.watch_over, ref)
    assert watching.call(Counter.unwatch, monitor)
    ref.stop()
    assert downs(watching) == []
    assert not ref.mailbox.watchers


def test_a_notice_that_waits_is_dropped_with_its_monitor(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    monitor = watching.call(Counter.watch_over, ref)
    go, began = threading.Event(), threading.Event()
    watching.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.stop()
    watching.mailbox.post_first(("unwatch", (monitor,), {}, None))
    go.set()
    assert downs(watching) == []


def test_taking_back_a_monitor_that_told_is_false(kernel: Kernel) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    monitor = watching.call(Counter.watch_over, ref)
    ref.stop()
    downs(watching)
    assert not watching.call(Counter.unwatch, monitor)


@pytest.mark.parametrize("fenced", [True, False])
def test_who_is_watched_forgets_those_that_watched_it_and_are_gone(kernel: Kernel, fenced: bool) -> None:
    ref, watching = spawn(kernel), spawn(kernel)
    watching.call(Counter.watch_over, ref)
    watching.fence() if fenced else watching.stop()
    assert len(ref.mailbox.watchers) == 0


def test_who_watches_forgets_those_that_are_gone_and_those_it_gave_up(kernel: Kernel) -> None:
    watching, ref, gone = spawn(kernel), spawn(kernel), spawn(kernel)
    monitor = watching.call(Counter.watch_over, ref)
    watching.call(Counter.watch_over, gone)
    gone.stop()
    watching.call(Counter.unwatch, monitor)
    assert len(watching.mailbox.watchers) == 0


def test_an_actor_may_watch_itself(kernel: Kernel) -> None:
    ref = spawn(kernel)
    monitor = ref.call(Counter.watch_over, ref)
    assert ref.call(Counter.unwatch, monitor)
    assert len(ref.mailbox.watchers) == 0


@pytest.mark.parametrize("cls", KINDS)
def test_what_an_actor_sent_before_its_death_arrives_before_the_notice(kernel: Kernel, cls: type[Counter]) -> None:
    watching = spawn(kernel)

    class Talker(cls):  # type: ignore[misc, valid-type]
        def talk(self) -> None:
            for n in range(100):
                watching.cast(Counter.note, n)
            raise ValueError

    for _ in range(10):
        ref = spawn(kernel, Talker)
        watching.call(Counter.watch_over, ref)
        ref.cast(Talker.talk)
        ref.down().get(5)
    log = watching.call(Counter.notes)
    assert [log[n * 101 : n * 101 + 100] for n in range(10)] == [list(range(100))] * 10
    assert all(isinstance(log[n * 101 + 100].exit, Crash) for n in range(10))


def test_names_are_free_when_the_notice_comes(kernel: Kernel) -> None:
    registry, seen = Registry(), []

    class Looking(Counter):
        def on_info(self, message: object) -> None:
            seen.append(registry.whereis("x"))

    watching = spawn(kernel, Looking)
    for _ in range(20):
        ref = spawn(kernel, Counter, name=registry.via("x"))
        watching.call(Counter.watch_over, ref)
        ref.exit(Normal())
        ref.down().get(5)
        watching.call(Counter.add, 0)
    assert seen == [None] * 20


class Timed(Counter):
    """Starts timers."""

    def later(self, seconds: float, what: object) -> object:
        return self.send_after(seconds, Counter.note, what)


def test_a_timer_is_a_message(still: Kernel, clock: ManualClock) -> None:
    ref = spawn(still, Timed)
    ref.call(Timed.later, 2.0, "b")
    ref.call(Timed.later, 1.0, "a")
    clock.advance(5.0)
    assert ref.call(Counter.notes) == ["a", "b"]


def test_a_cancelled_timer_sends_nothing(still: Kernel, clock: ManualClock) -> None:
    ref = spawn(still, Timed)
    timer = ref.call(Timed.later, 2.0, "no")
    clock.advance(0.5)
    assert timer.cancel() == 1.5  # type: ignore[attr-defined]
    clock.advance(5.0)
    assert ref.call(Counter.notes) == []


def test_timers_end_with_their_actor(still: Kernel, clock: ManualClock) -> None:
    ref = spawn(still, Timed)
    timer = ref.call(Timed.later, 600.0, "no")
    ref.stop()
    assert timer.cancel() is None  # type: ignore[attr-defined]
    clock.advance(1000.0)


def test_a_timer_is_not_refused_by_a_full_mailbox(still: Kernel, clock: ManualClock) -> None:
    class Small(Timed):
        mailbox = 1

    ref, go, began = spawn(still, Small), threading.Event(), threading.Event()
    ref.call(Timed.later, 1.0, "timer")
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.cast(Counter.note, "full")
    clock.advance(1.0)
    log = ref.mailbox.actor.log
    go.set()
    ref.stop()
    assert log[:2] == ["full", "timer"]


def test_a_loop_actor_has_timers_too(still: Kernel, clock: ManualClock) -> None:
    class TimedLoop(OnLoop):
        def later(self) -> None:
            self.send_after(1.0, Counter.note, "tick")

    ref = spawn(still, TimedLoop)
    ref.call(TimedLoop.later)
    clock.advance(1.0)
    assert ref.call(Counter.notes) == ["tick"]
