"""`Line`: a limiter, locked, and those who wait for it, in the order of a `FairQueue`.

It takes no thread and no loop. Who must wait gets a reply, which somebody else's settlement, a timer of the clock or
the deadline settles; so a line outlives workers and io loops, and a test drives it with a clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from dspy_actors.envelope import CLASSES, Priority
from dspy_actors.errors import DeadlineExceeded, LMRateLimitError
from dspy_actors.lm.fair_queue import FairQueue
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.limiter import Need, RateLimiter, Reservation
from dspy_actors.lm.rate_headers import SILENT, RateReading
from supervisors.clock import Clock
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply


@dataclass(slots=True, eq=False)
class Place:
    """Somebody's place in the line. `turn` gets the reservation.

    `until` gives the instant by which it must, which may move while others come to wait for the same. Who is `moved`
    stands at another place now.
    """

    need: Need
    priority: Priority
    tenant: str
    until: Callable[[], float | None]
    turn: Reply[Reservation]
    moved: bool = False


@dataclass(slots=True)
class Ending:
    """What became of a request: `answered` after `seconds`, or `refused` as too fast; `used` where it was counted."""

    sent: bool = True
    answered: bool = False
    refused: bool = False
    seconds: float = 0.0
    retry_after: float | None = None
    used: Need | None = None
    limits: RateReading = SILENT


Told: TypeAlias = Callable[[str, float, float, float | None], object]


class Line:
    """Gives out a limiter's reservations in order. Safe from any thread; the lock is held for microseconds.

    `told(name, before, seconds, retry_after)` is called, outside the lock, for each refusal: for how long everybody
    pauses now, and would have before it. It must not block.
    """

    __slots__ = (
        "_clock",
        "_due",
        "_kept",
        "_kept_for",
        "_kept_until",
        "_length",
        "_limiter",
        "_lock",
        "_look_again",
        "_places",
        "_queue",
        "_serving",
        "_told",
        "_waiting",
        "name",
    )

    def __init__(
        self,
        name: str,
        limiter: RateLimiter,
        clock: Clock,
        fairness: Fairness | None = None,
        told: Told | None = None,
    ) -> None:
        self.name = name
        self._told = told
        self._limiter = limiter
        self._clock = clock
        self._lock = PublishedLock()
        fairness = fairness or Fairness()
        self._queue: FairQueue[Place] = FairQueue(fairness, _is_gone)
        self._places: dict[Reply[Reservation], Place] = {}
        self._length = 0
        self._waiting: dict[Priority, int] = dict.fromkeys(CLASSES, 0)
        self._due = math.inf
        self._serving = False
        self._look_again = False
        self._kept = fairness.interactive_reserve
        self._kept_for = fairness.reserve_seconds
        self._kept_until = -math.inf

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._length

    def enter(
        self,
        need: Need,
        *,
        priority: Priority = "interactive",
        tenant: str = "",
        deadline: float | None = None,
        until: Callable[[], float | None] | None = None,
    ) -> Reservation | Reply[Reservation]:
        """A reservation, or where there is no room the reply that will hold one.

        Cancelling the reply is leaving the line. The reply fails with `DeadlineExceeded` when the deadline passes in
        the line, and with `LMRateLimitError` as soon as it is certain to. `until` gives the deadline at any later
        moment, where it may move.
        """
        now = self._clock.now()
        with self._lock:
            if priority == "interactive":
                kept, self._kept_until = 0.0, now + self._kept_for
            else:
                kept = self._kept if now < self._kept_until else 0.0
            found = self._limiter.paused_until - now if self._length else self._limiter.reserve(need, now, kept)
            if isinstance(found, Reservation):
                return found
            if kept and not self._length:  # who would have to wait for the reserve alone may still get some of it
                found = self._limiter.wait(need, now)
            if deadline is not None and deadline < now + found < math.inf:
                return _failed(_hopeless(found))
            place = Place(need, priority, tenant, until or (lambda: deadline), Reply())
            if not self._length:
                self._queue.clear()
            self._queue.push(place, priority, tenant)
            self._length += 1
            self._waiting[priority] += 1
            self._places[place.turn] = place
        place.turn.on_settled(partial(self._one_less, place.turn))
        if deadline is not None:
            self._watch(place, deadline)
        self._serve()
        turn = place.turn  # others wait, but not for what this one may have: then it has not waited
        return turn.take() if turn.done() and not turn.cancelled() and turn.exception() is None else turn

    def hurry(self, turn: Reply[Reservation], priority: Priority) -> None:
        """Whoever waits for `turn` is of this class from now on, where it is a more urgent one."""
        now = self._clock.now()
        with self._lock:
            place = self._places.get(turn)
            if place is None or CLASSES.index(priority) >= CLASSES.index(place.priority):
                return
            place.moved = True
            self._places[turn] = moved = replace(place, priority=priority, moved=False)
            self._waiting[place.priority] -= 1
            self._waiting[priority] += 1
            self._queue.push(moved, priority, place.tenant)
            if priority == "interactive":
                self._kept_until = now + self._kept_for
        self._serve()

    def sent(self, reservation: Reservation) -> None:
        """The request is on its way."""
        with self._lock:
            self._limiter.sent(reservation, self._clock.now())

    def settle(self, reservation: Reservation, ending: Ending) -> None:
        """A request has ended. Those who waited for it get their turn; a second settlement is ignored."""
        now = self._clock.now()
        limiter = self._limiter
        paused: float | None = None
        with self._lock:
            if reservation.settled:
                return
            if ending.limits is not SILENT:
                limiter.learn(reservation, ending.limits, now)
            if ending.answered:
                limiter.answered(reservation, ending.seconds)
            elif ending.refused:
                paused = self.paused(now)
                limiter.refused(reservation, ending.retry_after, now)
            used = _NOTHING if ending.refused else ending.used  # the provider's own count has none of it either
            limiter.settle(reservation, used, now, sent=ending.sent)
        if paused is not None and self._told is not None:
            self._told(self.name, paused, self.paused(now), ending.retry_after)
        if self._length:
            self._serve()
            if ending.refused:
                self._dismiss()

    def paused(self, now: float) -> float:
        """Seconds for which nobody is let through, because the provider said so."""
        return max(0.0, self._limiter.paused_until - now)

    def resume(self) -> None:
        """End a pause: the first of those who wait goes ahead, and the others follow."""
        with self._lock:
            self._limiter.resume(self._clock.now())
        self._serve()

    def is_at_rest(self, now: float) -> bool:
        """Whether nobody waits and the limiter is at rest: a new one lets no more through than this one."""
        with self._lock:
            return not self._length and self._limiter.is_at_rest(now)

    def reading(self, now: float) -> dict[str, float | int | None]:
        """The limiter's limits and levels, and how many wait, in all and by class."""
        with self._lock:
            by_class = {f"waiting_{name}": count for name, count in self._waiting.items()}
            return {**self._limiter.reading(now), "waiting": self._length, **by_class}

    def _watch(self, place: Place, deadline: float) -> None:
        late = self._clock.call_at(deadline, partial(self._deadline_passed, place))
        place.turn.on_settled(lambda: late.cancel())

    def _deadline_passed(self, place: Place) -> None:
        """The deadline that a place had has passed: its end, unless somebody who has more time waits for it too."""
        deadline = place.until()
        if deadline is not None and deadline > self._clock.now():
            self._watch(place, deadline)
        elif deadline is not None:
            place.turn.fail(_too_late())

    def _one_less(self, turn: Reply[Reservation]) -> None:
        with self._lock:
            place = self._places.pop(turn)
            self._length -= 1
            self._waiting[place.priority] -= 1
            self._queue.left(self._length)

    def _serve(self) -> None:
        """Give out what there is room for, in order; come back when there is more.

        One at a time: whoever comes meanwhile, be it this thread, in which the collector ends a dropped call, leaves
        it to the one who is at it to look again.
        """
        with self._lock:
            self._look_again = True
            if self._serving:
                return
            self._serving = True
        try:
            while self._is_to_look():
                self._give_out()
        except BaseException:
            self._serving = False
            raise

    def _is_to_look(self) -> bool:
        """Whether somebody has come since the last look; else the line is nobody's to serve from now on."""
        with self._lock:
            self._serving, self._look_again = self._look_again, False
            return self._serving

    def _give_out(self) -> None:
        while True:
            now = self._clock.now()
            with self._lock:
                place = self._queue.first()
                if place is None:
                    return
                found = self._room_for(place, now)
                if isinstance(found, Reservation):
                    share = self._limiter.share(place.need)
                    self._queue.take(share)
                elif found < self._due:
                    self._due = found
                else:
                    return  # a timer is set, or a settlement will come by
            if not isinstance(found, Reservation):
                self._clock.call_at(found, partial(self._time_to_look, found))
                return
            if not place.turn.set(found):  # it has left at this very moment
                with self._lock:
                    self._limiter.settle(found, None, now, sent=False)
                    self._queue.give_back(share, place.priority, place.tenant)

    def _room_for(self, place: Place, now: float) -> Reservation | float:
        """Room for the first in line, or the instant at which to look again."""
        kept = self._kept if now < self._kept_until and not self._queue.may_use_reserve else 0.0
        found = self._limiter.reserve(place.need, now, kept)
        if isinstance(found, Reservation):
            return found
        return min(now + found, self._kept_until) if kept else now + found

    def _time_to_look(self, due: float) -> None:
        """A timer went off: the one that counts, unless an earlier one was set after it."""
        with self._lock:
            if due != self._due:
                return
            self._due = math.inf
        self._serve()

    def _dismiss(self) -> None:
        """A pause has begun: those whose deadline comes before its end need not wait for it."""
        now = self._clock.now()
        with self._lock:
            wait = self._limiter.paused_until - now
            end = now + wait
            places = list(self._places.values())
        for place in places:
            deadline = place.until()
            if deadline is not None and deadline < end:
                place.turn.fail(_hopeless(wait))


_NOTHING = Need()


def _is_gone(place: Place) -> bool:
    return place.moved or place.turn.done()


def _failed(error: Exception) -> Reply[Reservation]:
    reply: Reply[Reservation] = Reply()
    reply.fail(error)
    return reply


def _hopeless(wait: float) -> LMRateLimitError:
    msg = f"the rate limit leaves no room within the call's deadline; come back in {wait:.1f} s"
    return LMRateLimitError(msg, retry_after=wait, phase="limiter")


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the call's deadline passed while it waited for the rate limit", phase="limiter")
