"""A lock for each key: held by a thread or by an actor, and freed when that actor is dead."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

from supervisors.clock import SystemClock
from supervisors.current import CURRENT
from supervisors.deadline import current_deadline
from supervisors.errors import CallCycle, CallTimeout, Fenced
from supervisors.reply import Reply

TIMEOUT = 5.0
"""Seconds that a lock is waited for unless the caller says otherwise or has a nearer deadline."""

_REAL_TIME = SystemClock()  # for those who are no actor; it never gets a timer, so no thread


class _Turn:
    """One who has a lock, or waits for it. `me` tells who: the actor's life, else the thread."""

    __slots__ = ("granted", "me")

    def __init__(self, me: object) -> None:
        self.me = me
        self.granted: Reply[None] = Reply()


class KeyLocks:
    """Mutual exclusion by key, first come first served. Keys that nobody is at take no room."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _queues; the first of each queue has the lock
        self._queues: dict[Hashable, deque[_Turn]] = {}

    @contextmanager
    def held(self, key: Hashable, name: str, timeout: float | None) -> Iterator[None]:
        """Have the lock in the block. Raises CallTimeout, and CallCycle for whoever has it already."""
        life: Any = CURRENT.get()
        turn = _Turn(life if life is not None else get_ident())
        self._enter(key, turn, name)
        try:
            self._wait(turn, name, life, timeout)
            # A fenced holder does not free it in time, so its death does.
            if life is not None and not life.watch(turn, lambda _: self._leave(key, turn)):
                raise Fenced(life.name)
            yield
        finally:
            if life is not None:
                life.unwatch(turn)
            self._leave(key, turn)

    def _enter(self, key: Hashable, turn: _Turn, name: str) -> None:
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            if queue and queue[0].me == turn.me:
                raise CallCycle((name,))
            queue.append(turn)
            if queue[0] is turn:
                turn.granted.set(None)

    def _wait(self, turn: _Turn, name: str, life: Any, timeout: float | None) -> None:
        clock = _REAL_TIME if life is None else life.home.clock
        seconds = TIMEOUT if timeout is None else timeout
        deadline = current_deadline()
        if timeout is None and deadline is not None:
            seconds = max(0.0, min(seconds, deadline - clock.now()))
        if not turn.granted.wait(seconds, clock):
            raise CallTimeout(name, seconds, "timeout=")

    def _leave(self, key: Hashable, turn: _Turn) -> None:
        """Give the lock, or the place in its queue, up. Again: nothing."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None or turn not in queue:
                return
            queue.remove(turn)
            if not queue:
                del self._queues[key]
                return
            queue[0].granted.set(None)
