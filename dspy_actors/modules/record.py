"""`Record` and `Versions`: the parameters a module instance runs with, immutable and numbered."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dspy_actors.modules.module import Module


@dataclass(frozen=True, slots=True)
class Record:
    """One version of a program. The module in it is a private copy that nobody changes."""

    version: int
    module: Module


class Versions:
    """The versions of one started program, published outside its actor so that a restart finds the active one.

    Safe from any thread. A call keeps the record it began with.
    """

    __slots__ = ("_lock", "_records", "active")

    def __init__(self, module: Module) -> None:
        self._lock = threading.Lock()
        self.active = Record(1, module)
        self._records = {1: self.active}

    def add(self, module: Module) -> Record:
        """Store `module` as the next version, without activating it."""
        with self._lock:
            made = Record(len(self._records) + 1, module)
            self._records[made.version] = made
            return made

    def activate(self, version: int) -> Record:
        """Make `version` the one that new calls run; raises `KeyError` for one that was never added."""
        with self._lock:
            self.active = self._records[version]
            return self.active
