"""The memory cache: least recently used goes first, old entries die, bounded by entries and by bytes.

A plain object with a lock, because a hit must not cost a message. Nobody waits for anybody under the lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dspy_actors.messages import LMResponse
from supervisors.clock import Clock
from supervisors.published_lock import PublishedLock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TableStats:
    """Counts since the table was made, and what it holds now. `bytes` is the sum of the sizes given to `put`."""

    hits: int
    misses: int
    puts: int
    evictions: int
    expired: int
    refused: int
    uncacheable: int
    entries: int
    bytes: int


class Table(Generic[K, V]):
    """At most `max_entries` and `max_bytes`, each entry for `ttl` seconds of `clock`. Safe from any thread.

    A value larger than a quarter of `max_bytes` is refused: one entry must not drive out all others.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        ttl: float | None = 1800.0,
    ) -> None:
        if max_entries < 1 or max_bytes < 1 or (ttl is not None and ttl <= 0):
            msg = f"a cache needs room and time: max_entries={max_entries}, max_bytes={max_bytes}, ttl={ttl}"
            raise ValueError(msg)
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._lock = PublishedLock()
        self._entries: OrderedDict[K, tuple[V, int, float]] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = self._puts = 0
        self._evictions = self._expired = self._refused = self._uncacheable = 0

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recently used, or `None`."""
        now = self._clock.now()
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self._misses += 1
                return None
            if found[2] <= now:
                self._drop(key)
                self._expired += 1
                self._misses += 1
                return None
            self._entries.move_to_end(key)
            self._hits += 1
            return found[0]

    def peek(self, key: K) -> V | None:
        """The value or `None`, for whoever has asked before: it counts as no use and as no miss."""
        with self._lock:
            found = self._entries.get(key)
            return None if found is None or found[2] <= self._clock.now() else found[0]

    def put(self, key: K, value: V, size: int, *, ttl: float | None = None) -> bool:
        """Keep `value`, which weighs `size` bytes, for `ttl` seconds (`None`: the table's); whether it was kept."""
        life = self._ttl if ttl is None else ttl
        until = float("inf") if life is None else self._clock.now() + life
        with self._lock:
            if size * 4 > self._max_bytes:
                self._refused += 1
                return False
            if key in self._entries:
                self._drop(key)
            self._entries[key] = (value, size, until)
            self._bytes += size
            self._puts += 1
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))
                self._evictions += 1
            return True

    def delete(self, key: K) -> bool:
        """Forget one key; whether it was there."""
        with self._lock:
            there = key in self._entries
            if there:
                self._drop(key)
            return there

    def clear(self) -> None:
        """Forget everything; the counts stay."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def sweep(self) -> int:
        """Forget what has expired; how many that were. Takes a time linear in the entries."""
        now = self._clock.now()
        with self._lock:
            old = [key for key, (_, _, until) in self._entries.items() if until <= now]
            for key in old:
                self._drop(key)
            self._expired += len(old)
            return len(old)

    def note_uncacheable(self) -> None:
        """Count a request that has no key."""
        with self._lock:
            self._uncacheable += 1

    def stats(self) -> TableStats:
        """A consistent reading of the counts."""
        with self._lock:
            return TableStats(
                self._hits,
                self._misses,
                self._puts,
                self._evictions,
                self._expired,
                self._refused,
                self._uncacheable,
                len(self._entries),
                self._bytes,
            )

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: K) -> None:
        self._bytes -= self._entries.pop(key)[1]


def size_of(response: LMResponse) -> int:
    """Bytes that a kept response takes, roughly: its text at its widest character plus a fixed part."""
    size = 400
    for text in response.texts:
        size += 60 + (len(text) if text.isascii() else 4 * len(text))
    for calls in response.tool_calls:
        size += 60 + sum(250 + 4 * len(call.arguments) for call in calls)
    return size


def is_cacheable(response: LMResponse) -> bool:
    """Whether the answer is whole: one that was cut off is not what the model would say again."""
    return response.truncated is None
