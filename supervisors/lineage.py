"""Who started an actor, who waits for it, and on whose behalf it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

from supervisors.current import Life
from supervisors.errors import StopFromBelow

MAX_LINEAGE = 64
"""Ancestors that are remembered: an actor that starts its successor, and so on for ever, must not fill the memory."""
MANY = 32
"""Callers that are looked for and named."""

CALLERS: ContextVar[tuple[str, ...]] = ContextVar("supervisors_callers", default=())
"""On whose behalf this runs, nearest first: set for tasks. OTP's `$callers`."""


class Ancestor:
    """An actor as those remember it that it started: one object for all of them. Keeps nobody alive."""

    __slots__ = ("above", "depth", "incarnation", "name")

    def __init__(self, name: str, incarnation: int, above: Ancestor | None) -> None:
        self.name, self.incarnation = name, incarnation
        self.above: Ancestor | None = above if above is None or above.depth < MAX_LINEAGE else None
        self.depth: int = 1 if self.above is None else self.above.depth + 1

    def __iter__(self) -> Iterator[Ancestor]:
        """This one first, the oldest last."""
        here: Ancestor | None = self
        while here is not None:
            yield here
            here = here.above


class Descendant(Life, Protocol):
    """A life with its ancestors."""

    incarnation: int
    above: Ancestor | None


def ancestors(life: Descendant) -> list[str]:
    """Who started it, nearest first."""
    return [each.name for each in life.above or ()]


def is_below(life: Descendant, top: Descendant) -> bool:
    """Whether `life` is `top`, or was started by it, or by one who was."""
    return life is top or any(each.incarnation == top.incarnation for each in life.above or ())


def waiting_for(life: Life) -> Iterator[Life]:
    """The actors that wait for what `life` is handling, nearest first."""
    for _ in range(MANY):
        caller = getattr(life.cur, "_caller", None)
        if caller is None:
            return
        life = caller
        yield life


def callers(life: Life) -> list[str]:
    """The names of those that wait for it; of a task, also those on whose behalf it runs."""
    if getattr(life.cur, "_caller", None) is None:  # asked at every crash, of which most have no caller
        return [*life.ctx.get(CALLERS, ())]
    found = list(waiting_for(life))
    return [*(each.name for each in found), *found[-1].ctx.get(CALLERS, ())]


def refuse_from_below(asker: Life | None, target: Descendant) -> None:
    """Raise StopFromBelow if whoever asks for the end of `target`, or waits for him who asks, belongs to it."""
    if asker is None:
        return
    for life in (asker, *waiting_for(asker)):
        if is_below(life, target):  # type: ignore[arg-type]  # every life is one
            raise StopFromBelow((life.name, target.name))
