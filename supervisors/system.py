"""`System`: a kernel, a registry and a root supervisor, started and shut down together."""

from __future__ import annotations

import asyncio
import signal
import threading
from asyncio import _get_running_loop
from collections.abc import Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar, cast

import pykka

from supervisors import reports, tree
from supervisors.children import Children
from supervisors.clock import Clock, SystemClock
from supervisors.current import CURRENT
from supervisors.errors import BlockingCallOnLoop, CallCycle, NoSystem, SystemStopped, UsedAfterFork
from supervisors.exits import Crash, Exit, Shutdown
from supervisors.kernel import Kernel
from supervisors.lastwords import gather
from supervisors.mailbox import Mailbox
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildLike, check_childspecs, child_spec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor, check_limits
from supervisors.telemetry import Telemetry
from supervisors.via import Via
from supervisors.zombies import check_cap

A = TypeVar("A", bound=pykka.Actor)


class System:
    """A tree of actors with one root: `with System() as system:`. Any number of them live side by side.

    Inside the block (and in whatever inherits its context) `MyActor.start(...)` starts actors here. Leaving it
    shuts down in order: the root with its children in reverse start order, then everybody else, then the threads.
    Nothing is process-wide: no signal handler, no atexit, unless `install_signal_handlers` is called.

    All methods may be called from any thread. Those that wait raise `BlockingCallOnLoop` where an asyncio loop is
    running; `async with` and `ashutdown` are for there. After the shutdown they raise `SystemStopped`.

    Events: ("actor", "start" | "exit" | "zombie"), ("call", "late"), ("system", "failed"),
    ("supervisor", "child", "start" | "restart" | "terminate"), ("supervisor", "budget", "exhausted").
    """

    def __init__(
        self,
        name: str = "system",
        *,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        pool_size: int = 2,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        max_zombies: int | None = None,
        children: Iterable[ChildLike] = (),
    ) -> None:
        """`children`, `strategy` and the limits are the root's, as in `Supervisor`. Nothing starts before `start`.

        `max_zombies`, beyond OTP: when more fenced actors than that, in the whole system, still have a thread in
        their code, the root ends with `Shutdown("max_zombies")`. `pool_size` is the pool's threads, at least 1;
        while handlers block in some of them it grows past that.
        Raises `SpecError` for values and children that make no sense.
        """
        check_limits(strategy, max_restarts, max_seconds)
        check_cap(max_zombies)
        self.name = name
        self.registry = Registry()
        self.kernel: Kernel = _Kernel(name=name, clock=clock, telemetry=telemetry, pool_size=pool_size)
        self._children = check_childspecs(children)
        self._max_zombies = max_zombies
        self._options: dict[str, Any] = {"strategy": strategy, "max_restarts": max_restarts, "max_seconds": max_seconds}
        self._root: Ref[Supervisor] | None = None
        self._lock = threading.Lock()  # guards _state and _restarts
        self._state = "new"
        self._restarts = 0
        self._over: Reply[Exit | None] = Reply()
        self._entered: AbstractContextManager[Any] | None = None
        self._old_handlers: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<System {self.name!r}, {self._state}>"

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the root and its children; blocks until all are up. Again: nothing.

        Raises `StartFailed` with the cause after everything was stopped again, and `SystemStopped` when the system
        had been shut down.
        """
        with self._lock:
            if self._state == "running":
                return self
            if self._state != "new":
                raise SystemStopped(self.name)
            self._state = "running"
        self._listen()
        try:
            self._root = cast(
                "Ref[Supervisor]",
                self.kernel.spawn(Supervisor, self._children, name=_RootName(), start_timeout=None, **self._options),
            )
        except BaseException:
            self._end(1.0)
            raise
        self._root.down().add_done_callback(self._root_ended)
        return self

    def shutdown(self, timeout: float = 10.0) -> bool:
        """End everything, in order, within `timeout` seconds; blocks until then.

        The root stops its children in reverse start order; then every actor that no supervisor looks after is told
        at once, and supervisors among them stop their children as the root did; who has not ended by the deadline is
        fenced. True if nobody had to be and no thread is left, of a child fenced by its supervisor neither. Again:
        True, and nothing happens; in a forked child too, where nothing of it lives. Raises `CallCycle` when an actor of
        this system calls it: it would wait for itself.
        """
        if isinstance(self.kernel.refuse, UsedAfterFork):
            return True
        me = CURRENT.get()
        if me is not None and me.home is self.kernel:
            raise CallCycle((me.name, self.name))
        if _get_running_loop() is not None:
            raise BlockingCallOnLoop(f"the shutdown of {self.name!r}, which has `await system.ashutdown()`")
        return self._end(timeout)

    async def ashutdown(self, timeout: float = 10.0) -> bool:
        """As `shutdown`, on a loop, which goes on meanwhile."""
        return await asyncio.to_thread(self.shutdown, timeout)

    def _end(self, timeout: float) -> bool:
        with self._lock:
            if self._state in ("stopping", "stopped"):
                return True
            self._state = "stopping"
        real = SystemClock()
        until = real.now() + timeout
        clean = True
        if self._root is not None:
            self._root.mailbox.request_exit(Shutdown("the system was shut down"))
            clean = self._root.down().wait(timeout, real)
        clean = self.kernel.close(max(0.0, until - real.now())) and clean
        self._restore_signal_handlers()
        self.telemetry.detach(self._handler_id)
        self._state = "stopped"
        self._over.set(None)
        return clean

    def __enter__(self) -> Self:
        self.start()
        self._entered = self.kernel.entered()
        self._entered.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._leave()
        self.shutdown()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        self._entered = self.kernel.entered()
        self._entered.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._leave()
        await self.ashutdown()

    def _leave(self) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.__exit__(None, None, None)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the system is over: shut down, asked to stop by a signal, or its root gave up.

        False if that took longer than `timeout` seconds. What a service's main thread does.
        """
        return self._over.wait(timeout, SystemClock())

    @property
    def failure(self) -> Exit | None:
        """The exit of a root that ended by itself, mostly `Shutdown("max_restarts")`; None otherwise."""
        return self._over.take() if self._over.done() else None

    # --- actors -------------------------------------------------------------------------------------------------

    def spawn(self, cls: type[A], *args: Any, name: Hashable | Via | None = None, **kwargs: Any) -> Ref[A]:
        """Start an actor that no supervisor looks after; it ends with the system. Blocks until its `init` is done.

        `name` is its key in `registry`, or a `Via`. Raises as `Kernel.spawn` does; gives IGNORE if `init` says so.
        """
        self._need_running()
        via = name if isinstance(name, Via) or name is None else self.registry.via(name)
        return cast("Ref[A]", self.kernel.spawn(cls, *args, name=via, **kwargs))

    def start_child(self, child: ChildLike) -> Ref[Any]:
        """Start a child of the root, behind the others. Raises as `Supervisor.start_child` does."""
        spec = child_spec(child)
        return self.root.within(spec.start_timeout + 5.0).call(Supervisor.start_child, spec)

    def via(self, key: Hashable) -> Via:
        """An address: whoever holds `key` when it is used."""
        self._need_running()
        return self.registry.via(key)

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The living holder of `key`, or None."""
        self._need_running()
        return self.registry.whereis(key)

    @property
    def root(self) -> Ref[Supervisor]:
        """The root supervisor."""
        self._need_running()
        if self._root is None:
            raise NoSystem
        return self._root

    @property
    def clock(self) -> Clock:
        return self.kernel.clock

    @property
    def telemetry(self) -> Telemetry:
        return self.kernel.telemetry

    def _need_running(self) -> None:
        if self._state == "new":
            raise NoSystem
        if self._state != "running" and self._state != "failed":
            raise SystemStopped(self.name)

    # --- seen from outside --------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`new`, `running`, `failed` (the root gave up), `stopping`, `stopped`."""
        return self._state

    @property
    def restarts(self) -> int:
        """Children restarted so far, in the whole tree."""
        return self._restarts

    def snapshot(self) -> tree.Snapshot:
        """The tree as JSON-able values, put together without sending a message; works after the shutdown too."""
        root = self._root
        top = tree.node_of(root, "root") if root is not None and root.is_alive() else None
        seen = set() if top is None else set(tree.refs_below(top))
        others = [tree.node_of(ref, ref.name) for ref in self.kernel.live() if ref.incarnation not in seen]
        return {
            "name": self.name,
            "state": self._state,
            "restarts": self._restarts,
            "zombies": self.kernel.zombies,
            "tree": top,
            "others": others,
        }

    def draw(self) -> str:
        """The tree as text."""
        return tree.draw(self.snapshot())

    # --- signals ------------------------------------------------------------------------------------------------

    def install_signal_handlers(self, signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM)) -> None:
        """Let the first of `signals` end `wait()`, and a second one do what it did before. Main thread only.

        The handler only sets a flag: shutting down is what the main thread does next, as at the end of `with`.
        Taken back at the shutdown. Raises `ValueError` off the main thread.
        """
        self._need_running()
        for number in signals:
            self._old_handlers[number] = signal.signal(number, self._on_signal)
        self.kernel.main_thread_inline = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._over.set(None):
            self._restore_signal_handlers()
            signal.raise_signal(number)

    def _restore_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; what stays installed there just sets a flag
        self.kernel.main_thread_inline = False
        while self._old_handlers:
            number, old = self._old_handlers.popitem()
            signal.signal(number, old if old is not None else signal.SIG_DFL)

    # --- what happens inside ------------------------------------------------------------------------------------

    @property
    def _handler_id(self) -> str:
        return f"system {self.name} {id(self)}"

    def _listen(self) -> None:
        self.telemetry.attach(self._handler_id, ("supervisor", "child", "restart"), self._count_restart)
        self.telemetry.attach(self._handler_id, ("actor", "exit"), self._report_crash)
        if self._max_zombies is not None:
            self.telemetry.attach(self._handler_id, ("actor", "zombie"), self._count_zombies)

    def _count_restart(self, event: object, measurements: object, metadata: object) -> None:
        with self._lock:
            self._restarts += 1

    def _count_zombies(self, event: object, measurements: object, metadata: object) -> None:
        # What runs on a loop is cancelled there, so it is no thread that is lost.
        lost = sum(1 for cell in list(self.kernel.zombie_cells) if not cell.dispatcher.is_loop)
        if self._root is not None and self._max_zombies is not None and lost > self._max_zombies:
            self._root.mailbox.request_exit(Shutdown("max_zombies"))

    def _report_crash(self, event: object, measurements: object, metadata: Mapping[str, Any]) -> None:
        ref: Ref[Any] = metadata["ref"]
        if isinstance(self.kernel, _Kernel) and self.kernel.unreported.pop(ref.mailbox, False):
            actor = ref.snapshot()
            del actor["exit"], actor["alive"]
            about = gather(ref.mailbox).in_words(metadata["exit"])
            reports.crash_report(self.telemetry, name=ref.name, reason=about.pop("reason"), actor=actor, about=about)

    def _root_ended(self, down: Reply[Exit]) -> None:
        with self._lock:
            if self._state != "running":
                return
            self._state = "failed"
        self._over.set(down.take())
        self.telemetry.execute(("system", "failed"), {"restarts": self._restarts}, {"name": self.name})


class _Kernel(Kernel):
    """A kernel that knows supervisors: what they stop, and the crashes which none of them is going to report."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unreported: dict[Mailbox, bool] = {}

    def forget(self, life: Mailbox) -> None:
        super().forget(life)
        # A failed init (the first message) is told to the starter, and a child's crash to its supervisor.
        if type(life.exit) is Crash and life.handled > 1 and not self.is_looked_after(life):
            self.unreported[life] = True

    def is_looked_after(self, life: Mailbox) -> bool:
        return any(isinstance(watcher, Children) for watcher in list(life.watchers))


class _RootName:
    """The root is called root, but not registered: its key belongs to the application."""

    label = "root"

    def claim(self, ref: Any) -> None:
        """Take no key."""
