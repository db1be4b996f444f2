"""`Actor`: the class to derive from. A pykka actor that owns no thread and cannot take others down.

    class Counter(Actor):
        def init(self, start: int = 0) -> None:
            self.value = start

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    ref.call(Counter.add, 5)

Every method may be sent as a message. An exception that leaves one, of whatever kind, ends this actor and no
other; expected failures are returned values. Arguments that do not fit never reach the method: a caller who waits
gets the TypeError and the actor lives; after a `cast` nobody waits, and it is a crash.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr

from supervisors import calls, links
from supervisors.beside import Tasks
from supervisors.birth import Name
from supervisors.cell import IGNORE, Cell, Ignore
from supervisors.clock import Clock, Timer
from supervisors.current import BESIDE
from supervisors.errors import SpecError
from supervisors.exits import Crash, Exit, Normal, is_clean
from supervisors.kernel import Kernel, current_kernel
from supervisors.monitors import Down, Monitor
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.timers import MessageTimer

__all__ = ["IGNORE", "Actor", "Down", "Ignore", "Monitor", "Ref"]

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("supervisors")

_NO_REPLY: Any = object()
_THREADS = frozenset({"pool", "thread"})


class Actor(pykka.Actor):
    """One unit of state that handles one message at a time.

    Class attributes choose who runs it. `dispatcher`: "pool" (may block), "loop" (an asyncio loop; handlers may be
    `async def`), "thread" (one of its own), or a name given to `kernel.install`. `inline = True`, pool only, is a
    promise that no handler ever blocks: a blocking caller then runs an idle actor in its own place. `mailbox`
    bounds the queue. Do not override `__init__`; `init` runs inside the actor.
    """

    dispatcher: ClassVar[str] = "pool"
    inline: ClassVar[bool] = False
    mailbox: ClassVar[int | None] = None
    trap_exit: bool = False
    """Whether exit signals of others come to `on_info`; see `supervisors.links`."""

    _method_names: ClassVar[dict[Callable[..., Any], str]] = {}
    _async_handlers: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._method_names = {}
        names = {
            name: value for base in reversed(cls.__mro__) if base not in _BASES for name, value in vars(base).items()
        }
        cls._async_handlers = tuple(
            name for name, value in names.items() if not name.startswith("_") and inspect.iscoroutinefunction(value)
        )
        if cls._async_handlers and cls.dispatcher in _THREADS:
            raise TypeError(
                f"{cls.__name__}.{cls._async_handlers[0]} is async def, but the dispatcher is {cls.dispatcher!r}: "
                f'write dispatcher = "loop", or a plain def'
            )
        if cls.inline and cls.dispatcher != "pool":
            raise TypeError(
                f"{cls.__name__} is inline, which only the pool can do; its dispatcher is {cls.dispatcher!r}"
            )
        if cls.mailbox is not None and cls.mailbox < 1:
            raise SpecError("mailbox", cls.mailbox, "None, or at least 1")

    def __init__(self) -> None:
        """Made by the kernel, in the starter's thread. Not for overriding: see `init`."""
        cell = self._cell = self._create_actor_inbox()
        kind = type(self)
        cell.actor = self
        cell.kind = kind
        cell.ref = Ref(cell)
        cell.inline = kind.inline
        cell.bound = kind.mailbox
        cell.table = kind._method_names
        cell.dispatcher_name = kind.dispatcher
        cell.has_coroutines = bool(kind._async_handlers)

    # the hooks that pykka has for new kinds of actors

    @staticmethod
    def _create_actor_inbox() -> Cell:
        return Cell()

    @staticmethod
    def _create_future() -> Reply[Any]:
        return Reply()

    def _start_actor_loop(self) -> None:
        self._cell.kick()

    @classmethod
    def start(cls, *args: Any, name: Name | None = None, **kwargs: Any) -> Ref[Self]:
        """Start an actor in the system of the calling actor, else in the one entered here. Raises NoSystem.

        Blocks until `init` returned, and raises as `Kernel.spawn` does.
        """
        return current_kernel().spawn(cls, *args, name=name, **kwargs)

    # what pykka reads

    @property
    def actor_ref(self) -> Ref[Self]:
        """pykka's word for `ref`."""
        ref: Ref[Self] = self._cell.ref
        return ref

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # pykka declares plain attributes, we compute them
        """pykka's name for the incarnation."""
        return self.actor_ref.actor_urn

    @property
    def actor_inbox(self) -> Cell:  # type: ignore[override]
        """The mailbox."""
        return self._cell

    @property
    def actor_stopped(self) -> Any:  # type: ignore[override]
        """See `Ref.actor_stopped`."""
        return self.actor_ref.actor_stopped

    # to override; all of it runs inside the actor, on whatever thread has it

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """The first message. Return nothing, or IGNORE to not start. Raising and `stop` are StartFailed for the
        starter, and nothing is terminated then."""
        if args or kwargs:
            raise TypeError(f"{type(self).__name__}.init takes no arguments; define it to take some")
        self.on_start()

    def terminate(self, exit: Exit) -> Any:
        """Once, at every cooperative end and after a crash, before the death is official. Not when fenced."""
        if is_clean(exit):
            self.on_stop()
        elif isinstance(exit, Crash):
            self.on_failure(type(exit.error), exit.error, exit.error.__traceback__)

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Decide what crash reports and `sys.get_status` show of this actor: give `status`, changed as you like.

        Its keys are OTP's: `state` (the attributes by name), `message` (method, arguments and keyword arguments of
        the last one, or None), `reason` (the exit, or None) and `log` (what `sys.log` kept). Runs after the death
        too, in whatever thread writes the report. When it raises nothing of the actor is shown.
        """
        return status

    def on_info(self, message: Any) -> Any:
        """A `Down`, an `ExitSignal`, or what was sent with pykka's `tell` and `ask` (return the answer). The default
        logs it."""
        logger.warning("%s got a message that it has no use for: %r", self.name, message)

    def on_receive(self, message: Any) -> Any:
        """pykka's hook for plain messages; goes to `on_info`."""
        return self.on_info(message)

    # to use, inside the actor

    @property
    def ref(self) -> Ref[Self]:
        """The actor's own address."""
        ref: Ref[Self] = self._cell.ref
        return ref

    @property
    def name(self) -> str:
        """The registered name, or the class and the incarnation."""
        return self._cell.name

    @property
    def kernel(self) -> Kernel:
        """The kernel that started this actor."""
        home = self._cell.home
        assert isinstance(home, Kernel)
        return home

    @property
    def clock(self) -> Clock:
        """The system's clock."""
        return self._cell.home.clock

    def defer(self) -> Reply[Any]:
        """The reply of the message in hand, to be settled later, from anywhere. Return it from the handler.

        If the actor ends first, the caller gets ActorDied. For a cast it is a reply that nobody reads.
        """
        if BESIDE.get():
            raise RuntimeError("defer() belongs into the handler: call it there and hand the reply to the task")
        cell = self._cell
        if not cell.started:
            raise RuntimeError("there is nothing to defer in init and terminate: nobody waits there for a value")
        cur = cell.cur
        return cell.defer(cur if cur is not None else Reply(cell))

    def stop(self, exit: Exit = Normal(), reply: Any = _NO_REPLY) -> None:  # noqa: B008 - a frozen value
        """End after this handler. The caller gets `reply`, or ActorDied with this exit where none is given.

        In `init`: do not start, which is a failure (see IGNORE for one that is none); nobody waits there for a reply.
        """
        cell = self._cell
        if reply is not _NO_REPLY and not cell.started:
            raise RuntimeError("nobody waits for a reply in init and terminate; stop(exit) in init fails the start")
        cell.request_exit(exit, own=not BESIDE.get())
        if reply is not _NO_REPLY and cell.cur is not None:
            cell.cur.set(reply)

    def continue_with(self, method: Callable[Concatenate[Any, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Handle `method` next, before any other message."""
        self._cell.post_first((calls.method_name(self._cell, method), args, kwargs or None, None))

    def send_after(
        self, seconds: float, method: Callable[Concatenate[Any, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> Timer:
        """Send oneself `method` in `seconds`. The timer can be cancelled, and ends with the actor."""
        timer = MessageTimer(self._cell, (calls.method_name(self._cell, method), args, kwargs or None, None))
        timer.begin(self.clock, seconds)
        return timer

    def monitor(self, ref: Ref[Any]) -> Monitor:
        """Get `Down(monitor, ref, exit)` in `on_info` when `ref` is dead; at once, with NoProc, if it is already."""
        monitor = Monitor(self._cell, ref)
        monitor.begin()
        return monitor

    def demonitor(self, monitor: Monitor) -> bool:
        """Take a monitor back: no Down comes from it any more. False if its Down was handled before."""
        return monitor.end()

    def link(self, ref: Ref[Any]) -> None:
        """Let the end of each be an exit signal to the other; see `supervisors.links`."""
        links.link(self.ref, ref)

    def unlink(self, ref: Ref[Any]) -> None:
        """Take `link` back."""
        links.unlink(self.ref, ref)

    def start_task(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `coro` beside the mailbox, on loop actors. Cancelled when the actor ends; what it raises is a crash."""
        cell = self._cell
        if not cell.dispatcher.is_loop:
            coro.close()
            raise TypeError(f'{self.name} runs on {cell.dispatcher.name!r}; start_task needs dispatcher = "loop"')
        if cell.tasks is None:
            cell.tasks = Tasks(cell)
        return cell.tasks.start(coro)

    def end_task(self, task: asyncio.Task[Any]) -> None:
        """Count `task` as over: its own last act, before it returns nothing. Spares the loop a turn for its end.

        For actors that start thousands of tasks a second. What it raises after this is no crash.
        """
        tasks = self._cell.tasks
        if tasks is not None:
            tasks.over(task)

    @property
    def running_tasks(self) -> int:
        """How many tasks of `start_task` run now."""
        return len(self._cell.tasks or ())

    def list_tasks(self) -> list[asyncio.Task[Any]]:
        """Those of `start_task` that run now, first the oldest. On the actor's loop."""
        return list(self._cell.tasks or ())

    def _on_system(self, question: Callable[[Cell], Any]) -> Any:
        return question(self._cell)

    def _proxied(self, raw: ProxyCall | ProxyGetAttr | ProxySetAttr) -> Any:
        *path, last = raw.attr_path
        holder: Any = self
        for part in path:
            holder = getattr(holder, part)
        if isinstance(raw, ProxySetAttr):
            return setattr(holder, last, raw.value)
        value = getattr(holder, last)
        return value(*raw.args, **raw.kwargs) if isinstance(raw, ProxyCall) else value

    def _on_down(self, down: Down) -> Any:
        if not down.monitor.active:
            return None
        down.monitor.active = False
        return self.on_info(down)


_BASES = frozenset(Actor.__mro__)
