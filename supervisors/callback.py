"""`Callback`: who listens to a reply, in the context it was added in."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any


class Callback:
    """Calls `fn(reply)` in `context`. A partial would be three objects for one."""

    __slots__ = ("_context", "_reply", "fn")

    def __init__(self, context: Context, fn: Callable[[Any], object], reply: Any) -> None:
        self._context, self.fn, self._reply = context, fn, reply

    def __call__(self) -> None:
        self._context.run(self.fn, self._reply)
