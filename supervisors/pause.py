"""`Pause`: a handler on the pool that waits for a child's `init` without keeping a thread.

A supervisor that restarts a child is deaf until the child's `init` is done, as in OTP. It need not sit on a thread
meanwhile: the thread that ran the supervisor runs the child's `init` next, at the bottom of its stack, and then the
rest of the supervisor's handler. So a restart wakes no other thread. The supervisor stays owned from the first half to
the second, whatever thread comes to the second: the one that ran `init`, or, when that does not come back in time
and the child is fenced, another one of the pool.
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from supervisors import steps
from supervisors.clock import Clock, Timer
from supervisors.dispatchers.base import BUDGET
from supervisors.reply import Reply


class Worker(Protocol):
    """A thread of the pool."""

    following: Any
    """What it runs next, before anything else."""


class Pause:
    """The rest of a handler of `cell`, due when `started` is settled. To its pool it looks like an actor."""

    __slots__ = (
        "_before",
        "_cell",
        "_child",
        "_clock",
        "_ident",
        "_is_first",
        "_once",
        "_rest",
        "_started",
        "_timeout",
        "_timer",
        "is_late",
        "sched",
    )

    def __init__(
        self,
        cell: Any,
        child: Any,
        started: Reply[Any],
        timeout: float,
        clock: Clock,
        rest: Callable[[Pause], object],
    ) -> None:
        """`child` was made with its `own` held; it is fenced when `timeout` seconds of `clock` are over."""
        self._cell, self._child, self._started = cell, child, started
        self._timeout, self._clock, self._rest = timeout, clock, rest
        self._once = allocate_lock()  # whoever gets it runs the rest
        self._is_first = True
        self._ident = 0
        self._timer: Timer | None = None
        self._before: Any = None
        self.sched = True
        self.is_late = False

    def begin(self, host: Worker) -> None:
        """In the thread that ran `cell`, which from here on is owned by this pause."""
        cell = self._cell
        self._before, cell.waiting = cell.waiting, self._started  # a child that calls us from `init` is told at once
        self._ident = get_ident()
        cell.since = cell.now()
        host.following = self
        if self._timeout != math.inf:
            self._timer = self._clock.call_at(self._clock.now() + self._timeout, self._too_late)
        self._started.on_settled(self._settled)

    def activate(self, budget: int = BUDGET, host: Any = None) -> bool:
        """First, in the thread that ran the supervisor: `init`. Then, there or in another thread: the rest."""
        child, more = self._child, False
        if self._is_first and get_ident() == self._ident:
            child.host = host
            more = child.run_first(1)
            self._is_first = False
        if self._started.done() and self._once.acquire(False):
            self._resume()
        if more and not child.sched:
            child.sched = True
            host.following = child
        return False

    def give_up(self) -> None:
        """Whoever paused has died before this began: nobody is going to run the child."""
        self._child.own.release()
        self._child.released()
        self._child.fence()

    def fence(self) -> None:
        """The pool's word for an activation that failed in the kernel's own code."""
        self._cell.fence()

    def _resume(self) -> None:
        cell = self._cell
        if self._timer is not None:
            self._timer.cancel()
        cell.waiting = self._before
        try:
            cell.ctx.run(cell.resume, self._rest, self)
        finally:
            if steps.hook is not None:
                steps.hook("own:releasing", cell)
            cell.own.release()
            if cell.released() and not cell.sched:
                cell.sched = True
                cell.dispatcher.submit(cell)

    def _settled(self) -> None:
        if not (self._is_first and get_ident() == self._ident):  # else that thread is about to look by itself
            self._cell.dispatcher.submit(self)

    def _too_late(self) -> None:
        if not self._started.done():
            self.is_late = True
            self._child.fence()
