"""`Ending`: how an actor comes to its end: asked to, cancelled on its loop, or in an error.

The end itself, which comes once and may come from any thread, is `Mailbox.finish`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from supervisors.beside import Tasks
from supervisors.errors import CallTimeout, check_exit
from supervisors.exits import Crash, Exit
from supervisors.mailbox import Mailbox
from supervisors.reply import Reply
from supervisors.tracebacks import without_repeats

GRACE = 5.0
"""Seconds that an ended actor's cancelled tasks have to clean up before the death is announced without them."""


class ExitRequest:
    """Somebody wants the actor to end. `own` when it said so itself, while handling a message."""

    __slots__ = ("exit", "own")

    def __init__(self, exit: Exit, own: bool) -> None:
        self.exit, self.own = exit, own


class Ending(Mailbox):
    """A mailbox whose actor can be brought to its end."""

    __slots__ = ("awaiting", "has_coroutines", "tasks")

    def __init__(self) -> None:
        super().__init__()
        self.has_coroutines = False
        self.tasks: Tasks | None = None
        self.awaiting = False  # `work` is inside of a coroutine handler

    def request_exit(self, exit: Exit, own: bool = False) -> None:
        """End at the next message boundary; a coroutine handler is cancelled to get there. Raises SpecError."""
        check_exit(exit)
        self.post_first(ExitRequest(exit, own))
        if self.work is not None and not own:
            self._on_loop(self._cancel_handler)

    def began(self) -> None:
        """Its task is there now; a fence or an exit of the moment before looked for one in vain."""
        if self.dead:
            self.interrupt()
        elif self.sysq and any(type(each) is ExitRequest and not each.own for each in list(self.sysq)):
            self._on_loop(self._cancel_handler)

    def interrupt(self) -> None:
        """Cancel everything that runs on a loop for this actor, whatever it is at."""
        self._on_loop(self._cancel_all)

    def _on_loop(self, fn: Callable[[], None]) -> None:
        work = self.work or next(iter(tuple(self.tasks or ())), None)  # of a copy: they come and go in their thread
        if work is not None:
            try:
                work.get_loop().call_soon_threadsafe(fn)
            except RuntimeError:  # the loop is closed, and its tasks with it
                pass

    def _cancel_handler(self) -> None:
        if self.awaiting and self.work is not None:
            self.work.cancel()

    def _cancel_all(self) -> None:
        for task in (self.work, *(self.tasks or ())):
            if task is not None:
                task.cancel()

    def _stops_itself(self) -> bool:
        for each in list(self.sysq or ()):  # noqa: SIM110 - a restart on the pool comes by here
            if type(each) is ExitRequest and each.own:
                return True
        return False

    def _requested_exit(self) -> Exit | None:
        found = [each for each in list(self.sysq or ()) if type(each) is ExitRequest]
        return next((each.exit for each in found if each.own), found[0].exit if found else None)

    def die(self, exit: Exit, last: Reply[Any] | None) -> Coroutine[Any, Any, None] | None:
        """The owner ends the actor: terminate, then finish. On a loop with tasks this is a coroutine to await."""
        if self.dead:  # fenced meanwhile
            return None
        if not self.started:  # init failed: there is nothing to terminate
            self.finish(exit, last)
            self.interrupt()  # but perhaps a task that it had started
            return None
        self.started = False  # terminate runs once, whatever happens in it
        if self.tasks or (self.has_coroutines and inspect.iscoroutinefunction(self.kind.terminate)):
            return self._die_on_loop(exit, last)
        try:
            self.actor.terminate(exit)
        except BaseException as error:  # a failing end is still an end, with another reason
            exit = Crash(without_repeats(error))  # noqa: A001
        self.finish(exit, last, is_owner=True)
        return None

    async def _die_on_loop(self, exit: Exit, last: Reply[Any] | None) -> None:
        try:
            tasks = list(self.tasks or ())
            for task in tasks:
                task.cancel()
            if tasks:
                await self._until_gone(tasks)
            ended = self.actor.terminate(exit)
            if type(ended) is CoroutineType:
                await ended
        except BaseException as error:  # as in die; a second cancel while terminating lands here too
            exit = Crash(without_repeats(error))  # noqa: A001
        self.finish(exit, last)

    async def _until_gone(self, tasks: list[Any]) -> None:
        """Let cancelled tasks clean up before the successor may begin, but not for ever."""
        gone: Reply[None] = Reply()
        left = set(tasks)

        def discard(task: Any) -> None:
            left.discard(task)
            if not left:
                gone.set(None)

        for task in tasks:
            task.add_done_callback(discard)
        try:
            await gone.aget(GRACE, self.home.clock)
        except CallTimeout:
            pass
