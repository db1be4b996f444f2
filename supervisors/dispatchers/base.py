"""What a dispatcher is, and what it sees of an actor."""

from __future__ import annotations

from _thread import LockType
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

BUDGET = 64
"""Messages an actor may handle before the others of its dispatcher get a turn."""


class Runnable(Protocol):
    """One incarnation of an actor, as its dispatcher sees it."""

    own: LockType
    ctx: Context
    sched: bool
    fenced: bool
    dead: bool
    depth: int
    host: Any
    work: Any

    @property
    def name(self) -> str:
        """The actor's name."""

    def activate(self, budget: int = BUDGET, host: Any = None) -> bool:
        """Handle messages in this thread, that of the pool's worker `host`. True if there is more to do."""

    def drain(self, budget: int) -> Coroutine[Any, Any, None] | None:
        """Handle messages; owner only, inside `ctx`. A coroutine is to be awaited before the next message."""

    def released(self) -> bool:
        """To be called after `own` was released: look at the queue again. True if there is more to do."""

    def fence(self) -> None:
        """Declare the actor dead although its code may still be running."""

    def began(self) -> None:
        """To be called after `work` was set: look again for a fence or an exit that found nothing to cancel."""

    def interrupt(self) -> None:
        """Cancel what runs on a loop for this actor."""


class Dispatcher(Protocol):
    """Runs actors. Every method may be called from any thread."""

    name: str
    is_loop: bool

    def submit(self, cell: Runnable) -> None:
        """Have `cell` activated soon. Submitting twice is harmless."""

    def attach(self, cell: Runnable) -> None:
        """A new actor will be run here. Raises SystemStopped after `stop`."""

    def detach(self, cell: Runnable) -> None:
        """The actor is officially dead."""

    def abandon(self, cell: Runnable) -> None:
        """The actor was fenced while its code was running: do without that thread, or cancel what can be."""

    def stop(self, timeout: float) -> bool:
        """End the threads; True if all of them did within `timeout` seconds."""
