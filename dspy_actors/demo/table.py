"""`Table`: labelled rows split into train and held-out, with the signature that fits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from random import Random
from typing import Any, Literal

from dspy_actors.errors import DataError
from dspy_actors.example import Example, Prediction
from dspy_actors.signature.signature import Signature, ensure_signature, make_signature

MAX_OPTIONS = 20
"""A column with more different values than this is no label."""

HELD_OUT_WORDS = frozenset({"heldout", "held_out", "held-out", "test", "dev", "val", "validation"})


@dataclass(frozen=True, slots=True)
class Table:
    """Examples that know their inputs, and the signature from inputs to labels."""

    signature: type[Signature]
    train: list[Example]
    held_out: list[Example]

    @property
    def outputs(self) -> list[str]:
        """The label columns."""
        return list(self.signature.output_fields)

    def metric(self, example: Example, prediction: Prediction, trace: object = None) -> float | bool:
        """The share of labels that are right; while demonstrations are made, whether all are."""
        right = [str(prediction.get(name)) == str(example[name]) for name in self.outputs]
        return all(right) if trace is not None else sum(right) / len(right)

    def majority_class(self) -> float:
        """The held-out score, in percent, of always giving the commonest label of the train rows."""
        total = 0.0
        for name in self.outputs:
            commonest = Counter(str(example[name]) for example in self.train).most_common(1)[0][0]
            total += sum(str(example[name]) == commonest for example in self.held_out)
        return round(100.0 * total / (len(self.outputs) * len(self.held_out)), 2)


def table_of(rows: Sequence[Mapping[str, Any]], signature: str | None = None, instructions: str | None = None) -> Table:
    """Split labelled rows and find their signature.

    Without `signature` the label columns are those with at most 20 values that repeat; the others are inputs. Labels
    become `Literal` types of the values that occur. Rows are held out where a column `split` says so (`test`,
    `heldout`, …), otherwise a third of them, drawn with a fixed seed: a file may repeat its labels in a pattern.

    Raises `DataError` where there are too few rows, no label column, or a column is missing.
    """
    if len(rows) < 12:
        msg = f"{len(rows)} rows are too few to train on one part and test on another; give at least 12"
        raise DataError(msg)
    columns = [name for name in rows[0] if name != "split"]
    inputs, outputs = _named(signature, columns) if signature else _guessed(rows, columns)
    _check_columns(rows, (*inputs, *outputs))
    shown = make_signature(f"{', '.join(inputs)} -> {', '.join(outputs)}", instructions)
    for name in outputs:
        options = sorted({str(row[name]) for row in rows})
        if len(options) > MAX_OPTIONS:
            msg = f"column {name!r} has {len(options)} different values; a label has at most {MAX_OPTIONS}"
            raise DataError(msg, column=name)
        shown = shown.with_updated_fields(name, type_=Literal[tuple(options)])
    examples = [Example({k: str(row[k]) for k in (*inputs, *outputs)}).with_inputs(*inputs) for row in rows]
    held = _held_out(rows)
    train = [example for example, out in zip(examples, held, strict=True) if not out]
    held_out = [example for example, out in zip(examples, held, strict=True) if out]
    if not train or not held_out:
        msg = "the column 'split' puts every row on one side; both 'train' and 'heldout' rows are needed"
        raise DataError(msg, column="split")
    return Table(shown, train, held_out)


def _check_columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for name in names:
        if not name.isidentifier() or iskeyword(name):
            msg = f"column {name!r} cannot name a field; rename it, or leave it out with --signature 'text -> label'"
            raise DataError(msg, column=name)
    for number, row in enumerate(rows, 1):
        for name in names:
            if name not in row:
                msg = f"row {number} has no column {name!r}, which the first row has; give it one, or leave it out"
                raise DataError(msg, line=number, column=name)


def _named(signature: str, columns: list[str]) -> tuple[list[str], list[str]]:
    made = ensure_signature(signature)
    for name in (*made.input_fields, *made.output_fields):
        if name not in columns:
            msg = f"there is no column {name!r}; the data has {', '.join(columns)}"
            raise DataError(msg, column=name)
    return list(made.input_fields), list(made.output_fields)


def _guessed(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> tuple[list[str], list[str]]:
    def is_label(name: str) -> bool:
        values = {str(row.get(name)) for row in rows}
        return 2 <= len(values) <= min(MAX_OPTIONS, len(rows) // 4)

    outputs = [name for name in columns if is_label(name)]
    inputs = [name for name in columns if name not in outputs]
    if not outputs or not inputs:
        msg = f"cannot tell inputs from labels among {', '.join(columns)}; add --signature 'text -> label'"
        raise DataError(msg)
    return inputs, outputs


def _held_out(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    drawn = set(Random(0).sample(range(len(rows)), len(rows) // 3))

    def is_held_out(index: int, row: Mapping[str, Any]) -> bool:
        split = row.get("split")
        return index in drawn if split is None else str(split).strip().lower() in HELD_OUT_WORDS

    return [is_held_out(index, row) for index, row in enumerate(rows)]
