"""`Account`: whose call it is, where it stands, and what its attempts have cost so far, given up ones included."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from threading import Lock

from dspy_actors.envelope import CLASSES, Priority
from dspy_actors.lm.budget import Amount, Hold

_LOCK = Lock()
"""One for all accounts, as it is held for a sum at most and there are thousands of them at once."""

_NOTHING = Amount()
_A_REQUEST = Amount(requests=1)


class Account:
    """Carried by one call through every attempt and every worker. Written on the io loop, read when the call ends.

    `phase` is what the call waits for: its `worker`, the `limiter`, the `model`, or the `backoff` between attempts; a
    stream's instead of `model` the `first_token`, the rest of the `stream`, or its `consumer`. `hurried` is told when
    the call has become more urgent. `hold` is what is set aside for it, where its tenant or its session has a budget;
    only there anything is `spent`.
    """

    __slots__ = ("_late", "hold", "hurried", "phase", "priority", "session", "spent", "tenant")

    def __init__(self, tenant: str = "", session: str = "", priority: Priority = "interactive") -> None:
        self.tenant = tenant
        self.session = session
        self.priority = priority
        self.hurried: Callable[[Priority], object] | None = None
        self.hold: Hold | None = None
        self.phase = "worker"
        self.spent = _NOTHING
        self._late: Callable[[Amount], object] | None = None

    def hurry(self, priority: Priority) -> None:
        """One of that class waits for the answer too: a more urgent one carries the call along. Any thread."""
        with _LOCK:
            if CLASSES.index(priority) >= CLASSES.index(self.priority):
                return
            self.priority = priority  # then look: who begins to wait does it the other way round
        hurried = self.hurried
        if hurried is not None:
            hurried(priority)

    def add(self, tokens: int, money: Decimal | None) -> None:
        """Book one request that was sent, where there is a budget to hold it to."""
        if self.hold is None:
            return
        amount = Amount(tokens, money or Decimal(0), 1)
        with _LOCK:
            self.spent = self.spent + amount
            late = self._late
        if late is not None:
            late(amount)

    def cover(self, requests: int) -> None:
        """So many requests are under way or about to be sent: have set aside what all may cost.

        Raises `BudgetExceeded` where that is too much.
        """
        if self.hold is not None:
            self.hold.cover(self.spent, requests)

    def again(self) -> None:
        """A request came to nothing and is booked: have set aside what another one in its place may cost.

        Raises `BudgetExceeded` where that is too much.
        """
        if self.hold is not None:
            self.hold.again(_A_REQUEST)

    def settle(self, late: Callable[[Amount], object]) -> Amount:
        """The call is over: what it has spent. What its last attempt turns out to have cost later goes to `late`."""
        with _LOCK:
            self._late = late
            return self.spent
