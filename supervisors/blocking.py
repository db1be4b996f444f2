"""Managed blocking: a pool's thread says so before it waits, and the pool makes up for it with another thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Protocol


class Blocker(Protocol):
    """Who makes up for a thread that waits."""

    def block_enter(self) -> None:
        """The calling thread is about to wait."""

    def block_exit(self) -> None:
        """The calling thread goes on."""


BLOCKERS: dict[int, Blocker] = {}
"""The pool of a thread, by thread id. Threads enter and remove themselves."""


@contextmanager
def blocking() -> Iterator[None]:
    """Say that the block waits for something outside of this package: a socket, a lock, a sleep.

    On a pool's thread the pool starts another thread at once where it is needed; elsewhere it does nothing.
    Waiting for a `Reply` does this by itself.
    """
    blocker = BLOCKERS.get(get_ident())
    if blocker is None:
        yield
        return
    blocker.block_enter()
    try:
        yield
    finally:
        blocker.block_exit()
