"""The caller's deadline: an absolute time that calls respect without being told.

A context variable, so it follows `await` and `asyncio.to_thread`, and stays out of other tasks. An actor
begins with none: the deadline belongs to the caller who waits, not to the one who works.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEADLINE: ContextVar[float | None] = ContextVar("supervisors_deadline", default=None)

current_deadline = _DEADLINE.get
"""Seconds on the clock of the system the caller talks to (monotonic), or None."""


@contextmanager
def deadline_at(when: float | None) -> Iterator[float | None]:
    """Let every call in the block end by `when`, seconds of the system's clock. An earlier outer deadline stays."""
    outer = _DEADLINE.get()
    inner = when if outer is None else outer if when is None else min(outer, when)
    token = _DEADLINE.set(inner)
    try:
        yield inner
    finally:
        _DEADLINE.reset(token)
