"""Tasks: a function that runs beside its caller, in a temporary actor, and ends in a value or a typed error."""

from __future__ import annotations

import inspect
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, ParamSpec, TypeAlias, TypeVar, overload

from supervisors.actor import Actor
from supervisors.answering import answer
from supervisors.blocking import blocking
from supervisors.child import Entry
from supervisors.current import BESIDE, CURRENT
from supervisors.deadline import current_deadline
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, CallTimeout
from supervisors.exits import Crash, Exit, Shutdown, is_clean
from supervisors.kernel import current_kernel
from supervisors.lineage import CALLERS, MANY
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.spec import BrutalKill, ChildSpec, Restart

T = TypeVar("T")
P = ParamSpec("P")

TIMEOUT = 5.0
"""Seconds a result is waited for unless the caller says otherwise or has a nearer deadline."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A task's value; `input` is the item it was made from, in a stream."""

    value: T
    input: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A task ended without a value; `input` is the item it was given, in a stream."""

    exit: Exit
    input: Any = None


Outcome: TypeAlias = Ok[T] | Failed


class Job(Generic[T]):
    """One function with its arguments, on its way from the caller to the actor that runs it."""

    __slots__ = ("args", "context", "fn", "kwargs", "owner", "ref", "reply", "started", "unwanted")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.context = copy_context()
        self.reply: Reply[T]
        self.ref: Ref[Any] | None = None
        self.owner: Ref[Any] | None = None  # the actor that it ends with
        self.unwanted = False
        self.started: Reply[None] = Reply()

    @property
    def name(self) -> str:
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """The function and its arguments, for reports."""
        return self.name, self.args, self.kwargs

    def begin(self, ref: Ref[Any]) -> None:
        """The actor is there: it is known before it works, and reports name it after its function."""
        self.ref = ref
        ref.mailbox.label = f"{self.name}#{ref.incarnation}"

    def inherit(self) -> None:
        """Give the actor that runs this the caller's context variables, its deadline among them.

        All but those that say whose code is running: what a fenced task does is refused as its own doing.
        """
        for var, value in self.context.items():
            if var is not CURRENT and var is not BESIDE:
                var.set(value)
        caller = self.context.get(CURRENT)
        if caller is not None:
            CALLERS.set((caller.name, *self.context.get(CALLERS, ()))[:MANY])


class TaskEntry(Entry):
    """What the supervisor knows of a task: also whether who began it has given it up."""

    __slots__ = ("_job",)

    def __init__(self, job: Job[Any]) -> None:
        super().__init__(_SPEC)
        self._job = job

    @property
    def is_unwanted(self) -> bool:
        return self._job.unwanted


class TaskActor(Actor):
    """Runs one plain function on a thread of the pool, and ends."""

    def init(self, job: Job[Any]) -> None:
        self.job = job
        job.begin(self.ref)
        self.continue_with(type(self).work)

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"message": self.job.call, "state": {}}

    def work(self) -> Any:
        job = self.job
        job.inherit()
        with blocking():  # it is a stranger's code: the pool must not count on this thread
            value = job.fn(*job.args, **job.kwargs)
        job.reply.set(value)
        self.stop()


class LoopTaskActor(Actor):
    """Runs one coroutine function on the loop, and ends; it can be cancelled at every `await`."""

    dispatcher: ClassVar[str] = "loop"

    def init(self, job: Job[Any]) -> None:
        self.job = job
        job.begin(self.ref)
        self.continue_with(type(self).work)

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"message": self.job.call, "state": {}}

    async def work(self) -> None:
        job = self.job
        job.inherit()
        job.reply.set(await job.fn(*job.args, **job.kwargs))
        self.stop()


# One spec for all tasks: a task is never started again, so nothing of it needs to be kept.
_SPEC = ChildSpec("task", TaskActor, restart=Restart.TEMPORARY)


class TaskSupervisor(DynamicSupervisor):
    """Looks after tasks: temporary children, never restarted, stopped together at its end. Use it through `Tasks`.

    A crash is reported; that a task was fenced because its caller wanted no more of it is not.
    """

    @answer
    def run(self, job: Job[T]) -> Reply[T]:
        """Start a task; its value is the answer. Answers `MaxChildren` if there are `max_children` already."""
        self.check_room()
        job.reply = self.defer()
        _bind(job, self._launch(job))
        job.started.set(None)
        return job.reply

    @answer
    def run_alone(self, job: Job[Any]) -> Ref[Any]:
        """Start a task whose value nobody wants; its ref is the answer, or `MaxChildren`."""
        self.check_room()
        job.reply = Reply()
        return self._launch(job)

    def _launch(self, job: Job[Any]) -> Ref[Any]:
        cls = LoopTaskActor if inspect.iscoroutinefunction(job.fn) else TaskActor
        entry = TaskEntry(job)
        job.ref = self.keep(entry, self._children.launch(entry, cls, job))
        return job.ref


def _bind(job: Job[Any], ref: Ref[Any]) -> None:
    """Tie the answer to the life of the task: its death without a value fails it, giving it up ends the task."""
    reply = job.reply

    def died(down: Reply[Exit]) -> None:
        reply.fail(ActorDied(ref.name, down.take(), True))

    def settled(done: Reply[Any]) -> None:
        if done.cancelled():
            ref.mailbox.request_exit(Shutdown("nobody waits for it"))

    ref.down().add_done_callback(died)
    reply.add_done_callback(settled)
    if job.unwanted:  # shut down before it had a ref to be shut down by
        ref.mailbox.request_exit(Shutdown("task shutdown"))


class Task(Generic[T]):
    """A running task. Any thread or loop may wait for it, as often as it likes.

    `result`, `yield_` and `shutdown` block; on a running asyncio loop use `await task`, `aresult` and `ayield`.
    A task that ended without a value raises `ActorDied`, whose `exit` and `__cause__` say why.
    """

    __slots__ = ("_clock", "_job", "reply")

    def __init__(self, job: Job[T], reply: Reply[T], clock: Any) -> None:
        self._job = job
        self._clock = clock
        self.reply = reply

    def __repr__(self) -> str:
        return f"<Task {self._job.name}, {'done' if self.done() else 'running'}>"

    @property
    def ref(self) -> Ref[Any] | None:
        """The actor that runs it; None until it is started."""
        return self._job.ref

    def done(self) -> bool:
        return self.reply.done()

    def result(self, timeout: float | None = None) -> T:
        """The value. `timeout` in seconds: 5, or what is left of the caller's deadline if that is less.

        Raises `CallTimeout` (the task goes on), `ActorDied`, `MaxChildren`.
        """
        seconds = self._seconds(timeout)
        if not self.reply.wait(seconds, self._clock):
            raise CallTimeout(self._job.name, seconds, "timeout=")
        return self.reply.take()

    async def aresult(self, timeout: float | None = None) -> T:
        """As `result`, on a loop. Cancelling the waiting asyncio task ends this task."""
        seconds = self._seconds(timeout)
        if not self.reply.done() and not await self.reply.settles(seconds, self._clock):
            raise CallTimeout(self._job.name, seconds, "timeout=")
        return self.reply.take()

    def __await__(self) -> Generator[Any, None, T]:
        return self.reply.__await__()

    def yield_(self, timeout: float | None = None) -> Outcome[T] | None:
        """The outcome as a value; None if it is not there within `timeout` seconds. The task goes on."""
        return self.outcome() if self.reply.wait(self._seconds(timeout), self._clock) else None

    async def ayield(self, timeout: float | None = None) -> Outcome[T] | None:
        """As `yield_`, on a loop."""
        waiter: Reply[None] = Reply()
        self.reply.add_done_callback(lambda _: waiter.set(None))
        try:
            await waiter.aget(self._seconds(timeout), self._clock)
        except CallTimeout:
            return None
        return self.outcome()

    def outcome(self, input: Any = None) -> Outcome[T]:
        """How a finished task ended, as a value."""
        error = self.reply.exception()
        if error is None:
            return Ok(self.reply.take(), input)
        if isinstance(error, ActorDied):
            return Failed(error.exit, input)
        return Failed(Shutdown("cancelled") if self.reply.cancelled() else Crash(error), input)

    def shutdown(self, timeout: float | BrutalKill = 5.0) -> Outcome[T] | None:
        """End the task: its outcome if it had finished, None if it stopped cleanly, `Failed(Killed())` if not.

        A coroutine is cancelled. A plain function cannot be: after `timeout` seconds its actor is fenced, and its
        thread is a zombie until the function returns.
        """
        job = self._job
        if self.reply.done():
            return self.outcome()
        job.unwanted = True
        ref = job.ref
        if ref is None:  # its supervisor will see that it is unwanted
            self.reply.cancel()
            return None
        if isinstance(timeout, BrutalKill):
            ref.mailbox.fence()
        else:
            ref.mailbox.request_exit(Shutdown("task shutdown"))
        down = ref.down()
        if not down.wait(0.0 if isinstance(timeout, BrutalKill) else timeout, self._clock):
            ref.mailbox.fence()
            down.wait(None, self._clock)
        exit = down.take()  # noqa: A001
        if self.reply.done() and self.reply.exception() is None:
            return self.outcome()
        return None if is_clean(exit) or isinstance(timeout, BrutalKill) else Failed(exit)

    def ignore(self) -> Outcome[T] | None:
        """Stop caring: its outcome if it has finished, else None. The task goes on, also beyond the end of the actor
        it was tied to by `async_`, and what comes of it is dropped.
        """
        owner, self._job.owner = self._job.owner, None
        if owner is not None and self.ref is not None:
            owner.mailbox.unwatch(self.ref.mailbox)
        return self.outcome() if self.done() else None

    def abandon(self) -> None:
        """Fence the task now, without waiting: it is officially dead; a thread that is still in it is a zombie.

        Nothing is reported: the event ("actor", "zombie") tells of the thread.
        """
        self._job.unwanted = True
        if self._job.ref is None:
            self.reply.cancel()
        else:
            self._job.ref.mailbox.fence()

    def _seconds(self, timeout: float | None) -> float:
        if timeout is not None:
            return timeout
        deadline = current_deadline()
        return TIMEOUT if deadline is None else max(0.0, min(TIMEOUT, deadline - self._clock.now()))


class Tasks:
    """How to run functions under the `TaskSupervisor` behind `ref`. A plain value: make as many as you like."""

    __slots__ = ("clock", "ref")

    def __init__(self, ref: Ref[TaskSupervisor]) -> None:
        self.ref = ref
        self.clock = ref.mailbox.home.clock

    @overload
    def async_(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def async_(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def async_(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """As `async_nolink`, and the task ends with the actor that called this, with the same exit.

        The other way round there is no bond: the crash of the task is the caller's when it waits for the result.
        """
        task = self.async_nolink(fn, *args, **kwargs)
        me: Any = CURRENT.get()
        job = task._job
        if me is not None:
            kernel, job.owner = current_kernel(), me.ref

            def tie(_: object) -> None:
                if job.ref is not None and job.owner is not None:
                    kernel.bind(job.ref, job.owner)

            job.started.add_done_callback(tie)
        return task

    def start_child(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Ref[Any]:
        """Run `fn` beside the caller for what it does and not for its value; the actor that runs it.

        Never restarted; has five seconds to stop when it is told to. Its crash is reported. Raises `MaxChildren`, and
        `BlockingCallOnLoop` on a running asyncio loop, where `astart_child` is for.
        """
        return self.ref.call(TaskSupervisor.run_alone, Job(fn, args, kwargs))

    async def astart_child(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Ref[Any]:
        """As `start_child`, on a loop."""
        return await self.ref.acall(TaskSupervisor.run_alone, Job(fn, args, kwargs))

    @overload
    def async_nolink(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]: ...
    @overload
    def async_nolink(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def async_nolink(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Run `fn` beside the caller: a coroutine function on the "loop" dispatcher, any other on a pool thread.

        The task sees the caller's context variables, so also its deadline. Its crash harms nobody but the task.
        Blocks until the task is started and raises `MaxChildren`; on a running asyncio loop it does not wait, and
        the error comes out of `await task`. Raises `ActorDied` if the supervisor is gone, and `CallTimeout` if it has
        not come to it within five seconds; then the task never runs.
        """
        task = self.begin(fn, args, kwargs)
        if _get_running_loop() is None:
            started = task._job.started
            task.reply.add_done_callback(lambda _: started.set(None))
            if not started.wait(TIMEOUT, self.clock):
                task.reply.cancel()  # nobody has it, so it is not to run later either
                raise CallTimeout(self.ref.name, TIMEOUT)
            if task.ref is None:
                task.reply.take()
        return task

    def begin(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        """As `async_nolink`, never waiting: whatever goes wrong comes out of the task."""
        job: Job[Any] = Job(fn, args, kwargs)
        return Task(job, self.ref.send_request(TaskSupervisor.run, job), self.clock)
