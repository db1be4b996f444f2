"""`EvaluationResult`: what an evaluation found, with its coverage, and its table."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dspy_actors.errors import DspyActorsError
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.outcome import Outcome, kind_of
from dspy_actors.old_pickles import reads_old_pickles
from dspy_actors.quick_init import quick_init

Verdict: TypeAlias = Literal["scored", "failed", "unscored"]


@reads_old_pickles
@quick_init
@dataclass(frozen=True, slots=True)
class Scored:
    """One example's end.

    `scored`: the program answered and the metric gave a number. `failed`: the program's own fault, which scores
    `failure_score`. `unscored`: the infrastructure's fault or the metric's; it says nothing about the program and has
    no score.
    """

    index: int
    example: Example
    verdict: Verdict
    score: float | None
    outcome: Outcome
    error: Exception | None = None

    @property
    def prediction(self) -> Prediction:
        """The prediction, an empty one where there is none."""
        return self.outcome.prediction if self.outcome.prediction is not None else Prediction()

    @property
    def kind(self) -> str | None:
        """The error's stable word, `None` without an error."""
        return None if self.error is None else kind_of(self.error)


@reads_old_pickles
@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The score over the rows that could be scored, never without its coverage.

    `score` is a percentage rounded to two digits, as DSPy's; `None` where no row could be scored. `coverage` is the
    share of rows that were scored, 0 to 1. Below the floor `incomplete` says why. `rows` are in the order of the
    devset; `results` are DSPy's triples (example, prediction, score), with 0.0 replaced by `None` for unscored rows.
    """

    score: float | None
    rows: tuple[Scored, ...]
    coverage: float
    seconds: float
    incomplete: str | None = None
    rows_asked: int = 0
    """How many rows the devset has; `rows` is shorter only where the evaluation was stopped early."""

    @property
    def results(self) -> list[tuple[Example, Prediction, float | None]]:
        """(example, prediction, score) of every row."""
        return [(row.example, row.prediction, row.score) for row in self.rows]

    @property
    def errors(self) -> list[Scored]:
        """The rows that ended in an error, scored or not."""
        return [row for row in self.rows if row.error is not None]

    @property
    def unscored(self) -> list[Scored]:
        """The rows that say nothing about the program."""
        return [row for row in self.rows if row.verdict == "unscored"]

    @property
    def truncated(self) -> list[Scored]:
        """The rows for which an answer was cut off (see `Outcome.truncated`), scored or failed."""
        return [row for row in self.rows if row.outcome.truncated is not None]

    def kinds(self) -> dict[str, int]:
        """How many rows ended in each kind of error."""
        return dict(Counter(row.kind for row in self.errors if row.kind is not None))

    def __float__(self) -> float:
        if self.score is None:
            msg = f"no row could be scored: {self.incomplete}"
            raise ValueError(msg)
        return self.score

    def __str__(self) -> str:
        shown = "no score" if self.score is None else f"{self.score:.2f} %"
        scored = sum(row.verdict != "unscored" for row in self.rows)
        text = f"{shown} over {scored} of {self.rows_asked} rows (coverage {self.coverage:.0%})"
        kinds = Counter(row.kind for row in self.rows if row.verdict == "failed")
        if kinds:
            told = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
            text = f"{text}, {kinds.total()} failed ({told})"
        if cuts := Counter(row.outcome.truncated for row in self.truncated):
            told = ", ".join(f"{count} x {reason}" for reason, count in cuts.most_common())
            text = f"{text}, {cuts.total()} truncated ({told})"
        return f"{text}, INCOMPLETE: {self.incomplete}" if self.incomplete else text

    def __repr__(self) -> str:
        return f"EvaluationResult({self})"

    # -- the table ----------------------------------------------------------------------------------------------

    def table(self) -> Iterator[dict[str, Any]]:
        """The rows as flat records: the example's fields, `pred_*` for the outputs, `score`, `verdict`, `error`.

        Those for which an answer was cut off also say so, as `truncated`.
        """
        for row in self.rows:
            record: dict[str, Any] = dict(row.example.items())
            record.update({f"pred_{name}": value for name, value in row.prediction.items()})
            message = row.error.message if isinstance(row.error, DspyActorsError) else row.error and str(row.error)
            record |= {"score": row.score, "verdict": row.verdict, "error": row.kind, "message": message}
            if row.outcome.truncated is not None:
                record["truncated"] = row.outcome.truncated
            yield record

    def save_csv(self, path: str | Path) -> None:
        """Write the table as CSV; a column for every name that occurs. Half a surrogate is written as `\\ud83d`."""
        rows = list(self.table())
        names = list(dict.fromkeys(name for row in rows for name in row))
        with Path(path).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    def save_json(self, path: str | Path) -> None:
        """Write the table as a JSON array."""
        text = json.dumps(list(self.table()), indent=2, default=str, ensure_ascii=False) + "\n"
        Path(path).write_text(text, "utf-8", "backslashreplace")  # half a surrogate, as JSON escapes it
