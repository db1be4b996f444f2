"""`Waits`: who waits for a rate limit or a program's place, by tenant."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from supervisors.published_lock import PublishedLock

KEPT = 1000
"""So many tenants are remembered, and all of whom a call waits now; of more, those that waited longest ago are not."""


class _Tenant:
    __slots__ = ("now", "seconds", "waited")

    def __init__(self) -> None:
        self.now: dict[object, float] = {}
        """Since when each call waits, the oldest first."""
        self.waited = 0
        self.seconds = 0.0


class Waits:
    """Counts calls that wait for others, and that have waited, whatever came of it. Published. Safe from any thread.

    One that finds room at once is not counted and costs nothing here; one that waits twice is counted twice.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = PublishedLock()
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def begin(self, tenant: str) -> Callable[[], None]:
        """A call of `tenant` waits from now on; what it returns is called when it does not any more."""
        with self._lock:
            found = self._tenants.get(tenant)
            if found is None:
                self._make_room()
                found = self._tenants[tenant] = _Tenant()
            self._tenants.move_to_end(tenant)
            wait = object()
            found.now[wait] = self._now()
        return lambda: self._end(found, wait)

    def reading(self) -> dict[str, dict[str, float | int]]:
        """By tenant: how many calls are `waiting`, for how many seconds the `oldest`; how many have `waited`, and for
        how many `waited_seconds` in all.
        """
        with self._lock:
            now = self._now()
            return {
                name: {
                    "waiting": len(each.now),
                    "oldest_seconds": now - next(iter(each.now.values()), now),
                    "waited": each.waited,
                    "waited_seconds": each.seconds,
                }
                for name, each in list(self._tenants.items())
            }

    def _end(self, tenant: _Tenant, wait: object) -> None:
        with self._lock:
            took = self._now() - tenant.now.pop(wait)
            tenant.waited += 1
            tenant.seconds += took

    def _make_room(self) -> None:
        if len(self._tenants) >= KEPT:
            oldest = next((name for name, each in self._tenants.items() if not each.now), None)
            if oldest is not None:
                del self._tenants[oldest]
