"""`ModuleInstance`: the actor of a started program, and what it publishes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

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

    `results` keeps what the program answers, where it was asked to. `guard` keeps inputs that are set aside from it.
    """

    name: str
    versions: Versions
    admission: Admission
    results: Results | None = None
    guard: InputGuard | None = None
    metrics: Metrics = field(default_factory=Metrics)


class ModuleInstance(Actor):
    """Stands for one started program: it owns the queue of the calls that found no place.

    A call does not run in here: it runs where its caller is and owns the record it was admitted with, so it outlives
    a restart of this actor. Places, versions and metrics are published, so a call that finds a place sends nothing.

    Messages:
        admit(call_id): settles when the call has a place.
        let_in(): places have become free.
    """

    inline = True

    def init(self, plan: InstancePlan) -> None:
        self.admission = plan.admission
        self.waiting: OrderedDict[str, Reply[None]] = OrderedDict()

    def admit(self, call_id: str) -> Reply[None]:
        """Wait for a place; the reply settles when it is there."""
        reply: Reply[None] = self.defer()
        self.waiting[call_id] = reply
        self.let_in()
        return reply

    def let_in(self) -> None:
        """Give the free places to those who have waited longest."""
        while self.waiting:
            call_id, reply = next(iter(self.waiting.items()))
            if not reply.done() and not self.admission.seat(call_id):
                return
            del self.waiting[call_id]
            if not reply.set(None):  # its caller has left
                self.admission.leave(call_id)
