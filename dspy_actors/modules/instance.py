"""`ModuleInstance`: the actor of a started program, and what it publishes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dspy_actors.envelope import Priority
from dspy_actors.lm.fair_queue import FairQueue
from dspy_actors.lm.fairness import Fairness
from dspy_actors.modules.admission import Admission
from dspy_actors.modules.input_guard import InputGuard
from dspy_actors.modules.record import Versions
from dspy_actors.modules.results import Results
from supervisors.actor import Actor
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply


class Metrics:
    """What the calls of one program came to, published outside its actor: a restart loses no count.

    `seconds` is the time of finished calls added up. `errors` counts by the error's `kind` or class name.
    """

    __slots__ = ("_lock", "calls", "errors", "seconds", "succeeded")

    def __init__(self) -> None:
        self._lock = PublishedLock()
        self.calls = 0
        self.succeeded = 0
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0

    def finish(self, kind: str | None, seconds: float) -> None:
        """Count one finished call; `kind` is `None` for a success."""
        with self._lock:
            self.calls += 1
            self.seconds += seconds
            if kind is None:
                self.succeeded += 1
            else:
                self.errors[kind] += 1

    def snapshot(self) -> dict[str, object]:
        """The numbers as plain data."""
        with self._lock:
            return {
                "calls": self.calls,
                "succeeded": self.succeeded,
                "errors": dict(self.errors),
                "seconds": self.seconds,
            }


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """What an instance is started from, again and again. What it publishes outlives its crashes.

    `fairness` says how calls share places that they have to wait for. `results` keeps what the program answers, where
    it was asked to. `guard` keeps inputs that are set aside from it.
    """

    name: str
    versions: Versions
    admission: Admission
    fairness: Fairness = field(default_factory=Fairness)
    results: Results | None = None
    guard: InputGuard | None = None
    metrics: Metrics = field(default_factory=Metrics)


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that found no place; `turn` settles when it has one."""

    call_id: str
    priority: Priority
    tenant: str
    turn: Reply[None]


class ModuleInstance(Actor):
    """Stands for one started program: it owns the queue of the calls that found no place.

    Places that become free are shared as a rate limit is: classes by weight, in a class the tenants, each place is one.
    So behind a flood that has all of them an interactive call has the next, and another tenant's its turn. From then on
    (also where the line was full, and it was refused) a share of the places, rounded down, is kept for interactive
    calls, until for `reserve_seconds` none has needed one: a rate limit that keeps some of itself for them holds up the
    others, whose places they could not get otherwise. Before that all places are open to all, and who finds one free
    need not look whose it is.

    A call does not run in here: it runs where its caller is and owns the record it was admitted with, so it outlives
    a restart of this actor. Places, versions and metrics are published, so a call that finds a place sends nothing.

    Messages:
        admit(call_id, priority, tenant): settles when the call has a place.
        let_in(): places have become free, or somebody who waited has left.
        keep_on(): time to see whether places are still to be kept.
    """

    inline = True

    def init(self, plan: InstancePlan) -> None:
        self.admission = plan.admission
        self.fairness = plan.fairness
        self.keeps = False
        self.admission.keep(0)
        self.line: FairQueue[Waiter] = FairQueue(plan.fairness, _has_left)

    def admit(self, call_id: str, priority: Priority, tenant: str) -> Reply[None]:
        """Wait for a place; the reply settles when it is there."""
        reply: Reply[None] = self.defer()
        if self.line.first() is None:
            self.line.clear()
        self.line.push(Waiter(call_id, priority, tenant, reply), priority, tenant)
        self.let_in()
        return reply

    def let_in(self) -> None:
        """Give the free places to those whose turn it is."""
        line = self.line
        line.left(len(self.admission.waiting))
        if self.admission.needed and not self.keeps:
            self._keep()
        while (waiter := line.first()) is not None:
            if not self.admission.seat(waiter.call_id, urgent=line.may_use_reserve):
                return
            line.take(1.0)
            if not waiter.turn.set(None):  # its caller has left at this very moment
                line.give_back(1.0, waiter.priority, waiter.tenant)
                self.admission.leave(waiter.call_id)

    def keep_on(self) -> None:
        """Go on keeping places for interactive calls if one has needed them lately; else open them to all."""
        self.keeps = False
        if self.admission.needed:
            self._keep()
        else:
            self.admission.keep(0)
            self.let_in()

    def _keep(self) -> None:
        places = int(self.admission.limits.max_inflight * self.fairness.interactive_reserve)
        if places and self.fairness.reserve_seconds:
            self.keeps = True
            self.admission.keep(places)
            self.send_after(self.fairness.reserve_seconds, ModuleInstance.keep_on)


def _has_left(waiter: Waiter) -> bool:
    return waiter.turn.done()
