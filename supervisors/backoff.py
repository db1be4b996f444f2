"""How long a supervisor waits between two restarts of one child: exponential, jittered, pure.

OTP has no backoff: a child whose start fails is tried again at once, thousands of times a second if the intensity
allows it. Waiting is an extension, off unless a `ChildSpec` asks for it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from supervisors.errors import SpecError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of `base`, `base * factor`, `base * factor ** 2` … seconds, never more than `cap`.

    The first restart of a child that lived for at least `healthy` seconds happens at once, as in OTP; every
    further one of the same series waits. `jitter` is the share of each wait that is drawn at random (0 = none,
    1 = anything between zero and the full wait), so that children which fell together do not come back together.

    All times are seconds. Raises `SpecError` for values that make no sense.
    """

    base: float = 0.1
    cap: float = 10.0
    factor: float = 2.0
    jitter: float = 0.5
    healthy: float | None = None
    """Seconds a life must last to begin a new series; `None` means as long as `cap`."""

    def __post_init__(self) -> None:
        _check("base", self.base, 0 < self.base < math.inf, "seconds > 0")
        _check("cap", self.cap, self.base <= self.cap < math.inf, "finite seconds >= base")
        _check("factor", self.factor, 1 <= self.factor < math.inf, "a number >= 1")
        _check("jitter", self.jitter, 0 <= self.jitter <= 1, "a share between 0 and 1")
        _check("healthy", self.healthy, self.healthy is None or self.healthy >= 0, "seconds >= 0 or None")

    def delay(self, attempt: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait before the `attempt`-th waiting restart of a series (1 is the first that waits)."""
        # Compare exponents, not products: factor ** 5000 would overflow a float.
        growth = (attempt - 1) * math.log(self.factor)
        full = self.cap if growth >= math.log(self.cap / self.base) else self.base * math.exp(growth)
        return full * (1.0 - self.jitter * rng())

    def is_new_series(self, lived: float) -> bool:
        """True if a life of `lived` seconds was long enough to forget the failures before it."""
        return lived >= (self.cap if self.healthy is None else self.healthy)


def _check(field: str, value: object, fine: bool, allowed: str) -> None:
    if not fine:
        raise SpecError(f"backoff.{field}", value, allowed)
