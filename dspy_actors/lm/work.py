"""What passes between a caller and an LM worker: `Work` in, `Answer` back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dspy_actors.messages import LMRequest, LMResponse

Source: TypeAlias = Literal["model", "cache", "flight"]


@dataclass(frozen=True, slots=True)
class Work:
    """One question on its way to a worker. `deadline` is an instant of the runtime's clock, in seconds."""

    request: LMRequest
    call_id: str
    deadline: float | None
    num_retries: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer and where it came from. `attempts` is how many requests were sent for it: 0 from the cache."""

    response: LMResponse
    source: Source = "model"
    attempts: int = 1
