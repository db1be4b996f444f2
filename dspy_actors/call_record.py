"""`CallRecord`: what the call of a program was."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.messages import Usage
from dspy_actors.quick_init import quick_init


@quick_init
@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a call was: tokens, cost in US dollars, HTTP attempts, and which model and parameters answered."""

    usage: Usage | None = None
    cost: float | None = None
    attempts: int = 0
    cached: bool = False
    model: str | None = None
    version: int | None = None
