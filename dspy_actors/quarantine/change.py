"""`Change` and `Fault`: what happens to an input, as it is reported and announced, and the counts of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.preview import Preview

Step: TypeAlias = Literal["entered", "renewed", "probation", "returned", "released"]


@dataclass(frozen=True, slots=True)
class Change:
    """One step in the life of an entry; `returned` is a probe that came to nothing.

    `why` says how it was released: `success`, `by_hand`, `replayed`, `elsewhere` (another process did it), `evicted`,
    `forgotten`, `general` (others failed too, and none succeeded).
    """

    step: Step
    entry: Entry
    why: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One call that failed over its input. `began` is when it began, an instant of the runtime's clock."""

    began: float
    reason: str
    error: str
    preview: Callable[[], Preview]


@dataclass(frozen=True, slots=True)
class QuarantineStats:
    """What is kept now, and counts since the runtime began.

    `held` inputs are set aside, `probing` of them have their one call out, `watched` ones have failed but not often
    enough. `refused` calls were not made. `unfiled` changes could not be written to the file.
    """

    held: int
    probing: int
    watched: int
    entered: int
    released: int
    refused: int
    probes: int
    unfiled: int


def instant(wall: float) -> str:
    """A wall-clock instant as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # some year beyond 9999
        return f"{wall:.0f}"
