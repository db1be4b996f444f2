"""`QuarantineFile`: the entries in SQLite, so that they survive a restart and other processes see and release them.

A row stands for an entry and says whether it is held or released. Every write gives it a new revision, so whoever looks
again reads only what is new. The file holds previews and hashes, never an input.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
    """
    CREATE TABLE IF NOT EXISTS probes (
        id TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL, seconds REAL NOT NULL)
    """,
)
_READ = "SELECT revision, held, changed, record FROM entries WHERE revision > ? ORDER BY revision"
_WRITE = "INSERT OR REPLACE INTO entries (id, held, changed, until, record) VALUES (?, ?, ?, ?, ?)"
_FIND = "SELECT until, seconds FROM probes WHERE id = ? AND holder <> ?"
_RENEW = "UPDATE probes SET until = ?, seconds = ? WHERE id = ? AND holder = ?"
_SETTLE = "DELETE FROM probes WHERE id = ? AND (NOT ? OR holder = ?)"
"""Whatever comes of a probe of ours ends its lease; that of another process is its own affair, unless it is moot."""
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


class _Seen(NamedTuple):
    """When another's lease, which by its clock ends at `until`, was first met here."""

    until: float
    at: float


class QuarantineFile:
    """The file of one quarantine. Raises `QuarantineError` for a path that cannot be one; opens nothing itself.

    `pending` has what is not written yet, by entry, and `returned` the entries whose probe is given back. Both are
    published: the actor that writes may die. `holder` tells the leases of this process from those of others.
    """

    def __init__(self, path: str | Path, *, wall: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self.pending: dict[str, Filing] = {}
        self.returned: set[str] = set()
        self.holder = secrets.token_hex(8)
        self._wall = wall
        self._seen: dict[str, _Seen] = {}
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
            now = self._wall()
            connection.executemany(
                _WRITE,
                [_packed(each, now) for each in filings if not (each.renewed and each.entry.id in released)],
            )
            connection.executemany(_SETTLE, [(each.entry.id, each.held, self.holder) for each in filings])
            (last,) = connection.execute("SELECT max(revision) FROM entries").fetchone()
        return rows, last or after

    def lease(self, connection: sqlite3.Connection, entry: Entry, seconds: float) -> float:
        """Take the right to send the probe of `entry` for `seconds`; 0.0, or for how long another process has it yet.

        Also 0.0, and nothing taken, where the file knows better than `entry`: read what is new, and decide again. A
        lease ends by itself, so that one of a process that died holds nobody up for ever, and for us
        not later than the seconds that it was taken for from when we first met it: its holder's clock may be ahead.
        (Where that is behind, it ends that much sooner: clocks should agree to within a few seconds.) Raises what
        SQLite raises.
        """
        now = self._wall()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            known = connection.execute("SELECT held, until FROM entries WHERE id = ?", (entry.id,)).fetchone()
            if known is not None and not (known[0] and known[1] <= entry.until):
                return 0.0
            found = connection.execute(_FIND, (entry.id, self.holder)).fetchone()
            left = 0.0 if found is None else self._left(entry.id, *found, now=now)
            if left > 0:
                return left
            taken = (entry.id, self.holder, now + seconds, seconds)
            connection.execute("INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?)", taken)
            self._seen.pop(entry.id, None)
        return 0.0

    def renew(self, connection: sqlite3.Connection, out: Iterable[tuple[str, float]]) -> None:
        """Let leases that this process still has go on for so many seconds from now. Raises what SQLite raises."""
        now = self._wall()
        with connection:
            connection.executemany(_RENEW, [(now + seconds, seconds, each, self.holder) for each, seconds in out])

    def give_back(self, connection: sqlite3.Connection, ids: Iterable[str]) -> None:
        """End leases of this process before their time: their probes came to nothing. Raises what SQLite raises."""
        with connection:
            connection.executemany(
                "DELETE FROM probes WHERE id = ? AND holder = ?", [(each, self.holder) for each in ids]
            )

    def purge(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Delete what was released a day ago, entries that have been due for `seconds`, and leases that have ended."""
        now = self._wall()
        with connection:
            connection.execute("DELETE FROM probes WHERE until <= ?", (now,))
            connection.execute(_PURGE, (seconds, now, KEEP_RELEASED, now))
        out = {each for (each,) in connection.execute("SELECT id FROM probes")}
        self._seen = {each: seen for each, seen in self._seen.items() if each in out}

    def _left(self, id: str, until: float, seconds: float, *, now: float) -> float:
        """How long the lease of another keeps us out yet; 0.0 or less: it does not."""
        seen = self._seen.get(id)
        if seen is None or seen.until != until or now < seen.at:  # taken anew, or our clock was put back
            seen = self._seen[id] = _Seen(until, now)
        return min(until, seen.at + seconds) - now

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
