"""`Program`: the bound handle of a started module. It works from any thread and any event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from dspy_actors.envelope import Envelope, Scope, new_call_id
from dspy_actors.errors import DeadlineExceeded, DspyActorsError
from dspy_actors.example import Prediction
from dspy_actors.modules.instance import InstancePlan, ModuleInstance
from dspy_actors.modules.module import Module, run_awaited, run_blocking
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.record import Record
from dspy_actors.runner import (
    FRAME,
    Frame,
    Runner,
    Settings,
    current_frame,
    deadline_exceeded,
    fault_of,
    refuse_on_loop,
    settles,
)
from supervisors.actor import Ref
from supervisors.deadline import deadline_at
from supervisors.errors import ActorDied, CallTimeout, NotRegistered
from supervisors.reply import Reply
from supervisors.via import Via

T = TypeVar("T")
RESTART_PAUSE = 0.005
"""Seconds a queued call waits before it asks the successor of an actor that died."""

Trace = list[tuple[object, dict[str, object], object]]


class Host(Runner, Protocol):
    """What a handle needs of its runtime beyond running: whether calls are let in, and who counts them."""

    def begin_call(self, name: str) -> None:
        """Raise `ShuttingDown` once the runtime drains; otherwise count a call as open."""
        ...

    def end_call(self) -> None:
        """Count a call as finished."""
        ...

    def stop_program(self, ref: Ref[ModuleInstance]) -> None:
        """End a started program's actor."""
        ...


class Program:
    """A started module: call it, await `acall`, or `submit` it, from any thread and any loop.

    Every call ends in a `Prediction`, a typed error, or its deadline. `using` gives a handle on the same actor with
    other settings.
    """

    __slots__ = ("_host", "_instance", "_plan", "_settings", "_starting")

    def __init__(
        self, host: Host, plan: InstancePlan, instance: Via, settings: Settings, starting: Reply[Any] | None
    ) -> None:
        self._host = host
        self._plan = plan
        self._instance = instance
        self._settings = settings
        self._starting = starting

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self._plan.name

    @property
    def host(self) -> Host:
        """The runtime it runs in."""
        return self._host

    @property
    def settings(self) -> Settings:
        """What holds for calls made outside any `with runtime` block."""
        return self._settings

    @property
    def module(self) -> Module:
        """The module of the active version."""
        return self._plan.versions.active.module

    @property
    def version(self) -> int:
        """The number of the active version."""
        return self._plan.versions.active.version

    def metrics(self) -> dict[str, object]:
        """Calls, successes, errors by kind, seconds, in flight and queued, read without a message."""
        admission = self._plan.admission
        return {**self._plan.metrics.snapshot(), "inflight": len(admission.running), "queued": admission.waiting}

    def __repr__(self) -> str:
        return f"Program({self.name!r}, version={self.version})"

    # -- calling ------------------------------------------------------------------------------------------------

    def __call__(self, **inputs: Any) -> Prediction:
        """Run the program, blocking. Raises `BlockingCall` on a thread whose event loop is running."""
        return self.run(inputs, self._in_force())

    async def acall(self, **inputs: Any) -> Prediction:
        """Run the program without blocking the event loop. Cancelling the awaiting task cancels the call."""
        outcome = await self.outcome(inputs, self._in_force())
        return outcome.unwrap()

    def submit(self, **inputs: Any) -> Reply[Prediction]:
        """Begin a call on the runtime's programs loop; the reply can be waited for, awaited or cancelled."""
        return self._host.run_on_loop(self.acall(**inputs))

    def using(self, **changes: Any) -> Program:
        """A handle on the same actor with other settings: `lm`, `adapter`, `deadline`, `tenant`, `priority`, …"""
        return Program(self._host, self._plan, self._instance, self._settings.bind(**changes), self._starting)

    def activate(self, module: Module) -> int:
        """Make `module` the version that new calls run; calls under way finish with theirs. Returns its number."""
        record = self._plan.versions.add(module.deepcopy())
        return self._plan.versions.activate(record.version).version

    def roll_back(self, version: int) -> None:
        """Make an earlier version the active one again; raises `KeyError` for a number that was never given."""
        self._plan.versions.activate(version)

    def stop(self) -> None:
        """End the actor. Calls under way finish; new ones raise."""
        ref = self._instance.whereis()
        if ref is not None:
            self._host.stop_program(ref)

    # -- the call itself ----------------------------------------------------------------------------------------

    def run(self, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """One call under `settings`, blocking."""
        refuse_on_loop(self.name)
        frame = self._begin(settings, None)
        started = self._host.clock.now()
        kind: str | None = "cancelled"
        admitted = False
        try:
            record = self._admit(frame)
            admitted = True
            prediction = self._execute(record.module, inputs, frame)
            kind = None
            return _annotated(prediction, frame, record)
        except Exception as error:
            kind = kind_of(error)
            raise
        finally:
            if admitted:
                self._book(frame, kind, self._host.clock.now() - started)
            self._host.end_call()

    async def outcome(
        self,
        inputs: dict[str, Any],
        settings: Settings,
        *,
        trace: Trace | None = None,
        variant: Module | None = None,
    ) -> Outcome:
        """One call under `settings`, awaited, with every failure as a value. Only cancellation is raised.

        `trace` collects (predictor, inputs, prediction) of every predictor that ran; `variant` runs in place of the
        active version, for a search that tries parameters one call long.
        """
        frame = self._begin(settings, trace)
        assert frame.envelope is not None
        started = self._host.clock.now()
        record: Record | None = None
        prediction: Prediction | None = None
        failure: Exception | None = None
        try:
            record = await self._admit_awaited(frame)
            module = record.module if variant is None else variant
            prediction = _annotated(await self._execute_awaited(module, inputs, frame), frame, record)
        except Exception as error:
            failure = error
        except BaseException:
            if record is not None:
                self._book(frame, "cancelled", self._host.clock.now() - started)
            raise
        finally:
            self._host.end_call()
        seconds = self._host.clock.now() - started
        if record is not None:
            self._book(frame, None if failure is None else kind_of(failure), seconds)
        return _outcome(frame, seconds, prediction, failure)

    def _in_force(self) -> Settings:
        frame = current_frame()
        if frame is not None and frame.runner is self._host:
            return frame.settings
        return self._settings

    def _begin(self, settings: Settings, trace: Trace | None) -> Frame:
        self._host.begin_call(self.name)
        envelope = Envelope(
            call_id=new_call_id(),
            path=(self.name,),
            deadline=self._host.clock.now() + settings.deadline,
            tenant=settings.tenant,
            priority=settings.priority,
            sample=settings.sample,
        )
        return Frame(self._host, settings, envelope, Scope(trace))

    # -- admission ----------------------------------------------------------------------------------------------

    def _admit(self, frame: Frame) -> Record:
        call_id = _envelope(frame).call_id
        self.wait_started()
        while not self._plan.admission.enter(call_id):
            try:
                self._instance.within(self._left(frame)).call(ModuleInstance.admit, call_id)
                break
            except CallTimeout as error:
                raise self._not_admitted(frame) from error
            except (ActorDied, NotRegistered):  # queue again, at the successor
                self._plan.admission.forsake()
                Reply[None]().wait(min(RESTART_PAUSE, self._left(frame)), self._host.clock)
        return self._plan.versions.active

    async def _admit_awaited(self, frame: Frame) -> Record:
        call_id = _envelope(frame).call_id
        if self._starting is not None:
            await self._starting
            self._starting = None
        while not self._plan.admission.enter(call_id):
            try:
                await self._instance.within(self._left(frame)).acall(ModuleInstance.admit, call_id)
                break
            except CallTimeout as error:
                raise self._not_admitted(frame) from error
            except asyncio.CancelledError:
                self._instance.cast(ModuleInstance.withdraw, call_id)
                raise
            except (ActorDied, NotRegistered):
                self._plan.admission.forsake()
                await self._host.clock.sleep(min(RESTART_PAUSE, self._left(frame)))
        return self._plan.versions.active

    def _not_admitted(self, frame: Frame) -> DeadlineExceeded:
        self._instance.cast(ModuleInstance.withdraw, _envelope(frame).call_id)
        return deadline_exceeded("admission", frame)

    def wait_started(self) -> None:
        """Block until the actor is up; raises what kept it from starting."""
        if self._starting is not None:
            self._starting.get()
            self._starting = None

    def _left(self, frame: Frame) -> float:
        deadline = _envelope(frame).deadline
        assert deadline is not None
        return max(0.0, deadline - self._host.clock.now())

    def _book(self, frame: Frame, kind: str | None, seconds: float) -> None:
        """The call has ended: count it, free its place, and tell the actor if somebody waits for one."""
        self._plan.metrics.finish(kind, seconds)
        if self._plan.admission.leave(_envelope(frame).call_id):
            self._instance.cast(ModuleInstance.let_in)

    # -- execution ----------------------------------------------------------------------------------------------

    def _execute(self, module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
        token = FRAME.set(frame)
        try:
            if module.native:
                return run_blocking(module, inputs, frame)
            return self._wait(self._begin_foreign(module, inputs, frame), frame)
        finally:
            FRAME.reset(token)

    def _begin_foreign(self, module: Module, inputs: dict[str, Any], frame: Frame) -> Reply[Prediction]:
        if getattr(module, "forward", None) is None and getattr(module, "aforward", None) is not None:
            return self._host.run_on_loop(run_awaited(module, inputs, frame))
        return self._host.run_in_thread(lambda: run_blocking(module, inputs, frame), self.name)

    def _wait(self, reply: Reply[T], frame: Frame) -> T:
        assert frame.scope is not None
        try:
            settled = reply.wait(self._left(frame), self._host.clock)
        except BaseException:
            frame.scope.cancel()
            reply.cancel()
            raise
        if not settled and not reply.done():
            frame.scope.cancel()
            reply.cancel()
            raise deadline_exceeded("forward", frame)
        return reply.get(0)

    async def _execute_awaited(self, module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
        token = FRAME.set(frame)
        try:
            if module.native:
                return await module.steps(inputs)
            return await self._foreign_awaited(module, inputs, frame)
        finally:
            FRAME.reset(token)

    async def _foreign_awaited(self, module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
        assert frame.scope is not None
        if getattr(module, "aforward", None) is not None:
            try:
                async with asyncio.timeout(self._left(frame)):
                    return await run_awaited(module, inputs, frame)
            except TimeoutError as error:
                if isinstance(error, DspyActorsError) or self._left(frame) > 0:
                    raise
                raise deadline_exceeded("aforward", frame) from error
        reply = self._begin_foreign(module, inputs, frame)
        try:
            settled = await settles(reply, self._left(frame))
        except BaseException:
            frame.scope.cancel()
            raise
        if not settled and not reply.done():
            frame.scope.cancel()
            reply.cancel()
            raise deadline_exceeded("forward", frame)
        return reply.get(0)


def under_deadline(frame: Frame, body: Callable[[], T]) -> Callable[[], T]:
    """`body` as a task thread runs it: inside `frame`, its actor calls bounded by the call's deadline."""

    def run() -> T:
        token = FRAME.set(frame)
        try:
            with deadline_at(_envelope(frame).deadline):
                return body()
        finally:
            FRAME.reset(token)

    return run


def kind_of(error: BaseException) -> str:
    """The stable word for `error` in metrics and files: its `kind`, or its class's name."""
    return error.kind if isinstance(error, DspyActorsError) else type(error).__name__


def _envelope(frame: Frame) -> Envelope:
    assert frame.envelope is not None
    return frame.envelope


def _annotated(prediction: Prediction, frame: Frame, record: Record) -> Prediction:
    scope = frame.scope
    assert scope is not None
    return prediction.with_call(
        usage=scope.usage,
        attempts=scope.attempts,
        cached=scope.lm_calls > 0 and scope.cached == scope.lm_calls,
        model=scope.model,
        version=record.version,
    )


def _outcome(frame: Frame, seconds: float, prediction: Prediction | None, error: Exception | None) -> Outcome:
    scope = frame.scope
    assert scope is not None
    fault = None
    if error is not None:
        fault = fault_of(error) or fault_of(scope.fault)
    return Outcome(
        call_id=_envelope(frame).call_id,
        prediction=prediction,
        error=error,
        fault=fault,
        seconds=seconds,
        attempts=scope.attempts,
        cached=scope.cached,
        usage=scope.usage,
    )
