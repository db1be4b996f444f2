"""Single flight: callers with the same question at the same time share one trip to the model.

Each caller holds a `Reply` of its own and leaves by cancelling it. The trip is cancelled only when all have left, and
its failure reaches each as an error object of its own. Nothing here waits; everything may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

from dspy_actors.errors import DspyActorsError
from supervisors.reply import Reply

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flight(Generic[K, T]):
    """One trip under way and those who wait for it. The leader ends it with `succeed` or `fail`."""

    __slots__ = ("_abandon", "_deadlines", "_joined", "_notes", "_table", "key")

    def __init__(self, table: SingleFlight[K, T], key: K) -> None:
        self.key = key
        self._table = table
        self._abandon: Callable[[], object] | None = None
        self._deadlines: dict[Reply[T], float | None] = {}
        self._joined: Callable[[Any], object] | None = None
        self._notes: list[Any] = []  # of those who came before anybody asked to be told

    @property
    def waiting(self) -> int:
        """How many callers hold the flight."""
        return len(self._deadlines)

    @property
    def deadline(self) -> float | None:
        """The latest deadline of those who wait; `None` if one of them has none."""
        with self._table.lock:
            latest: float | None = 0.0
            for one in self._deadlines.values():
                latest = None if one is None or latest is None else max(latest, one)
            return latest

    def on_abandoned(self, cancel: Callable[[], object]) -> None:
        """`cancel` is called once when the last caller has left, at once if that has happened already.

        It runs in the thread of whoever left last, and must not block.
        """
        with self._table.lock:
            if self._deadlines:
                self._abandon = cancel
                return
        cancel()

    def on_joined(self, tell: Callable[[Any], object]) -> None:
        """`tell` is called with the note of everybody who has joined and who joins from now on, in their threads."""
        with self._table.lock:
            self._joined = tell
            notes, self._notes = self._notes, []
        for note in notes:
            tell(note)

    def joined(self, note: Any) -> Callable[[Any], object] | None:
        """Somebody has joined with `note`: whom to tell of it, `None` for later; called under the lock."""
        if self._joined is None:
            self._notes.append(note)
        return self._joined

    def succeed(self, value: T) -> int:
        """Give everybody `value`; how many were still there."""
        return sum(reply.set(value) for reply in self._land())

    def fail(self, error: BaseException) -> int:
        """Give everybody an error of their own: our errors are copied without traceback, others are shared."""
        replies = self._land()
        return sum(reply.fail(error.fresh() if isinstance(error, DspyActorsError) else error) for reply in replies)

    def _land(self) -> list[Reply[T]]:
        with self._table.lock:
            replies = list(self._deadlines)
            self._deadlines.clear()
            self._abandon = None
            self._table.forget(self)
        return replies


class SingleFlight(Generic[K, T]):
    """The flights under way, by key. `joined` counts callers who found one instead of starting their own."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.joined = 0
        self._flights: dict[K, Flight[K, T]] = {}

    def join(self, key: K, deadline: float | None = None, note: Any = None) -> tuple[Flight[K, T] | None, Reply[T]]:
        """Take part in the flight of `key`: `(flight, reply)` for the one who must fly it, `(None, reply)` for others.

        Cancelling the reply is leaving. `deadline` is an instant of the runtime's clock, used by `Flight.deadline`;
        `note` is told to the one who flies it, who may want to fly faster (`Flight.on_joined`).
        """
        reply: Reply[T] = Reply()
        with self.lock:
            flight = self._flights.get(key)
            leading, tell = flight is None, None
            if flight is None:
                flight = self._flights[key] = Flight(self, key)
            else:
                self.joined += 1
                tell = flight.joined(note)
            flight._deadlines[reply] = deadline
        chosen = flight
        if tell is not None:
            tell(note)
        reply.on_settled(partial(self._left, chosen, reply))
        return (chosen if leading else None), reply

    def __len__(self) -> int:
        return len(self._flights)

    def forget(self, flight: Flight[K, T]) -> None:
        """Drop the flight's key, unless a newer flight has it; called under the lock."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _left(self, flight: Flight[K, T], reply: Reply[T]) -> None:
        """A reply is done: where it was not the flight that settled it, its holder has left."""
        with self.lock:
            if flight._deadlines.pop(reply, _ABSENT) is _ABSENT or flight._deadlines:
                return
            self.forget(flight)
            abandon, flight._abandon = flight._abandon, None
        if abandon is not None:
            abandon()


_ABSENT = object()
