"""`Program`: the bound handle of a started module. It works from any thread and any event loop."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, Never

from dspy_actors.envelope import Scope
from dspy_actors.errors import InputError, NameTaken
from dspy_actors.example import Prediction
from dspy_actors.modules.execution import execute, executed
from dspy_actors.modules.host import Host
from dspy_actors.modules.input_guard import UNGUARDED, Visit
from dspy_actors.modules.instance import InstancePlan
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import CALL, Outcome, annotated, ended_by, outcome_of, tell_call
from dspy_actors.modules.own_inputs import by_name, check_successor
from dspy_actors.modules.program_stream import ProgramStream, open_stream
from dspy_actors.modules.queueing import free_place, take_place, watched
from dspy_actors.modules.record import Record
from dspy_actors.modules.results import call_key, keep, known
from dspy_actors.modules.selection import Selection
from dspy_actors.modules.sink import Statuses
from dspy_actors.modules.user_code import ended_itself
from dspy_actors.runner import (
    FRAME,
    Frame,
    Settings,
    Shows,
    call_around,
    checkpoint,
    current_frame,
    drive,
    fault_of,
    new_envelope,
    refuse_on_loop,
    settle_in,
)
from supervisors.errors import ActorDied, AlreadyStarted
from supervisors.reply import Reply
from supervisors.via import Via

Trace = list[tuple[object, dict[str, object], object]]


class Program:
    """A started module: call it, await `acall`, or `submit` it, from any thread and any loop.

    Every call ends in a `Prediction`, a typed error, or its deadline. `using` gives a handle on the same actor with
    other settings.
    """

    __slots__ = ("_changes", "_host", "_instance", "_path", "_plan", "_settings", "_starting")

    def __init__(
        self,
        host: Host,
        plan: InstancePlan,
        instance: Via,
        settings: Settings,
        starting: Reply[Any] | None,
        changes: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._host = host
        self._plan = plan
        self._path = (plan.name,)
        self._instance = instance
        self._settings = settings
        self._starting = starting
        self._changes = changes

    @property
    def name(self) -> str:
        """What `rt.program(name)` finds it by; its actor's key in `rt.registry` is `("module", name)`."""
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
        return {**self._plan.metrics.snapshot(), "inflight": len(admission.running), "queued": len(admission.waiting)}

    def __deepcopy__(self, memo: dict[int, object]) -> Program:
        return self  # an address: copies of what holds it call the same program

    def __repr__(self) -> str:
        return f"Program({self.name!r}, version={self.version})"

    # -- calling ------------------------------------------------------------------------------------------------

    def __call__(self, *by_place: Never, **inputs: Any) -> Prediction:
        """Run the program, blocking. Raises `BlockingCall` on a thread whose event loop is running."""
        return self.run(by_name(self.module, by_place, inputs), self.in_force())

    async def acall(self, *by_place: Never, **inputs: Any) -> Prediction:
        """Run the program without blocking the event loop. Cancelling the awaiting task cancels the call."""
        outcome = await self.outcome(by_name(self.module, by_place, inputs), self.in_force())
        return outcome.unwrap()

    def submit(self, *by_place: Never, **inputs: Any) -> Reply[Prediction]:
        """Begin a call on the runtime's programs loop; the reply can be waited for, awaited or cancelled."""
        return self._host.run_on_loop(self.acall(*by_place, **inputs))

    def stream(self, fields: Iterable[str] | None = None, /, **inputs: Any) -> ProgramStream:
        """Begin a call as `submit` does and read its outputs while they are written; returns at once.

        See `ProgramStream`. `fields` are the outputs to be shown, all of them if left out: `["answer"]`, or
        `["sort.label"]` of the predictor `sort`; a string is one name. Raises `InputError` for one that no
        predictor has.
        """
        chosen = Selection(fields)
        chosen.check(self.module)
        return self.open_stream(inputs, chosen)

    def open_stream(self, inputs: dict[str, Any], chosen: Selection, statuses: Statuses | None = None) -> ProgramStream:
        """As `stream`; `statuses` puts words on how far the call is into it."""
        settings = self.in_force()

        async def call(sink: Shows) -> Prediction:
            return (await self.outcome(inputs, settings, sink=sink)).unwrap()

        return open_stream(self._host, call, chosen, statuses)

    def safe_call(self, *by_place: Never, **inputs: Any) -> Outcome:
        """Run the program, blocking, with every failure as a value. Raises `BlockingCall` on a running loop only.

        An input over which calls fail again and again is set aside: its outcome is `QuarantinedInput`, and nothing is
        sent.
        """
        refuse_on_loop(self.name, "`await program.asafe_call(...)`")
        settings = self.in_force()
        try:
            given = by_name(self.module, by_place, inputs)  # before the call is counted: `_run` counts its end
            frame = self._begin(settings, None)
        except Exception as error:
            return Outcome(call_id="", error=error, fault=fault_of(error))
        started, prediction, failure = self._host.clock.now(), None, None
        try:
            prediction = self._run(given, settings, frame, safe=True)
        except Exception as error:
            failure = error
        return outcome_of(frame, self._host.clock.now() - started, prediction, failure)

    async def asafe_call(self, *by_place: Never, **inputs: Any) -> Outcome:
        """As `safe_call`, without blocking the event loop; cancelling the awaiting task cancels the call."""
        try:
            return await self.outcome(by_name(self.module, by_place, inputs), self.in_force(), guarded=True)
        except InputError as error:
            return Outcome(call_id="", error=error)
        except SystemExit as error:  # of the program's `aforward`, which runs on this loop
            return Outcome(call_id="", error=ended_itself(self.name, error))

    def using(self, **changes: Any) -> Program:
        """A handle on the same actor with other settings: `lm`, `adapter`, `deadline`, `tenant`, `priority`, …

        They hold wherever the handle is called, also inside a `with rt.using(...)` block.
        """
        settings, all_changes = self._settings.bind(**changes), {**self._changes, **changes}
        return Program(self._host, self._plan, self._instance, settings, self._starting, all_changes)

    def activate(self, module: Module) -> int:
        """Make `module` the version that new calls run; calls under way finish with theirs. Returns its number.

        Raises `InputError` where it needs an input that the active version does not, or does not take one of its.
        """
        check_successor(self.name, self.module, module)
        record = self._plan.versions.add(module.deepcopy())
        return self._plan.versions.activate(record.version).version

    def roll_back(self, version: int) -> None:
        """Make an earlier version the active one again; raises `KeyError` for a number that was never given."""
        self._plan.versions.activate(version)

    def stop(self) -> None:
        """End the actor. Calls under way finish; new ones raise `ShuttingDown`. Returns at once."""
        self._plan.admission.close()
        if self._starting is None:
            self._host.stop_program(self._plan, self._instance)
        else:  # also where the start is still under way
            self._starting.add_done_callback(lambda _: self._host.stop_program(self._plan, self._instance))

    # -- the call itself ----------------------------------------------------------------------------------------

    def run(self, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """One call under `settings`, blocking."""
        refuse_on_loop(self.name)
        return self._run(inputs, settings, self._begin(settings, None))

    def _run(self, inputs: dict[str, Any], settings: Settings, frame: Frame, *, safe: bool = False) -> Prediction:
        started = self._host.clock.now()
        kind: str | None = "cancelled"
        record: Record | None = None
        try:
            record = self._let_in(frame) or drive(self._admit(frame), frame)
            with self._guard(frame, record, inputs, safe or None) as visit:
                if visit is not None and visit.asks:
                    drive(visit.granted(), frame)
                results = self._plan.results
                key = None if results is None else call_key(record, inputs, settings)
                prediction = None if results is None else known(results, key, frame)
                if prediction is None:
                    fresh = execute(self._host, self._plan.name, record.module, inputs, frame)
                    prediction = annotated(fresh, frame, record.version)
                    if results is not None:
                        keep(results, key, prediction, frame)
            kind = None
            return prediction
        except Exception as error:
            kind = ended_by(error, frame)
            raise
        finally:
            self._end(frame, record, kind, self._host.clock.now() - started)

    async def outcome(
        self,
        inputs: dict[str, Any],
        settings: Settings,
        *,
        trace: Trace | None = None,
        variant: Module | None = None,
        guarded: bool | None = None,
        sink: Shows | None = None,
    ) -> Outcome:
        """One call under `settings`, awaited, with every failure as a value. Only cancellation is raised.

        `trace` collects (predictor, inputs, prediction) of every predictor that ran; `variant` runs in place of the
        active version, for a search that tries parameters one call long. `guarded` says whether inputs that are set
        aside are refused; `None` leaves that to how the program was started, and a `variant` knows none. `sink` is
        shown the outputs while they are written.
        """
        try:
            frame = self._begin(settings, trace, sink)
        except Exception as error:
            return Outcome(call_id="", error=error, fault=fault_of(error))
        started = self._host.clock.now()
        prediction: Prediction | None = None
        failure: Exception | None = None
        kind: str | None = "cancelled"
        record: Record | None = None
        FRAME.set(frame)
        try:
            record = self._let_in(frame) or await self._admit(frame)
            module = record.module if variant is None else variant
            if sink is not None:
                sink.attach(module, frame)
            with self._guard(frame, record, inputs, guarded if variant is None else False) as visit:
                if visit is not None and visit.asks:
                    await visit.granted()
                results = self._plan.results if variant is None and trace is None else None
                key = None if results is None else call_key(record, inputs, settings)
                prediction = None if results is None else known(results, key, frame)
                if prediction is None:
                    fresh = await executed(self._host, self._plan.name, module, inputs, frame)
                    prediction = annotated(fresh, frame, record.version)
                    if results is not None:
                        keep(results, key, prediction, frame)
                elif sink is not None:
                    await sink.replay(prediction)
            kind = None
        except Exception as error:
            failure, kind = error, ended_by(error, frame)
        except GeneratorExit:
            # of the collector perhaps, in the middle of somebody's `set`, which another one may crash
            frame.dropped = True
            raise
        finally:
            seconds = self._host.clock.now() - started
            self._end(frame, record, kind, seconds)
            if current_frame() is frame:
                FRAME.set(frame.outer)  # not `reset`: a token would be one more object a call
        return outcome_of(frame, seconds, prediction, failure)

    def in_force(self) -> Settings:
        """What holds for a call made here: the block's settings around it, and above them those given to `using`."""
        frame = current_frame()
        if frame is None or frame.runner is not self._host:
            return self._settings
        return frame.settings.bind(**self._changes) if self._changes else frame.settings

    def _begin(self, settings: Settings, trace: Trace | None, sink: Shows | None = None) -> Frame:
        """A new call. One made from inside of another call ends with that one, at the latest."""
        outer = current_frame()
        around = call_around(outer)
        if around is not None:
            checkpoint(around)
        self._host.begin_call(self._plan.name)
        envelope = new_envelope(self._path, settings, self._host.clock, around)
        return Frame(
            self._host, settings, envelope, Scope(trace, None if around is None else around.scope), sink, outer
        )

    def _end(self, frame: Frame, record: Record | None, kind: str | None, seconds: float) -> None:
        """The call has ended: tell of it. One that ran `record` is counted and frees its place before that.

        Whoever waits for the last call of a runtime that drains has its event first.
        """
        assert frame.scope is not None
        assert frame.envelope is not None
        if record is not None:
            self._plan.metrics.finish(kind, seconds)
            free_place(self._plan, self._instance, frame.envelope.call_id)
        frame.scope.close(frame.envelope)
        host = self._host
        if CALL in host.telemetry.handlers:
            version = None if record is None else record.version
            tell_call(host.telemetry, self._plan.name, version, frame, seconds, kind)
        host.end_call()

    # -- admission ----------------------------------------------------------------------------------------------

    def _let_in(self, frame: Frame) -> Record | None:
        """What the call runs, where the actor is up and a place is free; `None` where that takes `_admit`."""
        assert frame.envelope is not None
        if self._starting is None and self._plan.admission.enter_at_once(frame.envelope.call_id):
            return self._plan.versions.active
        return None

    async def _admit(self, frame: Frame) -> Record:
        """Wait for the actor's start and for a place: native code, driven by a blocking caller."""
        starting = self._starting
        if starting is not None:
            if not starting.done():
                await settle_in(frame, watched(starting), "start")
            if not isinstance(starting.exception(), ActorDied):
                with self._in_our_words():
                    starting.take()
            self._starting = None
        await take_place(self._host, self._plan, self._instance, frame)
        return self._plan.versions.active

    def wait_started(self) -> None:
        """Block until the actor is up; raises what kept it from starting, `NameTaken` where that is its name."""
        if self._starting is not None:
            with self._in_our_words():
                self._starting.get()
            self._starting = None

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except AlreadyStarted as error:
            msg = (
                f"a program called {self.name!r} runs in this runtime already; call that one by its handle, end it "
                "with the handle's stop(), or start this one by another name"
            )
            raise NameTaken(msg, name=self.name) from error

    def _guard(
        self, frame: Frame, record: Record, inputs: dict[str, Any], guarded: bool | None
    ) -> AbstractContextManager[Visit | None]:
        guard = self._plan.guard
        if guard is None or not (guard.always if guarded is None else guarded):
            return UNGUARDED
        return guard.watch(frame, record, inputs)


def no_module(given: object) -> str:
    """What is wrong with `given`, which was to be started."""
    if isinstance(given, type) and issubclass(given, Module):
        write = f"rt.start({given.__name__}({inside_of(given)}))"
        return f"an object can be started, not the class {given.__name__}; write {write}"
    if isinstance(given, Program):
        return f"{given!r} is started already; call it, or start a copy by rt.start(program.module)"
    return f"only a Module can be started, not {type(given).__name__}; subclass dspy_actors.Module"


def inside_of(kind: type[Module]) -> str:
    """What to write between the brackets where an object of `kind` is made."""
    names = list(inspect.signature(kind).parameters)
    return "" if not names else "'question -> answer'" if names[0] == "signature" else "..."
