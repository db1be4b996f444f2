"""`CacheManager`: the actor that looks after the memory cache. Reads and writes do not pass through it."""

from __future__ import annotations

from dspy_actors.cache.table import Table, TableStats
from dspy_actors.messages import LMResponse
from supervisors.actor import Actor

SWEEP_SECONDS = 600.0


class CacheManager(Actor):
    """Sweeps expired entries out every ten minutes. The table is published; if this actor dies, no entry is lost.

    Messages: `stats()`: hits, misses, puts, evictions, entries and bytes; `clear()`: forget every entry.
    """

    inline = True

    def init(self, table: Table[bytes, LMResponse]) -> None:
        self.table = table
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def sweep(self) -> None:
        """Drop what has expired, and come back in ten minutes."""
        self.table.sweep()
        self.send_after(SWEEP_SECONDS, CacheManager.sweep)

    def stats(self) -> TableStats:
        """One reading of the table's counts."""
        return self.table.stats()

    def clear(self) -> None:
        """Forget every entry."""
        self.table.clear()
