"""What is published bears that the thread which writes it comes in once more, as the garbage collector makes it do."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from supervisors.clock import ManualClock
from supervisors.exits import Killed, Shutdown
from supervisors.kernel import Kernel
from tests.supervisors.actors import spawn

MANY = 200
"""Timers, several times as many as are sorted into the heap together."""


class Meddling(float):
    """An instant that does something when it is compared, as a collection may at any moment."""

    meddle: Callable[[], object]

    def __eq__(self, other: object) -> bool:
        self.meddle()
        return super().__eq__(other)

    __hash__ = float.__hash__


def test_a_timer_is_taken_back_in_the_middle_of_setting_another() -> None:
    clock = ManualClock()
    called: list[str] = []
    dropped = clock.call_at(1.0, lambda: called.append("dropped"))
    when = Meddling(2.0)
    when.meddle = dropped.cancel
    clock.call_at(when, lambda: called.append("kept"))
    clock.advance(3.0)
    assert called == ["kept"]


@pytest.fixture
def collector() -> Iterator[None]:
    """The garbage collector as it was, afterwards."""
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.set_threshold(*before)
    if enabled:
        gc.enable()


class Dropped:
    """In a circle with itself; does something when the collector ends it."""

    def __init__(self, end: Callable[[], object]) -> None:
        self.end = end
        self.circle = self

    def __del__(self) -> None:
        self.end()


@pytest.mark.parametrize("allocation", range(6))
def test_a_timer_set_while_dead_ones_are_swept_out_is_called(collector: None, allocation: int) -> None:
    """The collector comes at this allocation of the look that sweeps."""
    clock = ManualClock()
    called: list[str] = []
    dead = [clock.call_at(5.0, lambda: called.append("dead")) for _ in range(200)]
    clock.call_at(9.0, lambda: None)
    clock.advance(1.0)
    for timer in dead[1:]:
        timer.cancel()

    def end() -> None:
        dead[0].cancel()
        for _ in range(MANY):
            clock.call_at(3.0, lambda: called.append("set"))

    gc.disable()
    gc.collect()
    Dropped(end)
    gc.set_threshold(allocation + 1)
    gc.enable()
    clock.advance(1.0)
    gc.disable()
    gc.collect()
    clock.advance(100.0)
    assert called == ["set"] * MANY


def test_timers_may_be_kept_in_a_set() -> None:
    clock = ManualClock()
    assert len({clock.call_at(1.0, list), clock.call_at(1.0, list)}) == 2


@pytest.mark.parametrize("allocation", range(8))
def test_the_collector_may_end_an_actor_while_another_is_told_to_end(
    collector: None, kernel: Kernel, allocation: int
) -> None:
    """It comes at this allocation of the request to exit."""
    dropped, told, enough = spawn(kernel), spawn(kernel), Shutdown("enough")
    downs = dropped.down(), told.down()

    def tell() -> None:
        gc.disable()
        gc.collect()
        Dropped(lambda: dropped.mailbox.fence())
        gc.set_threshold(allocation + 1)
        gc.enable()
        told.mailbox.request_exit(enough)
        gc.disable()
        gc.collect()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    teller.join(5)
    assert not teller.is_alive()
    assert [down.get(5) for down in downs] == [Killed(), enough]
