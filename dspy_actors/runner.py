"""`Runner`: who runs a module, found through a context variable, and the one way native code waits.

Our own modules have one body, a coroutine whose only waits are `settle(...)`. An awaiting caller runs it on its own
loop; a blocking caller drives it in its own thread (`drive`), so neither needs a second method family nor a thread.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

from dspy_actors.adapters.base import Adapter
from dspy_actors.arguments import a, number, whole
from dspy_actors.envelope import CLASSES, Envelope, Priority, Scope, new_call_id
from dspy_actors.errors import (
    BlockingCall,
    CallCancelled,
    DeadlineExceeded,
    DspyActorsError,
    LMConfigurationError,
    NoRuntime,
    UnknownTenant,
)
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.options import check_options, is_option
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest
from supervisors.awaiting import Wake
from supervisors.clock import Clock
from supervisors.errors import StartFailed
from supervisors.reply import Reply

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every call made through one handle. Frozen: `bind` gives another one.

    `deadline` is how many seconds a call may take. `options` are merged over the options of whichever LM is asked.
    `parse_retries` is how often a whole answer that does not hold the outputs is asked for again, with what was wrong.
    `priority` is `None` where nobody named a class: then what runs says which it is of. `tenants` are those that there
    are, `None` where any name is one; nobody's calls (`""`) are always let in.

    Raises `UnknownTenant` for a tenant that is not among them, `LMConfigurationError` for a class that there is not and
    for what is of the wrong type.
    """

    lm: LM | None
    adapter: Adapter
    deadline: float = 600.0
    tenant: str = ""
    session: str = ""
    priority: Priority | None = None
    sample: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    parse_retries: int = 1
    tenants: frozenset[str] | None = None

    def __post_init__(self) -> None:
        number("settings", "deadline", self.deadline, above=0)
        whole("settings", "parse_retries", self.parse_retries, least=0)
        whole("settings", "sample", self.sample, least=0)
        a((LM, type(None)), "settings", "lm", self.lm, "an LM, its name, or None")
        a(str, "settings", "tenant", self.tenant, 'a name, "" for none')
        a(Mapping, "settings", "options", self.options, "a mapping from names to values")
        check_options("settings", self.options)
        a(str, "settings", "session", self.session, 'a name, "" for none')
        if not all(hasattr(self.adapter, name) for name in ("format", "parse", "listener", "options")):
            msg = f"settings(adapter={self.adapter!r:.80}): an adapter; derive from Adapter and write format and parse"
            raise LMConfigurationError(msg)
        self.check_tenants("tenant", self.tenant)
        if self.priority is not None and self.priority not in CLASSES:
            msg = f"settings(priority={self.priority!r:.80}): one of {', '.join(CLASSES)}"
            raise LMConfigurationError(msg)

    def check_tenants(self, where: str, *names: str) -> None:
        """Raise `UnknownTenant` for the first of `names`, given as `where`, that is none of `tenants`."""
        known = self.tenants
        for name in names:
            if known is not None and name and name not in known:
                there_are = ", ".join(sorted(known)) or "none"
                msg = f"{where} names the tenant {name!r}; Runtime(tenants=...) knows {there_are}"
                raise UnknownTenant(msg, tenant=name)

    def of_class(self, priority: Priority) -> Settings:
        """These settings, for calls of that class unless they name another."""
        return self if self.priority is not None else replace(self, priority=priority)

    def bind(self, **changes: Any) -> Settings:
        """These settings with some of them changed; an LM may be given by its name."""
        for name in changes:
            if name not in _NAMES:
                msg = f"using({name}=...): there is no such setting; there are {', '.join(_NAMES)}"
                msg += f"; write using(options={{{name!r}: ...}})" if is_option(name) else ""
                raise LMConfigurationError(msg)
        if isinstance(changes.get("lm"), str):
            changes["lm"] = LM(changes["lm"])
        return replace(self, **changes)


_NAMES = tuple(each.name for each in fields(Settings) if each.name != "tenants")
"""What `using` takes; which tenants there are is said once, where the runtime is made."""


class Shows(Protocol):
    """Where a call shows what it does while it does it: see `modules.sink`. Safe from any thread and loop."""

    def voice(self, predictor: Any, adapter: Adapter) -> Any:
        """What shows the outputs of one call of `predictor`; `None` where nobody wants to see them."""
        ...

    async def replay(self, prediction: Prediction) -> None:
        """Show a prediction that was kept."""
        ...

    def attach(self, module: Any, frame: Frame) -> None:
        """The call of `frame` has its place and runs `module`."""
        ...

    def notes(self, moment: str, *told: Any) -> None:
        """The call has come to a `moment`: `module_start`, `module_end`, `lm_start`, `lm_end`."""
        ...


class Runner(Protocol):
    """What a module needs of whoever runs it."""

    @property
    def clock(self) -> Clock: ...

    def complete(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        """Ask a model; returns at once."""
        ...

    def stream(self, lm: LM, request: LMRequest, envelope: Envelope) -> LMStream:
        """Ask a model for its answer in pieces; returns at once."""
        ...

    def forget(self, answer: Answer) -> None:
        """Have the cache forget an answer that could not be read."""
        ...

    def phase_of(self, reply: Reply[Any]) -> str | None:
        """What the call to a model behind `reply` waits for; `None` for any other reply."""
        ...

    def run(self, module: Any, inputs: dict[str, Any], settings: Settings) -> Prediction:
        """A new call of `module`, blocking."""
        ...

    async def arun(
        self, module: Any, inputs: dict[str, Any], settings: Settings, *, sink: Shows | None = None
    ) -> Prediction:
        """A new call of `module`, awaited."""
        ...

    def run_in_thread(self, body: Callable[[], T], name: str) -> Reply[T]:
        """Run blocking user code in a task thread."""
        ...

    def run_on_loop(self, body: Coroutine[Any, Any, T]) -> Reply[T]:
        """Run user's async code on the programs loop."""
        ...

    def soon(self, body: Callable[[], object]) -> None:
        """Call `body` on the programs loop, soon. Takes no lock, so a finalizer may use it."""
        ...


@dataclass(slots=True, eq=False)
class Frame:
    """Where code stands: its runner, the settings in force, and, inside a call, that call's envelope and scope.

    It is not frozen because one is made for every call, and that would cost a microsecond. `sink` is where the call
    shows its outputs while they are written, if anybody looks. `outer` is what it was made in; of a call that was
    `dropped` in the middle, that stands for it from then on.
    """

    runner: Runner
    settings: Settings
    envelope: Envelope | None = None
    scope: Scope | None = None
    sink: Shows | None = None
    outer: Frame | None = None
    dropped: bool = False


FRAME: ContextVar[Frame | None] = ContextVar("dspy_actors_frame", default=None)


def current_frame() -> Frame | None:
    """The frame of the code that asks, or `None` outside every runtime."""
    frame = FRAME.get()
    while frame is not None and frame.dropped:  # it could not take itself away
        frame = frame.outer
    return frame


def current_call_id() -> str | None:
    """The id of the call whose code asks, as in its events and in the `X-Request-Id` of its requests, for logs of one's
    own; `None` outside every call. In any thread or task that has the context of the call's code."""
    around = call_around(current_frame())
    return None if around is None or around.envelope is None else around.envelope.call_id


def call_around(frame: Frame | None) -> Frame | None:
    """The frame of the call that `frame` stands in, behind every `with rt.using(...)`; `None` outside every call."""
    while frame is not None and frame.scope is None:
        frame = frame.outer
    return frame


def is_under_way(frame: Frame | None, runner: Runner) -> bool:
    """Whether `frame` stands inside of a call of `runner`, however deep, that has not ended."""
    while frame is not None:
        if frame.runner is runner and frame.scope is not None and not frame.scope.closed:
            return True
        frame = frame.outer
    return False


def require_frame(name: str, write: str = "program(...)") -> Frame:
    """The frame of the code that asks; where there is none raises `NoRuntime`, which says where to `write` that."""
    frame = current_frame()
    if frame is None:
        raise NoRuntime(name, write)
    return frame


def refuse_on_loop(name: str, instead: str = "`await program.acall(...)`") -> None:
    """Raise `BlockingCall` on a thread whose event loop is running; it says to write `instead`."""
    if asyncio._get_running_loop() is not None:
        raise BlockingCall(name, instead)


def checkpoint(frame: Frame) -> None:
    """Raise `CallCancelled` where the call of `frame` was cancelled: code of a call that is over asks no model."""
    if frame.scope is not None and frame.scope.cancelled:
        raise _cancelled(frame)


def new_envelope(own: tuple[str, ...], settings: Settings, clock: Clock, outer: Frame | None) -> Envelope:
    """The envelope of a new call: `own` is its path, below that of the call around it.

    One made from inside of another call, `outer`, ends with that one at the latest.
    """
    inside = outer.envelope if outer is not None else None
    deadline = clock.now() + settings.deadline
    if outer is not None and inside is not None and inside.deadline is not None and outer.runner.clock is clock:
        deadline = min(deadline, inside.deadline)
    path = own if inside is None else inside.path + own
    priority = settings.priority or "interactive"
    # by place, as names would make a dict of each call
    return Envelope(new_call_id(), path, deadline, settings.tenant, priority, settings.sample, settings.session)


def _cancelled(frame: Frame) -> CallCancelled:
    assert frame.envelope is not None
    return CallCancelled(f"the call {frame.envelope.call_id} was cancelled, or its deadline has passed")


@types.coroutine
def _park(reply: Reply[Any]) -> Generator[Reply[Any], None, None]:
    """Hand a reply to `drive`, which goes on when it has settled or the time is up."""
    yield reply


def settle(reply: Reply[T], phase: str) -> Coroutine[Any, Any, T]:
    """Wait for `reply` within the deadline of the call: the only wait in native code.

    Raises:
        DeadlineExceeded: the call's deadline passed first, in `phase`; the reply was cancelled.
        CallCancelled: the call's scope was cancelled.
    """
    frame = current_frame()
    assert frame is not None
    return settle_in(frame, reply, phase)


async def settle_in(frame: Frame, reply: Reply[T], phase: str) -> T:
    """As `settle`, for the call of `frame`."""
    scope = frame.scope
    assert scope is not None
    if not reply.done():
        wake: Wake | None = None
        scope.enter(reply)
        try:
            if asyncio._get_running_loop() is None:
                await _park(reply)
            else:
                wake = reply.begin_wait(_left(frame), frame.runner.clock)
                await wake
            if not reply.done():
                phase = frame.runner.phase_of(reply) or phase
                reply.cancel()
                raise deadline_exceeded(phase, frame)
        except asyncio.CancelledError:
            reply.cancel()
            raise
        except GeneratorExit:  # dropped: nobody can take the answer
            frame.runner.soon(reply.cancel)  # not now: the collector comes in the middle of anything
            raise
        finally:
            scope.leave(reply)
            if wake is not None:
                reply.end_wait(wake)
    if reply.cancelled():
        raise _cancelled(frame)
    try:
        return reply.take()
    except DspyActorsError as error:
        if error.infrastructure:
            scope.met(error)
        raise


def _left(frame: Frame) -> float | None:
    """How many seconds the call of `frame` still has; `None` where it may take for ever."""
    assert frame.envelope is not None
    deadline = frame.envelope.deadline
    return None if deadline is None else max(0.0, deadline - frame.runner.clock.now())


def deadline_exceeded(phase: str, frame: Frame) -> DeadlineExceeded:
    """The error of a call of `frame` that ran out of time in `phase`."""
    seconds = frame.settings.deadline
    msg = f"the call took longer than its deadline of {seconds:g} s (waiting for: {phase})"
    return DeadlineExceeded(msg, phase=phase, seconds=seconds)


def drive(body: Coroutine[Any, Any, T], frame: Frame) -> T:
    """Run native code to its end in this thread, blocking at each `settle`."""
    try:
        reply: Reply[Any] = body.send(None)
        while True:
            try:
                reply.wait(_left(frame), frame.runner.clock)
            except BaseException as interrupt:  # Ctrl-C in the waiting thread: the open request is cancelled with us
                reply.cancel()
                reply = body.throw(interrupt)
                continue
            reply = body.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result


def ours(error: BaseException) -> BaseException:
    """The error of this package for which something could not be started; `error` itself where it is none."""
    cause = error
    while isinstance(cause, StartFailed):
        cause = cause.cause
    return cause if isinstance(cause, DspyActorsError) else error


def fault_of(error: BaseException | None) -> DspyActorsError | None:
    """The infrastructure's failure that `error` is or was raised from, if there is one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DspyActorsError) and error.infrastructure:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
