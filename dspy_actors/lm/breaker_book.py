"""`BreakerBook`: a runtime's breakers, to be read, opened and reset by hand."""

from __future__ import annotations

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.breaker import Breaker, BreakerReading
from dspy_actors.lm.gatehouse import Gatehouse


class BreakerBook:
    """The breakers of one runtime, `Runtime.breakers`, by name. Safe from any thread; asks no actor.

    There is one for each model and one for each endpoint that was called, named as in `Runtime.health()["breakers"]`.
    """

    def __init__(self, gatehouse: Gatehouse) -> None:
        self._gatehouse = gatehouse

    def readings(self) -> dict[str, BreakerReading]:
        """Every breaker now."""
        return self._gatehouse.readings()

    def force_open(self, name: str) -> None:
        """Refuse every call until `reset`. Raises `LMConfigurationError` where there is no breaker of this name."""
        self._named(name).force_open()

    def reset(self, name: str) -> None:
        """Close it, with nothing remembered. Raises `LMConfigurationError` where there is none of this name."""
        self._named(name).reset()

    def _named(self, name: str) -> Breaker:
        found = self._gatehouse.breakers.get(name)
        if found is None:
            there_are = ", ".join(sorted(self._gatehouse.breakers)) or "none, before the first call"
            msg = f"there is no breaker {name!r}; there are: {there_are}"
            raise LMConfigurationError(msg)
        return found
