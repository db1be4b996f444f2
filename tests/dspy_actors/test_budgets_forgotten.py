"""Budgets of sessions that are over: taken back, or forgotten when no call is held to them any more."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest

from dspy_actors.errors import BudgetExceeded, LMConfigurationError
from dspy_actors.lm.budget import LOOKS, Amount, Budget, BudgetBook
from supervisors.clock import ManualClock
from tests.dspy_actors.programs import qa, runtime, says

ONE = Amount(10, requests=1)


class Book:
    """A book on a clock of the test's, with a session `s` that may spend one request and idle for ten seconds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.book = BudgetBook({}, {}, self.clock.now)
        self.bound()

    def bound(self, idle_seconds: float | None = 10.0) -> None:
        self.book.set(Budget(requests=1), session="s", idle_seconds=idle_seconds)

    def later(self, seconds: float) -> None:
        """So much later; and so many others are bounded that the book has looked at every ledger."""
        self.clock.advance(seconds)
        for number in range(10):
            self.book.set(Budget(), session=f"other {number}", idle_seconds=10.0)

    def call(self) -> None:
        """A call of the session, from its beginning to its end."""
        self.book.hold(self.book.ledgers("", "s"), ONE).settle(ONE)

    @property
    def is_bounded(self) -> bool:
        return self.book.ledgers("", "s") != ()


def test_a_budget_that_is_taken_back_bounds_nothing_and_is_kept_nowhere() -> None:
    made = Book()
    made.call()
    made.book.set(None, session="s")
    assert (made.book.ledgers("", "s"), made.book.readings(), len(made.book._may_idle)) == ((), {}, 0)


def test_a_call_under_way_is_held_to_a_budget_that_is_taken_back_meanwhile() -> None:
    made = Book()
    (ledger,) = made.book.ledgers("", "s")
    hold = made.book.hold((ledger,), ONE)
    made.book.set(None, session="s")
    with pytest.raises(BudgetExceeded):
        hold.cover(ONE, 1)
    hold.settle(ONE)
    assert (ledger.spent, ledger.reserved) == (ONE, Amount())


def test_a_budget_that_was_taken_back_begins_at_nothing_when_it_is_set_again() -> None:
    made = Book()
    made.call()
    made.book.set(None, session="s")
    made.bound()
    made.call()
    with pytest.raises(BudgetExceeded):
        made.call()


def test_taking_back_what_nobody_has_does_nothing() -> None:
    made = Book()
    made.book.set(None, tenant="s")
    assert made.is_bounded


def test_a_session_that_has_been_idle_for_so_long_is_forgotten() -> None:
    made = Book()
    made.call()
    made.later(0.0)
    made.later(10.0)
    assert not made.is_bounded


def test_a_session_is_not_forgotten_sooner() -> None:
    made = Book()
    made.later(5.0)
    made.call()
    for _ in range(2):
        made.later(4.9)
    assert made.is_bounded
    with pytest.raises(BudgetExceeded):
        made.call()


def test_a_session_whose_calls_are_refused_is_not_forgotten() -> None:
    made = Book()
    made.call()
    for _ in range(5):
        made.later(9.0)
        with pytest.raises(BudgetExceeded):
            made.call()


def test_nor_one_whose_calls_the_budget_of_its_tenant_refuses() -> None:
    made = Book()
    made.book.set(Budget(requests=0), tenant="t")
    for _ in range(5):
        made.later(9.0)
        with pytest.raises(BudgetExceeded, match="tenant t"):
            made.book.hold(made.book.ledgers("t", "s"), ONE)
    assert made.is_bounded


def test_a_session_with_a_call_under_way_is_not_forgotten_nor_for_so_long_after_it() -> None:
    made = Book()
    hold = made.book.hold(made.book.ledgers("", "s"), ONE)
    made.later(100.0)
    made.later(100.0)
    hold.settle(ONE)
    made.later(9.0)
    made.later(9.0)
    assert made.is_bounded
    made.later(10.0)
    assert not made.is_bounded


def test_a_session_that_is_bounded_for_good_meanwhile_is_not_forgotten() -> None:
    made = Book()
    made.call()
    made.bound(idle_seconds=None)
    made.later(0.0)
    made.later(1000.0)
    with pytest.raises(BudgetExceeded):
        made.call()


def test_a_service_that_bounds_a_session_a_second_keeps_those_of_the_last_two_minutes() -> None:
    clock = ManualClock()
    book = BudgetBook({}, {}, clock.now)
    most = 0
    for number in range(3000):
        book.set(Budget(requests=1), session=f"{number}", idle_seconds=60.0)
        book.hold(book.ledgers("", f"{number}"), ONE).settle(ONE)
        most = max(most, len(book.readings()))
        clock.advance(1.0)
    assert 60 < most <= 2 * 60 + LOOKS


@pytest.mark.parametrize("bad", [0, -1.0, "long", float("nan")])
def test_idle_seconds_that_are_none_are_refused(bad: Any) -> None:
    with pytest.raises(LMConfigurationError, match="idle_seconds"):
        BudgetBook({}, {}).set(Budget(), session="s", idle_seconds=bad)


def test_a_runtime_takes_a_budget_back() -> None:
    with runtime(repeat(says(answer="yes"))) as rt:
        rt.set_budget(Budget(requests=0), session="s", idle_seconds=60.0)
        with rt.using(session="s"):
            with pytest.raises(BudgetExceeded):
                qa()(question="1")
            rt.set_budget(None, session="s")
            assert qa()(question="1").answer == "yes"
        assert rt.health()["budgets"] == {}
