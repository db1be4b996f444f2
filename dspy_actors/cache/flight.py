"""Single flight: callers with the same question at the same time share one trip to the model.

Each caller holds a `Reply` of its own and leaves by cancelling it. The trip is cancelled only when all have left, and
its failure reaches each as an error object of its own. Nothing here waits; everything may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from dspy_actors.errors import DspyActorsError
from supervisors.published_lock import PublishedLock
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
        self._notes: tuple[Any, ...] = ()  # of those who came before anybody asked to be told

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
            notes, self._notes = self._notes, ()
        for note in notes:
            tell(note)

    def joined(self, note: Any) -> Callable[[Any], object] | None:
        """Somebody has joined with `note`: whom to tell of it, `None` for later; called under the lock."""
        if self._joined is None:
            self._notes += (note,)
        return self._joined

    def left(self, reply: Reply[T]) -> None:
        """A reply is settled: where the flight did not do it, its holder has left, and with the last one everybody."""
        if not self._deadlines:  # the flight has ended
            return
        with self._table.lock:
            if self._deadlines.pop(reply, _ABSENT) is _ABSENT or self._deadlines:
                return
            self._table.forget(self)
            abandon, self._abandon = self._abandon, None
        if abandon is not None:
            abandon()

    def succeed(self, value: T) -> int:
        """Give everybody `value`; how many were still there."""
        return sum(reply.set(value) for reply in self._land())

    def fail(self, error: BaseException) -> int:
        """Give everybody an error of their own: our errors are copied without traceback, others are shared."""
        replies = self._land()
        return sum(reply.fail(_own(error)) for reply in replies)

    def _land(self) -> list[Reply[T]]:
        with self._table.lock:
            replies = list(self._deadlines)
            self._deadlines.clear()
            self._abandon = self._joined = None
            self._table.forget(self)
        return replies


class SingleFlight(Generic[K, T]):
    """The flights under way, by key. `joined` counts callers who found one instead of starting their own."""

    def __init__(self) -> None:
        self.lock = PublishedLock()
        self.joined = 0
        self._flights: dict[K, Flight[K, T]] = {}

    def join(
        self, key: K, deadline: float | None = None, note: Any = None, reply: Reply[T] | None = None
    ) -> tuple[Flight[K, T] | None, Reply[T]]:
        """Take part in the flight of `key`: `(flight, reply)` for the one who must fly it, `(None, reply)` for others.

        Cancelling the reply is leaving. `deadline` is an instant of the runtime's clock, used by `Flight.deadline`;
        `note` is told to the one who flies it, who may want to fly faster (`Flight.on_joined`). `reply` is one that
        the caller has already.
        """
        if reply is None:
            reply = Reply()
        with self.lock:
            flight = self._flights.get(key)
            leading, tell = flight is None, None
            if flight is None:
                flight = self._flights[key] = Flight(self, key)
            else:
                self.joined += 1
                tell = flight.joined(note)
            flight._deadlines[reply] = deadline
        if tell is not None:
            tell(note)
        reply.on_settled(_Leaving(flight, reply))
        return (flight if leading else None), reply

    def __len__(self) -> int:
        return len(self._flights)

    def forget(self, flight: Flight[K, T]) -> None:
        """Drop the flight's key, unless a newer flight has it; called under the lock."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


class _Leaving(Generic[K, T]):
    """Called when a reply is settled: where it was not the flight that did it, its holder has left.

    A class of its own, for it is kept as long as a call.
    """

    __slots__ = ("_flight", "_reply")

    def __init__(self, flight: Flight[K, T], reply: Reply[T]) -> None:
        self._flight = flight
        self._reply = reply

    def __call__(self) -> None:
        """In the settling thread."""
        self._flight.left(self._reply)


_ABSENT = object()


def _own(error: BaseException) -> BaseException:
    if not isinstance(error, DspyActorsError):
        return error
    made = error.fresh()
    made.__cause__ = error.__cause__
    return made
