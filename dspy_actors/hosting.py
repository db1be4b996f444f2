"""`RuntimeHost`: a running runtime as its programs and evaluations see it. Users hold a `Runtime` instead."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dspy_actors.envelope import Envelope
from dspy_actors.errors import Busy, ProgramError, ShuttingDown
from dspy_actors.evaluation.job import Job
from dspy_actors.example import Prediction
from dspy_actors.lm.client import LMClient
from dspy_actors.lm.lm import LM
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest
from dspy_actors.modules.admission import Admission, Limits
from dspy_actors.modules.instance import InstancePlan, ModuleInstance
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program, under_deadline
from dspy_actors.modules.record import Versions
from dspy_actors.runner import FRAME, Frame, Settings
from dspy_actors.tree import EVALUATIONS, MODULES, TASKS
from supervisors.actor import Ref
from supervisors.clock import Clock
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, UsedAfterFork
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.tasks import Tasks

T = TypeVar("T")

MAX_AMBIENT = 256
"""Programs called without a handle whose actors are kept; the one unused longest is ended first."""


class RuntimeHost:
    """Runs modules: starts their actors, lends them task threads, the programs loop and the models.

    Every method is safe from any thread.
    """

    def __init__(
        self, kernel: Kernel, registry: Registry, client: LMClient, settings: Settings, limits: Limits, max_zombies: int
    ) -> None:
        self.kernel = kernel
        self.registry = registry
        self.clock: Clock = kernel.clock
        programs_loop = kernel.dispatcher("loop")
        assert isinstance(programs_loop, LoopDispatcher)
        self._programs_loop = programs_loop
        self.settings = settings
        self.limits = limits
        self._client = client
        self._max_zombies = max_zombies
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ambient: OrderedDict[int, tuple[Module, Program]] = OrderedDict()
        self._open = 0
        self._closing = False
        self._idle: Reply[None] | None = None

    # -- runner -------------------------------------------------------------------------------------------------

    def complete(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        """Ask a model; returns at once."""
        return self._client.submit(lm, request, envelope)

    def run(self, module: Module, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """A new call of a module that has no handle, blocking."""
        return self.ambient(module).run(inputs, settings)

    async def arun(self, module: Module, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """A new call of a module that has no handle, awaited."""
        outcome = await self.ambient(module).outcome(inputs, settings)
        return outcome.unwrap()

    def run_in_thread(self, body: Callable[[], T], name: str) -> Reply[T]:
        """Run blocking user code in a task thread, inside the caller's frame. Cancelling the reply abandons it.

        A thread cannot be killed: one abandoned in the middle is fenced and counted, and when more than
        `max_zombies` of them are left new calls are refused with `Busy`.
        """
        if self.kernel.zombies > self._max_zombies:
            msg = f"{self.kernel.zombies} abandoned threads have not come back; {name} is not started"
            raise Busy(msg, name=name)
        frame = FRAME.get()
        inside = body if frame is None or frame.envelope is None else under_deadline(frame, body)
        reply: Reply[T] = Reply()
        task = self._tasks().begin(_caught, (inside,), {})
        task.reply.add_done_callback(lambda settled: _hand_over(settled, reply, name))
        reply.add_done_callback(lambda settled: task.abandon() if settled.cancelled() else None)
        return reply

    def run_on_loop(self, body: Coroutine[Any, Any, T]) -> Reply[T]:
        """Run a coroutine on the programs loop, inside the caller's frame. Cancelling the reply cancels it."""
        frame = FRAME.get()
        return self._programs_loop.run(_framed(body, frame))

    # -- calls --------------------------------------------------------------------------------------------------

    def begin_call(self, name: str) -> None:
        """Count a call as open. Raises `ShuttingDown` once the runtime drains, `UsedAfterFork` in a forked child."""
        if os.getpid() != self._pid:
            raise UsedAfterFork(name)
        with self._lock:
            if self._closing:
                msg = f"{name} was called while its runtime drains or has ended; make the call on another one"
                raise ShuttingDown(msg)
            self._open += 1

    def end_call(self) -> None:
        """Count a call as finished."""
        with self._lock:
            self._open -= 1
            idle = self._idle if self._open == 0 else None
        if idle is not None:
            idle.set(None)

    @property
    def open_calls(self) -> int:
        """Calls that have begun and not ended."""
        return self._open

    def close_door(self) -> Reply[None]:
        """Let no more calls in; the reply settles when those under way have ended."""
        with self._lock:
            self._closing = True
            self._idle = self._idle or Reply()
            idle, none_open = self._idle, self._open == 0
        if none_open:
            idle.set(None)
        return idle

    @property
    def closing(self) -> bool:
        """Whether new calls are refused."""
        return self._closing

    # -- programs -----------------------------------------------------------------------------------------------

    def start(
        self,
        module: object,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        limits: Limits | None = None,
        copied: bool = True,
    ) -> Program:
        """Start an actor for `module`, of which it gets a private copy."""
        if not isinstance(module, Module):
            msg = f"only a Module can be started, not {type(module).__name__}; subclass dspy_actors.Module"
            raise TypeError(msg)
        label = name or f"{type(module).__name__.lower()}-{next(self._numbers)}"
        versions = Versions(module.deepcopy() if copied else module)
        plan = InstancePlan(label, versions, Admission(label, limits or self.limits))
        via = self.registry.via(("module", label))
        spec = ChildSpec(label, ModuleInstance, args=(plan,), name=via, shutdown=5.0)
        starting = self._ref(MODULES).send_request(DynamicSupervisor.start_child, spec)
        return Program(self, plan, via, settings or self.settings, starting)

    def stop_program(self, ref: Ref[ModuleInstance]) -> None:
        """End a started program's actor; returns at once."""
        modules = self.registry.whereis(MODULES)
        if modules is not None:
            modules.cast(DynamicSupervisor.terminate_child, ref)

    def ambient(self, module: Module) -> Program:
        """The program of a module that is called without a handle, started at its first call."""
        with self._lock:
            found = self._ambient.get(id(module))
            if found is not None:
                self._ambient.move_to_end(id(module))
                return found[1]
            program = self.start(module, copied=False)
            self._ambient[id(module)] = (module, program)
            oldest = self._ambient.popitem(last=False)[1][1] if len(self._ambient) > MAX_AMBIENT else None
        if oldest is not None:
            oldest.stop()
        return program

    # -- evaluations --------------------------------------------------------------------------------------------

    @property
    def evaluations(self) -> Ref[DynamicSupervisor]:
        """The supervisor of evaluation actors."""
        return self._ref(EVALUATIONS)

    def stop_evaluations(self, job: Job) -> None:
        """End the evaluation actors of `job`; the calls they have open are cancelled."""
        for ref in job.actors:
            self.evaluations.cast(DynamicSupervisor.terminate_child, ref)

    # -- within -------------------------------------------------------------------------------------------------

    def _tasks(self) -> Tasks:
        return Tasks(self._ref(TASKS))

    def _ref(self, name: str) -> Ref[Any]:
        ref = self.registry.whereis(name)
        if ref is None:
            msg = "the runtime is not running; write `with Runtime(...) as rt:` or rt.start_up()"
            raise ShuttingDown(msg)
        return ref


def _caught(body: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What a user's code raises is its answer; only what is no `Exception` ends the task."""
    try:
        return body(), None
    except Exception as error:
        return None, error


def _hand_over(settled: Reply[Any], reply: Reply[Any], name: str) -> None:
    if settled.cancelled():
        reply.cancel()
        return
    error = settled.exception()
    if error is None:
        value, raised = settled.get(0)
        if raised is None:
            reply.set(value)
        else:
            reply.fail(raised)
        return
    cause = error.__cause__ if isinstance(error, ActorDied) and error.__cause__ is not None else error
    failure = ProgramError(f"{name} ended its thread: {cause!r}", error_type=type(cause).__name__)
    failure.__cause__ = cause
    reply.fail(failure)


async def _framed(body: Coroutine[Any, Any, T], frame: Frame | None) -> T:
    FRAME.set(frame)
    return await body
