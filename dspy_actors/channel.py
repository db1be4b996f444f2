"""`Channel`: a bounded buffer between one writer and one reader, each on whatever thread or loop it likes.

The reader takes all that is there at once, so a fast stream costs one hand-over a batch. The writer looks whether there
is room before it makes more: that is how a reader's pace reaches the socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply

T = TypeVar("T")


class Channel(Generic[T]):
    """Items in order, at most `max_items` and `max_size` of them (in whatever unit `put` is told), and one end.

    The bounds say when the writer is to wait; what it has in its hands is always taken, so the buffer holds at most one
    `put` more. The end is `finish`, `fail` or `close`, whichever comes first. Never blocks; the lock is held for a
    microsecond, and nobody is called while it is.
    """

    __slots__ = (
        "_closed",
        "_error",
        "_items",
        "_lock",
        "_on_close",
        "_over",
        "_room",
        "_size",
        "_taker",
        "_told",
        "max_items",
        "max_size",
    )

    def __init__(self, *, max_items: int = 64, max_size: int = 256 * 1024) -> None:
        self.max_items = max_items
        self.max_size = max_size
        self._lock = PublishedLock()
        self._items: deque[T] = deque()
        self._size = 0
        self._over = False
        self._told = False  # that somebody is to call `deliver`
        self._closed = False
        self._error: BaseException | None = None
        self._taker: Reply[list[T] | None] | None = None
        self._room: Reply[None] | None = None
        self._on_close: list[Callable[[], object]] = []

    @property
    def closed(self) -> bool:
        """Whether the reader has left."""
        return self._closed

    @property
    def over(self) -> bool:
        """Whether the end was written, or the reader has left."""
        return self._over

    @property
    def waiting(self) -> int:
        """How many items wait to be taken."""
        return len(self._items)

    # -- the writer's side --------------------------------------------------------------------------------------

    def put(self, items: Sequence[T], size: int = 0, tell: Callable[[Channel[T]], object] | None = None) -> bool:
        """Hand over `items`, `size` large together; whether there is room for more. After the end they are dropped.

        With `tell` a reader who waits is not woken: `tell(self)` is called, and whoever is told calls `deliver` soon.
        """
        if not items:
            return self._has_room()
        with self._lock:
            if self._over:
                return True
            taker = self._taker
            if taker is None or tell is not None:
                self._items.extend(items)
                self._size += size
                room = len(self._items) < self.max_items and self._size < self.max_size
                if taker is None or self._told:
                    return room
                self._told = True
            else:
                self._taker = None
        if tell is not None:
            tell(self)
            return room
        if not taker.set(list(items)):  # the reader stopped waiting at this very moment; it may come back
            return self._keep_first(items, size)
        return True

    def deliver(self) -> None:
        """Give what has come to the reader who waits for it, if there is still one."""
        with self._lock:
            self._told = False
            taker = self._taker
            if taker is None or not self._items:
                return
            self._taker = None
            items, size, room = self._emptied()
        if not taker.set(items):
            self._keep_first(items, size)
        if room is not None:
            room.set(None)

    def room(self) -> Reply[None]:
        """Settles when there is room, and when the reader has left."""
        reply: Reply[None] = Reply()
        with self._lock:
            if not self._over and not self._has_room():
                self._room = reply
                return reply
        reply.set(None)
        return reply

    def finish(self) -> bool:
        """The stream has ended well; whether this was the end."""
        return self._end(None)

    def fail(self, error: BaseException) -> bool:
        """The stream ends with `error`, which is raised once what came before was taken; whether this was the end."""
        return self._end(error)

    def on_close(self, then: Callable[[], object]) -> None:
        """Call `then` when the reader leaves before the end, at once where it has: in the reader's thread."""
        with self._lock:
            if not self._over:
                self._on_close.append(then)
                return
            left = self._closed
        if left:
            then()

    # -- the reader's side --------------------------------------------------------------------------------------

    def take(self) -> Reply[list[T] | None]:
        """All that is there, as soon as there is something; `None` at the end, or the error that it ended with.

        One reader: a second `take` before the first has settled takes its place, and the first is cancelled.
        Cancelling the reply loses nothing.
        """
        reply: Reply[list[T] | None] = Reply()
        replaced: Reply[list[T] | None] | None = None
        room: Reply[None] | None = None
        found: list[T] | None = None
        with self._lock:
            error, is_open = self._error, False
            if self._items:
                replaced, self._taker = self._taker, None
                found, _, room = self._emptied()
            elif not self._over:
                replaced, self._taker, is_open = self._taker, reply, True
        if replaced is not None:
            replaced.cancel()
        if found is None and error is not None:
            reply.fail(error)
        elif not is_open:
            reply.set(found)
        if room is not None:
            room.set(None)
        return reply

    def close(self) -> bool:
        """The reader leaves: what waits is dropped and the writer is told; whether this was the end."""
        with self._lock:
            if self._over:
                self._items.clear()
                return False
            self._over = self._closed = True
            self._items.clear()
            self._size = 0
            taker, self._taker = self._taker, None
            room, self._room = self._room, None
            told, self._on_close = self._on_close, []
        for then in told:  # first: who is woken below wants the interpreter, and the connection is to be closed now
            then()
        if taker is not None:
            taker.set(None)
        if room is not None:
            room.set(None)
        return True

    # -- within -------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return len(self._items) < self.max_items and self._size < self.max_size

    def _emptied(self) -> tuple[list[T], int, Reply[None] | None]:
        """Under the lock: all that waited, its size, and who waited for room."""
        items, size = list(self._items), self._size
        self._items.clear()
        self._size = 0
        room, self._room = self._room, None
        return items, size, room

    def _keep_first(self, items: Sequence[T], size: int) -> bool:
        with self._lock:
            if self._closed:
                return True
            taker, self._taker = self._taker, None  # another `take` may have come in between
            if taker is None:
                self._items.extendleft(reversed(items))
                self._size += size
                return self._has_room()
        return True if taker.set(list(items)) else self._keep_first(items, size)

    def _end(self, error: BaseException | None) -> bool:
        with self._lock:
            if self._over:
                return False
            self._over = True
            self._error = error
            room, self._room = self._room, None
            self._on_close = []
            undelivered = bool(self._items)
            taker = None
            if not undelivered:
                taker, self._taker = self._taker, None
        if undelivered:
            self.deliver()
        elif taker is not None:
            taker.set(None) if error is None else taker.fail(error)
        if room is not None:
            room.set(None)
        return True
