"""`Outcome`: how one call of a program ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.errors import DspyActorsError
from dspy_actors.example import Prediction
from dspy_actors.messages import Usage
from supervisors.errors import fresh


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction or an error, and what it took.

    `fault` is the infrastructure's failure behind the error, if there was one, also where the program wrapped it in
    an error of its own: such a call says nothing about the program. `seconds` is wall time from admission on;
    `attempts` counts requests sent, `cached` answers that came from the cache.
    """

    call_id: str
    prediction: Prediction | None = None
    error: Exception | None = None
    fault: DspyActorsError | None = None
    seconds: float = 0.0
    attempts: int = 0
    cached: int = 0
    usage: Usage | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a prediction."""
        return self.prediction is not None

    def unwrap(self) -> Prediction:
        """The prediction; raises the error where there is none."""
        if self.prediction is None:
            assert self.error is not None
            raise fresh(self.error)
        return self.prediction
