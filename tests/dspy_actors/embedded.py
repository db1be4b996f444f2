"""Asking the embedded engine as the runtime does: the chat adapter writes the prompt and reads the answer."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.lm.embedded.engine import Engine
from dspy_actors.messages import Message
from dspy_actors.signature.signature import Signature, ensure_signature, make_signature

Row = Mapping[str, Any]

COURSES = Path(__file__).parents[1] / "data" / "courses.csv"

ADAPTER = ChatAdapter()


def prompt(signature: str | type[Signature], demos: Sequence[Row] = (), **inputs: Any) -> tuple[Message, ...]:
    """The messages of one call."""
    return ADAPTER.format(ensure_signature(signature), tuple(demos), inputs)


def ask(signature: str | type[Signature], demos: Sequence[Row] = (), **inputs: Any) -> dict[str, Any]:
    """The typed outputs of one call to a new engine."""
    text, _ = Engine().answer(prompt(signature, demos, **inputs))
    return ADAPTER.parse(ensure_signature(signature), text)


class Subject:
    """Labelled rows split into `train` and `held_out`, and the signature from the first column to the labels."""

    def __init__(self, rows: Sequence[Row], instructions: str | None = None) -> None:
        self.input, *self.labels = [name for name in rows[0] if name != "split"]
        self.train = [row for row in rows if row["split"] == "train"]
        self.held_out = [row for row in rows if row["split"] == "heldout"]
        self.signature = make_signature(f"{self.input} -> {', '.join(self.labels)}", instructions)
        for label in self.labels:
            options = tuple(sorted({row[label] for row in rows}))
            self.signature = self.signature.with_updated_fields(label, type_=Literal[options])

    def drawn(self, size: int = 40) -> list[dict[str, str]]:
        """Labelled demonstrations drawn from the train rows, as `LabeledFewShot` draws them."""
        rows = Random(0).sample(self.train, min(size, len(self.train)))
        return [{name: row[name] for name in (self.input, *self.labels)} for row in rows]

    def score(self, demos: Sequence[Row]) -> float:
        """Percent of held-out labels that are right."""
        engine, kept, right = Engine(), tuple(demos), 0
        for row in self.held_out:
            text, _ = engine.answer(ADAPTER.format(self.signature, kept, {self.input: row[self.input]}))
            said = ADAPTER.parse(self.signature, text)
            right += sum(said[label] == row[label] for label in self.labels)
        return 100.0 * right / (len(self.labels) * len(self.held_out))

    def majority(self) -> float:
        """Percent of held-out labels that are the commonest one of the train rows."""
        right = 0
        for label in self.labels:
            shown = [row[label] for row in self.train]
            commonest = max(sorted(set(shown)), key=shown.count)
            right += sum(row[label] == commonest for row in self.held_out)
        return 100.0 * right / (len(self.labels) * len(self.held_out))


def shuffled(demos: Sequence[Row], labels: Sequence[str], seed: int) -> list[dict[str, str]]:
    """The demonstrations with each label column dealt out anew."""
    dealt = [dict(demo) for demo in demos]
    for label in labels:
        values = [demo[label] for demo in dealt]
        Random(seed).shuffle(values)
        for demo, value in zip(dealt, values, strict=True):
            demo[label] = value
    return dealt


def courses() -> Subject:
    """Students' comments on courses: topic and tone."""
    return Subject(list(csv.DictReader(COURSES.read_text("utf-8").splitlines())))
