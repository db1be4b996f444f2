"""`ChainOfThought`: a predictor that is asked to reason before it answers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.signature.fields import OutputField
from dspy_actors.signature.signature import Signature, ensure_signature


class ChainOfThought(Module):
    """`Predict` with an output field `reasoning: str` before the signature's own outputs.

    The predictor is its attribute `predict`, so state files name it `predict` as DSPy's do.
    """

    native: ClassVar[bool] = True

    def __init__(
        self,
        signature: str | type[Signature],
        *,
        lm: LM | None = None,
        instructions: str | None = None,
        **config: Any,
    ) -> None:
        made = ensure_signature(signature)
        extended = made.prepend("reasoning", OutputField(desc="${reasoning}"), type_=str)
        self.predict = Predict(extended, lm=lm, instructions=instructions, **config)

    def steps(self, inputs: dict[str, Any]) -> Coroutine[Any, Any, Prediction]:
        return self.predict.steps(inputs)

    def __repr__(self) -> str:
        return f"ChainOfThought({self.predict.signature.signature!r})"
