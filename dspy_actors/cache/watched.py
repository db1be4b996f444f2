"""`WatchedTable`: a memory table that tells the telemetry of its hits and misses."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from dspy_actors.cache.table import Table
from supervisors.clock import Clock
from supervisors.telemetry import Telemetry

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

HIT = ("cache", "hit")
"""Event of an answer from a cache: measurements {}, metadata `table` (`lm_response`, `module_result`, `evaluation`) and
`tier` (`memory`, `disk`, `negative`)."""

MISS = ("cache", "miss")
"""Event of what no cache knew: measurements {}, metadata `table`."""


class WatchedTable(Table[K, V]):
    """A `Table` of a name. Safe from any thread; events are told outside its lock, in the thread that looks."""

    def __init__(self, clock: Clock, telemetry: Telemetry, name: str, **bounds: Any) -> None:
        super().__init__(clock, **bounds)
        self.name = name
        self._telemetry = telemetry

    def get(self, key: K) -> V | None:
        """See `Table.get`."""
        found = super().get(key)
        event = MISS if found is None else HIT
        if self._telemetry.attached(event):
            tier = {} if found is None else {"tier": "memory"}
            self._telemetry.execute(event, {}, {"table": self.name, **tier})
        return found
