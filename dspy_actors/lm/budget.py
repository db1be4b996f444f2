"""`Budget` and `Ledger`: tokens, money and requests that a tenant or a session may spend. Pure.

What a call may cost is reserved before anything is sent and settled with what it did cost, cancelled and failed
attempts included, so that calls made at once cannot spend together what each of them alone could have afforded.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from dspy_actors.errors import BudgetExceeded, LMConfigurationError

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent in all; `None` is no bound. `money` is in the currency of the prices.

    Raises `LMConfigurationError` for a bound below zero.
    """

    tokens: int | None = None
    money: Decimal | None = None
    requests: int | None = None

    def __post_init__(self) -> None:
        if self.money is not None:
            object.__setattr__(self, "money", Decimal(str(self.money)))
        for name in ("tokens", "money", "requests"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                msg = f"Budget({name}={value!r}): 0 or more, or None for no bound"
                raise LMConfigurationError(msg)


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, money and requests. `money` is 0 where no price is known: an unknown price bounds nothing."""

    tokens: int = 0
    money: Decimal = _ZERO
    requests: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.money + other.money, self.requests + other.requests)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.money - other.money, self.requests - other.requests)


class Ledger:
    """What one tenant or session has spent and reserved. Not locked: `BudgetBook` is."""

    __slots__ = ("budget", "name", "reserved", "spent")

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.spent = Amount()
        self.reserved = Amount()

    def lacks(self, amount: Amount) -> tuple[str, float] | None:
        """Which bound `amount` more would pass, and what is left of it; `None` where all hold."""
        taken = self.spent + self.reserved
        for kind in ("requests", "tokens", "money"):
            bound = getattr(self.budget, kind)
            if bound is not None and getattr(taken, kind) + getattr(amount, kind) > bound:
                return kind, float(max(0, bound - getattr(taken, kind)))
        return None


class BudgetBook:
    """The ledgers of one runtime, published so that no crash forgets what was spent. Safe from any thread.

    A call is booked to its tenant's ledger and to its session's, where they have budgets.
    """

    def __init__(self, tenants: Mapping[str, Budget], sessions: Mapping[str, Budget]) -> None:
        self._lock = threading.Lock()
        self._tenants = {name: Ledger(f"tenant {name or '(none)'}", budget) for name, budget in tenants.items()}
        self._sessions = {name: Ledger(f"session {name}", budget) for name, budget in sessions.items()}

    def ledgers(self, tenant: str, session: str) -> tuple[Ledger, ...]:
        """The ledgers a call of `tenant` in `session` is booked to; none where nothing is bounded."""
        found = (self._tenants.get(tenant), self._sessions.get(session))
        return tuple(ledger for ledger in found if ledger is not None)

    def set(self, budget: Budget, *, tenant: str | None = None, session: str | None = None) -> None:
        """Give a tenant or a session a budget, or another one; what was spent stays spent."""
        table, name = (self._tenants, tenant) if tenant is not None else (self._sessions, session)
        assert name is not None
        kind = "tenant" if tenant is not None else "session"
        with self._lock:
            ledger = table.setdefault(name, Ledger(f"{kind} {name or '(none)'}", budget))
            ledger.budget = budget

    def reserve(self, ledgers: tuple[Ledger, ...], amount: Amount) -> None:
        """Set `amount` aside in all of `ledgers`, or in none: raises `BudgetExceeded`."""
        with self._lock:
            for ledger in ledgers:
                lacking = ledger.lacks(amount)
                if lacking is not None:
                    kind, left = lacking
                    asked = getattr(amount, kind)
                    msg = f"the budget of {ledger.name} has {left:g} {kind} left, which this call would exceed"
                    if kind != "requests":
                        msg += f": it may take {asked:g}; bound its answer with max_tokens, or raise the budget"
                    raise BudgetExceeded(msg, scope=ledger.name, left=left)
            for ledger in ledgers:
                ledger.reserved = ledger.reserved + amount

    def settle(self, ledgers: tuple[Ledger, ...], reserved: Amount, spent: Amount) -> None:
        """What was reserved turned out to be `spent`."""
        with self._lock:
            for ledger in ledgers:
                ledger.reserved = ledger.reserved - reserved
                ledger.spent = ledger.spent + spent

    def charge(self, ledgers: tuple[Ledger, ...], spent: Amount) -> None:
        """`spent` was spent by a call that is settled: a request that it gave up was still under way then."""
        self.settle(ledgers, Amount(), spent)

    def readings(self) -> dict[str, dict[str, object]]:
        """Every ledger: its bounds, what is spent and what is reserved, as plain data."""
        with self._lock:
            return {
                ledger.name: {
                    kind: {
                        "bound": _plain(getattr(ledger.budget, kind)),
                        "spent": _plain(getattr(ledger.spent, kind)),
                        "reserved": _plain(getattr(ledger.reserved, kind)),
                    }
                    for kind in ("tokens", "money", "requests")
                }
                for ledger in (*self._tenants.values(), *self._sessions.values())
            }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value
