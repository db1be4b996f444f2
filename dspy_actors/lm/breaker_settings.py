"""When a breaker opens and for how long: `BreakerSettings`, and `FIVE_IN_A_ROW` as a preset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from dspy_actors.arguments import is_count, number
from dspy_actors.errors import LMConfigurationError


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long. Seconds everywhere.

    It opens when, of at least `minimum` calls in the last `window_seconds`, the share `failure_ratio` failed or the
    share `slow_ratio` took longer than `slow_seconds`; with `consecutive` set, after that many failures in a row
    instead. It stays open for `open_seconds`, twice as long each time a probe fails, up to `longest_open_seconds`, each
    give or take the share `jitter`. `probes_to_close` successes in a row close it.

    A call that ended at its own caller's deadline counts as a failure only if the provider had had
    `patience_seconds` (or `slow_seconds`, if that is less) to answer: one impatient caller must not open the circuit
    for everybody.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    window_seconds: float = 30.0
    buckets: int = 10
    minimum: int = 10
    failure_ratio: float = 0.5
    slow_ratio: float = 0.8
    slow_seconds: float = 120.0
    patience_seconds: float = 30.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 60.0
    jitter: float = 0.2
    probes_to_close: int = 2
    consecutive: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "consecutive" or self.consecutive is not None:
                number("BreakerSettings", each.name, getattr(self, each.name))
        bounds: tuple[tuple[str, bool, str], ...] = (
            ("window_seconds", self.window_seconds > 0, "more than 0"),
            ("buckets", is_count(self.buckets) and self.buckets <= 1000, "a whole number, 1 to 1000"),
            ("minimum", is_count(self.minimum), "a whole number, at least 1"),
            ("failure_ratio", 0 < self.failure_ratio <= 1, "above 0, at most 1"),
            ("slow_ratio", 0 < self.slow_ratio <= 1, "above 0, at most 1"),
            ("slow_seconds", self.slow_seconds > 0, "more than 0"),
            ("patience_seconds", self.patience_seconds >= 0, "0 or more"),
            ("open_seconds", self.open_seconds > 0, "more than 0"),
            ("longest_open_seconds", self.longest_open_seconds >= self.open_seconds, "at least open_seconds"),
            ("jitter", 0 <= self.jitter < 1, "0 to below 1"),
            ("probes_to_close", is_count(self.probes_to_close), "a whole number, at least 1"),
            (
                "consecutive",
                self.consecutive is None or is_count(self.consecutive),
                "None, or a whole number",
            ),
        )
        for name, fits, allowed in bounds:
            value = getattr(self, name)
            if not fits or not (value is None or isfinite(value)):
                msg = f"BreakerSettings({name}={value!r}): {allowed}"
                raise LMConfigurationError(msg)


FIVE_IN_A_ROW = BreakerSettings(consecutive=5, open_seconds=60.0, probes_to_close=1)
"""Opens after five failures in a row, for a minute; one good probe closes it. It looks at no rate and no slow calls."""
