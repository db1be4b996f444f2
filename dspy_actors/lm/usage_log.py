"""`UsageLog`: a record of every request to a model, whatever came of it, and totals by tenant and session."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from dspy_actors.envelope import Priority
from dspy_actors.lm.prices import Prices, cost_of
from dspy_actors.messages import Usage
from dspy_actors.old_pickles import reads_old_pickles
from supervisors.published_lock import PublishedLock
from supervisors.telemetry import Event, Telemetry

REQUEST: Event = ("lm", "request")
"""Event of a request that has ended, one for each `UsageRecord`: measurements `seconds`, `prompt_tokens` and
`completion_tokens` (0 where nothing is known of them) and `cost` (`None` where the price is not known); metadata what
else is in the record, its `attempt` as `number`, and whether the tokens are `estimated`."""

KEPT = 10_000
"""How many sessions, and how many tenants, have sums of their own: some 3 MB of each. A service may see new ones as
long as it runs; what was spent in a session that ended long ago is asked for by tenant, if at all."""

Status: TypeAlias = Literal["ok", "error", "cancelled"]


class UsageRecord(NamedTuple):
    """One request that was sent. `cost` is `None` where the price is not known; `kind` names the error of a failed one.

    `call_id` and `attempt`, which counts over all models that a call asks, are the `X-Request-Id` it went out with. Two
    records have the same where a request went out twice within an attempt: over a connection that the server had
    dropped, with a key that it refused, to a model that was still loading. The earlier is an error without a `kind`.

    One that was not answered has its prompt estimated (`usage.estimated`): providers bill what they
    have worked for.
    """

    call_id: str
    attempt: int
    tenant: str
    session: str
    model: str
    status: Status
    seconds: float
    usage: Usage | None = None
    cost: Decimal | None = None
    kind: str | None = None
    priority: Priority = "interactive"


@reads_old_pickles
@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums over attempts. `unpriced` counts those whose cost is not known and not in `cost`."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class _Sums:
    """Totals that grow. Not locked."""

    __slots__ = ("attempts", "completion_tokens", "cost", "prompt_tokens", "unpriced")

    def __init__(self) -> None:
        self.attempts = self.prompt_tokens = self.completion_tokens = self.unpriced = 0
        self.cost = Decimal(0)

    def add(self, usage: Usage | None, cost: Decimal | None) -> None:
        """One attempt more."""
        self.attempts += 1
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost

    def take(self, other: _Sums) -> None:
        """Add what `other` holds, which is no more."""
        self.attempts += other.attempts
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cost += other.cost
        self.unpriced += other.unpriced

    def totals(self) -> UsageTotals:
        """What they are now."""
        return UsageTotals(self.attempts, self.prompt_tokens, self.completion_tokens, self.cost, self.unpriced)


_NONE = _Sums()
_UNKNOWN = Usage()


class UsageLog:
    """The last records and the totals of all, published so that no crash forgets them. Safe from any thread.

    `sessions` sessions booked last have sums of their own; those before are in the sum of their tenant, where so many
    `tenants` have one, and those of tenants before are in the sum of everything: no attempt is ever lost from that.
    """

    def __init__(
        self,
        prices: Prices,
        *,
        keep: int = 10_000,
        sessions: int = KEPT,
        tenants: int = KEPT,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.prices = prices
        self._telemetry = telemetry or Telemetry()
        self._handlers = self._telemetry.handlers
        self._lock = PublishedLock()
        self._records: deque[UsageRecord] = deque(maxlen=keep)
        self._most_sessions, self._most_tenants = sessions, tenants
        self._sessions: OrderedDict[tuple[str, str], _Sums] = OrderedDict()  # the one booked last at the end
        self._tenants: OrderedDict[str, _Sums] = OrderedDict()  # of sessions that are in there no more
        self._others = _Sums()  # of tenants that are in there no more

    def add(self, record: UsageRecord) -> None:
        """Book one attempt, and then tell of it."""
        key = (record.tenant, record.session)
        with self._lock:
            self._records.append(record)
            sums = self._sessions.get(key)
            if sums is None:
                sums = self._sessions.setdefault(key, _Sums())
            self._sessions.move_to_end(key)
            sums.add(record.usage, record.cost)
            if len(self._sessions) > self._most_sessions:
                self._make_room()
        if REQUEST in self._handlers:
            self._tell(record)

    def _tell(self, record: UsageRecord) -> None:
        usage = record.usage or _UNKNOWN
        took = {
            "seconds": record.seconds,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost": record.cost,
        }
        about = {
            "call_id": record.call_id,
            "number": record.attempt,
            "model": record.model,
            "tenant": record.tenant,
            "session": record.session,
            "priority": record.priority,
            "status": record.status,
            "kind": record.kind,
            "estimated": usage.estimated,
        }
        self._telemetry.execute(REQUEST, took, about)

    def _make_room(self) -> None:
        """Put the sums of the session booked least lately to those of its tenant, and so with the tenants."""
        (tenant, _), sums = self._sessions.popitem(last=False)
        self._tenants.setdefault(tenant, _Sums()).take(sums)
        self._tenants.move_to_end(tenant)
        if len(self._tenants) > self._most_tenants:
            self._others.take(self._tenants.popitem(last=False)[1])

    def cost(self, usage: Usage | None, model: str) -> Decimal | None:
        """What `usage` of `model` (`provider/name`) costs, as far as its price is known."""
        return cost_of(usage, model, self.prices)

    def records(self) -> Iterator[UsageRecord]:
        """The last records, oldest first."""
        with self._lock:
            found = list(self._records)
        return iter(found)

    def totals(self, *, tenant: str | None = None, session: str | None = None) -> UsageTotals:
        """The sums of a tenant, of a session, of a tenant's session, or of everything.

        Of a session or a tenant that gave way to others (see the class) these are what it was booked since.
        """
        made = _Sums()  # what a dropped call books meanwhile, in this very thread, may change the tables: no iterating
        with self._lock:
            for key in list(self._sessions):
                if tenant in (None, key[0]) and session in (None, key[1]):
                    made.take(self._sessions.get(key) or _NONE)
            if session is None:
                for name in list(self._tenants) if tenant is None else [tenant]:
                    made.take(self._tenants.get(name) or _NONE)
                if tenant is None:
                    made.take(self._others)
        return made.totals()
