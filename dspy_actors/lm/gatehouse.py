"""`Gatehouse`: the breakers, limiters and retry budgets of one runtime, published, so that no crash forgets them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from dspy_actors.lm.breaker import Breaker, BreakerReading, State
from dspy_actors.lm.endpoint_breaker import EndpointBreaker
from dspy_actors.lm.estimate import Estimator
from dspy_actors.lm.gates import Gates
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.hedge import Lane
from dspy_actors.lm.limiter import RateLimiter
from dspy_actors.lm.line import Line
from dspy_actors.lm.outages import Outages
from dspy_actors.lm.providers.base import KeySource, LMConfig
from dspy_actors.lm.retry_budget import RetryBudget
from dspy_actors.lm.truncations import Truncations
from dspy_actors.lm.waits import Waits
from dspy_actors.secret import Secret
from supervisors.clock import Clock
from supervisors.published_lock import PublishedLock
from supervisors.telemetry import Telemetry

T = TypeVar("T")

KEPT = 1000
"""So many retry budgets are kept of endpoints that no worker asks and that were not full when the last one ended: only
answers fill them. Of more, those whose workers ended first are forgotten."""

STATE_CHANGED = ("breaker", "state")
"""Event of a change: measurements {}, metadata `name`, `before`, `after`."""

QUEUES_SILENTLY = "local"
"""The provider whose servers take any number of requests and let them wait without a word."""


class Gatehouse:
    """Hands every worker its gates; equal workers, later incarnations too, share state. Safe from any thread."""

    def __init__(self, guarding: Guarding, clock: Clock, telemetry: Telemetry, outages: Outages | None = None) -> None:
        self.guarding = guarding
        self._clock = clock
        self._telemetry = telemetry
        self._outages = outages or Outages()
        self._truncations = Truncations(telemetry, self._outages.truncated, clock.now)
        self.waits = Waits(clock.now)
        self._lock = PublishedLock()
        self._held: dict[Hashable, Gates] = {}
        self._keys: dict[str, KeySource] = {}  # of each limiter: a callable's identity names it while that is kept
        self.breakers: dict[str, Breaker] = {}
        self.limiters: dict[str, Line] = {}
        self.retry_budgets: dict[str, RetryBudget] = {}
        self._unused: dict[str, None] = {}  # the endpoints of retry budgets that no worker has, first the oldest
        self._estimators: dict[str, Estimator] = {}
        self.lanes: dict[str, Lane] = {}

    def gates(self, config: LMConfig, worker: Hashable = None) -> Gates:
        """The gates of the worker for `config`. `worker` tells it from other workers for the same model and key.

        A worker of one name is started only when its predecessor is dead: what that one's attempts held, on a loop that
        may be gone too, is given back.
        """
        place, model = _names(config)
        guarding = self.guarding
        limited = model + _key(config.api_key)
        with self._lock:
            breakers = (
                self._endpoint(place),
                _once(self.breakers, model, lambda: Breaker(model, guarding.breaker, changed=self._changed)),
            )
            gates = Gates(
                _once(self.limiters, limited, lambda: self._line(limited, config)),
                breakers,
                _once(self.retry_budgets, place, lambda: RetryBudget(guarding.retry_budget)),
                _once(self._estimators, model, Estimator),
                _once(self.lanes, model, Lane),
                self._clock,
                self._telemetry,
                self._truncations,
                self.waits,
            )
            self._keys[limited] = config.api_key
            predecessor = self._held.get((limited, worker))
            self._held[limited, worker] = gates
        if predecessor is not None:
            predecessor.abandon()
        return gates

    def dismiss(self, config: LMConfig, worker: Hashable = None) -> None:
        """The worker for `config` has ended for good: give back what it held, and let `sweep` forget it."""
        _, model = _names(config)
        with self._lock:
            gates = self._held.pop((model + _key(config.api_key), worker), None)
        if gates is not None:
            gates.abandon()

    def sweep(self) -> None:
        """Forget what guards nobody any more, where a new one would let no more through.

        Limiters are kept until all their room has come back, breakers until nothing of what they saw counts, retry
        budgets until they are full, and `KEPT` of those that are not.
        """
        now = self._clock.now()
        with self._lock:
            held = list(self._held.values())
            breakers = {breaker.name for gates in held for breaker in gates.breakers}
            for name, breaker in list(self.breakers.items()):
                if name not in breakers and breaker.is_at_rest(now):
                    del self.breakers[name]
            lines = {gates.line.name for gates in held}
            for name, line in list(self.limiters.items()):
                if name not in lines and line.is_at_rest(now):
                    del self.limiters[name], self._keys[name]
            self._sweep_retry_budgets(breakers)
            for table in (self._estimators, self.lanes):
                for name in [each for each in table if each not in breakers]:
                    del table[name]

    def _sweep_retry_budgets(self, places: set[str]) -> None:
        """Forget those of endpoints that are not in `places` and are full, and the first of the others."""
        left = self._unused
        for name, budget in list(self.retry_budgets.items()):
            if name in places:
                left.pop(name, None)
            elif budget.is_full:
                left.pop(name, None)
                del self.retry_budgets[name]
            else:
                left.setdefault(name)
        for name in list(left)[: max(0, len(left) - KEPT)]:
            del left[name], self.retry_budgets[name]

    def breakers_of(self, config: LMConfig) -> tuple[Breaker, ...]:
        """The breakers a call to `config` meets, as far as there are any yet."""
        found = (self.breakers.get(name) for name in _names(config))
        return tuple(breaker for breaker in found if breaker is not None)

    def paused(self, config: LMConfig) -> float:
        """Seconds for which the limiter of a call to `config` lets nobody through: the provider said so."""
        line = self.limiters.get(_names(config)[1] + _key(config.api_key))
        return 0.0 if line is None else line.paused(self._clock.now())

    def limits(self) -> dict[str, dict[str, float | int | None]]:
        """Every limiter now, by name."""
        now = self._clock.now()
        return {name: line.reading(now) for name, line in list(self.limiters.items())}

    def readings(self) -> dict[str, BreakerReading]:
        """Every breaker now, by name."""
        now = self._clock.now()
        return {name: breaker.reading(now) for name, breaker in list(self.breakers.items())}

    def _endpoint(self, place: str) -> EndpointBreaker:
        settings = self.guarding.provider_breaker
        found = _once(self.breakers, place, lambda: EndpointBreaker(place, settings, changed=self._changed))
        assert isinstance(found, EndpointBreaker)
        return found

    def _line(self, name: str, config: LMConfig) -> Line:
        settings = self.guarding.limits_of(config.provider, config.model)
        follows = config.provider == QUEUES_SILENTLY
        limiter = RateLimiter(settings, self._clock.now(), follow_latency=follows)
        return Line(name, limiter, self._clock, self.guarding.fairness, self._outages.paused)

    def _changed(self, name: str, before: State, after: State) -> None:
        breaker = self.breakers.get(name)
        if breaker is not None:
            self._outages.changed(breaker, before, after, self._clock.now())
        self._telemetry.execute(STATE_CHANGED, {}, {"name": name, "before": before.value, "after": after.value})


def _names(config: LMConfig) -> tuple[str, str]:
    """What the breakers of a config's endpoint and of its model are called."""
    where = f" at {config.base_url}" if config.base_url else ""
    return f"{config.provider}{where}", f"{config.provider}/{config.model}{where}"


def _key(source: KeySource) -> str:
    """Tells keys apart, which have limits of their own, without showing one."""
    if source is None:
        return ""
    if isinstance(source, Secret):
        return f" (key {source.key_id})"
    if isinstance(source, tuple):
        return f" (keys {', '.join(key.key_id for key in source)})"
    return f" (key from callable {id(source):x})"


def _once(table: dict[str, T], name: str, make: Callable[[], T]) -> T:
    found = table.get(name)
    if found is None:
        found = table[name] = make()
    return found
