"""Admission: how many requests of one transport are on the wire at once, and in what order the others wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Slots:
    """At most `capacity` holders; the others wait first in, first out. Belongs to one loop's thread, takes no lock."""

    __slots__ = ("_free", "_waiting", "capacity")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            msg = f"connections is {capacity}; it takes at least 1"
            raise ValueError(msg)
        self.capacity = capacity
        self._free = capacity
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def held(self) -> int:
        """How many are held now."""
        return self.capacity - self._free

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot at once, unless none is free or others wait."""
        if self._free and not self._waiting:
            self._free -= 1
            return True
        return False

    async def wait(self) -> None:
        """Wait for a slot. Cancelled while waiting, it holds none."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled():
                self.give_back()  # the slot was handed over in the very turn in which the waiter was cancelled
            raise

    def give_back(self) -> None:
        """Hand the slot to the longest waiting, or keep it free."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
