"""Which actor's code is running here: one context variable, and what the kernel's floors know of an actor.

The variable is set once in the context that each actor owns, so it holds in the actor's handlers, on whatever
thread they run, in the tasks they start and in `asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from contextvars import Context, ContextVar
from typing import Any, Protocol

from supervisors.clock import Clock
from supervisors.errors import Fenced
from supervisors.telemetry import Telemetry


class Home(Protocol):
    """The kernel, as its actors see it."""

    name: str
    clock: Clock
    telemetry: Telemetry
    main_thread_inline: bool
    refuse: BaseException | None
    zombie_cells: dict[Any, None]

    def forget(self, life: Any) -> None:
        """The incarnation is officially dead."""

    def count_late(self, name: str) -> None:
        """The actor `name` answered a caller who had given up."""


class Life(Protocol):
    """One incarnation of an actor, as those see it who wait for it or are called by it."""

    home: Home
    fenced: bool
    depth: int
    waiting: Any
    """The reply this actor's handler blocks on."""
    cur: Any
    """The reply of the message in hand."""
    ctx: Context

    @property
    def name(self) -> str:
        """The actor's name, for messages."""

    @property
    def pending(self) -> Container[Any] | None:
        """Its deferred replies."""

    def watch(self, key: Hashable, tell: Callable[[Any], object]) -> bool:
        """Have `tell` called at the official death; False, and no call, if that has been."""

    def unwatch(self, key: Hashable) -> bool:
        """True if it was watching and will not be told now."""


CURRENT: ContextVar[Life | None] = ContextVar("supervisors_current", default=None)
BESIDE: ContextVar[bool] = ContextVar("supervisors_beside", default=False)
"""True in a task that runs beside the mailbox: its waits do not occupy the actor."""
HOME: ContextVar[Any] = ContextVar("supervisors_home", default=None)
"""The kernel of the system that was entered here."""


def refuse_fenced() -> None:
    """Raise Fenced if the actor whose code runs here is dead: it may have no effect on others any more."""
    me = CURRENT.get()
    if me is not None and me.fenced:
        raise Fenced(me.name)
