"""`Feed`: rows on their way to the evaluation actors, each handed out until somebody settles it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply

T = TypeVar("T")


class Feed(Generic[T]):
    """A queue that ends when it is closed and everything taken from it is settled.

    `take_at_once`, `offer`, `put_back`, `settle` and `close` are safe from any thread and never block; `take` is
    awaited.
    """

    __slots__ = ("_abandoned", "_closed", "_items", "_lock", "_taken", "_waiting")

    def __init__(self, items: Iterable[T] = (), *, closed: bool = True) -> None:
        self._items: deque[T] = deque(items)
        self._closed = closed
        self._abandoned = False
        self._taken = 0
        self._lock = PublishedLock()
        self._waiting: deque[Reply[None]] = deque()

    def take_at_once(self) -> T | None:
        """The next row, `None` where there is none now."""
        with self._lock:
            if not self._items:
                return None
            self._taken += 1
            return self._items.popleft()

    async def take(self) -> T | None:
        """The next row, waited for if need be; `None` once there will be no more."""
        while True:
            with self._lock:
                item = self.take_at_once()
                if item is not None or self._ended():
                    return item
                turn: Reply[None] = Reply()
                self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # woken for a row that somebody else must take now
                    self._wake_one()
                raise

    def offer(self, item: T) -> None:
        """Add a row."""
        with self._lock:
            self._items.append(item)
        self._wake_one()

    def put_back(self, item: T) -> None:
        """Give back a row that was taken, for somebody else to try; forgotten where the feed was abandoned."""
        with self._lock:  # in one step: between two of them the feed could look as if it had ended
            self._taken -= 1
            if not self._abandoned:
                self._items.append(item)
            ended = self._ended()
        if ended:
            self._wake_all()
        else:
            self._wake_one()

    def settle(self) -> None:
        """One row that was taken is done with."""
        with self._lock:
            self._taken -= 1
            ended = self._ended()
        if ended:
            self._wake_all()

    def close(self) -> None:
        """No more rows will be offered."""
        with self._lock:
            self._closed = True
            ended = self._ended()
        if ended:
            self._wake_all()

    def abandon(self) -> None:
        """Forget the rows nobody has taken yet; those taken are still waited for."""
        with self._lock:
            self._abandoned = True
            self._items.clear()
        self.close()

    def _ended(self) -> bool:
        return self._closed and not self._items and self._taken <= 0

    def _wake_one(self) -> None:
        """Wake somebody who still waits: whoever was cancelled takes nothing."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                turn = self._waiting.popleft()
            if turn.set(None):
                return

    def _wake_all(self) -> None:
        with self._lock:
            waiting = tuple(self._waiting)
            self._waiting.clear()
        for turn in waiting:
            turn.set(None)
