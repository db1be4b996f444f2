"""Time, injected: every wait of the package goes through a `Clock`.

`SystemClock` is the real one. `ManualClock` stands still until a test advances it.
Seconds are floats, monotonic, with no meaning outside of their clock.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
import weakref
from _thread import LockType, allocate_lock
from collections.abc import Callable
from itertools import count
from threading import Thread
from typing import Any, Protocol, runtime_checkable

from supervisors import steps
from supervisors.errors import check_seconds
from supervisors.published_lock import PublishedLock

LONGEST = 1e8
"""Seconds, three years: what the platform's locks can wait for."""

LINGER = 1.0
"""Seconds that the clock's thread looks ahead when nothing is due. Most timers are timeouts, taken back at once, and
each of them would wake the thread."""


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> float | None:
        """Take the call back: the seconds that were left, or None if it was made (or taken back) already."""


@runtime_checkable
class Clock(Protocol):
    """What the package needs of time."""

    def now(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        """Call `fn` once at `when`; at once if that is past. `fn` must not block. Runs in the clock's thread.

        Raises SpecError for what is no number.
        """

    def wait(self, lock: LockType, seconds: float | None) -> bool:
        """Acquire `lock` within `seconds` of this clock (None: for ever). Blocks the calling thread."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task."""

    def close(self) -> None:
        """Drop what is due and end the clock's thread."""


_WHEN, _FN, _OWNER = 0, 2, 3


class _Entry(list[Any]):
    """One timer: when, a number no other has, what to call, and whose it is. Dead once there is nothing to call.

    A list, so that C code compares it and there is one object a timer: a heap holds thousands of them.
    """

    __slots__ = ()
    __eq__ = object.__eq__  # a timer, not what stands in it, for whoever keeps some in a set
    __hash__ = object.__hash__  # type: ignore[assignment]

    def cancel(self) -> float | None:
        owner: _Timers = self[_OWNER]
        return owner.cancel(self)


class _Timers:
    """A heap of entries. Cancelled ones stay in it, and are swept out when they are the majority."""

    __slots__ = ("__weakref__", "_cancelled", "_heap", "_lock", "_meanwhile", "_now", "_numbers")

    def __init__(self, now: Callable[[], float]) -> None:
        _TIMERS.add(self)
        self._heap: list[_Entry] = []
        self._lock = PublishedLock()
        self._numbers = count()
        self._cancelled = 0
        self._meanwhile: list[_Entry] | None = None  # while dead ones are swept out: those that came in between
        self._now = now

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, when: float, fn: Callable[[], object]) -> _Entry:
        check_seconds("when", when)  # one nan, which is neither before nor after anything, would mix up the heap
        with self._lock:
            entry = _Entry((when, next(self._numbers), fn, self))
            if self._meanwhile is None:
                heapq.heappush(self._heap, entry)
            else:
                self._meanwhile.append(entry)
        return entry

    def cancel(self, entry: _Entry) -> float | None:
        with self._lock:
            if entry[_FN] is None:
                return None
            entry[_FN] = None
            self._cancelled += 1
            if self._cancelled > 64 and self._cancelled * 2 > len(self._heap) and self._meanwhile is None:
                self._sweep()
        left: float = entry[_WHEN] - self._now()
        return max(0.0, left)

    def _sweep(self) -> None:
        """Take out the dead ones. The collector may end a dropped call meanwhile, which takes back and sets timers."""
        meanwhile: list[_Entry] = []
        self._meanwhile = meanwhile
        heap = [each for each in self._heap if each[_FN] is not None]
        heapq.heapify(heap)
        self._heap, self._cancelled, self._meanwhile = heap, 0, None
        for entry in meanwhile:
            heapq.heappush(heap, entry)

    def waiting(self) -> list[Callable[[], object]]:
        """What is to be called, in no order."""
        with self._lock:
            return [fn for entry in self._heap if (fn := entry[_FN]) is not None]

    def first(self) -> float | None:
        """When the next live entry is due."""
        with self._lock:
            self._drop_dead_head()
            return self._heap[0][_WHEN] if self._heap else None

    def pop_due(self, now: float) -> Callable[[], object] | None:
        with self._lock:
            self._drop_dead_head()
            if not self._heap or self._heap[0][_WHEN] > now:
                return None
            entry = heapq.heappop(self._heap)
            fn: Callable[[], object] = entry[_FN]
            entry[_FN] = None
            return fn

    def clear(self) -> None:
        with self._lock:
            for entry in self._heap:
                entry[_FN] = None
            self._heap, self._cancelled = [], 0

    def _drop_dead_head(self) -> None:
        while self._heap and self._heap[0][_FN] is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1


_TIMERS: weakref.WeakSet[_Timers] = weakref.WeakSet()


def waiting_timers() -> list[Callable[[], object]]:
    """What the timers of every clock in the process are to call. For tests that look for what was left behind."""
    return [fn for timers in list(_TIMERS) for fn in timers.waiting()]


class SystemClock:
    """Real time. One daemon thread, started by the first timer and ended by `close`."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, linger: float = LINGER) -> None:
        self._linger = linger
        self._timers = _Timers(time.monotonic)
        self._lock = PublishedLock()
        self._bell = allocate_lock()  # the thread sleeps on it; a knock that comes before it does is kept
        self._bell.acquire()
        self._due = float("inf")  # when the thread will look next; guarded by _lock
        self._thread: Thread | None = None
        self._closed = False

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        entry = self._timers.push(when, fn)
        if when < self._due or self._thread is None:
            self._wake(when)
        return entry

    def wait(self, lock: LockType, seconds: float | None) -> bool:
        if seconds is None:
            return lock.acquire()
        return lock.acquire(True, seconds if 0.0 <= seconds < LONGEST else LONGEST if seconds > 0 else 0.0)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._timers.clear()
            self._knock()
            thread = self._thread
        if thread is not None:
            thread.join(5.0)

    def pending(self) -> int:
        """How many timers the heap holds, cancelled ones that were not swept yet included."""
        return len(self._timers)

    def _wake(self, when: float) -> None:
        with self._lock:
            if self._closed:
                return
            if self._thread is None:
                self._thread = Thread(target=self._run, name="supervisors-clock", daemon=True)
                self._thread.start()
            elif when < self._due:
                self._due = when
                self._knock()

    def _knock(self) -> None:
        """Under the lock. Also in the clock's own thread, where the collector ends a dropped call that sets a timer."""
        if self._bell.locked():
            self._bell.release()

    def _run(self) -> None:
        was_knocked = True
        while True:
            while (fn := self._timers.pop_due(time.monotonic())) is not None:
                _call(fn)
                del fn
            with self._lock:
                if self._closed:
                    return
                # Publish a horizon that makes every push knock, then look at the heap: one of the two sees the other.
                self._due = float("inf")
                first, now = self._timers.first(), time.monotonic()
                seconds = -1.0  # for ever
                if first is not None or was_knocked:
                    # Knocked for a timer that is taken back already: one that is due later than this need not knock.
                    self._due = first if first is not None else now + self._linger
                    seconds = min(LONGEST, max(0.0, self._due - now))
            if steps.hook is not None:
                steps.hook("clock:sleeping", self)
            was_knocked = self._bell.acquire(True, seconds)


def _call(fn: Callable[[], object]) -> None:
    try:
        fn()
    except BaseException as error:  # the clock's thread serves everybody and must outlive one caller's mistake
        threading.excepthook(
            threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
        )


class ManualClock:
    """Time for tests: it stands still until `advance`, which runs what falls due, in order, in its own thread."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._timers = _Timers(self.now)

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        entry = self._timers.push(when, fn)
        if when <= self._now:
            self._fire()
        return entry

    def wait(self, lock: LockType, seconds: float | None) -> bool:
        """As `Clock.wait`. A lock cannot be waited for together with a clock, so this looks every millisecond."""
        if seconds is None:
            return lock.acquire()
        until = self._now + seconds
        while not lock.acquire(True, 0.001):
            if self._now >= until:
                return lock.acquire(False)
        return True

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_at(self._now + seconds, lambda: loop.call_soon_threadsafe(wake))
        try:
            await woken
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Go forward; timers fall due one by one, each seeing its own time as now."""
        until = self._now + seconds
        while True:
            first = self._timers.first()
            if first is None or first > until:
                break
            self._now = max(self._now, first)
            self._fire()
        self._now = until

    def close(self) -> None:
        self._timers.clear()

    def pending(self) -> int:
        """How many timers are in the heap."""
        return len(self._timers)

    def _fire(self) -> None:
        while (fn := self._timers.pop_due(self._now)) is not None:
            fn()
