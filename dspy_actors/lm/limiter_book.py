"""`LimiterBook`: a runtime's rate limiters, to be read, and to be sent on their way by hand after a pause."""

from __future__ import annotations

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.gatehouse import Gatehouse


class LimiterBook:
    """The rate limiters of one runtime, `Runtime.limiters`, by name. Safe from any thread; asks no actor.

    There is one for each model and key that was called, named as in `Runtime.health()["limiters"]`.
    """

    def __init__(self, gatehouse: Gatehouse) -> None:
        self._gatehouse = gatehouse

    def readings(self) -> dict[str, dict[str, float | int | None]]:
        """Every limiter now: limits and what is left of them a minute, `paused_seconds`, and how many wait."""
        return self._gatehouse.limits()

    def resume(self, name: str) -> None:
        """End the pause that a 429 began: one request goes ahead at once, and the others follow as it is answered.

        Does nothing where there is no pause. Raises `LMConfigurationError` where there is no limiter of this name.
        """
        found = self._gatehouse.limiters.get(name)
        if found is None:
            there_are = ", ".join(sorted(self._gatehouse.limiters)) or "none, before the first call"
            msg = f"there is no limiter {name!r}; there are: {there_are}"
            raise LMConfigurationError(msg)
        found.resume()
