"""`Earlier`: what an earlier `dspy-actors run` left in its result file, for the run that goes on with it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dspy_actors.cli.made_by import is_by_another
from dspy_actors.cli.results import read_back
from dspy_actors.cli.rows import Row
from dspy_actors.errors import DataError
from dspy_actors.put_in_place import put_in_place

REMEDY = "name another --out, or begin anew with --overwrite"


class Earlier:
    """The result file of an earlier run over `total` rows of `data`, as far as its lines are whole.

    A row is known by its place in the data. Where it has several lines the last prediction counts, else the last
    error: a run that goes on appends, so that one that is killed has lost nothing. Holds 19 bytes a row, no lines.
    `made` is what the lines of the run that goes on say of who made them.

    Raises `DataError` for a line that is no result, but for a last one that was cut off, and for a row that the data
    do not have; `OSError` for a file that cannot be read and written.
    """

    def __init__(self, path: Path, data: Path, total: int, made: Mapping[str, str]) -> None:
        self._path = path
        self._made = made
        self._data = data
        self._total = total
        self._begins = array("q", [-1]) * total
        self._kept = bytearray(total)
        self._is_anothers = bytearray(total)
        self._is_truncated = bytearray(total)
        self._tokens = array("q", [0]) * total
        self._last = -1
        self._is_tidy = True
        self.size = 0
        """Bytes of the whole lines."""
        self.lacks_end = False
        """Whether the last whole line has no line feed."""
        with path.open("r+b") as file:
            for number, line in enumerate(file, 1):
                self._read(number, line)

    @property
    def count(self) -> int:
        """How many rows have a prediction."""
        return sum(self._kept)

    @property
    def count_by_another(self) -> int:
        """How many of them were made by another program or model."""
        return sum(self._is_anothers)

    @property
    def count_truncated(self) -> int:
        """Of how many of them the line says that an answer was cut off."""
        return sum(self._is_truncated)

    @property
    def count_tokens(self) -> int:
        """The tokens of all of them."""
        return sum(self._tokens)

    def left(self) -> array[int]:
        """The numbers of the rows that have none."""
        return array("q", (index for index, kept in enumerate(self._kept) if not kept))

    def without_kept(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Those of the data's `rows` that have no prediction."""
        return (row for row, kept in zip(rows, self._kept, strict=False) if not kept)

    def check(self, rows: Iterable[Row]) -> None:
        """Raise `DataError` where a row with a prediction is another one in the data's `rows`."""
        with self._path.open("rb") as file:
            for index, (row, kept) in enumerate(zip(rows, self._kept, strict=False)):
                if not kept:
                    continue
                file.seek(self._begins[index])
                if json.loads(file.readline())["row"] != read_back(row):
                    msg = f"--out {self._path}: index {index} has the answer to another row than {self._data} has there"
                    raise DataError(f"{msg}; {REMEDY}", path=str(self._path), line=index + 1)

    def put_in_order(self) -> None:
        """Make the file one line a row, in the order of the rows, atomically. Raises `DataError`; the file stays."""
        if self._is_tidy:
            return
        try:
            with self._path.open("rb") as old, put_in_place(self._path) as new:
                for begin in self._begins:
                    if begin >= 0:
                        old.seek(begin)
                        new.write(old.readline().rstrip(b"\n") + b"\n")
        except OSError as error:
            msg = f"--out {self._path} has every result, but could not be put in order: {error.strerror}"
            raise DataError(f"{msg}; --resume tries again", path=str(self._path)) from error

    def _read(self, number: int, line: bytes) -> None:
        record = _result(line)
        if record is None and not line.endswith(b"\n"):
            self._is_tidy = False  # cut off; the next line takes its place
            return
        if record is None:
            msg = f"--out {self._path}, line {number}: no result of `dspy-actors run`; {REMEDY}"
            raise DataError(msg, path=str(self._path), line=number)
        index = record["index"]
        if index >= self._total:
            msg = f"--out {self._path}, line {number}: index {index}, and {self._total} rows are read of {self._data}"
            raise DataError(f"{msg}; {REMEDY}", path=str(self._path), line=number)
        if "outputs" in record or not self._kept[index]:
            self._begins[index] = self.size
            self._kept[index] = "outputs" in record
            self._is_anothers[index] = "outputs" in record and is_by_another(record, self._made)
            self._is_truncated[index] = "outputs" in record and "truncated" in record
            self._tokens[index] = _tokens(record) if "outputs" in record else 0
        self.lacks_end = not line.endswith(b"\n")
        self._is_tidy = self._is_tidy and index > self._last and not self.lacks_end
        self._last = index
        self.size += len(line)


def refuse_earlier(out: Path) -> None:
    """Raise `DataError` where `out` holds something already."""
    if out.exists() and out.stat().st_size:
        msg = f"--out {out} is there already: --resume keeps its predictions and asks the rest, --overwrite begins anew"
        raise DataError(msg, path=str(out))


def read_earlier(out: Path, data: Path, total: int, made: Mapping[str, str]) -> Earlier | None:
    """What an earlier run left in `out`, `None` where there is nothing. Raises as `Earlier` does."""
    return Earlier(out, data, total, made) if out.is_file() and out.stat().st_size else None


def _result(line: bytes) -> dict[str, Any] | None:
    """A line as the record it is, `None` where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("row"), dict):
        return None
    index = record.get("index")
    is_ours = type(index) is int and index >= 0 and ("outputs" in record or "error" in record)
    return record if is_ours else None


def _tokens(record: Mapping[str, Any]) -> int:
    """The tokens that a line says its row took; no more of them count than a place here holds."""
    usage = record.get("usage")
    if not isinstance(usage, dict):
        return 0
    counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return min(sum(count for count in counts if type(count) is int and count > 0), 2**62)
