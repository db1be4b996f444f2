"""The result file of `dspy-actors run`: one JSON object a row, whole lines only."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pydantic import BaseModel

from dspy_actors.batch import Mapped
from dspy_actors.errors import DspyActorsError


class ResultFile:
    """Writes results as they come. The file is made with the first of them, so a job that never begins leaves none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self.written = 0
        self.failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, mapped: Mapped) -> None:
        """Append one row's result or typed error."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(json.dumps(as_record(mapped), ensure_ascii=False, default=_plain) + "\n")
        self._file.flush()
        self.written += 1
        self.failed += not mapped.outcome.ok


def as_record(mapped: Mapped) -> dict[str, Any]:
    """One line of the file: the row, then its outputs or its error, then what it took."""
    outcome = mapped.outcome
    record: dict[str, Any] = {"index": mapped.index, "row": dict(mapped.row)}
    if outcome.prediction is not None:
        record["outputs"] = dict(outcome.prediction.items())
    else:
        record["error"] = error_record(outcome.error)
    record["attempts"] = outcome.attempts
    record["cached"] = outcome.cached
    record["seconds"] = round(outcome.seconds, 4)
    return record


def error_record(error: BaseException | None) -> dict[str, Any]:
    """An error as data; one that is not ours has its class's name as `kind`."""
    if isinstance(error, DspyActorsError):
        return error.to_wire()
    return {"kind": type(error).__name__, "type": type(error).__name__, "message": str(error)}


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
