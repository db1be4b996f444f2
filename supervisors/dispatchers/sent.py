"""`Sent`: a coroutine that was sent to a loop, from then on until its reply is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from supervisors import steps
from supervisors.current import BESIDE
from supervisors.reply import Reply


class Sent:
    """A coroutine with the context that it runs in and the reply that it settles: one object, as there are thousands.

    Called when the reply is settled, by whoever does that. `waiting` has those that have not begun; whoever takes one
    out of there decides what becomes of it. `late` makes the error of one that comes too late to begin.
    """

    __slots__ = ("_coro", "_task", "_waiting", "context", "late", "reply")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        late: Callable[[], BaseException] | None,
        context: Context,
        waiting: dict[Sent, bool],
    ) -> None:
        context.run(BESIDE.set, True)  # an actor that has this done is free meanwhile
        self._coro = coro
        self._task: asyncio.Task[None] | None = None
        self._waiting = waiting
        self.context = context
        self.late = late
        self.reply: Reply[Any] = Reply()
        waiting[self] = True
        self.reply.on_settled(self)

    def begin(self) -> asyncio.Task[None] | None:
        """Run it as a task of this loop; None if it was cancelled before."""
        if not self._waiting.pop(self, False):
            return None
        self.late = None
        if steps.hook is not None:
            steps.hook("sent:taken", self)
        loop = asyncio.get_running_loop()
        task = self._task = loop.create_task(self._settle(), context=self.context)
        if steps.hook is not None:
            steps.hook("sent:begun", self)
        if self.reply.cancelled():  # then look: who cancelled it may have found no task yet
            loop.call_soon(self._cancel)
        return task

    def __call__(self) -> None:
        if self._waiting.pop(self, False):
            self._coro.close()
            return
        task = self._task
        if task is not None and self.reply.cancelled():
            try:  # behind the task's first step: a coroutine that has not begun could not clean up
                task.get_loop().call_soon_threadsafe(self._cancel)
            except RuntimeError:  # the loop is closed, and nothing of it runs
                pass

    def _cancel(self) -> None:
        """On the loop; once, also where both who cancels and who begins has seen that it is to be."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _settle(self) -> None:
        reply = self.reply
        try:
            reply.set(await self._coro)
        except asyncio.CancelledError:
            reply.cancel()
        except BaseException as error:  # as a value: SystemExit must not stop the loop
            reply.fail(error)
