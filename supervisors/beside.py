"""The tasks that an actor has started beside its mailbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar

from supervisors.current import BESIDE, CURRENT, Life
from supervisors.exits import Crash, Exit

T = TypeVar("T")


class Starter(Life, Protocol):
    """Who starts them."""

    def request_exit(self, exit: Exit) -> None:
        """End at the next message boundary."""


class Tasks(dict[asyncio.Task[Any], None]):
    """Those of one actor that run. Of these there are thousands at once, so they share what can be shared."""

    __slots__ = ("_cell", "_context", "_when_ended")

    def __init__(self, cell: Starter) -> None:
        self._cell = cell
        self._when_ended: Callable[[asyncio.Task[Any]], None] = self._ended
        self._context = Context()
        self._context.run(CURRENT.set, cell)
        self._context.run(BESIDE.set, True)

    def start(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `coro` on the loop of this thread, in a copy of the actor's context."""
        if len(self._cell.ctx) == 1:  # there is only CURRENT in it
            context = self._context.copy()
        else:
            context = self._cell.ctx.copy()
            context.run(BESIDE.set, True)
        loop = asyncio.get_running_loop()
        task = loop.create_task(coro, context=context)
        self[task] = None
        task.add_done_callback(self._when_ended, context=context)
        if self._cell.fenced:  # look again: whoever fenced it may have found no task; this one begins, to clean up
            loop.call_soon(task.cancel)
        return task

    def over(self, task: asyncio.Task[Any]) -> None:
        """`task`, which runs now, is about to return, and has nothing to say: its end takes no turn of the loop."""
        if self.pop(task, self) is None:
            task.remove_done_callback(self._when_ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """What it raised ends the actor, as in a handler."""
        self.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._cell.request_exit(Crash(error))
