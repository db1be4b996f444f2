"""A prompt up to its last turn: its layout, its demonstrations, and what has been learned from them so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspy_actors.lm.embedded.features import Bag
from dspy_actors.lm.embedded.hints import Hints
from dspy_actors.lm.embedded.neighbours import Neighbours
from dspy_actors.lm.embedded.prompt import Demo, FieldNote, Layout, PromptLayout


class Reading:
    """What every request behind the same prefix shares. `pieces` is the prefix's estimated size in tokens.

    Learning happens on first use, field by field; two threads may learn the same thing twice, with equal results.
    """

    __slots__ = ("_bags", "_hints", "_learned", "demos", "form", "layout", "pieces")

    def __init__(self, form: PromptLayout, layout: Layout, demos: Sequence[tuple[Demo, Bag]], pieces: int) -> None:
        self.form, self.layout, self.pieces = form, layout, pieces
        self.demos = tuple(demo for demo, _ in demos)
        self._bags = tuple(words for _, words in demos)
        self._learned: dict[str, Neighbours | None] = {}
        self._hints: dict[str, Hints] = {}

    def neighbours(self, field: FieldNote) -> Neighbours | None:
        """The demonstrations that supply `field` with a value it may take; `None` without any."""
        if field.name not in self._learned:
            rows = [
                (words, demo, shown)
                for demo, words in zip(self.demos, self._bags, strict=True)
                if (shown := allowed(field, demo.outputs.get(field.name, "")))
            ]
            self._learned[field.name] = Neighbours(rows) if rows else None
        return self._learned[field.name]

    def hints(self, field: FieldNote, options: Sequence[str]) -> Hints:
        """What the instructions and the field's description say of each of `options`."""
        if field.name not in self._hints:
            self._hints[field.name] = Hints(options, (self.layout.instructions, field.desc))
        return self._hints[field.name]

    def twins(self, field: FieldNote, values: Mapping[str, str]) -> list[str]:
        """The answers of demonstrations whose inputs are exactly these."""
        shown = (allowed(field, demo.outputs.get(field.name, "")) for demo in self.demos if demo.inputs == values)
        return [answer for answer in shown if answer]


def allowed(field: FieldNote, shown: str) -> str:
    """A demonstration's value as the schema spells it; empty where the schema does not allow it."""
    if field.kind != "choice" or shown in field.options:
        return shown
    folded = shown.casefold().strip("'\"")
    return next((option for option in field.options if option.casefold() == folded), "")
