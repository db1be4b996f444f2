"""`Kernel`: the actors of one system, what runs them, and its clock and telemetry."""

from __future__ import annotations

import os
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar, cast

import pykka

from supervisors import steps
from supervisors.birth import Name, claimed, disowned, made, tied, watched
from supervisors.cell import INIT, Cell, Ignore
from supervisors.clock import Clock, SystemClock
from supervisors.current import CURRENT, HOME, refuse_fenced
from supervisors.dispatchers.base import Dispatcher
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.dispatchers.pool import Pool
from supervisors.dispatchers.thread import ThreadPerActor
from supervisors.errors import (
    BlockingCallOnLoop,
    CallTimeout,
    NoSystem,
    SpecError,
    StartFailed,
    SystemStopped,
    UsedAfterFork,
    fresh,
)
from supervisors.exits import Crash, Exit, Shutdown
from supervisors.mailbox import Mailbox
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry

_DISPATCHES = ("name", "is_loop", "submit", "attach", "detach", "abandon", "stop")


A = TypeVar("A", bound=pykka.Actor)


class Kernel:
    """Starts actors and knows the living. All methods may be called from any thread."""

    def __init__(
        self,
        *,
        name: str = "system",
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        pool_size: int = 2,
    ) -> None:
        self.name = name
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.telemetry = telemetry if telemetry is not None else Telemetry()
        self.main_thread_inline = False
        self.refuse: BaseException | None = None
        self.zombie_cells: dict[Any, None] = {}
        self._cells: dict[Cell, None] = {}
        self._closed = False
        self._late = 0
        self._late_lock = Lock()
        self._dispatchers: dict[str, Dispatcher] = {
            "pool": Pool("pool", pool_size),
            "loop": LoopDispatcher("loop"),
            "thread": ThreadPerActor("thread"),
        }
        _KERNELS.add(self)

    # dispatchers

    def dispatcher(self, name: str) -> Dispatcher:
        """The dispatcher of that name. Raises SpecError and names the known ones."""
        found = self._dispatchers.get(name)
        if found is None:
            raise SpecError("dispatcher", name, ", ".join(sorted(self._dispatchers)))
        return found

    def install(self, name: str, dispatcher: Dispatcher) -> None:
        """Let classes say `dispatcher = name`. Whoever installs it also stops it; `close` stops what is left."""
        self._refuse_if_closed()
        if missing := [each for each in _DISPATCHES if not hasattr(dispatcher, each)]:
            raise SpecError("dispatcher", dispatcher, f"an object with {', '.join(missing)}")
        if name in self._dispatchers:
            raise SpecError("dispatcher", name, f"a name that is not taken: {', '.join(sorted(self._dispatchers))}")
        self._dispatchers[name] = dispatcher

    def uninstall(self, name: str, dispatcher: Dispatcher | None = None) -> bool:
        """Forget the dispatcher (given one, only if it is that one); it is not stopped. True if it was there."""
        if dispatcher is not None and self._dispatchers.get(name) is not dispatcher:
            return False
        return self._dispatchers.pop(name, None) is not None

    # actors

    def spawn(
        self,
        cls: type[A],
        *args: Any,
        name: Name | None = None,
        parent: Ref[Any] | None = None,
        start_timeout: float | None = 30.0,
        on_down: Callable[[Ref[A], Exit], object] | None = None,
        **kwargs: Any,
    ) -> Ref[A]:
        """Start an actor and block until its `init` returned: its ref. (IGNORE if `init` gave that; the type does not
        say so, because only whoever writes such an `init` needs to look.)

        `name` is registered before `init` runs. With a `parent` the actor ends as soon as the parent is dead, with
        the same exit. `on_down(ref, exit)` is called at the death of an actor that had started, in the thread that
        finishes it; it must not block. Raises StartFailed (also when `init` takes longer than `start_timeout`
        seconds; the actor is fenced then), AlreadyStarted, SystemStopped, BlockingCallOnLoop, and SpecError for what
        is no class of actors.
        """
        if _get_running_loop() is not None:
            raise BlockingCallOnLoop(f"the start of {getattr(cls, '__name__', 'an actor')}")
        cell, started = self.begin(cls, *args, name=name, parent=parent, on_down=on_down, **kwargs)
        try:
            if not started.wait(start_timeout, self.clock):
                cell.fence()
                raise StartFailed(cell.name, CallTimeout(cell.name, start_timeout or 0.0))
        except BaseException:
            cell.fence()
            raise
        return self._started(cell, started)

    async def aspawn(
        self,
        cls: type[A],
        *args: Any,
        name: Name | None = None,
        parent: Ref[Any] | None = None,
        start_timeout: float | None = 30.0,
        on_down: Callable[[Ref[A], Exit], object] | None = None,
        **kwargs: Any,
    ) -> Ref[A]:
        """As `spawn`, from an asyncio loop."""
        cell, started = self.begin(cls, *args, name=name, parent=parent, on_down=on_down, **kwargs)
        try:
            await started.aget(start_timeout, self.clock)
        except CallTimeout as error:
            cell.fence()
            raise StartFailed(cell.name, error) from error
        except pykka.ActorDeadError:
            pass
        except BaseException:
            cell.fence()
            raise
        return self._started(cell, started)

    def begin(
        self,
        cls: type[A],
        *args: Any,
        name: Name | None = None,
        parent: Ref[Any] | None = None,
        on_down: Callable[[Ref[A], Exit], object] | None = None,
        owned: bool = False,
        **kwargs: Any,
    ) -> tuple[Cell, Reply[Ref[A] | Ignore]]:
        """The first half of `spawn`: the actor is made and `init` is its first message; nobody waits.

        With `owned` nobody runs it either but the caller, by `cell.run_first()`.
        """
        refuse_fenced()
        me = CURRENT.get()
        self._refuse_if_closed()
        cell = self._make(cls)
        starter: Any = parent.mailbox if parent is not None else me
        if starter is not None:
            cell.above = starter.as_ancestor()
        if owned:
            cell.own.acquire(False)
        started: Reply[Ref[A] | Ignore] = Reply(cell)
        # `init` is the first message also for those who find the name at once; nobody runs it before all is in place.
        cell.q.append((INIT, args, kwargs, started))
        cell.sched = True
        try:
            if name is not None:
                claimed(name, cell)
            self._add(cell)
        except BaseException:
            if owned:
                disowned(cell)
            raise
        if parent is not None:
            tied(cell, parent.mailbox)
        if on_down is not None:
            watched(cell, started, on_down)
        cell.sched = False
        if not owned:
            cell.kick()
        if self._closed:  # look again: `close` may have missed it
            if owned:
                disowned(cell)
            cell.fence()
            self._refuse_if_closed()
        return cell, started

    def _add(self, cell: Cell) -> None:
        if steps.hook is not None:
            steps.hook("spawn:adding", self)
        self._cells[cell] = None
        try:
            cell.dispatcher.attach(cell)
        except BaseException as error:  # no thread to be had, or the dispatcher has stopped
            cell.finish(Crash(error))
            if isinstance(error, SystemStopped):
                raise
            raise StartFailed(cell.name, error) from error
        if cell.dead:  # look again: whoever found its name may have fenced it before it was here
            self.forget(cell)
            cell.dispatcher.detach(cell)

    def _make(self, cls: type[A]) -> Cell:
        cell = made(cls)
        cell.home = self
        cell.now = self.clock.now
        cell.dispatcher = self.dispatcher(cell.dispatcher_name)
        if cell.has_coroutines and not cell.dispatcher.is_loop:
            raise SpecError("dispatcher", cell.dispatcher_name, "a loop, for a class with async def handlers")
        return cell

    def _started(self, cell: Cell, started: Reply[Ref[A] | Ignore]) -> Ref[A]:
        error = started.exception()
        if error is None:
            return cast("Ref[A]", started.take())
        self._refuse_if_closed()
        cause = error.__cause__ if error.__cause__ is not None else error
        raise StartFailed(cell.name, cause) from cause

    def bind(self, ref: Ref[Any], parent: Ref[Any]) -> None:
        """Let `ref` end as soon as `parent` is dead, with the same exit: nobody outlives who started it."""
        tied(ref.mailbox, parent.mailbox)

    def live(self) -> list[Ref[Any]]:
        """The refs of all actors that are not officially dead, in the order of their start."""
        return [cell.ref for cell in list(self._cells)]

    @property
    def zombies(self) -> int:
        """How many fenced actors still have a thread in their code."""
        return len(self.zombie_cells)

    @property
    def late_replies(self) -> int:
        """How many calls were answered after their caller had given up; each is dropped, and the event
        ("call", "late")."""
        return self._late

    def count_late(self, name: str) -> None:
        """For a call whose answer nobody waits for any more."""
        with self._late_lock:
            self._late += 1
        self.telemetry.execute(("call", "late"), {"late": self._late}, {"name": name})

    def is_looked_after(self, life: Mailbox) -> bool:
        """Whether a supervisor ends it when it ends itself. A kernel alone knows of no supervisors."""
        return False

    def forget(self, life: Mailbox) -> None:
        """For a finished actor: it is no longer alive."""
        self._cells.pop(life, None)  # type: ignore[call-overload]

    # the end

    def close(self, timeout: float = 10.0) -> bool:
        """Shut down what still lives, fence what does not end, stop the dispatchers and the clock.

        Whoever a supervisor looks after is told by that one, in its order.
        True if all of it ended within `timeout` seconds of real time and no fenced actor keeps a thread.
        Afterwards everything raises SystemStopped.
        """
        if self._closed:
            return True
        self._closed = True
        real = SystemClock()
        until = real.now() + timeout
        me = CURRENT.get()  # an actor that closes its own system does not wait for itself
        downs = [ref.down() for ref in reversed(self.live()) if ref.mailbox is not me]
        for ref in reversed(self.live()):
            if not self.is_looked_after(ref.mailbox):
                ref.mailbox.request_exit(Shutdown("the system was shut down"))
        for down in downs:
            if not down.done():
                down.wait(max(0.0, until - real.now()), real)
        clean = not self._cells
        for ref in self.live():
            ref.mailbox.fence()
        if steps.hook is not None:
            steps.hook("close:fenced", self)
        if self.refuse is None:
            self.refuse = SystemStopped(self.name)
        for dispatcher in list(self._dispatchers.values()):
            clean = dispatcher.stop(max(0.2, until - real.now())) and clean
        self.clock.close()
        return clean and all(cell.dispatcher.is_loop for cell in list(self.zombie_cells))

    def _refuse_if_closed(self) -> None:
        if self.refuse is not None:
            raise fresh(self.refuse)
        if self._closed:
            raise SystemStopped(self.name)

    @contextmanager
    def entered(self) -> Iterator[Kernel]:
        """In the block `Actor.start(...)` starts actors here (context variable: this task or thread only)."""
        token = HOME.set(self)
        try:
            yield self
        finally:
            HOME.reset(token)


def kernels() -> list[Kernel]:
    """Every kernel in the process that anybody still knows, closed ones too."""
    return list(_KERNELS)


def current_kernel() -> Kernel:
    """The kernel of the actor whose code runs here, else of the system entered here. Raises NoSystem."""
    me = CURRENT.get()
    found = me.home if me is not None else HOME.get()
    if not isinstance(found, Kernel):
        raise NoSystem
    return found


_KERNELS: weakref.WeakSet[Kernel] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for kernel in list(_KERNELS):
        kernel.refuse = UsedAfterFork(f"the system {kernel.name!r}")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
