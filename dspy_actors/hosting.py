"""`RuntimeHost`: a running runtime as its programs and evaluations see it. Users hold a `Runtime` instead."""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

from dspy_actors.alerts import LOG_FAILED, write_log
from dspy_actors.arguments import flag, named
from dspy_actors.envelope import Envelope
from dspy_actors.errors import Busy, NoRuntime, UnknownProgram
from dspy_actors.evaluation.job import Job
from dspy_actors.example import Prediction
from dspy_actors.lm.breaker_book import BreakerBook
from dspy_actors.lm.layer import LMLayer
from dspy_actors.lm.limiter_book import LimiterBook
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest
from dspy_actors.modules.admission import Admission, Limits
from dspy_actors.modules.input_guard import InputGuard
from dspy_actors.modules.instance import InstancePlan, ModuleInstance
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program, no_module
from dspy_actors.modules.quarantine_book import QuarantineBook
from dspy_actors.modules.record import Versions
from dspy_actors.modules.results import Results
from dspy_actors.modules.user_code import UserCode, cut_off, ended, in_our_words
from dspy_actors.runner import Settings, Shows, current_frame, is_under_way
from dspy_actors.tree import EVALUATIONS, MODULES, TASKS, RuntimePlan, RuntimeSupervisor
from supervisors.actor import Ref
from supervisors.clock import Clock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied
from supervisors.kernel import Kernel
from supervisors.published_lock import PublishedLock
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.via import Via

T = TypeVar("T")

MAX_AMBIENT = 256
"""Programs called without a handle whose actors are kept; the one unused longest is ended first."""


class RuntimeHost:
    """Runs modules: starts their actors, lends them task threads, the programs loop and the models.

    Every method is safe from any thread.
    """

    def __init__(
        self, kernel: Kernel, registry: Registry, layer: LMLayer, settings: Settings, limits: Limits, max_zombies: int
    ) -> None:
        self.kernel = kernel
        self.registry = registry
        self.clock: Clock = kernel.clock
        self.telemetry = kernel.telemetry
        self.waits = layer.gatehouse.waits
        self.results = Results(kernel.clock, kernel.telemetry)
        layer.beside.extend((self.results.predictions, self.results.scores))
        self._user_code = UserCode(kernel, lambda: self._ref(TASKS), max_zombies)
        self.settings = settings
        self.limits = limits
        self.instances: dict[Hashable, ChildSpec] = {}
        self._programs: dict[Hashable, Program] = {}
        self._layer = layer
        self._client = layer.client
        self._fairness = layer.gatehouse.guarding.fairness
        self.quarantine = QuarantineBook(layer.quarantine)
        self.breakers = BreakerBook(layer.gatehouse)
        self.limiters = LimiterBook(layer.gatehouse)
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._lock = PublishedLock()
        self._ambient: OrderedDict[int, _Ambient] = OrderedDict()
        self._open = 0
        self._closing = False
        self._shut = False
        self._down = False
        self._idle: Reply[None] | None = None
        self._pauses: set[Reply[None]] = set()

    def start_tree(self, name: str) -> Any:
        """Start the tree of the runtime called `name`, again and again from what is published here; its root."""
        plan = RuntimePlan(name, self.registry, self._layer.plan, self.went_down, self.instances)
        return self.kernel.spawn(RuntimeSupervisor, plan, name=self.registry.via(name))

    # -- runner -------------------------------------------------------------------------------------------------

    def complete(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        """Ask a model; returns at once."""
        return self._client.submit(lm, request, envelope)

    def stream(self, lm: LM, request: LMRequest, envelope: Envelope) -> LMStream:
        """Ask a model for its answer in pieces; returns at once."""
        return self._client.stream(lm, request, envelope)

    def forget(self, answer: Answer) -> None:
        """Have the cache forget an answer that could not be read, if it has it; never blocks on a message."""
        if answer.key is not None:
            self._layer.cache.forget(answer.key, answer.response)

    def phase_of(self, reply: Reply[Any]) -> str | None:
        """What the call to a model behind `reply` waits for; `None` for any other reply."""
        return self._client.phase_of(reply)

    def run(self, module: Module, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """A new call of a module that has no handle, blocking."""
        with self._ambient_of(module) as program:
            return program.run(inputs, settings)

    async def arun(
        self, module: Module, inputs: dict[str, Any], settings: Settings, *, sink: Shows | None = None
    ) -> Prediction:
        """A new call of a module that has no handle, awaited."""
        with self._ambient_of(module) as program:
            outcome = await program.outcome(inputs, settings, sink=sink)
        return outcome.unwrap()

    def run_in_thread(self, body: Callable[[], T], name: str) -> Reply[T]:
        """Run blocking user code in a task thread: see `UserCode.in_thread`."""
        return self._user_code.in_thread(body, name)

    def run_on_loop(self, body: Coroutine[Any, Any, T]) -> Reply[T]:
        """Run a coroutine on the programs loop: see `UserCode.on_loop`."""
        try:
            self._same_process("the programs loop")
        except BaseException:
            body.close()
            raise
        return self._user_code.on_loop(body)

    def soon(self, body: Callable[[], object]) -> None:
        """Call `body` on the programs loop, soon: see `UserCode.soon`."""
        self._user_code.soon(body)

    def pause(self, seconds: float) -> Reply[None]:
        """Settles after `seconds`; fails with `ShuttingDown` at the runtime's end."""
        reply: Reply[None] = Reply()
        self._pauses.add(reply)
        timer = self.clock.call_at(self.clock.now() + seconds, lambda: reply.set(None))
        reply.add_done_callback(lambda _: timer.cancel())
        reply.add_done_callback(self._pauses.discard)
        if self._down:
            reply.fail(cut_off("the call"))
        return reply

    def warn(self, event: str, fields: Mapping[str, object]) -> None:
        """A warning in the log; where that fails, the event `LOG_FAILED` says so."""
        write_log(self.kernel.telemetry, LOG_FAILED, "warning", event, fields)

    # -- calls --------------------------------------------------------------------------------------------------

    def check_open(self, name: str) -> None:
        """Raise what a call would be refused with now; `name` is who wants to begin calls."""
        self._same_process(name)
        if self.closing:
            self._refuse_outsiders(name)

    def begin_call(self, name: str) -> None:
        """Count a call as open. Raises `ShuttingDown` once the runtime drains, `NoRuntime` in a forked child.

        What a call under way calls is let in while the runtime drains: without, that one could not finish.
        """
        if os.getpid() != self._pid:
            raise _elsewhere(name)
        with self._lock:
            if self._closing or self._down:
                self._refuse_outsiders(name)
            self._open += 1

    def _refuse_outsiders(self, name: str) -> None:
        """Raise `ShuttingDown`, unless the runtime only drains and who calls is inside of a call under way.

        That one's scope is closed before it is counted as ended: under the lock it is still open, and drain waits.
        """
        if self._down or self._shut or not is_under_way(current_frame(), self):
            raise ended(name, drains=not self._down)

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

    @property
    def refuses_threads(self) -> bool:
        """Whether blocking programs are refused with `Busy`, as too many threads were abandoned."""
        return self._user_code.refuses_threads

    def health(self) -> dict[str, object]:
        """What the programs are at, and what their code runs in, as plain data; asks no actor."""
        plans: list[InstancePlan] = [spec.args[0] for spec in list(self.instances.values())]
        queued = {plan.name: len(plan.admission.waiting) for plan in plans}
        programs = {
            "started": len(plans),
            "open_calls": self._open,
            "inflight": sum(len(plan.admission.running) for plan in plans),
            "queued": sum(queued.values()),
            "queued_by_program": {name: count for name, count in queued.items() if count},
        }
        return {"programs": programs, **self._user_code.reading()}

    def close_door(self) -> Reply[None]:
        """Let no more calls in but those made by calls under way; the reply settles when all have ended."""
        with self._lock:
            self._closing = True
            self._idle = self._idle or Reply()
            idle, none_open = self._idle, self._open == 0
        if none_open:
            idle.set(None)
        return idle

    def shut_door(self) -> None:
        """Let nobody in any more: the tree is about to be stopped."""
        with self._lock:
            self._closing = self._shut = True

    @property
    def closing(self) -> bool:
        """Whether new calls from outside are refused."""
        return self._closing or self._down or os.getpid() != self._pid

    def came_up(self) -> None:
        """The tree stands."""
        self._down = False
        self._user_code.came_up()
        self._client.reopen()
        self._layer.open()

    def went_down(self) -> None:
        """The tree has ended and nobody restarts it: every call that still waits ends now, with `ShuttingDown`."""
        self._down = True
        self._user_code.went_down()
        self._client.close()
        for reply in tuple(self._pauses):
            reply.fail(cut_off("the call"))

    def _same_process(self, name: str) -> None:
        if os.getpid() != self._pid:
            raise _elsewhere(name)

    # -- programs -----------------------------------------------------------------------------------------------

    def start(
        self,
        module: object,
        *,
        name: str | None = None,
        settings: Settings | None = None,
        limits: Limits | None = None,
        copied: bool = True,
        cached: bool = False,
        quarantine: bool = False,
    ) -> Program:
        """Start an actor for `module`, of which it gets a private copy."""
        if not isinstance(module, Module):
            raise TypeError(no_module(module))
        named("Runtime.start", "name", name)
        flag("Runtime.start", "cached", cached)
        flag("Runtime.start", "quarantine", quarantine)
        label = name or f"{type(module).__name__.lower()}-{next(self._numbers)}"
        versions = Versions(module.deepcopy() if copied else module)
        results = self.results if cached else None
        closed = self._layer.breakers_closed
        guard = InputGuard(self._layer.quarantine, label, closed, always=quarantine, keeps=cached)
        plan = InstancePlan(label, versions, Admission(label, limits or self.limits), self._fairness, results, guard)
        via = self.registry.via(("module", label))
        spec = ChildSpec(label, ModuleInstance, args=(plan,), name=via, shutdown=5.0)
        self.instances.setdefault(via.key, spec)
        try:
            with in_our_words(f"rt.start of {label}"):
                starting = self._ref(MODULES).send_request(DynamicSupervisor.start_child, spec)
        except BaseException:
            self._forget(spec)
            raise
        program = Program(self, plan, via, settings or self.settings, starting)
        if copied and self.instances.get(via.key) is spec:
            self._programs[via.key] = program
        starting.add_done_callback(lambda done: self._forget(spec) if _has_failed(done) else None)
        return program

    def program(self, name: str) -> Program:
        """The handle that `start` gave of the program called `name`. Raises `UnknownProgram`."""
        found = self._programs.get(("module", name))
        if found is None:
            there_are = ", ".join(sorted(repr(each.name) for each in list(self._programs.values()))) or "none"
            msg = f"no program called {name!r} runs in this runtime; there are: {there_are}"
            raise UnknownProgram(msg, name=name)
        return found

    def _forget(self, spec: ChildSpec) -> None:
        if self.instances.get(spec.name.key) is spec:
            self.instances.pop(spec.name.key, None)
            self._programs.pop(spec.name.key, None)

    def stop_program(self, plan: InstancePlan, instance: Via) -> None:
        """End a started program's actor, unless another one has its name; returns at once."""
        spec = self.instances.get(instance.key)
        if spec is None or spec.args[0] is not plan:
            return
        self._forget(spec)
        ref, modules = instance.whereis(), self.registry.whereis(MODULES)
        if ref is not None and modules is not None and not self._down:
            Context().run(modules.cast, DynamicSupervisor.terminate_child, ref)  # code of a dead call cleans up too

    @contextmanager
    def _ambient_of(self, module: Module) -> Iterator[Program]:
        """The program of a module that is called without a handle, started at its first call, kept during a call."""
        self._same_process(type(module).__name__)
        with self._lock:
            if self._closing or self._down:
                self._refuse_outsiders(type(module).__name__)
            found = self._ambient.get(id(module))
            if found is None:
                found = self._ambient[id(module)] = _Ambient(module, self.start(module, copied=False))
            self._ambient.move_to_end(id(module))
            found.users += 1
            unused = self._unused()
        for program in unused:
            program.stop()
        try:
            yield found.program
        finally:
            with self._lock:
                found.users -= 1

    def _unused(self) -> list[Program]:
        """Take out what is too much, unused longest first; what has a call under way stays."""
        surplus = len(self._ambient) - MAX_AMBIENT
        if surplus <= 0:
            return []
        idle = [key for key, each in self._ambient.items() if each.users == 0][:surplus]
        return [self._ambient.pop(key).program for key in idle]

    # -- evaluations --------------------------------------------------------------------------------------------

    @property
    def evaluations(self) -> Ref[DynamicSupervisor]:
        """The supervisor of evaluation actors."""
        return self._ref(EVALUATIONS)

    def stop_evaluations(self, job: Job) -> None:
        """End the evaluation actors of `job`; the calls they have open are cancelled."""
        for ref in list(job.actors):
            self.end_evaluation(ref)

    def end_evaluation(self, ref: Ref[Any]) -> None:
        """End one evaluation actor."""
        evaluations = self.registry.whereis(EVALUATIONS)
        if evaluations is not None and not self._down:
            Context().run(evaluations.cast, DynamicSupervisor.terminate_child, ref)  # as in `stop_program`

    # -- within -------------------------------------------------------------------------------------------------

    def _ref(self, name: str) -> Ref[Any]:
        ref = self.registry.whereis(name)
        if ref is None and self.closing:
            raise ended("the program", drains=not self._down)
        if ref is None:
            msg = f"the runtime is restarting its {name}; make the call again"
            raise Busy(msg, name=name)
        return ref


@dataclass(slots=True)
class _Ambient:
    """A module that is called without a handle, its program, and how many calls are under way."""

    module: Module
    program: Program
    users: int = 0


def _has_failed(starting: Reply[Any]) -> bool:
    """Whether a program's actor was refused; one whose supervisor died meanwhile is started by the successor."""
    error = starting.exception()
    return error is not None and not isinstance(error, ActorDied)


def _elsewhere(name: str) -> NoRuntime:
    msg = f"{name} belongs to a runtime of the parent process, whose threads do not survive fork(); "
    return NoRuntime(message=msg + "start a Runtime in the child, after the fork")
