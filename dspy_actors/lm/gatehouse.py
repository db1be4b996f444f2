"""`Gatehouse`: the breakers, limiters and retry budgets of one runtime, published, so that no crash forgets them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar

from dspy_actors.lm.breaker import Breaker, BreakerReading, State
from dspy_actors.lm.gates import Gates
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import RateLimiter
from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.retry_budget import RetryBudget
from supervisors.clock import Clock
from supervisors.telemetry import Telemetry

T = TypeVar("T")

STATE_CHANGED = ("breaker", "state")
"""Event of a change: measurements {}, metadata `name`, `before`, `after`."""


class Gatehouse:
    """Hands every worker its gates; equal workers, later incarnations too, share state. Safe from any thread."""

    def __init__(self, guarding: Guarding, clock: Clock, telemetry: Telemetry) -> None:
        self.guarding = guarding
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self.breakers: dict[str, Breaker] = {}
        self.limiters: dict[str, RateLimiter] = {}
        self.retry_budgets: dict[str, RetryBudget] = {}

    def gates(self, config: LMConfig, key: Hashable) -> Gates:
        """The gates of the worker for `config`; `key` tells its key apart from others."""
        place, model = _names(config)
        guarding = self.guarding
        with self._lock:
            breakers = (
                _once(self.breakers, place, lambda: Breaker(place, guarding.provider_breaker, changed=self._changed)),
                _once(self.breakers, model, lambda: Breaker(model, guarding.breaker, changed=self._changed)),
            )
            limited = model if key is None else f"{model} ({key})"
            limiter = _once(self.limiters, limited, lambda: RateLimiter(guarding.limiter, self._clock.now()))
            retries = _once(self.retry_budgets, place, lambda: RetryBudget(guarding.retry_budget))
        return Gates(limiter, breakers, retries, self._clock)

    def breakers_of(self, config: LMConfig) -> tuple[Breaker, ...]:
        """The breakers a call to `config` meets, as far as there are any yet."""
        found = (self.breakers.get(name) for name in _names(config))
        return tuple(breaker for breaker in found if breaker is not None)

    def readings(self) -> dict[str, BreakerReading]:
        """Every breaker now, by name."""
        now = self._clock.now()
        return {name: breaker.reading(now) for name, breaker in list(self.breakers.items())}

    def _changed(self, name: str, before: State, after: State) -> None:
        self._telemetry.execute(STATE_CHANGED, {}, {"name": name, "before": before.value, "after": after.value})


def _names(config: LMConfig) -> tuple[str, str]:
    """What the breakers of a config's endpoint and of its model are called."""
    where = f" at {config.base_url}" if config.base_url else ""
    return f"{config.provider}{where}", f"{config.provider}/{config.model}{where}"


def _once(table: dict[str, T], name: str, make: Callable[[], T]) -> T:
    found = table.get(name)
    if found is None:
        found = table[name] = make()
    return found
