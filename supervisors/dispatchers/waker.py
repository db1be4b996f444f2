"""Waking an asyncio loop from other threads, cheaper than `call_soon_threadsafe`: no handle, no socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from io import FileIO

_ONE = (1).to_bytes(8, "little")


class Waker:
    """Has a loop call one function. On Linux through an eventfd that the loop watches.

    Made, armed and closed on the loop's thread. The file object, not a bare number, is what other threads write to:
    after `close` they get ValueError and not somebody else's file.
    """

    __slots__ = ("_buffer", "_file", "_fn", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, fn: Callable[[], object]) -> None:
        self._loop = loop
        self._fn = fn
        self._file: FileIO | None = None
        self._buffer = bytearray(8)
        if hasattr(os, "eventfd"):
            self._file = FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+")
            loop.add_reader(self._file, self._read)

    def knock(self) -> None:
        """Have the function called soon. Any thread. Raises RuntimeError or ValueError when the loop is closed."""
        if self._file is None:
            self._loop.call_soon_threadsafe(self._fn)
        else:
            self._file.write(_ONE)

    def close(self) -> None:
        """Stop watching."""
        if self._file is not None:
            self._loop.remove_reader(self._file)
            self._file.close()

    def _read(self) -> None:
        assert self._file is not None
        self._file.readinto(self._buffer)  # resets the counter
        self._fn()
