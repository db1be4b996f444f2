"""`CacheManager`: the actor that looks after the memory cache. Reads and writes do not pass through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspy_actors.cache.table import Table, TableStats
from dspy_actors.cache.tiers import AnswerCache
from supervisors.actor import Actor

SWEEP_SECONDS = 600.0


class CacheManager(Actor):
    """Sweeps expired entries out every ten minutes. The tables are published; if this actor dies, no entry is lost.

    Messages: `stats()`: hits, misses, puts, evictions, entries and bytes of the models' answers; `clear()`: forget all
    that is kept.
    """

    inline = True

    def init(self, cache: AnswerCache, beside: Sequence[Table[Any, Any]] = ()) -> None:
        self.cache = cache
        self.beside = beside
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def sweep(self) -> None:
        """Drop what has expired, and come back in ten minutes."""
        self.cache.sweep()
        for table in self.beside:
            table.sweep()
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def stats(self) -> TableStats:
        """One reading of the table's counts."""
        return self.cache.table.stats()

    def clear(self) -> None:
        """Forget every answer, result and score in memory."""
        self.cache.clear()
        for table in self.beside:
            table.clear()
