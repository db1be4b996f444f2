"""`Budget` and `Ledger`: tokens, money and requests that a tenant or a session may spend. Pure.

What a call may cost is reserved before anything is sent and settled with what it did cost, cancelled and failed
attempts included, so that calls made at once cannot spend together what each of them alone could have afforded. More is
reserved before a request is sent once more or beside a slow one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from dspy_actors.arguments import a, number, whole
from dspy_actors.errors import BudgetExceeded, LMConfigurationError
from supervisors.published_lock import PublishedLock

_ZERO = Decimal(0)

LOOKS = 4
"""At so many ledgers that may be idle the book looks each time that a budget is set. Each is looked at twice, first to
see when it was used last; so the book holds up to twice as many as come within their `idle_seconds`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent in all; `None` is no bound. `money` is in the currency of the prices.

    Where money is bounded every model that may be asked needs a price, those of fallbacks and embedded ones too: a call
    of one without is refused with `LMConfigurationError` before anything is sent. `Price(0, 0)` is free.

    Raises `LMConfigurationError` for a bound below zero, and for what is no number.
    """

    tokens: int | None = None
    money: Decimal | None = None
    requests: int | None = None

    def __post_init__(self) -> None:
        if self.money is not None:
            object.__setattr__(self, "money", _money(self.money))
        for name in ("tokens", "requests"):
            if getattr(self, name) is not None:
                whole("Budget", name, getattr(self, name), least=0)
        if self.money is not None and self.money < 0:
            msg = f"Budget(money={self.money!r}): 0 or more, or None for no bound"
            raise LMConfigurationError(msg)


@dataclass(slots=True)  # not frozen, which would treble what it costs to make one
class Amount:
    """Tokens, money and requests, never changed. `money` is 0 where no price is known; there no money is bounded."""

    tokens: int = 0
    money: Decimal = _ZERO
    requests: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.money + other.money, self.requests + other.requests)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.money - other.money, self.requests - other.requests)

    def __mul__(self, times: int) -> Amount:
        return Amount(self.tokens * times, self.money * times, self.requests * times)

    @property
    def is_more(self) -> bool:
        """Whether any of it is above zero."""
        return self.tokens > 0 or self.money > 0 or self.requests > 0


_NOTHING = Amount()


class Ledger:
    """What one tenant or session has spent and reserved. Not locked: `BudgetBook` is.

    With `idle_seconds` it may be forgotten when it was not `used` for so long; since when that is so, as far as anybody
    has looked, says `idle_since`.

    A dropped call may be ended, and settled here, while a sum is made: then the sum is made again. That is written out
    for each sum, here and in `Work.charge` and `Scope.book`: a helper for any attribute would make a call between the
    last look and the store, where the collector may come.
    """

    __slots__ = ("budget", "idle_seconds", "idle_since", "name", "reserved", "spent", "used")

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.spent = Amount()
        self.reserved = Amount()
        self.idle_seconds: float | None = None
        self.idle_since = 0.0
        self.used = True

    def reserve(self, amount: Amount) -> None:
        """Set so much more aside, or less."""
        self.used = True
        while True:
            before = self.reserved
            after = before + amount
            if self.reserved is before:
                self.reserved = after
                return

    def charge(self, amount: Amount) -> None:
        """So much more is spent."""
        while True:
            before = self.spent
            after = before + amount
            if self.spent is before:
                self.spent = after
                return

    def lacks(self, amount: Amount) -> tuple[str, float] | None:
        """Which bound `amount` more would pass, and what is left of it; `None` where all hold."""
        budget, spent, reserved = self.budget, self.spent, self.reserved
        for kind, bound, taken, more in (
            ("requests", budget.requests, spent.requests + reserved.requests, amount.requests),
            ("tokens", budget.tokens, spent.tokens + reserved.tokens, amount.tokens),
            ("money", budget.money, spent.money + reserved.money, amount.money),
        ):
            if bound is not None and taken + more > bound:
                return kind, float(max(0, bound - taken))
        return None

    def is_idle(self, now: float) -> bool:
        """Whether it may be forgotten; to be asked again and again."""
        if self.reserved.is_more or self.used:  # in this order: a call that ends in between has used it
            self.used, self.idle_since = False, now
            return False
        return self.idle_seconds is not None and now - self.idle_since >= self.idle_seconds


_NOBODY = Ledger("nobody", Budget())


class BudgetBook:
    """The ledgers of one runtime, published so that no crash forgets what was spent. Safe from any thread.

    A call is booked to its tenant's ledger and to its session's, where they have budgets. `now` tells the seconds.
    """

    def __init__(
        self,
        tenants: Mapping[str, Budget],
        sessions: Mapping[str, Budget],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._lock = PublishedLock()
        self._tenants = {name: Ledger(f"tenant {name or '(none)'}", budget) for name, budget in tenants.items()}
        self._sessions = {name: Ledger(f"session {name}", budget) for name, budget in sessions.items()}
        self._may_idle: OrderedDict[Ledger, tuple[dict[str, Ledger], str]] = OrderedDict()  # to be looked at next first

    def ledgers(self, tenant: str, session: str) -> tuple[Ledger, ...]:
        """The ledgers a call of `tenant` in `session` is booked to; none where nothing is bounded."""
        own, other = self._tenants.get(tenant), self._sessions.get(session)
        if own is None:
            return () if other is None else (other,)
        return (own,) if other is None else (own, other)

    def set(
        self,
        budget: Budget | None,
        *,
        tenant: str | None = None,
        session: str | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        """Give a tenant or a session a budget, or another one; what was spent stays spent. `None` takes it back.

        One that is taken back is forgotten with what was spent; calls under way are held to it to their end. With
        `idle_seconds` that comes by itself when no call was held to it for so long: not sooner, but at times later.

        Raises `LMConfigurationError` for what is no budget, and unless exactly one of the two is named.
        """
        a((Budget, type(None)), "set_budget", "budget", budget, "a Budget, or None to take it back")
        if (tenant is None) == (session is None):
            msg = f"set_budget(tenant={tenant!r}, session={session!r}): name a tenant or a session, one of the two"
            raise LMConfigurationError(msg)
        kind, name = ("tenant", tenant) if tenant is not None else ("session", session)
        a(str, "set_budget", kind, name, "a name")
        if idle_seconds is not None:
            number("set_budget", "idle_seconds", idle_seconds, above=0)
        assert name is not None
        table = self._tenants if kind == "tenant" else self._sessions
        with self._lock:
            if budget is None:
                self._may_idle.pop(table.pop(name, _NOBODY), None)
            else:
                ledger = table.setdefault(name, Ledger(f"{kind} {name or '(none)'}", budget))
                ledger.budget, ledger.idle_seconds, ledger.used = budget, idle_seconds, True
                if idle_seconds is None:
                    self._may_idle.pop(ledger, None)
                else:
                    self._may_idle.setdefault(ledger, (table, name))
            self._forget_idle()

    def _forget_idle(self) -> None:
        """Look at a few of those that may be idle. Only where a budget is set: nothing else makes them more."""
        now = self._now()
        for _ in range(min(LOOKS, len(self._may_idle))):
            ledger, (table, name) = self._may_idle.popitem(last=False)
            if ledger.is_idle(now):
                del table[name]
            else:
                self._may_idle[ledger] = (table, name)

    def reserve(self, ledgers: tuple[Ledger, ...], amount: Amount) -> None:
        """Set `amount` aside in all of `ledgers`, or in none: raises `BudgetExceeded`."""
        with self._lock:
            self._reserve(ledgers, amount)

    def hold(self, ledgers: tuple[Ledger, ...], one: Amount) -> Hold:
        """Set aside what one request of a call may cost, which is `one`. Raises `BudgetExceeded`."""
        self.reserve(ledgers, one)
        return Hold(self, ledgers, one)

    def settle(self, ledgers: tuple[Ledger, ...], reserved: Amount, spent: Amount) -> None:
        """What was reserved turned out to be `spent`."""
        with self._lock:
            back = _NOTHING - reserved
            for ledger in ledgers:
                ledger.reserve(back)
                ledger.charge(spent)

    def charge(self, ledgers: tuple[Ledger, ...], spent: Amount) -> None:
        """`spent` was spent by a call that is settled: a request that it gave up was still under way then."""
        self.settle(ledgers, Amount(), spent)

    def _reserve(self, ledgers: tuple[Ledger, ...], amount: Amount) -> None:
        for ledger in ledgers:
            lacking = ledger.lacks(amount)
            if lacking is not None:
                for each in ledgers:  # also where nothing but refusals comes: what bounds it must not be forgotten
                    each.used = True
                kind, left = lacking
                asked = getattr(amount, kind)
                msg = f"the budget of {ledger.name} has {_shown(left)} {kind} left, which this call would exceed"
                if kind != "requests":
                    msg += f": it may take {_shown(asked)}; bound its answer with max_tokens, or raise the budget"
                raise BudgetExceeded(msg, scope=ledger.name, left=left)
        for ledger in ledgers:
            ledger.reserve(amount)

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


class Hold:
    """What one call has set aside in its ledgers: at first the cost of one request. Safe from any thread."""

    __slots__ = ("_book", "_is_over", "_ledgers", "_one", "_reserved")

    def __init__(self, book: BudgetBook, ledgers: tuple[Ledger, ...], one: Amount) -> None:
        self._book = book
        self._ledgers = ledgers
        self._one = one
        self._reserved = one
        self._is_over = False

    def cover(self, spent: Amount, requests: int) -> None:
        """Set aside what was `spent` and the cost of so many `requests` that are under way or about to be sent.

        Raises `BudgetExceeded` where that is more than can be had; then all is as it was.
        """
        with self._book._lock:
            if self._is_over:
                return
            wanted = spent + self._one * requests
            more = wanted - self._reserved
            if more.is_more:
                self._book._reserve(self._ledgers, more)
            else:
                for ledger in self._ledgers:
                    ledger.reserve(more)
            self._reserved = wanted

    def again(self, spent: Amount) -> None:
        """A request came to nothing and has `spent` that: set as much aside once more, for one in its place.

        Raises `BudgetExceeded` where that is more than can be had; then all is as it was.
        """
        with self._book._lock:
            if not self._is_over:
                self._book._reserve(self._ledgers, spent)
                self._reserved = self._reserved + spent

    def settle(self, spent: Amount, under_way: int = 0) -> None:
        """The call is over and has `spent` so much.

        The cost of so many requests that are still `under_way`, for it was given up, stays set aside until `let_go`:
        else as much could be sent in their place before they are booked.
        """
        with self._book._lock:
            self._is_over = True
        self._book.settle(self._ledgers, self._reserved - self._one * under_way, spent)

    def let_go(self) -> None:
        """One of the requests that were under way when the call was over has ended, and is booked if it was sent."""
        self._book.settle(self._ledgers, self._one, _NOTHING)

    def charge(self, spent: Amount) -> None:
        """A request that the call gave up was still under way when it was over, and turned out to have `spent` that."""
        self._book.charge(self._ledgers, spent)


def _money(given: object) -> Decimal:
    try:
        found = Decimal(str(given))
    except InvalidOperation:
        found = Decimal("NaN")
    if found.is_nan():
        msg = f"Budget(money={given!r:.80}): a number, in the currency of the prices"
        raise LMConfigurationError(msg)
    return found


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value


def _shown(amount: Decimal | float) -> str:
    """An amount as people write it, never as `4.9e-05`: with six places, or where it is below 1 six digits."""
    if amount < 1:
        return f"{Decimal(f'{amount:.6g}'):f}"
    return f"{amount:.6f}".rstrip("0").rstrip(".")
