"""`Selection`: which outputs of which predictors a stream shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from dspy_actors.errors import InputError
from dspy_actors.modules.module import Module, predictors_of


class Selection:
    """All outputs of all predictors, or those that are wished for.

    A wish is an output's name, which means every predictor that has it, or a predictor's name and an output's:
    `"answer"`, `"sort.label"`, `"cot.predict.reasoning"`. A predictor on its own is named `self`.
    """

    __slots__ = ("_wishes",)

    def __init__(self, wishes: Iterable[str] | None = None) -> None:
        if isinstance(wishes, str):
            wishes = (wishes,)
        self._wishes = None if wishes is None else tuple(dict.fromkeys(wishes))

    def of(self, name: str, outputs: Iterable[str]) -> tuple[str, ...]:
        """Which of a predictor's outputs are shown."""
        if self._wishes is None:
            return tuple(outputs)
        return tuple(output for output in outputs if output in self._wishes or f"{name}.{output}" in self._wishes)

    def check(self, module: Module) -> None:
        """Raise `InputError` for a wish that no predictor of `module` can fulfil."""
        if self._wishes is None:
            return
        known = [f"{name}.{output}" for name, one in predictors_of(module) for output in one.signature.output_fields]
        for wish in self._wishes:
            if wish not in known and not any(each.rpartition(".")[2] == wish for each in known):
                msg = f"no predictor has an output {wish!r}; there is {', '.join(known) or 'none'}"
                raise InputError(msg, field=wish)
