"""`Roster`: which workers stand and when each was called last, published, so that a pool's death loses nobody."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import nsmallest

from dspy_actors.lm.providers.base import LMConfig

NEVER = -math.inf


@dataclass(slots=True, eq=False)
class Use:
    """One worker and how it is used. `mark` tells it from others of its model, `child` is its id.

    `born` is the instant of its start, `at` that of its last call. `is_busy` says whether calls are under way: set by
    the worker, asked by its pool. `leaves` is set by the pool: the worker ends as soon as it is idle.

    It keeps the config, and so a callable key, for as long as anything is called after that.
    """

    config: LMConfig
    mark: str
    child: str
    born: float = 0.0
    at: float = NEVER
    is_busy: Callable[[], bool] = bool
    leaves: bool = False

    @property
    def idle_since(self) -> float:
        """The instant of its last call, or of its start where none has come yet."""
        return max(self.at, self.born)

    @property
    def is_awaited(self) -> bool:
        """Whether nobody may end it now: a call is under way, or the first one on the way."""
        return self.at == NEVER or self.is_busy()


class Roster:
    """The workers of one runtime by their registered names. A provider's are changed by its pool; any thread reads."""

    def __init__(self) -> None:
        self._uses: dict[str, dict[Hashable, Use]] = {}
        self._ended = 0

    def add(self, name: Hashable, use: Use) -> int:
        """A worker has been started; how many its provider has now. One that had its name has ended for good."""
        uses = self._uses.setdefault(use.config.provider, {})
        self._ended += name in uses
        uses[name] = use
        return len(uses)

    def providers(self) -> list[str]:
        """Those that have or had workers."""
        return list(self._uses)

    def of(self, provider: str) -> dict[Hashable, Use]:
        """A provider's workers."""
        return dict(self._uses.get(provider, ()))

    def gone(self, name: Hashable, use: Use) -> None:
        """A worker has ended for good, unless its name is another's by now."""
        uses = self._uses.get(use.config.provider, {})
        if uses.get(name) is use:
            del uses[name]
            self._ended += 1

    def reading(self) -> dict[str, object]:
        """How many stand, by provider, and how many have ended for good, mostly because nobody called them."""
        return {"alive": {name: len(uses) for name, uses in list(self._uses.items())}, "ended": self._ended}


def idle_longest(uses: dict[Hashable, Use], count: int) -> list[Hashable]:
    """The names of the `count` workers that were called least lately."""
    return nsmallest(count, uses, key=lambda name: uses[name].idle_since) if count > 0 else []


def needed_least(uses: dict[Hashable, Use], count: int) -> list[Hashable]:
    """The names of `count` workers: first those that are idle, of these first those called least lately."""
    return nsmallest(count, uses, key=lambda name: (uses[name].is_awaited, uses[name].idle_since)) if count > 0 else []
