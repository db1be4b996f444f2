"""Actors that the kernel's tests run, one for each way of running, and what the tests do with threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from supervisors.actor import IGNORE, Actor, Down
from supervisors.exits import Exit
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.testing import wait_until

A = TypeVar("A", bound=Actor)
T = TypeVar("T")


class Counter(Actor):
    """Counts, crashes, waits, defers: everything the tests need, on the pool."""

    def init(self, value: int = 0, log: list[Any] | None = None) -> Any:
        self.value = value
        self.log: list[Any] = [] if log is None else log
        self.kept: Reply[Any] | None = None

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def note(self, what: object) -> None:
        self.log.append(what)

    def notes(self) -> list[Any]:
        return list(self.log)

    def crash(self, error: BaseException) -> None:
        raise error

    def wait_for(self, event: threading.Event, began: threading.Event | None = None) -> str:
        if began is not None:
            began.set()
        event.wait(10)
        return "waited"

    def late(self) -> Reply[Any]:
        self.kept = self.defer()
        return self.kept

    def settle(self, value: object) -> bool:
        assert self.kept is not None
        return self.kept.set(value)

    def end(self, exit: Exit, **reply: Any) -> None:
        self.stop(exit, **reply)

    def ask_back(self, ref: Ref[Counter], *rest: Any) -> Any:
        return ref.call(Counter.ask_back, *rest) if rest else ref.call(Counter.add, 1)

    def thread_name(self) -> str:
        return threading.current_thread().name

    def watch_over(self, ref: Ref[Any]) -> Any:
        return self.monitor(ref)

    def unwatch(self, monitor: Any) -> bool:
        return self.demonitor(monitor)

    def on_info(self, message: Any) -> Any:
        self.log.append(message)
        return ("info", message)

    def terminate(self, exit: Exit) -> None:
        self.log.append(exit)


class Inline(Counter):
    inline = True


class OnThread(Counter):
    dispatcher = "thread"


class OnLoop(Counter):
    dispatcher = "loop"

    async def pause(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def crash_later(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        raise error

    async def sleep_for_ever(self, began: threading.Event) -> None:
        began.set()
        await asyncio.Event().wait()

    async def beside(self, coro: Any) -> None:
        self.start_task(coro)


class Ignored(Actor):
    def init(self) -> Any:
        return IGNORE


KINDS: tuple[type[Counter], ...] = (Counter, Inline, OnThread, OnLoop)
FATAL = (ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), MemoryError())


def spawn(kernel: Kernel, cls: type[Counter] = Counter, *args: Any, **kwargs: Any) -> Ref[Counter]:
    """A ref for sure."""
    ref = kernel.spawn(cls, *args, **kwargs)
    assert isinstance(ref, Ref)
    return ref


def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """The value of `fn(*args)`, or its exception, from a thread that is not the main one."""
    return Background(fn, *args).value()


def idle(ref: Ref[A]) -> Ref[A]:
    """The actor, once nobody runs it: the thread that has answered for it lets go of it a moment later."""
    wait_until(lambda: not ref.mailbox.own.locked() and not ref.mailbox.sched)
    return ref


class Background:
    """A call that runs in a thread of its own."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self._reply: Reply[Any] = Reply()
        self._call = lambda: fn(*args)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._reply.set(self._call())
        except BaseException as error:
            self._reply.fail(error)

    def ended(self, seconds: float) -> bool:
        """Whether it is over within that time."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def value(self, seconds: float = 10.0) -> Any:
        """Wait for it: its value or its exception."""
        self.thread.join(seconds)
        return self._reply.get(0)


def downs(ref: Ref[Counter]) -> list[Down]:
    """The death notices that the counter has seen."""
    return [each for each in ref.call(Counter.notes) if isinstance(each, Down)]
