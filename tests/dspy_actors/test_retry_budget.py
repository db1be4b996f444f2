"""The retry budget: what trying again costs, and who pays."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.retry_budget import RetryBudget, RetryBudgetSettings


def test_a_full_budget_pays_for_twenty_retries() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(25)] == [True] * 20 + [False] * 5


def test_a_retry_after_a_timeout_costs_twice_as_much() -> None:
    budget = RetryBudget()
    assert sum(budget.spend(after_timeout=True) for _ in range(25)) == 10


def test_answers_give_back_a_little_and_never_more_than_there_was() -> None:
    budget = RetryBudget()
    budget.spend()
    for _ in range(3):
        budget.answered()
    assert budget.left == 98.0
    for _ in range(10):
        budget.answered()
    assert budget.left == 100.0


def test_what_was_refused_is_counted() -> None:
    budget = RetryBudget(RetryBudgetSettings(capacity=0.0))
    assert not budget.spend()
    assert budget.refused == 1


@pytest.mark.parametrize("field", ["capacity", "cost", "timeout_cost", "refund"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_settings_that_make_no_sense_are_refused_with_field_and_bound(field: str, value: float) -> None:
    with pytest.raises(LMConfigurationError, match=rf"RetryBudgetSettings\({field}=.*\): 0 or more"):
        RetryBudgetSettings(**{field: value})


@given(st.lists(st.sampled_from(["answered", "retry", "retry after timeout"]), max_size=300))
def test_retries_are_never_more_than_the_budget_and_a_fifth_of_the_answers(steps: list[str]) -> None:
    budget, retries, answers = RetryBudget(), 0, 0
    for step in steps:
        if step == "answered":
            answers += 1
            budget.answered()
        else:
            retries += budget.spend(after_timeout=step == "retry after timeout")
        assert 0.0 <= budget.left <= 100.0
        assert retries <= 20 + answers / 5
