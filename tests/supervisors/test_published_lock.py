"""What is published bears that the thread which writes it comes in once more, as the garbage collector makes it do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from supervisors.clock import ManualClock


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
    """The collector comes at this allocation of the cancel that sweeps."""
    clock = ManualClock()
    called: list[str] = []
    dead = [clock.call_at(5.0, lambda: called.append("dead")) for _ in range(66)]
    for timer in dead[:64]:
        timer.cancel()
    clock.call_at(9.0, lambda: None)

    def end() -> None:
        dead[65].cancel()
        clock.call_at(3.0, lambda: called.append("set"))

    gc.disable()
    gc.collect()
    Dropped(end)
    gc.set_threshold(allocation + 1)
    gc.enable()
    dead[64].cancel()
    gc.disable()
    gc.collect()
    clock.advance(100.0)
    assert called == ["set"]


def test_timers_may_be_kept_in_a_set() -> None:
    clock = ManualClock()
    assert len({clock.call_at(1.0, list), clock.call_at(1.0, list)}) == 2
