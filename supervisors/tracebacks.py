"""Tracebacks of exception objects that are raised more than once.

Python adds to the traceback of an exception whenever it is raised. One that is kept, in a module or a cache, and that
an actor crashes with again and again, would name more frames with each crash, and keep alive what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

WAYS = 3
"""How many ways a traceback names, the newest first: an error that is passed on from actor to actor has several."""

_CATCHERS: set[CodeType] = set()  # the functions that call this
_UNSEEN: set[CodeType] = set()


def unseen(function: F) -> F:
    """Mark a function by which the kernel calls a handler: no traceback of a crash names it."""
    if isinstance(function, FunctionType):
        _UNSEEN.add(function.__code__)
    return function


def without_repeats(error: BaseException) -> BaseException:
    """`error`, which the calling function has just caught, with the last ways on which it came to such a function,
    each once."""
    head = error.__traceback__
    if head is not None:
        _CATCHERS.add(head.tb_frame.f_code)
        tb = head.tb_next
        while tb is not None and tb.tb_frame.f_code in _UNSEEN:
            tb = head.tb_next = tb.tb_next
        while tb is not None:
            if tb.tb_frame.f_code in _CATCHERS:
                _link(head)
                break
            tb = tb.tb_next
    return error


def _link(head: TracebackType) -> None:
    """Leave out each part of the traceback that is as a newer one, and the oldest beyond `WAYS`."""
    seen: set[tuple[tuple[CodeType, int], ...]] = set()
    end: TracebackType | None = None
    for part in list(_parts(head)):
        way = tuple((tb.tb_frame.f_code, tb.tb_lasti) for tb in part)
        if way not in seen and len(seen) < WAYS:
            seen.add(way)
            if end is not None:
                end.tb_next = part[0]
            end = part[-1]
    if end is not None:
        end.tb_next = None


def _parts(head: TracebackType) -> Iterator[list[TracebackType]]:
    """From one catching function to the next."""
    part, tb = [head], head.tb_next
    while tb is not None:
        if tb.tb_frame.f_code in _CATCHERS:
            yield part
            part = []
        part.append(tb)
        tb = tb.tb_next
    yield part
