"""What is published bears that the thread which writes it comes in once more, as the garbage collector makes it do."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisors.clock import ManualClock
from supervisors.exits import Killed, Shutdown
from supervisors.kernel import Kernel
from tests.supervisors.actors import Background, spawn

FEW = 20
"""Timers, too few to be swept out when they are dead."""

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

    def sweep() -> None:
        gc.disable()
        gc.collect()
        Dropped(end)
        gc.set_threshold(allocation + 1)
        gc.enable()
        clock.advance(1.0)
        gc.disable()
        gc.collect()
        clock.advance(100.0)

    Background(sweep).value()
    assert called == ["set"] * MANY


class Once:
    """Does something, once, when it was looked at."""

    meddle: Callable[[], object] | None = None

    def looked(self) -> None:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()


class Live(Once, dict[Any, Any]):
    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.looked()
        return found


class New(Once, deque[Any]):
    def __bool__(self) -> bool:
        found = len(self) > 0
        self.looked()
        return found


@pytest.mark.parametrize(("table", "kind"), [("live", Live), ("_new", New)])
def test_timers_set_between_a_look_for_the_next_one_and_what_follows_are_called(table: str, kind: Any) -> None:
    """There CPython 3.12 lets the collector in."""
    clock = ManualClock()
    called: list[str] = []
    timers = clock._timers
    dead = [clock.call_at(5.0, lambda: called.append("dead")) for _ in range(FEW)]
    clock.call_at(9.0, lambda: called.append("last"))
    clock.advance(1.0)
    for timer in dead:
        timer.cancel()

    def meddle() -> None:
        clock.call_at(3.0, lambda: called.append("set"))
        while len(timers._new) > 0:  # until they are sorted into the heap
            clock.call_at(4.0, lambda: None)

    watched = kind(getattr(timers, table))
    setattr(timers, table, watched)
    if table == "_new":
        clock.call_at(8.0, lambda: None)
    watched.meddle = meddle
    clock.advance(1.0)
    meddles = ["set"] if watched.meddle is None else []
    clock.advance(100.0)
    assert called == [*meddles, "last"]


def test_timers_may_be_kept_in_a_set() -> None:
    clock = ManualClock()
    assert len({clock.call_at(1.0, list), clock.call_at(1.0, list)}) == 2


@pytest.mark.parametrize("allocation", range(12))
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
