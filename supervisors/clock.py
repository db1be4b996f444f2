"""Time, injected: every wait of the package goes through a `Clock`.

`SystemClock` is the real one. `ManualClock` stands still until a test advances it.
Seconds are floats, monotonic, with no meaning outside of their clock.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from threading import Thread
from typing import Protocol, runtime_checkable

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


_AT_ONCE = 64
"""Timers that are sorted into the heap together."""


class _Entry(tuple[float, int, "_Timers"]):
    """One timer: when, a number no other has, and whose it is.

    A tuple, so that C code compares it and there is one object a timer: there are thousands of them.
    """

    __slots__ = ()
    __hash__ = object.__hash__  # the timer, not what stands in it; cheaper too

    def cancel(self) -> float | None:
        when, _, owner = self
        if owner.live.pop(self, None) is None:  # one C call: either this or `pop_due` has it
            return None
        left = when - owner.now()
        return left if left > 0.0 else 0.0


class _Timers:
    """What is to be called, by timer, and a heap of timers to find the next one.

    A timer that was taken back is only forgotten. Most are, before anybody looks for the next one, so those that are
    new wait in a queue, and what comes to the heap is what is alive by then. Of the dead in the heap the first go when
    somebody looks, and all of them when they are the majority.
    """

    __slots__ = ("__weakref__", "_heap", "_lock", "_new", "_numbers", "live", "now")

    def __init__(self, now: Callable[[], float]) -> None:
        _TIMERS.add(self)
        self.live: dict[_Entry, Callable[[], object]] = {}
        self._new: deque[_Entry] = deque()
        self._heap: list[_Entry] = []
        self._lock = PublishedLock()  # for the heap
        self._numbers = count()
        self.now = now

    def __len__(self) -> int:
        return len(self._new) + len(self._heap)

    def push(self, when: float, fn: Callable[[], object]) -> _Entry:
        if type(when) is not float or when != when:  # one nan, neither before nor after anything, mixes up the heap
            check_seconds("when", when)
        entry = _Entry((when, next(self._numbers), self))
        self.live[entry] = fn
        self._new.append(entry)
        if len(self._new) > _AT_ONCE:
            with self._lock:
                self._sort_in()
        return entry

    def _sort_in(self) -> None:
        """Have the heap hold all that is alive. With the lock; the collector may end a dropped call meanwhile, which
        sets timers and comes by here too.
        """
        with suppress(IndexError):  # no look before it is taken: the collector may come in between, and take it
            while True:
                self._keep(self._new.popleft())
        if len(self._heap) > 2 * len(self.live) + _AT_ONCE:
            after: list[_Entry] = []  # made before the two change places: whoever comes in between finds a heap
            before, self._heap = self._heap, after
            for entry in before:
                self._keep(entry)

    def _keep(self, entry: _Entry) -> None:
        if entry in self.live:
            heappush(self._heap, entry)

    def waiting(self) -> list[Callable[[], object]]:
        """What is to be called, in no order."""
        return list(self.live.values())

    def first(self) -> float | None:
        """When the next live entry is due."""
        with self._lock:
            self._sort_in()
            with suppress(IndexError):
                while True:
                    entry = heappop(self._heap)  # before the look, as in `pop_due`
                    if entry in self.live:
                        heappush(self._heap, entry)
                        return entry[0]
        return None

    def pop_due(self, now: float) -> Callable[[], object] | None:
        with self._lock:
            self._sort_in()
            with suppress(IndexError):
                while True:
                    entry = heappop(self._heap)  # before the look: a collection in between may sweep out what was first
                    if entry[0] > now:
                        heappush(self._heap, entry)
                        break
                    fn = self.live.pop(entry, None)
                    if fn is not None:
                        return fn
        return None

    def clear(self) -> None:
        with self._lock:
            self.live.clear()
            self._new.clear()
            self._heap = []


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
