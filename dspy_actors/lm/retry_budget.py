"""`RetryBudget`: how much trying again one provider may cause, shared by all calls to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from dspy_actors.errors import LMConfigurationError
from supervisors.published_lock import PublishedLock


@dataclass(frozen=True, slots=True)
class RetryBudgetSettings:
    """A retry costs `cost`, one after a timeout `timeout_cost`; an answer gives `refund` back, up to `capacity`.

    The proportions are those of the AWS SDKs' standard mode: during an outage the first callers still try again, and
    the rest fail at once instead of doubling the load.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    capacity: float = 100.0
    cost: float = 5.0
    timeout_cost: float = 10.0
    refund: float = 1.0

    def __post_init__(self) -> None:
        for name in ("capacity", "cost", "timeout_cost", "refund"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number and value >= 0 and isfinite(value)):
                msg = f"RetryBudgetSettings({name}={value!r}): 0 or more"
                raise LMConfigurationError(msg)


class RetryBudget:
    """What is left to try again with. Safe from any thread; `left` and `refused` may be read at any time."""

    __slots__ = ("_lock", "left", "refused", "settings")

    def __init__(self, settings: RetryBudgetSettings | None = None) -> None:
        self.settings = settings or RetryBudgetSettings()
        self.left = self.settings.capacity
        self.refused = 0
        self._lock = PublishedLock()

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing: a new one has as much."""
        return self.left >= self.settings.capacity

    def spend(self, *, after_timeout: bool = False) -> bool:
        """Pay for one retry; whether there was enough."""
        price = self.settings.timeout_cost if after_timeout else self.settings.cost
        with self._lock:
            if price > self.left:
                self.refused += 1
                return False
            self.left -= price
            return True

    def answered(self) -> None:
        """A request was answered: a little more may be tried again."""
        if self.left >= self.settings.capacity:
            return
        with self._lock:
            self.left = min(self.settings.capacity, self.left + self.settings.refund)
