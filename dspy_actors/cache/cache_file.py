"""`CacheFile`: which file the answers are kept in, and what becomes of one that cannot be used.

A file that is damaged is renamed, and an empty one takes its place. One of another version belongs to a release that
may be using it now, in a service that is brought up to date or taken back: it is never renamed nor written, for then
the two would take the name from each other for ever, and pay again for all that the other had. This release's answers
go into a file beside it, named after its version; so each finds its own again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from dspy_actors.errors import LMConfigurationError
from dspy_actors.sqlite_file import OtherVersion, SqliteFile
from supervisors.telemetry import Telemetry

SCHEMA_VERSION = 1
MARK = 0x44414361
"""The application id in the header: `DACa`."""

_SCHEMA = ("CREATE TABLE IF NOT EXISTS answers (key BLOB UNIQUE, value BLOB, expires REAL)",)

SET_ASIDE = ("cache", "disk", "set_aside")
"""Event of a file that cannot be used: measurements {}, metadata `path`, `aside`, `reason`. Of one that was renamed
`aside` is the new name, of one of another version the file that is used instead; else, as of a locked one, `path`."""

Told = Callable[[Path, Path, str, bool], object]
"""Hears of a file that is used no more: `path`, `aside`, `reason`, and whether it was renamed, for it was damaged; else
it is left alone, being of another version. Must not block."""


class CacheFile:
    """The file at `path`, or the one beside it; `version` is what this release writes. Not locked.

    `set_aside` counts files that were renamed, `trouble` is what was wrong last. `told` hears of each file that is used
    no more, once.

    Raises `LMConfigurationError` where the directory does not exist or the file is something else.
    """

    def __init__(
        self,
        path: Path,
        *,
        version: int = SCHEMA_VERSION,
        telemetry: Telemetry | None = None,
        told: Told | None = None,
    ) -> None:
        self.set_aside = 0
        self.trouble: str | None = None
        self._version = version
        self._telemetry = telemetry
        self._told = told
        self._last: tuple[Path, Path, str] | None = None
        self._is_beside = False
        self._file = self._at(path)
        strange = self._file.stranger()
        if strange is not None:
            msg = f"cache_path {path} is no cache: {strange}; name another path"
            raise LMConfigurationError(msg)

    @property
    def path(self) -> Path:
        """The file in use."""
        return self._file.path

    def identity(self) -> tuple[int, int] | None:
        """See `SqliteFile.identity`."""
        return self._file.identity()

    def connect(self) -> sqlite3.Connection:
        """A connection that writes, with the tables in place. Raises what SQLite raises."""
        return self._file.connect()

    def open_reader(self) -> sqlite3.Connection | None:
        """A connection that reads, good in any thread; `None` where the file cannot be used now. Waits for nobody.

        A damaged file is set aside first, and one of another version left alone; a locked one is left for later.
        """
        for _ in range(3):
            found = self.identity()
            try:
                self._file.connect(timeout=0.0).close()
                reader = sqlite3.connect(self.path, timeout=0.0, check_same_thread=False, isolation_level=None)
            except sqlite3.OperationalError as error:  # locked or not writable: not the file's fault
                self._report(self.path, self.path, str(error))
                return None
            except OtherVersion as error:
                if not self._stand_beside(str(error)):
                    return None
            except sqlite3.DatabaseError as error:
                self.put_aside(str(error), found)
            else:
                self._last = None
                return reader
        return None

    def put_aside(self, reason: str, found: tuple[int, int] | None) -> None:
        """Rename the damaged file `found`, for a new one to take its place, unless another process has done so."""
        path = self.path
        if found != self.identity():
            return
        try:
            aside = self._file.set_aside()
        except OSError as error:  # not ours to rename, or renamed by another process this very moment
            self._report(path, path, f"{reason}; it cannot be renamed: {error.strerror}")
            return
        self.set_aside += 1
        if self._report(path, aside, reason) and self._told is not None:
            self._told(path, aside, f"it cannot be read: {reason}", True)

    def _stand_beside(self, reason: str) -> bool:
        """Leave the file of another version alone and use one beside it; whether there is one that can be used."""
        path = self.path
        beside = self._at(path.with_name(f"{path.name}.v{self._version}"))
        strange = None if self._is_beside else beside.stranger()
        is_usable = not self._is_beside and strange is None
        if is_usable:
            self._file, self._is_beside = beside, True
        elif strange is not None:  # that one is in the way, and nothing is wrong with the first
            reason = f"{reason}; {beside.path}, which is to be used beside it, is no cache: {strange}; move it away"
        if self._report(path, self.path, reason) and self._told is not None:
            self._told(path, self.path, f"another version of dspy-actors made it: {reason}", False)
        return is_usable

    def _report(self, path: Path, aside: Path, reason: str) -> bool:
        """Tell of what is wrong with a file, once for one thing; whether this was the first time."""
        self.trouble = reason
        last, self._last = self._last, (path, aside, reason)
        if last == self._last:
            return False
        if self._telemetry is not None:
            self._telemetry.execute(SET_ASIDE, {}, {"path": str(path), "aside": str(aside), "reason": reason})
        return True

    def _at(self, path: Path) -> SqliteFile:
        return SqliteFile(path, _SCHEMA, self._version, mark=MARK)
