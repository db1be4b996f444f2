"""What is published stays whole where a dropped call ends, in the same thread, in the middle of a change of it.

The garbage collector does that at any moment; here numbers do it that are asked to be added or compared.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dspy_actors.envelope import Envelope, Scope
from dspy_actors.lm.budget import Amount, Budget, Ledger
from dspy_actors.lm.limiter import LimiterSettings, Need, RateLimiter, Reservation
from dspy_actors.lm.line import Ending, Line
from dspy_actors.lm.lm import LM
from dspy_actors.lm.work import Work
from dspy_actors.messages import LMRequest, Message, Usage
from supervisors.clock import ManualClock
from supervisors.reply import Reply


class Tokens(int):
    """A count that does something, once, when it is added."""

    meddle: Callable[[], object] | None = None

    def _go(self) -> None:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()

    def __add__(self, other: int) -> int:
        self._go()
        return int(self) + other

    def __radd__(self, other: int) -> int:
        self._go()
        return other + int(self)


class Money(Decimal):
    """The same for money."""

    meddle: Callable[[], object] | None = None

    def __radd__(self, other: Any) -> Decimal:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return other + Decimal(self)


def meddling(value: int, meddle: Callable[[], object]) -> Tokens:
    made = Tokens(value)
    made.meddle = meddle
    return made


def test_a_settlement_in_the_middle_of_a_reservation_counts() -> None:
    ledger = Ledger("t", Budget(requests=9))
    ledger.reserve(Amount(requests=2))
    money = Money(1)
    money.meddle = lambda: ledger.reserve(Amount(requests=-2))
    ledger.reserve(Amount(money=money, requests=1))
    assert (ledger.reserved.requests, ledger.reserved.money) == (1, 1)


def test_what_was_spent_in_the_middle_of_a_charge_counts() -> None:
    ledger = Ledger("t", Budget(requests=9))
    money = Money(1)
    money.meddle = lambda: ledger.charge(Amount(requests=5))
    ledger.charge(Amount(money=money, requests=1))
    assert ledger.spent.requests == 6


def test_tokens_booked_in_the_middle_of_another_booking_count() -> None:
    scope = Scope()
    scope.book("m", attempts=1, cached=False, usage=Usage(1, 0))
    inner = lambda: scope.book("m", attempts=1, cached=False, usage=Usage(10, 0))  # noqa: E731
    scope.book("m", attempts=1, cached=False, usage=Usage(meddling(100, inner), 0))
    assert scope.usage is not None
    assert (scope.usage.prompt_tokens, scope.attempts) == (111, 3)


def test_a_charge_in_the_middle_of_a_calls_charge_counts() -> None:
    request = LMRequest("m", (Message.of("user", "hello"),))
    work = Work(LM("scripted/m"), request, Envelope("c"))
    work.hold = object()  # type: ignore[assignment]  # bounded: only then is anything counted
    work.charge(meddling(1, lambda: work.charge(10, None)), None)
    assert (work.spent.tokens, work.spent.requests) == (11, 2)


def test_a_cancel_in_the_middle_of_entering_a_scope_is_heard() -> None:
    class Wait:
        cancelled = False

        def cancel(self) -> bool:
            self.cancelled = True
            return True

        def __hash__(self) -> int:
            scope.cancel()
            return 1

    scope = Scope()
    scope.enter(Reply())
    late = Wait()
    scope.enter(late)
    assert late.cancelled


class Torn(Scope):
    """A scope that is cancelled between any two looks at what it waits for."""

    __slots__ = ("looks",)
    looks: int

    @property
    def _later(self) -> Any:
        self.looks += 1
        if self.looks == 2:
            Scope.cancel(self)
        return Scope._later.__get__(self)  # type: ignore[attr-defined]

    @_later.setter
    def _later(self, value: Any) -> None:
        Scope._later.__set__(self, value)  # type: ignore[attr-defined]


def test_a_wait_that_is_over_as_its_scope_is_cancelled_leaves_it_all_the_same() -> None:
    scope = Torn()
    first, second = Reply[None](), Reply[None]()
    scope.looks = 9
    scope.enter(first)
    scope.enter(second)
    scope.looks = 0
    scope.leave(second)
    scope.cancel()
    assert scope.waiting() == ()


def test_nobody_in_the_line_is_passed_over_by_a_settlement_in_the_middle_of_another() -> None:
    line = Line("m", RateLimiter(LimiterSettings(max_in_flight=2), 0.0), ManualClock())
    first, second = line.enter(Need()), line.enter(Need())
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    waiting = [
        line.enter(Need(meddling(1, lambda: line.settle(second, Ending(answered=True))), 1)),
        line.enter(Need(1, 1)),
        line.enter(Need(1, 1)),
    ]
    line.settle(first, Ending(answered=True))
    turns = [turn for turn in waiting if isinstance(turn, Reply)]
    assert [turn.done() for turn in turns] == [True, True, False]
    for turn in turns[:2]:
        line.settle(turn.take(), Ending(answered=True))
    assert (turns[2].done(), line.waiting) == (True, 0)
