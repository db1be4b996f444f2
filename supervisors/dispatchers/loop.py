"""`LoopDispatcher`: a thread with an asyncio loop, on which actors run.

A plain handler runs in place. A coroutine handler becomes part of one task per actor, in the actor's context;
the actor stays owned until it ends, so its messages are handled one after the other like everybody's.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # documented: "Extending asyncio", task lifetime support
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from threading import Event, Thread, get_ident
from typing import Any, TypeVar

from supervisors import steps
from supervisors.dispatchers.base import BUDGET, Runnable
from supervisors.dispatchers.sent import Sent
from supervisors.dispatchers.shells import Shell, Shells, rest
from supervisors.dispatchers.waker import Waker
from supervisors.errors import SystemStopped
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply
from supervisors.tracebacks import unseen

T = TypeVar("T")


class LoopDispatcher:
    """Owns one daemon thread and one asyncio loop, from `start` to `stop`."""

    is_loop = True

    def __init__(self, name: str = "loop") -> None:
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._ident: int | None = None
        self._waker: Waker | None = None
        self._shells: Shells | None = None
        self._lent: Shell | None = None  # whose task runs the coroutine that the actor in hand has just begun
        self._lock = PublishedLock()
        self._ready: deque[Runnable] = deque()
        self._armed = False
        self._cells: dict[Runnable, None] = {}
        self._waiting: dict[Sent, bool] = {}  # given to `run` and not begun
        self._tasks: dict[asyncio.Task[None], Sent] = {}  # begun; asyncio keeps no strong reference to a task
        self._when_ended = self._tasks.pop  # one for all tasks
        self._stopped = False
        self._over = False

    # life

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; starts it if need be."""
        self.start()
        assert self._loop is not None
        return self._loop

    def start(self) -> None:
        """Start the thread and wait until its loop runs. Again: nothing. Raises SystemStopped after `stop`."""
        if self._ident is not None and not self._stopped:
            return
        with self._lock:
            if self._stopped:
                raise SystemStopped(self.name)
            if self._thread is not None:
                return
            running = Event()
            thread = Thread(target=self._run, args=(running,), name=f"supervisors-{self.name}", daemon=True)
            thread.start()
            running.wait()
            self._thread = thread

    def stop(self, timeout: float) -> bool:
        """Fence the actors that still live here, cancel what runs, end the thread; True if it did within `timeout`.

        Safe from any thread; from the loop's own thread it does not wait.
        """
        with self._lock:
            first, self._stopped = not self._stopped, True
            thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return True
        if first:
            for cell in list(self._cells):
                cell.fence()
            try:
                loop.call_soon_threadsafe(loop.stop)
            except RuntimeError:  # closed already
                pass
        if get_ident() == self._ident:
            return False
        thread.join(max(0.0, timeout))
        return not thread.is_alive()

    def run(
        self,
        coro: Coroutine[Any, Any, T],
        late: Callable[[], BaseException] | None = None,
        context: Context | None = None,
    ) -> Reply[T]:
        """Run a coroutine on the loop, from any thread. Cancelling the reply cancels the task.

        It runs in `context`, which is given away with it, or in a copy of the caller's.

        Raises SystemStopped after `stop`; what still runs then is cancelled, and its reply with it. What has not even
        begun then is closed, and its reply fails with `late()`, or SystemStopped.
        """
        # It waits before the look at `_stopped` in `start`: who winds up finds it.
        sent = Sent(coro, late, copy_context() if context is None else context, self._waiting)
        try:
            loop = self.loop
            if steps.hook is not None:
                steps.hook("loop:sending", self)
            loop.call_soon_threadsafe(self._begin, sent, context=sent.context)
        except (RuntimeError, SystemStopped):
            sent.reply.cancel()
            raise SystemStopped(self.name) from None
        return sent.reply

    # the dispatcher's side

    def submit(self, cell: Runnable) -> None:
        self._ready.append(cell)
        if self._armed:
            return
        self._armed = True
        assert self._loop is not None  # attach started it
        assert self._waker is not None
        try:
            if get_ident() == self._ident:
                self._loop.call_soon(self._sweep)
            else:
                self._waker.knock()
        except (RuntimeError, ValueError):  # the loop was closed under a living actor
            cell.fence()

    def attach(self, cell: Runnable) -> None:
        self.start()
        if steps.hook is not None:
            steps.hook("loop:attaching", cell)
        self._cells[cell] = None
        if self._stopped:  # look again: `stop` may have missed it
            self._cells.pop(cell, None)
            raise SystemStopped(self.name)

    def detach(self, cell: Runnable) -> None:
        self._cells.pop(cell, None)

    def abandon(self, cell: Runnable) -> None:
        cell.interrupt()

    # on the loop

    def _sweep(self) -> None:
        self._armed = False  # before the look: who submits from now on knocks again
        for _ in range(len(self._ready)):
            try:
                cell = self._ready.popleft()
            except IndexError:
                break
            self._activate(cell)
        if steps.hook is not None:
            steps.hook("loop:swept", self)

    def _activate(self, cell: Runnable) -> None:
        cell.sched = False
        if not cell.own.acquire(False):
            return
        cell.depth = 0
        coro = cell.ctx.run(cell.drain, BUDGET)
        shell, self._lent = self._lent, None
        if coro is None:
            self._release(cell)
        elif shell is not None:
            shell.carry_on(self._serve(cell, coro), cell.ctx)
        else:
            self._serve_as_task(cell, coro)

    def _serve_as_task(self, cell: Runnable, coro: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = cell.work = self._loop.create_task(self._serve(cell, coro), context=cell.ctx)
        task.add_done_callback(partial(self._serve_after_all, cell, coro))
        cell.began()

    def _serve_after_all(self, cell: Runnable, coro: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        """Its task is done. If somebody cancelled that before it began, so has nothing else, and nobody else would."""
        if cell.work is task:
            if self._stopped:
                coro.close()
            else:
                self._serve_as_task(cell, coro)

    @unseen
    def step(self, cell: Runnable, coro: Coroutine[Any, Any, Any]) -> tuple[Awaitable[Any] | None, Any]:
        """Run a coroutine handler to where it first waits: the rest of it, to be awaited as its task; or None, and the
        value that it returned.

        Owner only, inside `ctx`.
        """
        if cell.work is not None:  # it is being served, so this is its task
            try:
                return rest(coro, coro.send(None)), None
            except StopIteration as stop:
                return None, stop.value
        assert self._shells is not None
        assert self._loop is not None
        shell = self._shells.lend()
        if shell is None:
            return coro, None
        cell.work = shell.task
        cell.began()
        _enter_task(self._loop, shell.task)
        try:
            awaited = coro.send(None)
        except BaseException as error:
            cell.work = None
            self._shells.take_back(shell)
            if isinstance(error, StopIteration):
                return None, error.value
            raise
        finally:
            _leave_task(self._loop, shell.task)
        self._lent = shell
        return rest(coro, awaited), None

    async def _serve(self, cell: Runnable, coro: Coroutine[Any, Any, None]) -> None:
        """Await one handler after the other until the actor has nothing to do, then give it up."""
        try:
            await coro
            for _ in range(BUDGET):  # then the other actors of the loop get their turn
                following = cell.drain(BUDGET)
                if following is None:
                    break
                await following
        finally:
            cell.work = None
            self._release(cell)

    def _release(self, cell: Runnable) -> None:
        if steps.hook is not None:
            steps.hook("own:releasing", cell)
        cell.own.release()
        if cell.released() and not cell.sched:
            cell.sched = True
            self.submit(cell)

    def _begin(self, sent: Sent) -> None:
        if self._over:
            self._refuse(sent)
        task = sent.begin()
        if task is not None:
            self._tasks[task] = sent
            task.add_done_callback(self._when_ended, context=sent.context)

    def _refuse(self, sent: Sent) -> None:
        if sent in self._waiting:
            sent.reply.fail(SystemStopped(self.name) if sent.late is None else sent.late())

    # the thread

    def _run(self, running: Event) -> None:
        loop = asyncio.new_event_loop()
        self._loop, self._ident, self._waker = loop, get_ident(), Waker(loop, self._sweep)
        self._shells = Shells(loop)
        loop.call_soon(running.set)
        try:
            while not self._stopped:
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt):  # asyncio lets these of a foreign task out; the loop goes on
                    pass
        finally:
            self._wind_up(loop)

    def _wind_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._over = True  # nothing begins from now on
        try:
            if self._waker is not None:
                self._waker.close()
            loop.run_until_complete(asyncio.sleep(0))  # a task of the last turn begins: else it could not clean up
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
            self._let_go()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            self._let_go()
            if steps.hook is not None:
                steps.hook("loop:closing", self)
            loop.close()

    def _let_go(self) -> None:
        """Whoever waits for what did not begin, or did not end when it was cancelled, need not wait any more."""
        for sent in list(self._waiting):
            self._refuse(sent)
        for sent in list(self._tasks.values()):
            sent.reply.cancel()
