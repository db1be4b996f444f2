"""`AnswerCache`: the memory table in front of the persistent tier, and a short memory of refused requests."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict
from typing import TYPE_CHECKING

from dspy_actors.cache.table import Table, is_cacheable, size_of
from dspy_actors.cache.watched import HIT, MISS
from dspy_actors.error_root import remembered
from dspy_actors.errors import LMError, LMInvalidRequestError, LMUnsupportedModelError
from dspy_actors.messages import LMResponse
from supervisors.registry import Registry
from supervisors.telemetry import Telemetry

if TYPE_CHECKING:  # SQLite is loaded with the first runtime that names a file
    from dspy_actors.cache.disk import DiskCache

NEGATIVE_SECONDS = 30.0
"""How long a request that the provider called invalid is refused without asking again."""

TABLE = "lm_response"
"""What this cache is called in events, beside `module_result` and `evaluation`."""

DISK_WRITER = "cache writer"

_INVALID = (LMInvalidRequestError, LMUnsupportedModelError)


class AnswerCache:
    """Answers by key, from memory, then from disk. Safe from any thread; never blocks on a message.

    A request that was refused as invalid, whose text no retry can mend, is refused again for half a minute: a
    thousand equal bad requests cost one. Not so for another key (`whose`): its account may have the model that this one
    has not. Rate limits, server errors and timeouts are never remembered.
    """

    def __init__(
        self,
        table: Table[bytes, LMResponse],
        refusals: Table[tuple[bytes, Hashable], LMError],
        disk: DiskCache | None,
        registry: Registry,
        telemetry: Telemetry,
    ) -> None:
        self.table = table
        self.disk = disk
        self._refusals = refusals
        self._registry = registry
        self._telemetry = telemetry

    def get(self, key: bytes, whose: Hashable = None) -> LMResponse | None:
        """The answer, or `None`. Raises a copy, marked as remembered, of a refusal that is known.

        `whose` is what that was asked with: an API key.
        """
        found = self.table.get(key)
        tier = "memory"
        if found is None and self.disk is not None:
            found = self.disk.get(key)
            tier = "disk"
            if found is not None:
                self.table.put(key, found, size_of(found))
        if found is not None:
            self._tell(HIT, {"tier": tier})
            return found
        refusal = self._refusals.get((key, whose))
        if refusal is not None:
            self._tell(HIT, {"tier": "negative"})
            fresh = refusal.fresh()
            assert isinstance(fresh, LMError)
            raise remembered(fresh)
        self._tell(MISS, {})
        return None

    def peek(self, key: bytes) -> LMResponse | None:
        """The answer, if it is in memory; tells nobody."""
        return self.table.peek(key)

    def keep(self, key: bytes, response: LMResponse) -> None:
        """Keep an answer, unless it was cut short or filtered."""
        if not is_cacheable(response):
            return
        self.table.put(key, response, size_of(response))
        if self.disk is not None:
            self.disk.file(self._registry.whereis(DISK_WRITER), key, response)

    def forget(self, key: bytes, response: LMResponse) -> None:
        """Forget an answer that is of no use: the next equal call asks the model. A newer, other one stays."""
        kept = self.table.peek(key)
        if kept is not None and kept != response:
            return
        if self.disk is not None:  # first: what memory does not have is looked for there
            self.disk.forget(self._registry.whereis(DISK_WRITER), key)
        self.table.delete(key)

    def disk_reading(self) -> dict[str, object] | None:
        """The counts of the file in use, which `path` names, and how many writes wait in `backlog`; `None` without one.

        `trouble` says what was wrong last with a file, now or before: locked, damaged, of another version.
        """
        if self.disk is None:
            return None
        disk = self.disk
        file = {"path": str(disk.path), "usable": disk.usable, "trouble": disk.trouble}
        return {**asdict(disk.stats()), **file, "backlog": disk.backlog}

    def refuse(self, key: bytes, error: BaseException, whose: Hashable = None) -> None:
        """Remember that the provider called the request invalid, as far as `whose` account goes."""
        if isinstance(error, _INVALID) and isinstance(error, LMError):
            self._refusals.put((key, whose), error, 512, ttl=NEGATIVE_SECONDS)

    def sweep(self) -> None:
        """Drop what has expired from memory."""
        self.table.sweep()
        self._refusals.sweep()

    def clear(self) -> None:
        """Forget everything in memory."""
        self.table.clear()
        self._refusals.clear()

    def _tell(self, event: tuple[str, ...], metadata: dict[str, object]) -> None:
        if self._telemetry.attached(event):
            self._telemetry.execute(event, {}, {"table": TABLE, **metadata})
