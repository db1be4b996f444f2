"""Waking asyncio tasks from other threads: one wake-up of the loop for a burst of replies."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop, get_running_loop
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from threading import get_ident, local

from supervisors import steps
from supervisors.clock import Clock, Timer


class Bag:
    """The waits of one loop that are over, put in by any thread, taken out by the loop."""

    __slots__ = ("_armed", "_ident", "_wakes", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ident = get_ident()
        self._wakes: deque[Wake] = deque()
        self._armed = False

    def set(self, wake: Wake) -> None:
        """Have the task go on that awaits `wake`, on this bag's loop. Any thread."""
        if get_ident() == self._ident and _get_running_loop() is self.loop:  # it may run in another thread by now
            wake.end_soon()
            return
        self._wakes.append(wake)
        if not self._armed:
            self._armed = True
            try:
                self.loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # the loop is closed: whoever waited there is gone
                self._wakes.clear()

    def _flush(self) -> None:
        self._armed = False  # before the look: a thread that adds from now on knocks again
        wakes = self._wakes
        ended = len(wakes)  # not those that come meanwhile: the loop has more to do than this
        # A task may let out SystemExit or Ctrl-C, which ends this turn; or run the loop itself, as notebooks do, and
        # wait there for those behind it.
        rest = self.loop.call_soon(self._flush) if ended > 1 else None
        for _ in range(ended):
            if not wakes:  # taken out in there
                break
            wakes.popleft().end()
        if rest is not None:
            rest.cancel()
        if steps.hook is not None:
            steps.hook("bag:emptied", self)


class Wake:
    """What a task awaits until it is called, from any thread.

    A future for that one task (see `asyncio.isfuture`), made for it: an `asyncio.Future` would be another object, and
    the task would not go on as the bag is emptied but in the loop's next turn. All but the call is for the loop's
    thread.

    `timer` calls it after `seconds` of `clock`, or of the loop's own, where it shall not take longer.
    """

    __slots__ = ("_asyncio_future_blocking", "_bag", "_cancelled", "_context", "_go_on", "_is_over", "timer")

    def __init__(self, seconds: float | None, clock: Clock | None) -> None:
        loop = get_running_loop()
        self._bag = bag_here(loop)
        self._asyncio_future_blocking = False
        self._go_on: Callable[[Wake], object] | None = None
        self._is_over = False
        self._cancelled: tuple[object, ...] | None = None  # what the error is made of, each time: no ring with that
        self.timer: Timer | asyncio.TimerHandle | None = None
        if seconds is not None and clock is not None:
            self.timer = clock.call_at(clock.now() + seconds, self)
        elif seconds is not None:  # nobody's clock: one made for this would have a thread that nobody ends
            self.timer = loop.call_later(max(0.0, seconds), self)

    def __call__(self) -> None:
        self._bag.set(self)

    def __await__(self) -> Generator[Wake, None, None]:
        if not self._is_over:
            self._asyncio_future_blocking = True
            yield self

    def end(self) -> None:
        """The wait is over: the task goes on before this returns."""
        if not self._is_over:
            self._is_over = True
            go_on, self._go_on = self._go_on, None  # no ring of this, its task and what that raises
            if go_on is not None:
                self._context.run(go_on, self)
            del go_on  # the frames of what the task has raised may lead to this one

    def end_soon(self) -> None:
        """The wait is over: the task goes on in the loop's next turn."""
        if not self._is_over:
            self._is_over = True
            go_on, self._go_on = self._go_on, None
            if go_on is not None:
                self._bag.loop.call_soon(go_on, self, context=self._context)

    # what a task asks of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of who awaits it."""
        return self._bag.loop

    def add_done_callback(self, fn: Callable[[Wake], object], *, context: Context) -> None:
        """Take the step by which the task goes on."""
        if self._is_over:  # since the task has looked, by a call that the collector ended
            self._bag.loop.call_soon(fn, self, context=context)
        else:
            self._go_on, self._context = fn, context

    def cancel(self, msg: object = None) -> bool:
        """The task is cancelled."""
        if self._is_over:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.end_soon()
        return True

    def result(self) -> None:
        """Nothing, or CancelledError."""
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)


class _PerThread(local):
    bag: Bag | None = None


_HERE = _PerThread()


def bag_here(loop: asyncio.AbstractEventLoop) -> Bag:
    """The bag of the loop that runs in this thread."""
    bag = _HERE.bag
    if bag is None or bag.loop is not loop:
        bag = _HERE.bag = Bag(loop)
    return bag
