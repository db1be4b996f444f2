"""`Fairness`: how those who wait for one rate limit, or for a program's places, share it, in one frozen record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dspy_actors.arguments import a
from dspy_actors.envelope import Priority
from dspy_actors.errors import LMConfigurationError

CLASS_WEIGHTS: Mapping[Priority, float] = MappingProxyType({"interactive": 16.0, "batch": 4.0, "optimizer": 1.0})
"""Shares of the classes while all of them wait, the most urgent first."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Shares of a rate limit that calls have to wait for; where there is room for everybody it says nothing.

    Classes share by `class_weights` (those not named keep theirs: interactive 16, batch 4, optimizer 1), the tenants
    within a class by `weights` (1 for those not named). What is shared is the part of the limit that a call takes, by
    its tokens or as a request, whichever is the scarcer. No class and no tenant waits without end for another.

    `interactive_reserve` is the part of a limit that batch and optimizer calls leave alone, so that an interactive one
    finds room at once: of the requests and tokens at hand, and of the requests that may be under way. It is kept while
    interactive calls come at least every `reserve_seconds`; without any, a batch job has all of the limit.

    A program's places (`max_inflight`) that calls have to wait for are shared in the same way, one a call. The part of
    them that is the reserve is kept while interactive calls find none of the others free.

    Raises `LMConfigurationError` for a weight that is not a number above 0, a name that is no text, a class that there
    is not, a reserve outside of 0 up to but not including 1.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    class_weights: Mapping[Priority, float] = field(default_factory=dict)
    interactive_reserve: float = 0.2
    reserve_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, weights in (("weights", self.weights), ("class_weights", self.class_weights)):
            a(Mapping, "Fairness", name, weights, "a mapping from names to numbers")
            for key, weight in weights.items():
                if not _is_name(key):  # no call is in such a name: the weight would say nothing
                    msg = f"Fairness({name}={{{key!r}: {weight!r}}}): a tenant or a class has a text for a name"
                    raise LMConfigurationError(msg)
                if not _is_number(weight) or not 0 < weight < math.inf:
                    msg = f"Fairness({name}={{{key!r}: {weight!r}}}): a weight is a number above 0"
                    raise LMConfigurationError(msg)
        for key in self.class_weights:
            if key not in CLASS_WEIGHTS:
                msg = f"Fairness(class_weights={{{key!r}: ...}}): the classes are {', '.join(CLASS_WEIGHTS)}"
                raise LMConfigurationError(msg)
        if not _is_number(self.interactive_reserve) or not 0 <= self.interactive_reserve < 1:
            msg = f"Fairness(interactive_reserve={self.interactive_reserve!r}): from 0 up to, but not including, 1"
            raise LMConfigurationError(msg)
        if not _is_number(self.reserve_seconds) or not 0 <= self.reserve_seconds < math.inf:
            msg = f"Fairness(reserve_seconds={self.reserve_seconds!r}): 0 seconds or more"
            raise LMConfigurationError(msg)
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))
        object.__setattr__(self, "class_weights", MappingProxyType({**CLASS_WEIGHTS, **self.class_weights}))


def _is_name(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
