"""`CacheManager`: the actor that looks after the memory cache. Reads and writes do not pass through it."""

from __future__ import annotations

from dspy_actors.cache.table import TableStats
from dspy_actors.cache.tiers import AnswerCache
from supervisors.actor import Actor

SWEEP_SECONDS = 600.0


class CacheManager(Actor):
    """Sweeps expired entries out every ten minutes. The table is published; if this actor dies, no entry is lost.

    Messages: `stats()`: hits, misses, puts, evictions, entries and bytes; `clear()`: forget every entry.
    """

    inline = True

    def init(self, cache: AnswerCache) -> None:
        self.cache = cache
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def sweep(self) -> None:
        """Drop what has expired, and come back in ten minutes."""
        self.cache.sweep()
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def stats(self) -> TableStats:
        """One reading of the table's counts."""
        return self.cache.table.stats()

    def clear(self) -> None:
        """Forget every entry."""
        self.cache.clear()
