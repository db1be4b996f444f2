"""The birth of an actor, step by step: made, claimed for a name, tied to its parent, watched from its start on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from supervisors.cell import IGNORE, Cell
from supervisors.errors import ActorDied, AlreadyRegistered, AlreadyStarted, SpecError, StartFailed
from supervisors.exits import Exit, Shutdown
from supervisors.mailbox import Mailbox
from supervisors.reply import Reply


class Name(Protocol):
    """Where an actor is registered before its `init` runs; `Via` is one."""

    def claim(self, ref: Any) -> None:
        """Register `ref`. Raises AlreadyRegistered with the ref of the live holder."""

    @property
    def label(self) -> str:
        """The name for messages."""


def made(cls: type[Any]) -> Cell:
    """The cell of a new actor of this class, which belongs to no kernel yet. Raises StartFailed and SpecError."""
    try:
        actor = cls() if isinstance(cls, type) else None
    except Exception as error:
        raise StartFailed(cls.__name__, error) from error
    cell = getattr(actor, "actor_inbox", None)
    if not isinstance(cell, Cell):
        allowed = "a subclass of supervisors.Actor; what its init takes follows, as in spawn(Counter, 42)"
        raise SpecError("actor class", cls, allowed)
    return cell


def claimed(name: Name, cell: Cell) -> None:
    """The name leads to this actor from now on. Raises AlreadyStarted and StartFailed."""
    cell.label = name.label
    try:
        name.claim(cell.ref)
    except AlreadyRegistered as error:
        raise AlreadyStarted(error.ref) from None
    except ActorDied as error:  # whoever found the name at once has fenced it
        raise StartFailed(cell.name, error) from error


def disowned(cell: Cell) -> None:
    """Nobody is going to run what was made with `own` held; it is no zombie for that."""
    cell.own.release()
    cell.released()


def tied(cell: Cell, owner: Cell) -> None:
    """The actor ends as soon as its owner is dead, with the same exit; where it ends first, the owner forgets it."""

    def owner_died(life: Mailbox) -> None:
        cell.request_exit(life.exit or Shutdown("its parent is dead"))

    if not owner.watch(cell, owner_died):
        owner_died(owner)
    if not cell.watch(owner, lambda _: owner.unwatch(cell)):
        owner.unwatch(cell)


def watched(cell: Cell, started: Reply[Any], on_down: Callable[[Any, Exit], object]) -> None:
    """Have `on_down(ref, exit)` called at the actor's death, once it has started; never for one that has not."""
    started.on_settled(partial(_watch_if_started, cell, started, on_down))


def _watch_if_started(cell: Cell, started: Reply[Any], on_down: Callable[[Any, Exit], object]) -> None:
    if started.exception() is not None or started.take() is IGNORE:
        return
    tell = partial(_say, on_down)
    if not cell.watch(on_down, tell):
        cell.tell(tell)


def _say(on_down: Callable[[Any, Exit], object], life: Mailbox) -> None:
    if life.exit is not None:
        on_down(life.ref, life.exit)
