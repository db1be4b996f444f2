"""A stream of outcomes: one task per item, a bounded number at a time, items pulled only as slots become free."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from supervisors.errors import CallTimeout, SpecError
from supervisors.exits import Crash
from supervisors.reply import Reply
from supervisors.tasks import Failed, Outcome, Task, Tasks

I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")


def async_stream(
    tasks: Tasks,
    fn: Callable[[I], Any],
    items: Iterable[I],
    *,
    max_concurrency: int | None = None,
    timeout: float | None = 5.0,
    ordered: bool = True,
) -> Stream[Any]:
    """Run `fn(item)` as a task for each item; iterate the result (`for` or `async for`) for the outcomes.

    Each item ends in an `Ok` or a `Failed`, both with the item as `input`; a failure of one is the failure of
    nothing else. At most `max_concurrency` tasks (default: the number of processors) run at once, and an item is
    pulled only when one may start. A task that takes longer than `timeout` seconds (None: no limit) is abandoned
    and its outcome is `Failed(Crash(CallTimeout))`. `ordered` gives outcomes in the order of `items`, otherwise as
    they come. When the consumer stops early the tasks that run are abandoned.

    Raises `SpecError` for a `max_concurrency` or a `timeout` without sense, and for `tasks` that are none.
    """
    if not isinstance(tasks, Tasks):
        raise SpecError("tasks", tasks, "Tasks(ref) of a TaskSupervisor")
    most = (os.cpu_count() or 1) if max_concurrency is None else max_concurrency
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise SpecError("max_concurrency", max_concurrency, "an int >= 1")
    if timeout is not None and not timeout > 0:
        raise SpecError("timeout", timeout, "seconds > 0 or None")
    return Stream(tasks, fn, items, most, math.inf if timeout is None else timeout, ordered)


class Stream(Generic[T]):
    """What `async_stream` gives. To be iterated once; its items are pulled by whoever iterates it."""

    def __init__(
        self, tasks: Tasks, fn: Callable[[Any], Any], items: Iterable[Any], most: int, timeout: float, ordered: bool
    ) -> None:
        self._window = _Window(tasks, fn, iter(items), most, timeout, ordered)

    def __iter__(self) -> Iterator[Outcome[T]]:
        window = self._window
        try:
            while window.fill():
                while (slot := window.pop()) is None:
                    window.fill()
                    window.wait()
                yield slot.outcome
        finally:
            window.abandon()

    async def __aiter__(self) -> AsyncIterator[Outcome[T]]:
        window = self._window
        try:
            while window.fill():
                while (slot := window.pop()) is None:
                    window.fill()
                    await window.await_()
                yield slot.outcome
        finally:
            window.abandon()


class _Slot:
    """One item and its task."""

    __slots__ = ("deadline", "item", "outcome", "task")

    def __init__(self, item: Any, task: Task[Any], deadline: float) -> None:
        self.item, self.task, self.deadline = item, task, deadline
        self.outcome: Any = None


class _Window:
    """The items between pulled and delivered. Only `_finished` runs in other threads."""

    BUFFER = 4
    """Outcomes kept for a slow predecessor, as a multiple of the tasks that may run: more would be unbounded."""

    def __init__(
        self, tasks: Tasks, fn: Callable[[Any], Any], items: Iterator[Any], most: int, timeout: float, ordered: bool
    ) -> None:
        self._tasks, self._fn, self._items = tasks, fn, items
        self._most, self._timeout, self._ordered = most, timeout, ordered
        self._exhausted = False
        self._running: dict[_Slot, None] = {}
        self._undelivered: deque[_Slot] = deque()
        self._finished: deque[_Slot] = deque()
        self._awake: Reply[None] = Reply()

    def fill(self) -> bool:
        """Start tasks where there is room; False when all was delivered."""
        self._collect()
        while not self._exhausted and len(self._running) < self._most and self._has_room():
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                break
            self._start(item)
        return bool(self._running or self._undelivered)

    def _has_room(self) -> bool:
        return len(self._undelivered) < self._most * self.BUFFER

    def _start(self, item: Any) -> None:
        task = self._tasks.begin(self._fn, (item,), {})
        slot = _Slot(item, task, self._tasks.clock.now() + self._timeout)
        self._running[slot] = None
        if self._ordered:
            self._undelivered.append(slot)
        task.reply.add_done_callback(partial(self._done, slot))

    def _done(self, slot: _Slot, _: Reply[Any]) -> None:
        self._finished.append(slot)
        self._awake.set(None)

    def pop(self) -> _Slot | None:
        """The next slot to deliver, if there is one."""
        self._collect()
        return self._undelivered.popleft() if self._has_outcome() else None

    def _has_outcome(self) -> bool:
        """Whether there is one to deliver."""
        return bool(self._undelivered) and self._undelivered[0].outcome is not None

    def _collect(self) -> None:
        while self._finished:
            slot = self._finished.popleft()
            if slot.outcome is None:  # it may have been abandoned meanwhile
                self._settle(slot, slot.task.outcome(slot.item))
        now = self._tasks.clock.now()
        while (late := self._oldest()) is not None and late.deadline <= now:
            name = late.task.ref.name if late.task.ref is not None else repr(late.task)
            self._settle(late, Failed(Crash(CallTimeout(name, self._timeout)), late.item))
            late.task.abandon()

    def _settle(self, slot: _Slot, outcome: Outcome[Any]) -> None:
        slot.outcome = outcome
        del self._running[slot]
        if not self._ordered:
            self._undelivered.append(slot)

    def wait(self) -> None:
        """Block until a task has finished or is late. What can be delivered then goes before the next item's pull."""
        if self._may_wait():
            self._awake.wait(self._patience(), self._tasks.clock)

    async def await_(self) -> None:
        """As `wait`, on a loop."""
        if self._may_wait():
            try:
                await self._awake.aget(self._patience(), self._tasks.clock)
            except CallTimeout:
                pass

    def _may_wait(self) -> bool:
        if self._has_outcome():  # of a task that has finished since the last look, as the next one was started
            return False
        self._awake = Reply()
        return not self._finished  # look again: one may have finished before the new reply was there

    def _patience(self) -> float | None:
        slot = self._oldest()
        if slot is None or slot.deadline == math.inf:
            return None
        return max(0.0, slot.deadline - self._tasks.clock.now())

    def _oldest(self) -> _Slot | None:
        """The task that runs longest, whose deadline is the first: all have the same time."""
        return next(iter(self._running), None)

    def abandon(self) -> None:
        """Give up what still runs."""
        self._exhausted = True
        for slot in list(self._running):
            slot.task.abandon()
        self._running.clear()
        self._undelivered.clear()
