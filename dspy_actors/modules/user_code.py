"""`UserCode`: where users' own code runs, blocking code in task threads and coroutines on the programs loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from dspy_actors.errors import Busy, CallCancelled, ProgramError, ShuttingDown
from dspy_actors.lm.pulse import Pulse
from dspy_actors.runner import FRAME, Frame, current_frame
from supervisors.actor import Ref
from supervisors.current import CURRENT
from supervisors.deadline import deadline_at
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import Fenced, SystemStopped
from supervisors.exits import shown
from supervisors.kernel import Kernel
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply
from supervisors.tasks import Tasks

T = TypeVar("T")


class UserCode:
    """Runs users' code for one runtime. Every method is safe from any thread and returns at once.

    `down` says that the runtime's tree is being stopped: what ends then ends as `ShuttingDown`. How late the programs
    loop is, is measured from the first coroutine that runs there: a runtime without any has no such thread.
    """

    def __init__(self, kernel: Kernel, tasks: Callable[[], Ref[Any]], max_zombies: int) -> None:
        loop = kernel.dispatcher("loop")
        assert isinstance(loop, LoopDispatcher)
        self.down = False
        self._kernel = kernel
        self._tasks = tasks
        self._max_zombies = max_zombies
        self._loop = loop
        self._lock = PublishedLock()
        self._pulse = Pulse()
        self._beat: Reply[None] | None = None

    def came_up(self) -> None:
        """The runtime's tree stands."""
        self.down = False

    def went_down(self) -> None:
        """The runtime's tree is being stopped; the loop may be others' too, and stay."""
        self.down = True
        with self._lock:
            beat, self._beat = self._beat, None
        if beat is not None:
            beat.cancel()

    @property
    def refuses_threads(self) -> bool:
        """Whether so many abandoned threads are left that blocking user code is refused."""
        return self._kernel.zombies > self._max_zombies

    def reading(self) -> dict[str, object]:
        """How late the programs loop is, and how many abandoned threads are left in the whole system, and may be.

        Plain data; asks nobody. The lag, in seconds, is `None` as long as nothing has run there.
        """
        lag = None if self._beat is None else self._pulse.lag()
        return {"programs_loop_lag_seconds": lag, "zombies": self._kernel.zombies, "max_zombies": self._max_zombies}

    def in_thread(self, body: Callable[[], T], name: str) -> Reply[T]:
        """Run blocking user code in a task thread, inside the caller's frame. Cancelling the reply abandons it.

        A thread cannot be killed: one abandoned in the middle is fenced and counted, and when more than
        `max_zombies` of them are left new calls are refused with `Busy`.
        """
        if self.refuses_threads:
            msg = f"{self._kernel.zombies} abandoned threads have not come back; {name} is not started"
            raise Busy(msg, name=name)
        frame = current_frame()
        inside = body if frame is None or frame.envelope is None else _under_deadline(frame, body)
        reply: Reply[T] = Reply()
        tell = lambda error: reply.fail(ended_itself(name, error))  # noqa: E731 - a name would say no more
        with in_our_words(name):
            task = Tasks(self._tasks()).begin(_caught, (inside, tell), {})
        task.reply.add_done_callback(lambda settled: self._hand_over(settled, reply, name))
        reply.add_done_callback(lambda settled: task.abandon() if settled.cancelled() else None)
        return reply

    def on_loop(self, body: Coroutine[Any, Any, T]) -> Reply[T]:
        """Run a coroutine on the programs loop, inside the caller's frame. Cancelling the reply cancels it."""
        framed = self._framed(body)
        context = copy_context()
        context.run(CURRENT.set, None)  # it may outlive the task thread it was begun in
        try:
            with in_our_words("the program"):
                reply = self._loop.run(framed, partial(_too_late, body), context)
        except BaseException:
            framed.close()
            body.close()
            raise
        reply.on_settled(_GivenUp(self, body, reply))
        if self._beat is None:
            self._watch_loop()
        return reply

    def _watch_loop(self) -> None:
        with self._lock:
            if self._beat is None and not self.down:
                self._pulse.begin()
                with suppress(SystemStopped):
                    self._beat = self._loop.run(self._pulse.beat(), context=Context())

    def soon(self, body: Callable[[], object]) -> None:
        """Call `body` on the programs loop, soon; not at all once that has ended, and all calls with it.

        Takes no lock, so a finalizer may use it: it runs in the middle of anything.
        """
        try:
            self._loop.loop.call_soon_threadsafe(body)
        except (RuntimeError, SystemStopped):
            pass

    async def _framed(self, body: Coroutine[Any, Any, T]) -> T:
        before = cancellations()
        try:
            return await body
        except (SystemExit, KeyboardInterrupt) as error:
            msg = f"the program's code raised {shown(error)}; raise an Exception instead"
            raise ProgramError(msg, error_type=type(error).__name__) from error
        except asyncio.CancelledError as error:
            if self.down:
                raise cut_off("the call") from None
            if not was_cancelled(before):
                raise cancelled_itself(error) from error
            raise

    def drop(self, body: Coroutine[Any, Any, Any]) -> None:
        """Close a coroutine that was cancelled before it began; on its loop, where nobody else can begin it now."""
        try:
            self._loop.loop.call_soon_threadsafe(_close_unbegun, body)
        except (RuntimeError, SystemStopped):  # the loop has ended
            _close_unbegun(body)

    def _hand_over(self, settled: Reply[Any], reply: Reply[Any], name: str) -> None:
        if settled.cancelled():
            reply.cancel()
            return
        error = settled.exception()
        if error is None:
            value, raised = settled.take()
            if raised is None:
                reply.set(value)
            else:
                reply.fail(raised)
            return
        failure: Exception
        if self.down:
            failure = cut_off(name)
        else:  # not its own doing: that is told by `ended_itself` before
            failure = CallCancelled(f"the thread of {name} was stopped with its supervisor; make the call again")
            failure.__cause__ = error
        reply.fail(failure)


class _GivenUp:
    """Drops a coroutine whose reply was cancelled. A class of its own, for one is kept as long as a call."""

    __slots__ = ("_body", "_reply", "_user_code")

    def __init__(self, user_code: UserCode, body: Coroutine[Any, Any, Any], reply: Reply[Any]) -> None:
        self._user_code, self._body, self._reply = user_code, body, reply

    def __call__(self) -> None:
        """The reply is settled; in the settling thread."""
        if self._reply.cancelled():
            self._user_code.drop(self._body)


def ended(name: str, *, drains: bool = False) -> ShuttingDown:
    """What is told that comes too late: while the runtime waits for the calls under way, or after its end."""
    when = "while its runtime drains and lets no more calls in" if drains else "after its runtime had ended"
    return ShuttingDown(f"{name} was called {when}; make the call on another one")


def cut_off(name: str) -> ShuttingDown:
    """What a call is told that had begun before the end of the runtime."""
    return ShuttingDown(f"the runtime ended while {name} was under way; make the call on another one")


def _too_late(body: Coroutine[Any, Any, Any]) -> ShuttingDown:
    """For a coroutine that its loop did not come to before it ended."""
    _close_unbegun(body)
    return cut_off("the call")


@contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """What the kernel refuses, as an error of this package."""
    try:
        yield
    except SystemStopped as error:
        raise ended(name) from error
    except Fenced as error:
        msg = f"the call that this code belongs to is over, so it may not begin {name}"
        raise CallCancelled(msg) from error


def _under_deadline(frame: Frame, body: Callable[[], T]) -> Callable[[], T]:
    """`body` as a task thread runs it: inside `frame`, its actor calls bounded by the call's deadline."""
    assert frame.envelope is not None
    deadline = frame.envelope.deadline

    def run() -> T:
        token = FRAME.set(frame)
        try:
            with deadline_at(deadline):
                return body()
        finally:
            FRAME.reset(token)

    return run


def ended_itself(name: str, error: BaseException) -> ProgramError:
    """The program's code wanted to end what it runs in: an error of its own, as a value."""
    failure = ProgramError(f"{name} wanted to end what it runs in: {shown(error)}", error_type=type(error).__name__)
    failure.__cause__ = error
    return failure


def cancellations() -> int:
    """How often the task that asks was cancelled so far, by whoever."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def was_cancelled(before: int) -> bool:
    """Whether somebody has cancelled the task that asks since that number of times: if not, the error is the code's."""
    return cancellations() > before


def cancelled_itself(error: BaseException) -> ProgramError:
    """For a `CancelledError` that nobody asked for: what the program's code has awaited was cancelled.

    Let out as it is, it would end the task that awaits the program, and who waits for that task would never hear.
    """
    msg = "the program's code raised CancelledError, and nobody had cancelled its call: it awaited what was cancelled"
    return ProgramError(msg, error_type=type(error).__name__)


def _caught(body: Callable[[], T], tell: Callable[[BaseException], object]) -> tuple[T | None, Exception | None]:
    """What a user's code raises is its answer; only what is no `Exception` ends the task, which `tell` hears before."""
    try:
        return body(), None
    except Exception as error:
        return None, error
    except BaseException as error:
        tell(error)
        raise


def _close_unbegun(body: Coroutine[Any, Any, Any]) -> None:
    if inspect.iscoroutine(body) and inspect.getcoroutinestate(body) == inspect.CORO_CREATED:
        body.close()
