"""`DiskCache`: the persistent tier of the cache, one SQLite file, and `DiskWriter`, the actor that writes it.

Reads are made where the caller is: a look-up takes some microseconds and waits for nobody. Writes go to one actor
with a thread of its own, which commits many at once, so that no caller waits for the disk. Whatever is wrong with the
file (locked, full, corrupt) is counted and reported, and calls go on without it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dspy_actors.cache.cache_file import CacheFile, Told
from dspy_actors.cache.codec import UnreadableEntry, decode, encode
from dspy_actors.errors import LMConfigurationError
from dspy_actors.messages import LMResponse
from supervisors.actor import Actor
from supervisors.errors import Fenced, MailboxFull, SystemStopped
from supervisors.exits import Exit
from supervisors.ref import Ref
from supervisors.telemetry import Telemetry

BATCH = 64
"""So many entries that wait are committed at once."""

FLUSH_SECONDS = 0.05
"""How long the first entry of a batch waits for others."""

QUEUE = 10_000
"""Writes that may wait; more are dropped and counted."""


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Counts since the file was opened. `dropped` writes were given up: the queue was full or the file unwritable.

    `set_aside` files were damaged and renamed.
    """

    hits: int
    misses: int
    written: int
    dropped: int
    unreadable: int
    set_aside: int


class Entry(NamedTuple):
    """What is to be written: the answer of `key`, or `None` for none any more.

    `mark` is that of the last time `key` was forgotten before, which has no effect any more when this is written.
    """

    key: bytes
    response: LMResponse | None
    mark: int | None = None


class DiskCache:
    """Answers by key in a SQLite file (WAL, msgpack), each until a wall-clock instant. Safe from any thread.

    Args:
        path: the file; its directory must exist. A corrupt one is renamed aside; one of another version is left alone,
            for one beside it; one that is deleted is made anew; one that is locked is looked at later.
        seconds: how long an entry is good.
        told: hears of a file that is not used any more, in the thread that finds out; see `Told`.

    Raises `LMConfigurationError` where the directory does not exist, the file is something else, or `seconds` is not
    above 0.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        seconds: float = 7 * 86_400.0,
        telemetry: Telemetry | None = None,
        told: Told | None = None,
    ) -> None:
        self.seconds = seconds
        if not seconds > 0:
            msg = f"cache_disk_seconds={seconds!r}: more than 0"
            raise LMConfigurationError(msg)
        self._file = CacheFile(Path(path), telemetry=telemetry, told=told)
        self._lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._read: tuple[int, int] | None = None
        self._is_open = False
        self._openings = 0
        self._waiting: deque[Entry] = deque()  # not the writer's: its end, or its death, takes none of them along
        self._forgotten: dict[bytes, int] = {}
        self._marks = 0
        self._hits = self._misses = self._written = self._dropped = self._unreadable = 0
        self.open()

    def open(self) -> None:
        """Open the reading side, if it is closed."""
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._open_reader()

    @property
    def backlog(self) -> int:
        """How many entries wait to be written."""
        return len(self._waiting)

    @property
    def path(self) -> Path:
        """The file in use: the one that was named, or where that is of another version the one beside it."""
        return self._file.path

    @property
    def trouble(self) -> str | None:
        """What was wrong last with the file that was named or is in use."""
        return self._file.trouble

    @property
    def usable(self) -> bool:
        """Whether answers can be read from the file now."""
        return self._reader is not None

    def refresh(self) -> int:
        """Open the file again where it was deleted, replaced or locked; a number that tells one opening from another.

        Called by the writer before it writes, in its thread.
        """
        with self._lock:
            if self._is_open and (self._reader is None or self._read != self._file.identity()):
                self._forget_reader()
                self._open_reader()
            return self._openings

    def broken(self, error: sqlite3.DatabaseError) -> None:
        """The writer could not write: a file that is no database any more is set aside."""
        with self._lock:
            if self._is_open:
                self._failed(error)

    def get(self, key: bytes) -> LMResponse | None:
        """The answer kept for `key`, or `None`. Never waits for a lock on the file."""
        found: LMResponse | None = None
        with self._lock:
            try:
                row = None if key in self._forgotten else self._row(key)
                found = None if row is None else decode(row)
            except (UnreadableEntry, TypeError):  # or a row that holds what none of ours does
                self._unreadable += 1
            except sqlite3.DatabaseError as error:
                self._failed(error)
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
        return found

    def file(self, writer: Ref[Any] | None, key: bytes, response: LMResponse) -> None:
        """Have `writer`, a `DiskWriter`, keep an answer; where it cannot take it, that is counted as dropped."""
        self._cast(writer, Entry(key, response, self._forgotten.get(key)))

    def forget(self, writer: Ref[Any] | None, key: bytes) -> None:
        """Have `writer` delete the answer kept for `key`, which is not read any more from now on.

        Where it cannot take that, this process does not read it all the same, until another answer is written.
        """
        with self._lock:
            self._marks += 1
            self._forgotten.pop(key, None)  # the newest is the last
            self._forgotten[key] = mark = self._marks
            if len(self._forgotten) > QUEUE:  # only where nothing can be written
                del self._forgotten[next(iter(self._forgotten))]
        self._cast(writer, Entry(key, None, mark))

    def take_waiting(self) -> list[Entry]:
        """What waits, in order, for the writer to write."""
        waiting, taken = self._waiting, []
        with suppress(IndexError):  # the last one was taken back meanwhile
            while waiting:
                taken.append(waiting.popleft())
        return taken

    def write(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        """Commit entries in one transaction; called by the writer, in its thread. Raises what SQLite raises.

        An answer that cannot be written down, of a provider of one's own, is dropped, and the others are kept.
        """
        until = time.time() + self.seconds
        latest = {entry.key: entry for entry in entries}
        rows = []
        for entry in latest.values():
            if entry.response is not None:
                try:
                    rows.append((entry.key, encode(entry.response), until))
                except (ValueError, TypeError, OverflowError):
                    self.drop()
        gone = [(each.key,) for each in latest.values() if each.response is None]
        with connection:
            connection.executemany("INSERT OR REPLACE INTO answers (key, value, expires) VALUES (?, ?, ?)", rows)
            connection.executemany("DELETE FROM answers WHERE key = ?", gone)
        self._written += len(rows)
        with self._lock:
            for entry in entries:  # of one that was forgotten again meanwhile more is to come
                if entry.mark is not None and self._forgotten.get(entry.key) == entry.mark:
                    del self._forgotten[entry.key]

    def connect(self) -> sqlite3.Connection:
        """A connection for the writer, with the tables in place. Raises what SQLite raises."""
        return self._file.connect()

    def sweep(self, connection: sqlite3.Connection) -> int:
        """Delete what has expired; how many that were."""
        with connection:
            return connection.execute("DELETE FROM answers WHERE expires <= ?", (time.time(),)).rowcount

    def drop(self, count: int = 1) -> None:
        """Count writes that were given up."""
        self._dropped += count

    def stats(self) -> DiskStats:
        """One reading of the counts."""
        return DiskStats(self._hits, self._misses, self._written, self._dropped, self._unreadable, self._file.set_aside)

    def close(self) -> None:
        """Close the reading side."""
        with self._lock:
            self._is_open = False
            self._forget_reader()

    def _cast(self, writer: Ref[Any] | None, entry: Entry) -> None:
        if writer is None:
            self.drop()
            return
        self._waiting.append(entry)
        try:
            writer.cast(DiskWriter.keep)
        except (Fenced, MailboxFull, SystemStopped):
            with suppress(ValueError, IndexError):  # it is being written, or among those that are
                self._waiting.remove(entry)
                self.drop()

    def _row(self, key: bytes) -> bytes | None:
        if self._reader is None:
            return None
        row = self._reader.execute("SELECT value, expires FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None or row[1] <= time.time():
            return None
        value: bytes = row[0]
        return value

    def _open_reader(self) -> None:
        """Open the file, if it can be used now. Waits for nobody."""
        self._reader = self._file.open_reader()
        if self._reader is not None:
            self._read = self._file.identity()
            self._openings += 1

    def _failed(self, error: sqlite3.DatabaseError) -> None:
        if isinstance(error, sqlite3.OperationalError):  # busy or full: a miss now, perhaps a hit later
            return
        self._forget_reader()
        self._file.put_aside(str(error), self._read)
        self._open_reader()

    def _forget_reader(self) -> None:
        self._openings += 1  # the writer is to open it again too: else it would go on with a file set aside
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class DiskWriter(Actor):
    """Writes the persistent tier, many entries a commit, in a thread of its own.

    Messages: `keep()`: write soon what waits at the `DiskCache`; `flush()`: do that now; `sweep()`: delete what has
    expired. Its mailbox is bounded: when it is full the sender drops the write and counts it. At its end it writes all
    that waits, also what it has not heard of: an exit comes before the messages that are queued.
    """

    dispatcher = "thread"
    mailbox = QUEUE

    def init(self, disk: DiskCache) -> None:
        self.disk = disk
        self.connection: sqlite3.Connection | None = None
        self.opening = -1
        self.due = False
        self.send_after(0.0, DiskWriter.sweep)
        self.keep()  # what one before this has left

    def keep(self) -> None:
        """Write what waits with the next commit."""
        waiting = self.disk.backlog
        if waiting >= BATCH:
            self.flush()
        elif waiting and not self.due:
            self.due = True
            self.send_after(FLUSH_SECONDS, DiskWriter.flush)

    def flush(self) -> None:
        """Commit what waits. What cannot be written is dropped and counted: calls do not wait for a disk."""
        self.due = False
        entries = self.disk.take_waiting()
        if not entries:
            return
        self._connect()
        if self.connection is None:
            self.disk.drop(len(entries))
            return
        try:
            self.disk.write(self.connection, entries)
        except sqlite3.DatabaseError as error:
            self.disk.drop(len(entries))
            self._disconnect()
            self.disk.broken(error)

    def sweep(self) -> None:
        """Delete what has expired, if the file can be written now: the next start sweeps again."""
        self._connect()
        if self.connection is not None:
            try:
                self.disk.sweep(self.connection)
            except sqlite3.DatabaseError as error:
                self._disconnect()
                self.disk.broken(error)

    def terminate(self, exit: Exit) -> None:
        self.flush()
        self._disconnect()

    def _connect(self) -> None:
        """Be connected to the file that is at the path now, if there is one that can be written."""
        opening = self.disk.refresh()
        if opening != self.opening:
            self._disconnect()
        if self.connection is None:
            try:
                self.connection = self.disk.connect()
                self.opening = opening
            except sqlite3.DatabaseError:
                self.connection = None

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
