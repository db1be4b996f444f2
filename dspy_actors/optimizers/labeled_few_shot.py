"""`LabeledFewShot`: labelled examples as demonstrations, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dspy_actors.errors import EvaluationError
from dspy_actors.example import Example
from dspy_actors.optimizers.base import M, check_module, checked_trainset, labelled


class LabeledFewShot:
    """Gives every predictor `k` examples of the trainset as demos. Asks no model.

    Semantics are DSPy 3.4.1's: with `sample`, each predictor draws with `Random(0)`; otherwise the first `k`.
    """

    def __init__(self, k: int = 16) -> None:
        if k < 0:
            msg = f"k={k}: 0 or more demonstrations"
            raise EvaluationError(msg)
        self.k = k

    def compile(self, student: M, *, trainset: Sequence[Example], sample: bool = True) -> M:
        """A copy of `student` with labelled demos. Raises `EvaluationError`, and `TypeError` for what is no module."""
        check_module(student)
        examples = checked_trainset(trainset)
        made = student.reset_copy()
        rng = Random(0)
        for predictor in made.predictors():
            size = min(self.k, len(examples))
            drawn = rng.sample(examples, size) if sample else examples[:size]
            predictor.demos = [labelled(example, predictor) for example in drawn]
        return made
