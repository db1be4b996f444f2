"""`SqliteFile`: a SQLite file of ours, its manner of opening, and what becomes of one that cannot be used."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

_HEADER = b"SQLite format 3\x00"


class OtherVersion(sqlite3.DatabaseError):
    """The file was written by another release, which may be using it now.

    Whoever has used the path before leaves such a file alone: else two releases that share it, while one takes the
    other's place, would set each other's aside for ever.
    """


class SqliteFile:
    """One file: WAL, `schema` (statements that may run again), and a version in its header.

    `mark` is the application id of its kind, by which a file of another kind is known; 0 for a kind that has none.
    Nothing is opened before `connect`. Safe from any thread.
    """

    def __init__(self, path: Path, schema: Sequence[str], version: int, *, mark: int = 0) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._mark = mark

    def stranger(self) -> str | None:
        """Why the file cannot be one of ours, if it cannot: it must be left alone. `None` also where there is none."""
        if str(self.path) == ":memory:":
            return "SQLite takes that for no file at all, and each connection for another one"
        try:
            return self._strange()
        except (OSError, ValueError) as error:  # a name too long, a file that is not to be read
            return str(error)

    def _strange(self) -> str | None:
        if not self.path.parent.is_dir():
            return "its directory does not exist"
        if not self.path.exists():
            return None
        if not self.path.is_file():
            return "it is no regular file"
        with self.path.open("rb") as file:
            head = file.read(100)
        if head and not head.startswith(_HEADER):
            return "it is some other file"
        found = int.from_bytes(head[68:72], "big")
        is_other = self._mark and len(head) == 100 and found != self._mark and self._is_readable()
        return "it is some other SQLite file" if is_other else None

    def connect(self, timeout: float = 1.0) -> sqlite3.Connection:
        """A connection that writes, with the schema in place. Waits `timeout` seconds for a lock.

        Raises what SQLite raises: `OperationalError` where the file is locked or cannot be written, `OtherVersion`,
        and another `DatabaseError` where it is broken.
        """
        connection = sqlite3.connect(self.path, timeout=timeout, check_same_thread=False)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, self._version):
                msg = f"it is of version {version}, this release writes {self._version}"
                raise OtherVersion(msg)
            if version == 0:  # before there is a log beside the file: `stranger` reads the file alone
                connection.execute(f"PRAGMA application_id={self._mark}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            for statement in self._schema:
                connection.execute(statement)
            if version == 0:
                connection.execute(f"PRAGMA user_version={self._version}")
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def set_aside(self) -> Path:
        """Rename the file, with what belongs to it, so that a new one can take its place; its new name."""
        name = f"{self.path.name}.broken-{int(time.time())}"
        tried = (self.path.with_name(name if number == 0 else f"{name}-{number}") for number in itertools.count())
        aside = next(path for path in tried if not path.exists())
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        return aside

    def identity(self) -> tuple[int, int] | None:
        """Tells the file that is at the path now from one that took its place; `None` where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _is_readable(self) -> bool:
        """Whether the file is a database with something in it: a broken one tells nothing of whose it was."""
        try:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.0)
            try:
                return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
            finally:
                connection.close()
        except sqlite3.OperationalError:  # locked or not to be read, but a database
            return True
        except sqlite3.DatabaseError:
            return False
