"""`QuarantineFile`: the entries in SQLite, so that they survive a restart and other processes see and release them.

A row stands for an entry and says whether it is held or released. Every write gives it a new revision, so whoever looks
again reads only what is new. The file holds previews and hashes, never an input.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack  # type: ignore[import-untyped]

from dspy_actors.errors import QuarantineError
from dspy_actors.quarantine.entry import Entry, entry_of
from dspy_actors.sqlite_file import SqliteFile

SCHEMA_VERSION = 1
MARK = 0x44415175
"""The application id in the header: `DAQu`."""

KEEP_RELEASED = 86_400.0
"""Seconds after which a released row is deleted: by then every process has seen it."""

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS entries (
        revision INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        held INTEGER NOT NULL, changed REAL NOT NULL, until REAL NOT NULL, record BLOB NOT NULL)
    """,
)
_READ = "SELECT revision, held, changed, record FROM entries WHERE revision > ? ORDER BY revision"
_WRITE = "INSERT OR REPLACE INTO entries (id, held, changed, until, record) VALUES (?, ?, ?, ?, ?)"
_PURGE = "DELETE FROM entries WHERE CASE WHEN held THEN until + ? <= ? ELSE changed + ? <= ? END"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the entry, whether it is held, and when that was written, in wall-clock seconds."""

    revision: int
    entry: Entry
    held: bool
    changed: float


@dataclass(frozen=True, slots=True)
class Filing:
    """What is to be written of one entry. A release that somebody else wrote since is stronger than one `renewed`."""

    entry: Entry
    held: bool
    renewed: bool = False


class QuarantineFile:
    """The file of one quarantine. Raises `QuarantineError` for a path that cannot be one; opens nothing itself.

    `pending` has what is not written yet, by entry. It is published: the actor that writes may die.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.pending: dict[str, Filing] = {}
        self._file = SqliteFile(self.path, _SCHEMA, SCHEMA_VERSION, mark=MARK)
        strange = self._file.stranger()
        if strange is not None:
            msg = f"{self.path} is no quarantine: {strange}; name another path"
            raise QuarantineError(msg, path=str(self.path))

    def identity(self) -> tuple[int, int] | None:
        """Tells the file from one that took its place: someone may delete or restore it while it is in use."""
        return self._file.identity()

    def connect(self, timeout: float = 1.0) -> sqlite3.Connection:
        """A connection, with the tables in place. Raises what SQLite raises."""
        return self._file.connect(timeout)

    def set_aside(self) -> Path:
        """Rename a broken file; its new name."""
        return self._file.set_aside()

    def exchange(self, connection: sqlite3.Connection, filings: Sequence[Filing], after: int) -> tuple[list[Row], int]:
        """Read the rows newer than revision `after`, then write, in one transaction; the rows and the last revision.

        Raises what SQLite raises, and then nothing is written.
        """
        if not filings:
            rows = self._read(connection, after)
            return rows, rows[-1].revision if rows else after
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = self._read(connection, after)
            released = {row.entry.id for row in rows if not row.held}
            now = time.time()
            connection.executemany(
                _WRITE,
                [_packed(each, now) for each in filings if not (each.renewed and each.entry.id in released)],
            )
            (last,) = connection.execute("SELECT max(revision) FROM entries").fetchone()
        return rows, last or after

    def purge(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Delete what was released a day ago, and entries that have been due for `seconds` and nobody asked for."""
        now = time.time()
        with connection:
            connection.execute(_PURGE, (seconds, now, KEEP_RELEASED, now))

    def _read(self, connection: sqlite3.Connection, after: int) -> list[Row]:
        return list(_rows(connection.execute(_READ, (after,))))


def _rows(found: Iterable[tuple[int, int, float, bytes]]) -> Iterable[Row]:
    for revision, held, changed, record in found:
        try:
            data = msgpack.unpackb(record, raw=False, unicode_errors="surrogatepass")
            yield Row(revision, entry_of(data), bool(held), changed)
        except (
            QuarantineError,
            ValueError,
            TypeError,
            msgpack.UnpackException,
        ):  # of another release: not ours to judge
            continue


def _packed(filing: Filing, now: float) -> tuple[str, bool, float, float, bytes]:
    entry = filing.entry
    return entry.id, filing.held, now, entry.until, msgpack.packb(entry.as_data(), unicode_errors="surrogatepass")
