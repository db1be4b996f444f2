"""Rows of a `.jsonl` or `.csv` file, read one at a time, with clear errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dspy_actors.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`, lazily. Raises `DataError` naming file and line."""
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise DataError(msg, path=str(path))
    reader = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}.get(path.suffix.lower())
    if reader is None:
        msg = f"{path}: rows are read from .jsonl or .csv files; rename or convert it"
        raise DataError(msg, path=str(path))
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it to UTF-8"
        raise DataError(msg, path=str(path)) from error


def check_rows(path: Path, needed: Sequence[str], limit: int | None = None) -> int:
    """Read the whole file once, so that a job does not stop in the middle; how many rows it has.

    Raises `DataError` for a row that cannot be read, a file without rows, or a column of `needed` that is missing.
    """
    count = 0
    for row in read_rows(path):
        count += 1
        for name in needed:
            if name not in row:
                known = ", ".join(row) or "none"
                msg = f"{path}, row {count}: there is no column {name!r}; it has {known}"
                raise DataError(msg, path=str(path), line=count, column=name)
        if limit is not None and count >= limit:
            break
    if count == 0:
        msg = f"{path}: there are no rows in it"
        raise DataError(msg, path=str(path))
    return count


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                msg = f"{path}, line {number}: not JSON ({error}); one object a line is expected"
                raise DataError(msg, path=str(path), line=number) from error
            if not isinstance(row, dict):
                msg = f"{path}, line {number}: a {type(row).__name__}, where one JSON object a line is expected"
                raise DataError(msg, path=str(path), line=number)
            yield row


def _csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = reader.fieldnames or []
            if len(set(names)) != len(names):
                msg = f"{path}: the header names a column twice: {', '.join(names)}"
                raise DataError(msg, path=str(path), line=1)
            for row in reader:
                if None in row or None in row.values():
                    msg = f"{path}, line {reader.line_num}: it does not have the header's {len(names)} columns"
                    raise DataError(msg, path=str(path), line=reader.line_num)
                yield dict(row)
        except csv.Error as error:
            msg = f"{path}, line {reader.line_num}: not CSV ({error})"
            raise DataError(msg, path=str(path), line=reader.line_num) from error
