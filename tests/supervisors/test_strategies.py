"""`plan` is OTP's table: strategy x failed child -> stop, start."""

from __future__ import annotations

import pytest

from supervisors.strategies import Plan, Strategy, plan
from supervisors.testing import check_strategy

IDS = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("strategy", "failed", "stop", "start"),
    [
        (Strategy.ONE_FOR_ONE, "a", "", "a"),
        (Strategy.ONE_FOR_ONE, "b", "", "b"),
        (Strategy.ONE_FOR_ONE, "d", "", "d"),
        (Strategy.REST_FOR_ONE, "a", "dcb", "abcd"),
        (Strategy.REST_FOR_ONE, "b", "dc", "bcd"),
        (Strategy.REST_FOR_ONE, "d", "", "d"),
        (Strategy.ONE_FOR_ALL, "a", "dcb", "abcd"),
        (Strategy.ONE_FOR_ALL, "b", "dca", "abcd"),
        (Strategy.ONE_FOR_ALL, "d", "cba", "abcd"),
    ],
)
def test_the_plan_is_otps(strategy: Strategy, failed: str, stop: str, start: str) -> None:
    assert plan(strategy, IDS, failed) == Plan(tuple(stop), tuple(start))


@pytest.mark.parametrize("strategy", Strategy)
def test_every_strategy_keeps_the_contract(strategy: Strategy) -> None:
    check_strategy(strategy)


def test_an_only_child_is_restarted_alone() -> None:
    assert {plan(strategy, ["a"], "a") for strategy in Strategy} == {Plan((), ("a",))}


def test_a_child_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' is not one of the children"):
        plan(Strategy.ONE_FOR_ONE, IDS, "x")
