"""`Servers`: what the model servers close by were last seen to be, published for whoever wants to look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

KEPT = 1000
"""So many servers are remembered; of more, those seen least lately are forgotten. A base URL may be a request's own."""

Seen: TypeAlias = Literal["ready", "loading", "unreachable"]


class Servers:
    """The last sight of every local server, by endpoint. Written on the io loop, read from any thread.

    A server that nobody has asked yet is not in it; `now` is a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[Seen, float]] = {}

    def note(self, endpoint: str, seen: Seen) -> None:
        """The server at `endpoint` was seen to be so now."""
        self._seen[endpoint] = (seen, self._now())
        if len(self._seen) > KEPT:
            del self._seen[min(self._seen, key=lambda name: self._seen[name][1])]

    def state(self, endpoint: str) -> Seen | None:
        """What the server was last seen to be; `None` where nobody has asked it."""
        found = self._seen.get(endpoint)
        return None if found is None else found[0]

    def snapshot(self) -> dict[str, dict[str, object]]:
        """By endpoint: `state`, and `seconds_ago` it was seen."""
        now = self._now()
        return {
            endpoint: {"state": seen, "seconds_ago": round(now - at, 3)}
            for endpoint, (seen, at) in list(self._seen.items())
        }
