"""`Admission`: how many calls of one program run and wait, published so that a free place takes no message."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.arguments import whole
from dspy_actors.errors import Busy, ShuttingDown
from supervisors.published_lock import PublishedLock


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls of one program run at once, and how many may wait behind them.

    Raises `LMConfigurationError` for less than one that runs, or than none that wait.
    """

    max_inflight: int = 1024
    max_queue: int = 100_000

    def __post_init__(self) -> None:
        whole("Runtime.start", "max_inflight", self.max_inflight, least=1)
        whole("Runtime.start", "max_queue", self.max_queue, least=0)

    def but(self, max_inflight: int | None, max_queue: int | None) -> Limits:
        """These limits, with what is not `None` in its place."""
        return Limits(
            self.max_inflight if max_inflight is None else max_inflight,
            self.max_queue if max_queue is None else max_queue,
        )


class Admission:
    """Counts places. Safe from any thread; one short lock, nobody waits in it.

    The queue itself belongs to the program's actor. A caller that finds no place is counted as waiting before it asks
    the actor, so whoever leaves after that knows that somebody has to be let in.

    So many may run as `open_to_all` says; what is left of `limits.max_inflight` is kept for urgent calls, and is none
    unless the actor keeps some. `needed` says that an urgent call found none of the others free.
    """

    __slots__ = ("_lock", "_name", "closed", "limits", "needed", "open_to_all", "running", "waiting")

    def __init__(self, name: str, limits: Limits) -> None:
        self._lock = PublishedLock()
        self._name = name
        self.limits = limits
        self.open_to_all = limits.max_inflight
        self.needed = False
        self.running: set[str] = set()
        self.waiting: set[str] = set()
        self.closed = False

    def enter_at_once(self, call_id: str) -> bool:
        """Take a free place; False, and nothing else, where `enter` would do anything but that."""
        with self._lock:
            return not self.closed and self._seat_if_free(call_id, self.open_to_all)

    def enter(self, call_id: str, *, urgent: bool = False) -> bool:
        """Take a free place, one that is kept for those who are `urgent` too, or be counted as waiting.

        Raises `Busy` where too many wait already, but for an urgent call for which the actor has a kept place, and
        `ShuttingDown` once the program was stopped.
        """
        with self._lock:
            if self.closed:
                msg = f"{self._name} was stopped; start it again"
                raise ShuttingDown(msg)
            if self._seat_if_free(call_id, self.open_to_all):
                return True
            if urgent:
                self.needed = True
                if self._seat_if_free(call_id, self.limits.max_inflight):
                    return True
            free = self.limits.max_inflight - max(self.open_to_all, len(self.running))  # of those that are kept
            if len(self.waiting) >= self.limits.max_queue + (free if urgent else 0):
                msg = (
                    f"{self._name} runs {len(self.running)} calls and {len(self.waiting)} wait; "
                    f"try again later or give it more room (max_inflight, max_queue)"
                )
                raise Busy(msg, name=self._name)
            self.waiting.add(call_id)
            return False

    def _seat_if_free(self, call_id: str, places: int) -> bool:
        if self.waiting or len(self.running) >= places:
            return False
        self.running.add(call_id)
        return True

    def seat(self, call_id: str, *, urgent: bool) -> bool:
        """Give a waiting call a place, if there is one for it."""
        with self._lock:
            if len(self.running) >= (self.limits.max_inflight if urgent else self.open_to_all):
                return False
            self.running.add(call_id)
            self.waiting.discard(call_id)
            return True

    def leave(self, call_id: str) -> bool:
        """Free a call's place, or take it out of those that wait; whether somebody waits for a place."""
        with self._lock:
            self.running.discard(call_id)
            self.waiting.discard(call_id)
            return bool(self.waiting)

    def keep(self, places: int) -> None:
        """Keep so many places for urgent calls from now on, as they become free."""
        self.open_to_all = self.limits.max_inflight - places
        self.needed = False

    def close(self) -> None:
        """The program was stopped: no call is let in any more."""
        self.closed = True
