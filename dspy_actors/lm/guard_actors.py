"""The actors that look after the published guards: `BreakerManager` and `LimiterManager`."""

from __future__ import annotations

from dspy_actors.lm.breaker import BreakerReading
from dspy_actors.lm.gatehouse import Gatehouse
from supervisors.actor import Actor


class BreakerManager(Actor):
    """The hand on the breakers. Calls take their permits without a message; if this actor dies, nothing is forgotten.

    Messages:
        readings(): every breaker by name.
        force_open(name): refuse calls until reset; False for a name that is not known.
        reset(name): closed, with nothing remembered; False for a name that is not known.
    """

    inline = True

    def init(self, gatehouse: Gatehouse) -> None:
        self.gatehouse = gatehouse

    def readings(self) -> dict[str, BreakerReading]:
        """Every breaker now."""
        return self.gatehouse.readings()

    def force_open(self, name: str) -> bool:
        """Open the breaker called `name` by hand."""
        breaker = self.gatehouse.breakers.get(name)
        if breaker is not None:
            breaker.force_open()
        return breaker is not None

    def reset(self, name: str) -> bool:
        """Close the breaker called `name`."""
        breaker = self.gatehouse.breakers.get(name)
        if breaker is not None:
            breaker.reset()
        return breaker is not None


class LimiterManager(Actor):
    """The hand on the limiters. Requests reserve without a message; if this actor dies, nothing learned is lost.

    Messages: `readings()`: limits, levels and pauses of every limiter by name.
    """

    inline = True

    def init(self, gatehouse: Gatehouse) -> None:
        self.gatehouse = gatehouse

    def readings(self) -> dict[str, dict[str, float | int | None]]:
        """Every limiter now."""
        now = self.clock.now()
        return {name: limiter.reading(now) for name, limiter in list(self.gatehouse.limiters.items())}
