"""Tasks kept ready: a coroutine's first step runs at once, in the name of one of them, and most have no second step.

To make a task for every message of a kind `async def echo(self, x): return x` costs more than the message. So a loop
keeps a few tasks that wait. The coroutine's first step is run as one of them (`asyncio.current_task()` says so). If it
waits for something there, that task takes it over and carries on; so it is the same task from the first step to the
last, as timeouts, task groups and cancel scopes need it. If it is done, the task goes on waiting for the next.

Everything here runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any

from supervisors.tracebacks import unseen

KEEP = 4
"""Tasks that wait for work on one loop, at most."""


class Shell:
    """A task without a coroutine of its own."""

    __slots__ = ("_idle", "_loop", "_work", "go", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[Shell]) -> None:
        self._loop, self._idle = loop, idle
        self._work: tuple[Coroutine[Any, Any, None], Context] | None = None
        self.go: asyncio.Future[None] = loop.create_future()
        self.task = loop.create_task(self._live())

    def carry_on(self, coro: Coroutine[Any, Any, None], context: Context) -> None:
        """Run the rest, which `coro` is, from the loop's next turn on, each step in `context`."""
        self._work = (coro, context)
        if not self.go.done():
            self.go.set_result(None)

    async def _live(self) -> None:
        is_cancelled = False
        while not is_cancelled and len(self._idle) < KEEP:
            self._idle.append(self)
            try:
                await self.go
            except asyncio.CancelledError:
                if self._work is None:
                    raise
                is_cancelled = True  # meant for what it takes over
            work, self._work = self._work, None
            assert work is not None
            await _in_context(*work, is_cancelled)
            is_cancelled = is_cancelled or self.task.cancelling() > 0
            self.go = self._loop.create_future()


class Shells:
    """The waiting tasks of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[Shell] = []

    def lend(self) -> Shell | None:
        """One that waits. None if there is none: the next time there is."""
        while self._idle:
            shell = self._idle.pop()
            if not shell.go.done():  # else somebody cancelled it, and it is about to end
                return shell
        Shell(self._loop, self._idle)
        return None

    def take_back(self, shell: Shell) -> None:
        """What it was lent for is done."""
        self._idle.append(shell)


@unseen
@coroutine
def rest(coro: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """As `await coro`, whose first step was run and waits for `awaited`."""
    while True:
        try:
            yield awaited
        except BaseException as error:
            try:
                awaited = coro.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            return (yield from coro)


@coroutine
def _in_context(coro: Coroutine[Any, Any, None], context: Context, is_cancelled: bool) -> Generator[Any, Any, None]:
    """As `await coro`, with each of its steps in `context`. With `is_cancelled` it is cancelled where it waits."""
    step: Callable[[Any], Any] = coro.send
    argument: BaseException | None = None
    while True:
        try:
            awaited = context.run(step, argument)
        except StopIteration:
            return
        step, argument = coro.send, None
        if is_cancelled:  # as a task does it: what it waits for is cancelled, and if that is nothing, it itself
            is_cancelled = False
            if awaited is None or not awaited.cancel():
                step, argument = coro.throw, asyncio.CancelledError()
                continue
        try:
            yield awaited
        except BaseException as error:
            step, argument = coro.throw, error
