"""`Feed`: rows on their way to the evaluation actors, each handed out until somebody settles it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from supervisors.published_lock import PublishedLock

T = TypeVar("T")


class Taker(Protocol):
    """Who takes rows, and found none."""

    def wake(self) -> bool:
        """There may be a row now, or there will be none any more. Any thread; False where nobody is there to hear."""
        ...


class Feed(Generic[T]):
    """A queue that ends when it is closed and everything taken from it is settled.

    Its methods are safe from any thread and never block. Who finds no row does not wait for one, but is woken: of
    hundreds of slots most have nothing more to do at the end of a job, and a wait of each would be ended one by one.
    """

    __slots__ = ("_abandoned", "_closed", "_items", "_lock", "_taken", "_waiting")

    def __init__(self, items: Iterable[T] = (), *, closed: bool = True) -> None:
        self._items: deque[T] = deque(items)
        self._closed = closed
        self._abandoned = False
        self._taken = 0
        self._lock = PublishedLock()
        self._waiting: deque[Taker] = deque()

    @property
    def ended(self) -> bool:
        """Whether there will be no more rows, and those that were taken are settled."""
        with self._lock:
            return self._ended()

    def take(self, taker: Taker) -> T | None:
        """The next row; `None` where there is none now. Then `taker` is woken once, unless the feed has ended."""
        with self._lock:
            if self._items:
                self._taken += 1
                return self._items.popleft()
            if not self._ended():
                self._waiting.append(taker)
            return None

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
        """Wake somebody who is still there."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                taker = self._waiting.popleft()
            if taker.wake():
                return

    def _wake_all(self) -> None:
        """The feed has ended. Who found no row more than once is told once."""
        with self._lock:
            takers = dict.fromkeys(self._waiting)
            self._waiting.clear()
        for taker in takers:
            taker.wake()
