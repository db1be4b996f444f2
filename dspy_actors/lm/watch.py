"""`Watch`: one limit on how long a task may wait, by the runtime's clock."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self

from supervisors.clock import Clock, Timer


class Watch:
    """`async with` it around the waiting. A limit that passes cancels the waiting and comes out as `TimeoutError`.

    Lives on one loop; the clock may tell the time on any thread.
    """

    __slots__ = ("_clock", "_loop", "_scope", "_timer", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._timer: Timer | None = None
        self._until = math.inf

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()
        await self._scope.__aexit__(kind, error, trace)

    @property
    def is_on(self) -> bool:
        """Whether a limit is set."""
        return self._until < math.inf

    @property
    def expired(self) -> bool:
        """Whether a limit has passed."""
        return self._scope.expired()

    def within(self, seconds: float) -> None:
        """From now on the task may wait for so long; takes the place of the limit before."""
        self.lift()
        self._until = self._clock.now() + seconds
        self._timer = self._clock.call_at(self._until, self._rings)

    def lift(self) -> None:
        """There is no limit any more."""
        self._until = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rings(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:  # the loop has ended, and what waited on it
            pass

    def _look(self) -> None:
        if self._clock.now() >= self._until and not self._scope.expired():
            self._scope.reschedule(self._loop.time())
