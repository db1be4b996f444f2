"""`UsageLog`: a record of every request to a model, whatever came of it, and totals by tenant."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from dspy_actors.envelope import Priority
from dspy_actors.lm.prices import Prices, cost_of
from dspy_actors.messages import Usage
from supervisors.published_lock import PublishedLock

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

    def added_to(self, other: UsageTotals) -> UsageTotals:
        """These and those of `other` together."""
        return UsageTotals(
            other.attempts + self.attempts,
            other.prompt_tokens + self.prompt_tokens,
            other.completion_tokens + self.completion_tokens,
            other.cost + self.cost,
            other.unpriced + self.unpriced,
        )


class UsageLog:
    """The last records and the totals of all, published so that no crash forgets them. Safe from any thread."""

    def __init__(self, prices: Prices, *, keep: int = 10_000) -> None:
        self.prices = prices
        self._lock = PublishedLock()
        self._records: deque[UsageRecord] = deque(maxlen=keep)
        self._sums: dict[tuple[str, str], _Sums] = {}

    def add(self, record: UsageRecord) -> None:
        """Book one attempt."""
        key = (record.tenant, record.session)
        with self._lock:
            self._records.append(record)
            sums = self._sums.get(key)
            if sums is None:
                sums = self._sums[key] = _Sums()
            sums.add(record.usage, record.cost)

    def cost(self, usage: Usage | None, model: str) -> Decimal | None:
        """What `usage` of `model` (`provider/name`) costs, as far as its price is known."""
        return cost_of(usage, model, self.prices)

    def records(self) -> Iterator[UsageRecord]:
        """The last records, oldest first."""
        with self._lock:
            found = list(self._records)
        return iter(found)

    def totals(self, *, tenant: str | None = None, session: str | None = None) -> UsageTotals:
        """The sums of a tenant, of a session, of a tenant's session, or of everything."""
        made = UsageTotals()
        with self._lock:
            for (one, other), sums in self._sums.items():
                if tenant in (None, one) and session in (None, other):
                    made = sums.added_to(made)
        return made
