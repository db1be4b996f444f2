"""The actors that look after the published guards: usage, budgets, limiters and breakers."""

from __future__ import annotations

from dspy_actors.lm.breaker import BreakerReading
from dspy_actors.lm.budget import Budget, BudgetBook
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.usage_log import UsageLog, UsageRecord, UsageTotals
from supervisors.actor import Actor


class BreakerManager(Actor):
    """The hand on the breakers. Calls take their permits without a message; if this actor dies, nothing is forgotten.

    Messages:
        readings(): every breaker by name.
        force_open(name): refuse calls until reset; False for a name that is not known.
        reset(name): closed, with nothing remembered; False for a name that is not known.
    """

    inline = True

    def init(self, gatehouse: Gatehouse) -> None:
        self.gatehouse = gatehouse

    def readings(self) -> dict[str, BreakerReading]:
        """Every breaker now."""
        return self.gatehouse.readings()

    def force_open(self, name: str) -> bool:
        """Open the breaker called `name` by hand."""
        breaker = self.gatehouse.breakers.get(name)
        if breaker is not None:
            breaker.force_open()
        return breaker is not None

    def reset(self, name: str) -> bool:
        """Close the breaker called `name`."""
        breaker = self.gatehouse.breakers.get(name)
        if breaker is not None:
            breaker.reset()
        return breaker is not None


class UsageStore(Actor):
    """The hand on the usage records. Workers book without a message; if this actor dies, no record is lost.

    Messages: `totals(tenant, session)`: sums over attempts; `records()`: the last ones.
    """

    inline = True

    def init(self, log: UsageLog) -> None:
        self.log = log

    def totals(self, tenant: str | None = None, session: str | None = None) -> UsageTotals:
        """Attempts, tokens and cost of a tenant, a session, or everything."""
        return self.log.totals(tenant=tenant, session=session)

    def records(self) -> list[UsageRecord]:
        """The last records, oldest first."""
        return list(self.log.records())


class BudgetManager(Actor):
    """The hand on the budgets. Calls reserve without a message; if this actor dies, nothing spent is forgotten.

    Messages: `readings()`: every ledger; `set_budget(budget, tenant, session, idle_seconds)`: give one another bound.
    """

    inline = True

    def init(self, book: BudgetBook) -> None:
        self.book = book

    def readings(self) -> dict[str, dict[str, object]]:
        """What every bounded tenant and session has spent and reserved."""
        return self.book.readings()

    def set_budget(
        self,
        budget: Budget | None,
        tenant: str | None = None,
        session: str | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        """Bound a tenant or a session, or take that back: see `BudgetBook.set`."""
        self.book.set(budget, tenant=tenant, session=session, idle_seconds=idle_seconds)


class LimiterManager(Actor):
    """The hand on the limiters. Requests reserve without a message; if this actor dies, nothing learned is lost.

    Messages: `readings()`: limits, levels and pauses of every limiter by name.
    """

    inline = True

    def init(self, gatehouse: Gatehouse) -> None:
        self.gatehouse = gatehouse

    def readings(self) -> dict[str, dict[str, float | int | None]]:
        """Every limiter now."""
        return self.gatehouse.limits()
