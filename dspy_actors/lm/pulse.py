"""`Pulse`: how late a loop is. Its beat says what it saw; silence says the rest."""

from __future__ import annotations

import asyncio
import time

INTERVAL = 0.5
"""Seconds between two beats: two wake-ups a second are what watching a loop costs."""


class Pulse:
    """The lag of one event loop, published: written on the loop, read from any thread."""

    __slots__ = ("_last", "_late", "worst")

    def __init__(self) -> None:
        self._last: float | None = None
        self._late = 0.0
        self.worst = 0.0

    def begin(self) -> None:
        """The loop runs from now on; its first beat is on the way."""
        self._last = time.monotonic()
        self._late = 0.0

    async def beat(self) -> None:
        """Runs on the loop until it is cancelled."""
        try:
            while True:
                began = time.monotonic()
                self._last = began
                await asyncio.sleep(INTERVAL)
                self._late = max(0.0, time.monotonic() - began - INTERVAL)
                self.worst = max(self.worst, self._late)
        finally:
            self._last = None

    def lag(self) -> float | None:
        """Seconds that the loop is late now: what the last beat saw, or how long the next is overdue.

        `None` where the loop does not run.
        """
        last = self._last
        if last is None:
            return None
        return max(self._late, time.monotonic() - last - INTERVAL, 0.0)
