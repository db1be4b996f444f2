"""`Price`: what a model's tokens cost, as the user says. No price is shipped, and an unknown one is never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeAlias, cast

from dspy_actors.arguments import tables_of
from dspy_actors.errors import LMConfigurationError
from dspy_actors.messages import Usage

Money: TypeAlias = Decimal | str | float

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens, in whatever currency the user counts in.

    `cached` is for prompt tokens that the provider took from its own cache; the same as `prompt` where left out.
    Numbers are taken as decimals: write them as strings or `Decimal` where a binary fraction would not be exact.
    """

    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None

    def __init__(self, prompt: Money, completion: Money, cached: Money | None = None) -> None:
        for name, value in (("prompt", prompt), ("completion", completion), ("cached", cached)):
            amount = None if value is None and name == "cached" else _decimal(value)
            if amount is not None and (not amount.is_finite() or amount < 0):
                msg = f"Price({name}={value!r}): a number, 0 or more, for a million tokens"
                raise LMConfigurationError(msg)
            object.__setattr__(self, name, amount)

    def of(self, usage: Usage) -> Decimal:
        """What `usage` costs."""
        money = usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion
        if self.cached is not None:
            money += min(usage.cached_tokens, usage.prompt_tokens) * (self.cached - self.prompt)
        return money / _MILLION


def _decimal(given: object) -> Decimal:
    """What is no number becomes NaN, which no price is."""
    try:
        return Decimal(str(given))
    except InvalidOperation:
        return Decimal("NaN")


Prices = Mapping[str, Price]
"""Prices by `provider/model`."""


def check_prices(where: str, prices: object) -> None:
    """Raise `LMConfigurationError` for what is no table of prices, and for a name that no model can have."""
    tables_of(Price, where, prices=prices)
    for name in cast("Prices", prices or {}):
        provider, _, model = name.partition("/") if isinstance(name, str) else ("", "", "")
        if not provider or not model:
            msg = f"{where}(prices[{name!r:.80}]=...): the name is provider/model, as 'openai/gpt-4o'"
            raise LMConfigurationError(msg)


def cost_of(usage: Usage | None, model: str, prices: Prices) -> Decimal | None:
    """What an answer of `model` (`provider/name`) cost; `None` where its price or its usage is not known."""
    price = prices.get(model)
    return None if price is None or usage is None else price.of(usage)
