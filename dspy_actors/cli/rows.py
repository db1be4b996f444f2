"""Rows of a `.jsonl` or `.csv` file, read one at a time, with clear errors."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dspy_actors.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of `path`, lazily. Raises `DataError` naming file and line."""
    _check_file(path)
    reader = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv}.get(path.suffix.lower())
    if reader is None:
        msg = f"{path}: rows are read from .jsonl or .csv files; rename or convert it"
        raise DataError(msg, path=str(path))
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        line = _undecodable_line(path)
        msg = f"{path}, line {line}: not UTF-8 text ({error.reason}); convert the file to UTF-8"
        raise DataError(msg, path=str(path), line=line) from error


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
                msg = f"{path}, row {count}: there is no column {name!r}, which the program needs; it has {known}"
                raise DataError(msg, path=str(path), line=count, column=name)
        if limit is not None and count >= limit:
            break
    if count == 0:
        msg = f"{path}: there are no rows in it"
        raise DataError(msg, path=str(path))
    return count


def _check_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        msg = f"{path}: it is a directory; name a .jsonl or .csv file"
    elif path.exists():
        msg = f"{path}: it is no regular file; rows are read twice, so write them to a .jsonl or .csv file first"
    else:
        msg = f"{path}: there is no such file"
    raise DataError(msg, path=str(path))


def _undecodable_line(path: Path) -> int:
    """The number of the first line that is not UTF-8: a decoder knows only the byte of its current block."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else error
                msg = f"{path}, line {number}: not JSON ({why}); one object a line is expected"
                raise DataError(msg, path=str(path), line=number) from error
            if not isinstance(row, dict):
                msg = f"{path}, line {number}: a {type(row).__name__}, where one JSON object a line is expected"
                raise DataError(msg, path=str(path), line=number)
            yield row


def _refuse_constant(name: str) -> None:
    msg = f"{name} is no JSON value, write null"
    raise ValueError(msg)


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # 128 KiB otherwise, less than a long document
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
            line = reader.line_num + 1  # where the row begins: a quote left open reads on to the file's end
            msg = f"{path}, line {line}: not CSV ({error})"
            raise DataError(msg, path=str(path), line=line) from error
