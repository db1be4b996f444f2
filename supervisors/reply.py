"""`Reply`: the answer to one message, now or later. A pykka future that can be awaited, watched and cancelled.

The first to settle it wins; nobody who comes later raises. It holds no lock and no condition: whoever waits
brings a raw lock, leaves its release in the list and looks again. Whoever settles stores the result and then
calls what is in the list. One of the two sees the other.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from _thread import LockType, allocate_lock
from asyncio import _get_running_loop
from collections.abc import Callable, Generator
from concurrent.futures import Future as ConcurrentFuture
from contextvars import copy_context
from threading import get_ident
from typing import Any, Generic, TypeVar

import pykka

from supervisors import steps
from supervisors.awaiting import Wake
from supervisors.blocking import BLOCKERS
from supervisors.callback import Callback
from supervisors.clock import Clock, SystemClock
from supervisors.current import BESIDE, CURRENT, Life
from supervisors.cycles import check_cycle
from supervisors.errors import BlockingCallOnLoop, CallTimeout, fresh
from supervisors.hearer import Hearer
from supervisors.unsettled import CANCELLED, UNSET, Failure

T = TypeVar("T")

logger = logging.getLogger("supervisors")

_REAL_TIME = SystemClock()  # for waits of replies that belong to no actor; it is given no timer, so it has no thread


class Reply(pykka.Future[T], Generic[T]):
    """The answer to one message.

    Settle it from any thread with `set` or `fail`; wait with `get`, `await` or `aget`; watch it with
    `add_done_callback`. A task that is cancelled while it awaits the reply cancels the reply.
    """

    __slots__ = ("_caller", "_hearer", "_home", "_result", "_waiters")
    _caller: Life
    """The actor that waits for it in a call; not set where that is no actor."""
    _hearer: Hearer | None
    """Who is told of a cancellation; not set where nobody ever was. Gone with the end: most of them hold the reply."""
    _get_hook: Callable[[float | None], T] | None = None

    def __init__(self, home: Life | None = None) -> None:
        self._result: Any = UNSET
        self._waiters: list[Callable[[], object] | dict[Reply[Any], None]] = [UNSET]
        self._home = home

    def __repr__(self) -> str:
        if self._result is UNSET:
            return f"<Reply of {self.name}, pending>"
        if isinstance(self._result, Failure):
            return f"<Reply of {self.name}: {self._result.error!r}>"
        return f"<Reply of {self.name}: {self._result!r}>"

    @property
    def name(self) -> str:
        """Who is to answer."""
        return "nobody in particular" if self._home is None else self._home.name

    # settling

    def set(self, value: T | None = None) -> bool:  # type: ignore[override]  # pykka's returns None and raises if late
        """Answer with `value`. True if this settled the reply, False if it was settled before."""
        waiters = self._waiters
        try:
            waiters.remove(UNSET)  # as in _settle, without another call
        except ValueError:
            return False
        self._result = value
        self._hearer = None
        if waiters or steps.hook is not None:
            self._wake()
        return True

    def fail(self, error: BaseException) -> bool:
        """Answer with an exception. True if this settled the reply."""
        return self._settle(Failure(error))

    def cancel(self) -> bool:
        """Nobody wants the answer any more. True if it was still open.

        A message that was not begun is dropped unhandled; one that is being handled goes on, and its handler
        may look at `cancelled()` or add a callback.
        """
        return self._settle(CANCELLED)

    def set_exception(self, exc_info: Any = None) -> None:
        """pykka's `fail`: an `exc_info` triple, or the exception being handled."""
        error = (sys.exc_info() if exc_info is None else exc_info)[1]
        if error is None:
            error = exc_info[0]() if exc_info is not None and exc_info[0] else RuntimeError("no exception is set")
        self._settle(Failure(error))

    def _settle(self, result: Any) -> bool:
        waiters = self._waiters
        try:
            waiters.remove(UNSET)  # one C call: the first wins
        except ValueError:
            return False
        self._result = result
        self._wake()
        hearer = getattr(self, "_hearer", None)
        if hearer is not None:
            self._hearer = None
            if result is CANCELLED:
                self._tell(hearer.reply_cancelled)
        return True

    def _wake(self) -> None:
        if steps.hook is not None:
            steps.hook("reply:settled", self)
        waiters = self._waiters
        while waiters:
            try:
                waiter = waiters.pop(0)
            except IndexError:  # its owner took the last one out
                break
            try:  # as in `_tell`, without another call
                if type(waiter) is dict:
                    waiter.pop(self, None)
                else:
                    waiter()  # type: ignore[operator]  # mypy does not see that it is no dict
            except BaseException as error:
                self._report(waiter, error)

    def _tell(self, waiter: Callable[[], object]) -> None:
        try:
            waiter()
        except BaseException as error:
            self._report(waiter, error)

    def _report(self, waiter: object, error: BaseException) -> None:
        """A listener raised, which must not harm the one who settles, nor those behind it."""
        if self._home is None:
            logger.error("a callback of %r raised", self, exc_info=error)
        else:
            callback = waiter.fn if isinstance(waiter, Callback) else waiter
            metadata = {"name": self.name, "error": error, "callback": callback}
            self._home.home.telemetry.execute(("reply", "callback", "failure"), {}, metadata)

    # looking

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._result is not UNSET

    def cancelled(self) -> bool:
        """Whether it was settled by `cancel`."""
        return self._result is CANCELLED

    def exception(self) -> BaseException | None:
        """The exception of a settled reply, None if it has a value. Raises RuntimeError while it is open."""
        if self._result is UNSET:
            raise RuntimeError("this reply is not settled yet; wait for it or add a callback")
        return self._result.error if isinstance(self._result, Failure) else None

    def take(self) -> T:
        """The value of a settled reply, or raise its exception: each time a copy, if it can be copied, with the
        traceback it had when it settled the reply."""
        result = self._result
        if type(result) is Failure:
            raise fresh(result.error).with_traceback(result.traceback)
        if result is UNSET:
            raise RuntimeError("this reply is not settled yet; wait for it or add a callback")
        return result  # type: ignore[no-any-return]  # `cast` would be a call, in every call

    # waiting

    def get(self, timeout: float | None = None) -> T:
        """Block until the answer is there and return it, or raise its exception.

        `timeout` in seconds of the clock of the one who answers. Raises CallTimeout, and BlockingCallOnLoop at
        once where an asyncio loop is running, CallCycle where the answer depends on the caller.
        """
        if self._result is UNSET:
            if self._get_hook is not None:
                return self._get_hooked(self._get_hook, timeout)
            clock = _REAL_TIME if self._home is None else self._home.home.clock
            if not self.wait(timeout, clock):
                raise CallTimeout(self.name, timeout or 0.0, "timeout=")
        return self.take()

    def _get_hooked(self, hook: Callable[[float | None], T], timeout: float | None) -> T:
        """pykka's derived futures (map, join, stop): compute once, then be an ordinary settled reply."""
        value = hook(timeout)
        self._settle(value)
        return value

    def wait(self, seconds: float | None, clock: Clock) -> bool:
        """Block until settled: False if that took longer than `seconds` of `clock`. Raises as `get` does."""
        if self._result is not UNSET:
            return True
        if _get_running_loop() is not None:
            raise BlockingCallOnLoop(self.name)
        if self._home is not None and self._home.home.refuse is not None:
            raise fresh(self._home.home.refuse)
        me = CURRENT.get()
        if me is None or BESIDE.get():
            return self._block(seconds, clock)
        before, me.waiting = me.waiting, self
        try:
            check_cycle(me, self)
            return self._block(seconds, clock)
        finally:
            me.waiting = before

    def _block(self, seconds: float | None, clock: Clock) -> bool:
        lock = allocate_lock()
        lock.acquire()
        release = lock.release
        if steps.hook is not None:
            steps.hook("reply:joining", self)
        self._waiters.append(release)
        if self._result is not UNSET:  # the second look
            self._withdraw(release)
            return True
        blocker = BLOCKERS.get(get_ident())
        if blocker is None:
            return self._acquire(lock, release, seconds, clock)
        blocker.block_enter()
        try:
            return self._acquire(lock, release, seconds, clock)
        finally:
            blocker.block_exit()

    def _acquire(self, lock: LockType, release: Callable[[], None], seconds: float | None, clock: Clock) -> bool:
        try:
            if clock.wait(lock, seconds):
                return True
        except BaseException:  # Ctrl-C in the waiting main thread
            self._withdraw(release)
            raise
        self._withdraw(release)
        return self._result is not UNSET

    def _withdraw(self, waiter: Callable[[], object] | dict[Reply[Any], None]) -> bool:
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    # awaiting

    def __await__(self) -> Generator[Any, None, T]:
        if self._result is UNSET:
            if self._get_hook is not None:  # a lazy future of pykka's: compute it on a thread, the loop must go on
                return (yield from asyncio.to_thread(self.get).__await__())
            wake = self.begin_wait(None, None)
            try:
                yield from wake.__await__()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.take()

    __iter__ = __await__

    async def aget(self, seconds: float | None = None, clock: Clock | None = None) -> T:
        """As `await reply`, at most `seconds` of the answering side's clock. Raises CallTimeout."""
        if self._result is not UNSET or seconds is None:
            return await self
        if clock is None and self._home is not None:
            clock = self._home.home.clock
        if not await self.settles(seconds, clock):
            raise CallTimeout(self.name, seconds)
        return self.take()

    async def settles(self, seconds: float | None, clock: Clock | None) -> bool:
        """Await the answer for at most `seconds` of `clock`, or of the running loop's: whether it is there."""
        wake = self.begin_wait(seconds, clock)
        try:
            await wake
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self.end_wait(wake)
        return self._result is not UNSET

    def begin_wait(self, seconds: float | None, clock: Clock | None) -> Wake:
        """As `settles`, for who awaits the wake itself, which is a coroutine less in each call that waits.

        Give it to `end_wait` however that ends; cancel the reply where the task is cancelled.
        """
        wake = Wake(seconds, clock)
        if steps.hook is not None:
            steps.hook("reply:joining", self)
        self._waiters.append(wake)
        if self._result is not UNSET:  # the second look
            wake()
        return wake

    def end_wait(self, wake: Wake) -> None:
        """The wait is over, or given up."""
        if wake.timer is not None:
            wake.timer.cancel()
        if self._result is UNSET:  # else whoever settled it has emptied the list, or is about to
            self._withdraw(wake)

    # watching

    def add_done_callback(self, fn: Callable[[Reply[T]], object]) -> None:
        """Call `fn(reply)` once settled: in the settling thread, or here and now if it is settled already.

        `fn` must not block. It runs in a copy of the context it was added in; what it raises is reported as the
        event ("reply", "callback", "failure") and goes no further.
        """
        waiter = Callback(copy_context(), fn, self)
        if steps.hook is not None:
            steps.hook("reply:joining", self)
        self._waiters.append(waiter)
        if self._result is not UNSET and self._withdraw(waiter):
            self._tell(waiter)

    @property
    def cf(self) -> ConcurrentFuture[T]:
        """A `concurrent.futures.Future` that follows this reply; cancelling it cancels the reply."""
        future: ConcurrentFuture[T] = ConcurrentFuture()

        def settle(reply: Reply[T]) -> None:
            if reply.cancelled():
                future.cancel()
            if future.set_running_or_notify_cancel():
                error = reply.exception()
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(reply.take())

        def cancel(done: ConcurrentFuture[T]) -> None:
            if done.cancelled():
                self.cancel()

        future.add_done_callback(cancel)
        self.add_done_callback(settle)
        return future

    # for the floors above

    def on_settled(self, fn: Callable[[], object]) -> None:
        """As `add_done_callback`, for code of ours that is run for every call: no argument, and no context of its own.

        `fn` runs in that of whoever settles.
        """
        self._waiters.append(fn)
        if self._result is not UNSET and self._withdraw(fn):
            self._tell(fn)

    def tell_if_cancelled(self, hearer: Hearer) -> None:
        """Tell `hearer` where it is cancelled, now or later, in that thread; one can be told, and may be told twice.

        For those to whom no other end means anything: it costs nothing where the reply is answered.
        """
        self._hearer = hearer
        if self._result is not UNSET:  # then look: who settles does it the other way round
            self._hearer = None
            if self.cancelled():
                self._tell(hearer.reply_cancelled)

    def stay_in(self, table: dict[Reply[Any], None]) -> None:
        """Be in `table` until settled. No closure for this: of deferred replies there are thousands at once."""
        table[self] = None
        if steps.hook is not None:
            steps.hook("reply:joining", self)
        self._waiters.append(table)
        if self._result is not UNSET and self._withdraw(table):
            table.pop(self, None)

    def belongs_to(self, home: Life) -> None:
        """`home` is to answer; for replies that pykka made."""
        self._home = home

    def follow(self, other: Reply[T]) -> None:
        """Settle as `other` does; cancelling this one cancels that one."""

        def copy(done: Reply[T]) -> None:
            self._settle(done._result)

        def cancel(done: Reply[T]) -> None:
            if done.cancelled():
                other.cancel()

        other.add_done_callback(copy)
        self.add_done_callback(cancel)
