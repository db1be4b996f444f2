"""`UsageLog`: a record of every attempt at a model, whatever came of it, and totals by tenant."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from dspy_actors.envelope import Priority
from dspy_actors.lm.prices import Prices, cost_of
from dspy_actors.messages import Usage

Status: TypeAlias = Literal["ok", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One attempt. `cost` is `None` where the price is not known; `kind` names the error of a failed one.

    An attempt that was sent and not answered has its prompt estimated (`usage.estimated`): providers bill what they
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


class UsageLog:
    """The last records and the totals of all, published so that no crash forgets them. Safe from any thread."""

    def __init__(self, prices: Prices, *, keep: int = 10_000) -> None:
        self.prices = prices
        self._lock = threading.Lock()
        self._records: deque[UsageRecord] = deque(maxlen=keep)
        self._totals: dict[tuple[str, str], UsageTotals] = {}

    def add(self, record: UsageRecord) -> None:
        """Book one attempt."""
        key = (record.tenant, record.session)
        usage = record.usage or Usage()
        with self._lock:
            self._records.append(record)
            before = self._totals.get(key) or UsageTotals()
            self._totals[key] = UsageTotals(
                before.attempts + 1,
                before.prompt_tokens + usage.prompt_tokens,
                before.completion_tokens + usage.completion_tokens,
                before.cost + (record.cost or Decimal(0)),
                before.unpriced + (record.cost is None),
            )

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
            for (one, other), total in self._totals.items():
                if tenant in (None, one) and session in (None, other):
                    made = _added(made, total)
        return made


def _added(one: UsageTotals, other: UsageTotals) -> UsageTotals:
    return UsageTotals(
        one.attempts + other.attempts,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cost + other.cost,
        one.unpriced + other.unpriced,
    )
