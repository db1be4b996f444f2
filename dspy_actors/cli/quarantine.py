"""What `dspy-actors quarantine` does: it reads and writes the file of a service, running or not."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dspy_actors.cli.failures import is_hopeless, is_unreachable, one_line
from dspy_actors.cli.programs import open_program
from dspy_actors.cli.results import check_out
from dspy_actors.cli.rows import read_rows
from dspy_actors.cli.unreported import is_outage, unreported
from dspy_actors.errors import DataError, LMConfigurationError, QuarantineError
from dspy_actors.lm.lm import LM
from dspy_actors.quarantine.change import instant
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.export import as_line, fits, write_jsonl
from dspy_actors.quarantine.file import Filing, QuarantineFile
from dspy_actors.quarantine.preview import printable
from dspy_actors.runtime import Runtime

WAIT_SECONDS = 2.0
"""How long a command waits for a service that writes the file at the same time."""


class Filed:
    """The entries of one file. Raises `QuarantineError` for a file that is not there, is none, or cannot be used."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            msg = f"{path}: there is no such file; name the one of QuarantineSettings(path=...)"
            raise QuarantineError(msg, path=str(path))
        self._path = path
        self._file = QuarantineFile(path)
        with self._in_our_words():
            self._connection = self._file.connect(WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def entries(self) -> list[Entry]:
        """What is set aside, the oldest first."""
        with self._in_our_words():
            rows, _ = self._file.exchange(self._connection, (), 0)
        return [row.entry for row in rows if row.held]

    def find(self, text: str) -> Entry:
        """The entry whose id is, or alone begins with, `text`. Raises `QuarantineError`."""
        found = [entry for entry in self.entries() if entry.id.startswith(text)]
        if len(found) == 1:
            return found[0]
        why = "no entry has" if not found else f"{len(found)} entries have"
        msg = f"{self._path}: {why} an id that begins with {text!r}; `dspy-actors quarantine list` shows what there is"
        raise QuarantineError(msg, entry=text, path=str(self._path))

    def release(self, texts: Sequence[str]) -> list[Entry]:
        """Release all of the entries, or none where one cannot be found."""
        entries = [self.find(text) for text in texts]
        with self._in_our_words():
            self._file.exchange(self._connection, [Filing(entry, held=False) for entry in entries], 0)
        return entries

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            msg = f"{self._path} cannot be used now: {error}; try again"
            raise QuarantineError(msg, path=str(self._path)) from error
        except sqlite3.DatabaseError as error:
            msg = f"{self._path} is broken: {error}; a service that starts on it sets it aside and begins anew"
            raise QuarantineError(msg, path=str(self._path)) from error


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What the command line asked to replay. `deadline` is in seconds; `lm` is `None` where no model is named."""

    entry: str
    program: str
    path: Path
    data: Path
    signature: str | None
    lm: LM | None
    deadline: float


def replay(plan: ReplayPlan) -> tuple[str, bool]:
    """Run the row that is the entry's input; what came of it in one line, and whether the entry was released.

    Raises what is wrong from the start: the file, the entry, the program, the data, the key and the server.
    """
    with Filed(plan.path) as filed:
        entry = filed.find(plan.entry)
        module = open_program(plan.program, plan.signature)
        if plan.lm is None and any(predictor.lm is None for predictor in module.predictors()):
            msg = (
                f"{plan.program!r} brings no model of its own: name the one that the service asks, --lm PROVIDER/MODEL"
            )
            raise LMConfigurationError(msg)
        inputs = _input_of(entry, plan.data)
        with unreported(is_outage), Runtime(lm=plan.lm, deadline=plan.deadline, tenant=entry.tenant) as rt:
            outcome = rt.start(module, name=entry.program).safe_call(**inputs)
        if outcome.ok:
            filed.release([entry.id])
            return f"released {entry.id} of {entry.program}: the call succeeded", True
        if is_hopeless(outcome.error) or is_unreachable(outcome.error):
            outcome.unwrap()
        assert outcome.error is not None
        return f"kept {entry.id} of {entry.program}: {type(outcome.error).__name__}: {one_line(outcome.error)}", False


def _input_of(entry: Entry, data: Path) -> dict[str, Any]:
    names = [field.name for field in entry.preview]
    for row in read_rows(data):
        some = {name: row[name] for name in names if name in row}
        for inputs in (some, row):
            if fits(entry, inputs):
                return inputs
    msg = (
        f"{data}: no row is the input of entry {entry.id}, which has the fields {', '.join(names) or 'none'}; "
        f"each must have the value and the type that the call had"
    )
    raise DataError(msg, path=str(data))


def export(entries: Sequence[Entry], out: Path, path: Path) -> int:
    """Write the entries to `out`; how many. Raises `DataError` where that cannot be."""
    check_out(out, path)
    try:
        return write_jsonl(entries, out)
    except OSError as error:
        msg = f"--out {out} cannot be written: {error.strerror}"
        raise DataError(msg, path=str(out)) from error


def lines(entries: Sequence[Entry]) -> str:
    """Entries as JSON, one a line."""
    return "".join(map(as_line, entries))


def table(entries: Sequence[Entry]) -> str:
    """Entries for people, one a line."""
    if not entries:
        return "nothing is set aside"
    cells = [
        (
            entry.id,
            printable(entry.program),
            printable(entry.tenant) or "-",
            _reason(entry),
            f"{entry.faults} calls",
            _until(entry),
            ", ".join(map(str, entry.preview)),
        )
        for entry in entries
    ]
    head = ("entry", "program", "tenant", "reason", "failed", "until", "input")
    widths = [max(len(row[column]) for row in (head, *cells)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *cells)
    )


def card(entry: Entry) -> str:
    """One entry for people."""
    pairs = [
        ("entry", entry.id),
        ("program", printable(entry.program)),
        ("tenant", printable(entry.tenant) or "-"),
        ("version", entry.version[:12]),
        ("reason", _reason(entry)),
        ("failed", f"{entry.faults} calls, from {instant(entry.first_at)} to {instant(entry.last_at)}"),
        ("set aside", f"{entry.times} time{'' if entry.times == 1 else 's'} in a row, until {_until(entry)}"),
        ("input hash", entry.input_hash),
        *(("input", str(field)) for field in entry.preview),
    ]
    return "\n".join(f"{name:<11} {value}" for name, value in pairs)


def _reason(entry: Entry) -> str:
    return f"{entry.reason} ({entry.error})"


def _until(entry: Entry) -> str:
    return instant(entry.until) + (" (due)" if entry.until <= time.time() else "")
