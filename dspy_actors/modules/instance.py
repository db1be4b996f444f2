"""`ModuleInstance`: the actor of a started program. It admits calls, books outcomes and holds the parameters."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from dspy_actors.errors import Busy
from dspy_actors.modules.record import Record, Versions
from supervisors.actor import Actor
from supervisors.reply import Reply


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls of one program run at once, and how many may wait behind them."""

    max_inflight: int = 1024
    max_queue: int = 100_000


class Metrics:
    """What the calls of one program came to, published outside its actor: a restart loses no count.

    `seconds` is the time of finished calls added up. `errors` counts by the error's `kind` or class name. `strays`
    are outcomes of calls admitted by an earlier incarnation.
    """

    __slots__ = ("_lock", "calls", "errors", "inflight", "queued", "seconds", "strays", "succeeded")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.succeeded = 0
        self.errors: Counter[str] = Counter()
        self.seconds = 0.0
        self.strays = 0
        self.inflight = 0
        self.queued = 0

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
                "inflight": self.inflight,
                "queued": self.queued,
                "strays": self.strays,
            }


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """What an instance is started from, again and again. `versions` and `metrics` outlive its crashes."""

    name: str
    versions: Versions
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)


class ModuleInstance(Actor):
    """Stands for one started program. Its handlers only admit and book, so they run in the caller's place.

    A call does not run in here: it runs where its caller is and owns the record it was admitted with, so it outlives
    a restart of this actor.

    Messages:
        admit(call_id): the active `Record`; a reply that settles when a place is free; or `Busy`, as a value.
        book(call_id, kind, seconds): the call has ended; lets the next one in.
        withdraw(call_id): the caller no longer waits for a place.
    """

    inline = True

    def init(self, plan: InstancePlan) -> None:
        self.plan = plan
        self.running: set[str] = set()
        self.waiting: OrderedDict[str, Reply[Record | Busy]] = OrderedDict()
        self._publish()

    def admit(self, call_id: str) -> Record | Busy | Reply[Record | Busy]:
        """Let a call in, now or when its turn comes."""
        limits = self.plan.limits
        if len(self.running) < limits.max_inflight:
            self.running.add(call_id)
            self.plan.metrics.inflight = len(self.running)
            return self.plan.versions.active
        if len(self.waiting) >= limits.max_queue:
            msg = f"{self.plan.name} runs {limits.max_inflight} calls and {limits.max_queue} wait; try again later"
            return Busy(msg, name=self.plan.name)
        reply: Reply[Record | Busy] = self.defer()
        self.waiting[call_id] = reply
        self._publish()
        return reply

    def book(self, call_id: str, kind: str | None, seconds: float) -> None:
        """Count the outcome of a call and let the next one in."""
        metrics = self.plan.metrics
        metrics.finish(kind, seconds)
        if call_id in self.running:
            self.running.remove(call_id)
        else:
            metrics.strays += 1
        self._let_in()

    def withdraw(self, call_id: str) -> None:
        """Forget a call that waits, or free the place of one that was let in too late."""
        self.waiting.pop(call_id, None)
        self.running.discard(call_id)
        self._let_in()

    def _let_in(self) -> None:
        while self.waiting and len(self.running) < self.plan.limits.max_inflight:
            next_id, reply = self.waiting.popitem(last=False)
            if reply.set(self.plan.versions.active):
                self.running.add(next_id)
        self._publish()

    def _publish(self) -> None:
        self.plan.metrics.inflight = len(self.running)
        self.plan.metrics.queued = len(self.waiting)
