"""`QuarantineSettings`: when an input is set aside and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from dspy_actors.arguments import is_count
from dspy_actors.errors import QuarantineError


@dataclass(frozen=True, slots=True)
class QuarantineSettings:
    """When an input is set aside, and for how long.

    Where three different inputs of a program fail and none succeeds between them, the fault is the model's, the
    server's or the program's own: none of them is set aside, those that were since the last success are released, and
    nothing counts until an input succeeds.

    Args:
        threshold: how many calls must fail over an input, all within `fault_seconds`.
        seconds: how long it is set aside; then one call is let through as a probe.
        fault_seconds: how long a fault counts.
        entries: how many inputs are kept set aside at most, and how many more are watched. The one that nobody has
            asked for longest goes first.
        path: a SQLite file that keeps the entries across restarts and shows them to the command line; several
            processes may share it, and one of them sends the probe. None if left out.

    Raises `QuarantineError` for a value that makes no sense.
    """

    threshold: int = 3
    seconds: float = 3600.0
    fault_seconds: float = 86_400.0
    entries: int = 10_000
    path: str | Path | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("threshold", is_count(self.threshold), "an int, at least 1"),
            ("seconds", _is_span(self.seconds), "more than 0"),
            ("fault_seconds", _is_span(self.fault_seconds), "more than 0"),
            ("entries", is_count(self.entries), "an int, at least 1"),
            ("path", self.path is None or isinstance(self.path, (str, Path)), "None, or the path of a file"),
        )
        for name, fits, allowed in bounds:
            if not fits:
                msg = f"QuarantineSettings({name}={getattr(self, name)!r}): {allowed}"
                raise QuarantineError(msg)


def _is_span(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value > 0
