"""`Outbox`: readers are woken together, once a loop has read from all of its sockets."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Any

from dspy_actors.channel import Channel


class Outbox:
    """The channels of one loop whose readers wait for what was put into them. Used on the loop's thread only.

    A reader that is woken wants the interpreter at once. Woken in the middle of a turn, it takes it from a loop that
    has the sockets of hundreds of streams to read, and gives it back after one piece: most of the processor's time is
    then spent on changing hands.
    """

    __slots__ = ("_channels", "_loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._channels: list[Channel[Any]] = []

    def add(self, channel: Channel[Any]) -> None:
        """Wake the reader of `channel` when this turn of the loop is over."""
        if not self._channels:
            self._loop.call_soon(self._deliver)
        self._channels.append(channel)

    def _deliver(self) -> None:
        channels, self._channels = self._channels, []
        for channel in channels:
            channel.deliver()
