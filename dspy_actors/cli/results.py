"""The result file of `dspy-actors run`: one JSON object a row, whole lines only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

from dspy_actors.batch import Mapped
from dspy_actors.cli.sole_writer import keep_from_others
from dspy_actors.errors import DataError, DspyActorsError, ProgramError
from dspy_actors.messages import Usage
from supervisors.exits import said


def check_out(out: Path, *inputs: Path | None) -> None:
    """Raise `DataError` where `out` cannot be written, or is one of the job's own `inputs`."""
    for path in inputs:
        if path is not None and _is_same(out, path):
            msg = f"--out {out} is the file {path} that is read; name another file"
            raise DataError(msg, path=str(out))
    if out.is_dir() or not out.parent.is_dir():
        msg = f"--out {out}: {'it is a directory' if out.is_dir() else 'its directory does not exist'}; name a file"
        raise DataError(msg, path=str(out))


def _is_same(out: Path, path: Path) -> bool:
    if out.exists() and path.exists():
        return out.samefile(path)
    return out.resolve() == path.resolve()


class ResultFile:
    """Writes results as they come. The file is made with the first of them, so a job that never begins leaves none.

    With `keep` the file is there: its first `keep` bytes stay, and results are appended to them, after a line feed
    where the last line `lacks_end`. One that is not `is_ours` already, by `sole_writer`, is kept from other runs too.
    Each line says who made it, as `made` does.
    """

    def __init__(
        self,
        path: Path,
        keep: int | None = None,
        lacks_end: bool = False,
        is_ours: bool = False,
        made: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._path = path
        self._made = made
        self._file: BinaryIO | None = None
        self._keep = keep
        self._lacks_end = lacks_end
        self._is_ours = is_ours
        self._size = keep or 0
        self.written = 0
        self.failed = 0
        self.truncated = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, mapped: Mapped) -> None:
        """Append one row's result or typed error. Raises `DataError` where the disk refuses; whole lines stay.

        A result that JSON cannot hold is an error of its row.
        """
        try:
            line = as_line(mapped, self._made)
        except Exception as error:  # the outputs' own code runs in there
            mapped = _unwritable(mapped, error)
            line = as_line(mapped, self._made)
        try:
            if self._file is None:
                self._file = self._open()
            self._append(self._file, line)
        except OSError as error:
            kept = f"; {self.written} results are kept in it" if self.written else ""
            msg = f"--out {self._path} cannot be written: {error.strerror}{kept}"
            raise DataError(msg, path=str(self._path)) from error
        self._size += len(line)
        self.written += 1
        self.failed += not mapped.outcome.ok
        self.truncated += mapped.outcome.truncated is not None

    def _open(self) -> BinaryIO:
        if self._keep is None:
            return self._begin()
        file = self._path.open("r+b", buffering=0)
        file.truncate(self._keep)
        file.seek(self._keep)
        if self._lacks_end:
            self._size += file.write(b"\n")
        return file

    def _begin(self) -> BinaryIO:
        if not self._is_ours and self._path.is_file():
            msg = f"--out {self._path} was made by another run meanwhile; name another file"
            raise DataError(msg, path=str(self._path))
        file = self._path.open("wb", buffering=0)
        try:
            if not self._is_ours:
                keep_from_others(file, self._path)
        except BaseException:
            file.close()
            raise
        return file

    def _append(self, file: BinaryIO, line: bytes) -> None:
        left = memoryview(line)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            if file.seekable() and len(left) < len(line):
                file.truncate(self._size)
            raise


def as_line(mapped: Mapped, made: Mapping[str, str]) -> bytes:
    """One line of the file, its line feed included: always JSON.

    What JSON has no word for is written as its text. Raises for what has none (a list that holds itself, bytes that are
    no UTF-8, an object whose `repr` raises) whatever it raises.
    """
    return _json_line({**as_record(mapped), **made})


def _unwritable(mapped: Mapped, error: Exception) -> Mapped:
    """The row of a result that cannot be written: its program's error, which names the output."""
    outputs = {} if mapped.outcome.prediction is None else dict(mapped.outcome.prediction.items())
    names = ", ".join(name for name, value in outputs.items() if not _has_line(value)) or "the result"
    msg = (
        f"{names} cannot be written as JSON ({type(error).__name__}: {said(error)}); let the program return plain data"
    )
    failure = ProgramError(msg, error_type=type(error).__name__)
    return replace(mapped, outcome=replace(mapped.outcome, prediction=None, error=failure))


def _has_line(value: object) -> bool:
    try:
        _json_line({"value": value})
    except Exception:
        return False
    return True


def read_back(row: Mapping[str, Any]) -> Any:
    """A row as it is read from its line of the file."""
    return json.loads(_json_line(dict(row)))


def _json_line(record: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(record, ensure_ascii=False, default=_plain, allow_nan=False)
    except (ValueError, TypeError):  # not-a-number, keys that are no strings
        text = json.dumps(_plain(record), ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold and UTF-8 cannot
        return f"{json.dumps(json.loads(text))}\n".encode()


def as_record(mapped: Mapped) -> dict[str, Any]:
    """One line of the file: the row, then its outputs or its error, then what it took."""
    outcome = mapped.outcome
    record: dict[str, Any] = {"index": mapped.index, "row": dict(mapped.row)}
    if outcome.prediction is not None:
        record["outputs"] = dict(outcome.prediction.items())
    else:
        record["error"] = error_record(outcome.error)
    if outcome.truncated is not None:
        record["truncated"] = outcome.truncated
    record["attempts"] = outcome.attempts
    record["cached"] = outcome.cached
    if outcome.usage is not None:
        record["usage"] = usage_record(outcome.usage)
    record["seconds"] = round(outcome.seconds, 4)
    return record


def usage_record(usage: Usage) -> dict[str, int | bool]:
    """Tokens as data: prompt and completion always, the rest where there is some."""
    always = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**always, **{name: value for name, value in asdict(usage).items() if value and name not in always}}


def error_record(error: BaseException | None) -> dict[str, Any]:
    """An error as data; one that is not ours has its class's name as `kind`."""
    if isinstance(error, DspyActorsError):
        return error.to_wire()
    return {"kind": type(error).__name__, "type": type(error).__name__, "message": said(error)}


def _plain(value: object) -> Any:
    """`value` as JSON has it: models as objects, sets as sorted lists, not-a-number as null."""
    from pydantic_core import to_jsonable_python

    if isinstance(value, (set, frozenset)):
        return _sorted(value)
    return to_jsonable_python(value, inf_nan_mode="null", fallback=str)


def _sorted(values: Iterable[object]) -> list[object]:
    return sorted(values, key=str)
