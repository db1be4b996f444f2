"""Waking asyncio tasks from other threads: one wake-up of the loop for a burst of futures."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import get_ident, local

from supervisors import steps
from supervisors.clock import Clock, Timer


class Bag:
    """The futures of one loop that are to be set, filled by any thread, emptied by the loop."""

    __slots__ = ("_armed", "_futures", "_ident", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ident = get_ident()
        self._futures: deque[asyncio.Future[None]] = deque()
        self._armed = False

    def set(self, future: asyncio.Future[None]) -> None:
        """Set `future`, which belongs to this bag's loop. Any thread."""
        if get_ident() == self._ident:
            if not future.done() and not self.loop.is_closed():
                future.set_result(None)
            return
        self._futures.append(future)
        if not self._armed:
            self._armed = True
            try:
                self.loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # the loop is closed: whoever waited there is gone
                self._futures.clear()

    def _flush(self) -> None:
        self._armed = False  # before the look: a thread that adds from now on knocks again
        while self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)
        if steps.hook is not None:
            steps.hook("bag:emptied", self)


class Wake:
    """Sets a future of the running loop when it is called, from any thread. A partial would be four objects for one.

    `timer` calls it after `seconds` of `clock`, or of the loop's own, where it shall not take longer.
    """

    __slots__ = ("_bag", "future", "timer")

    def __init__(self, seconds: float | None, clock: Clock | None) -> None:
        loop = asyncio.get_running_loop()
        self._bag = bag_here(loop)
        self.future: asyncio.Future[None] = loop.create_future()
        self.timer: Timer | asyncio.TimerHandle | None = None
        if seconds is not None and clock is not None:
            self.timer = clock.call_at(clock.now() + seconds, self)
        elif seconds is not None:  # nobody's clock: one made for this would have a thread that nobody ends
            self.timer = loop.call_later(max(0.0, seconds), self)

    def __call__(self) -> None:
        self._bag.set(self.future)


class _PerThread(local):
    bag: Bag | None = None


_HERE = _PerThread()


def bag_here(loop: asyncio.AbstractEventLoop) -> Bag:
    """The bag of the loop that runs in this thread."""
    bag = _HERE.bag
    if bag is None or bag.loop is not loop:
        bag = _HERE.bag = Bag(loop)
    return bag
