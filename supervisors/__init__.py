"""Erlang/OTP's supervision for Python, on pykka: actors that crash, and supervisors that bring them back.

A counter that crashes and comes back:

    >>> from supervisors import Actor, ActorDied, ChildSpec, Supervisor, System
    >>> class Counter(Actor):
    ...     def init(self, start=0):
    ...         self.value = start
    ...     def divide(self, by):
    ...         self.value //= by
    ...         return self.value
    >>> with System() as system:
    ...     counter = system.start_child(ChildSpec("counter", Counter, args=(42,)))
    ...     before = counter.call(Counter.divide, 2)
    ...     try:
    ...         counter.call(Counter.divide, 0)
    ...     except ActorDied as died:
    ...         why = died.exit
    ...     counter = system.root.call(Supervisor.which_child, "counter").ref
    ...     after = counter.call(Counter.divide, 1)
    >>> before, why, after
    (21, Crash(error=ZeroDivisionError('integer division or modulo by zero')), 42)

The crash ended that one actor and told its caller; the supervisor started it again from its spec, with fresh
state. A `Ref` is one life and never points to a successor; a name (`Via`) is whoever holds it now.

**Exits.** An actor ends with one of five:

    Normal()            it was done                                             clean
    Shutdown(detail)    whoever is responsible for it stopped it                clean
    Crash(error)        a handler raised `error`, of whatever kind
    Killed()            it was fenced: a thread cannot be killed, only declared dead and ignored
    NoProc()            it had ended before somebody asked

`Restart.PERMANENT` restarts after all of them, `TRANSIENT` after those that are not clean, `TEMPORARY` never.

**Strategies.** What a `Supervisor` does when b of the children a, b, c has ended:

    ONE_FOR_ONE         starts b
    REST_FOR_ONE        stops c; starts b, c
    ONE_FOR_ALL         stops c, a; starts a, b, c

More than `max_restarts` within `max_seconds`: it stops its children in reverse order and ends with
`Shutdown("max_restarts")`, which goes up the tree as any other exit. A failed start counts and is tried again by a
message to itself, so a supervisor answers while a child does not come up.

`DynamicSupervisor` has children that come and go, `TaskSupervisor` (through `Tasks`) runs functions and gives their
values back; `async_stream` runs one over many items. `System` holds a tree; `system.draw()` shows it.

**Where this departs from OTP**, and why:

    the window of restarts counts floats, inclusive         OTP's whole seconds make it T to T + 1 s, by chance
    3 restarts in 5 seconds are the default                 Elixir's, not Erlang's 1 in 5
    which_children is in start order                        OTP's is the reverse
    unknown fields of a spec are errors                     a typing error must not become a default
    calls to a supervisor have a finite timeout             as every call; `within` gives another
    start_timeout is 30 s                                   OTP waits for ever, and the tree with it
    terminate runs at every cooperative stop                a thread cannot be ended without its consent
    Killed means fenced                                     what the old thread still sends or registers is refused
    ref.exit stops a supervisor, whoever calls it           OTP ignores it from others than the parent
    a task can be awaited by anybody, and again             pykka's futures can
    backoff, the state `waiting`                            not in OTP; off unless a spec asks for it

Supervision and crash reports go through structlog, loaded when the first one is written.
"""

from __future__ import annotations

from supervisors.actor import Actor
from supervisors.backoff import Backoff
from supervisors.blocking import blocking
from supervisors.cell import IGNORE
from supervisors.child import Child, Counts
from supervisors.clock import Clock, ManualClock, SystemClock, Timer
from supervisors.deadline import current_deadline, deadline_at
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import (
    ActorDied,
    AlreadyPresent,
    AlreadyRegistered,
    AlreadyStarted,
    BlockingCallOnLoop,
    CallCycle,
    CallTimeout,
    Fenced,
    MailboxFull,
    MaxChildren,
    NoSystem,
    NotFound,
    NotRegistered,
    Restarting,
    Running,
    SpecError,
    StartFailed,
    SupervisorsError,
    SystemStopped,
    UnknownMessage,
    UsedAfterFork,
)
from supervisors.exits import Crash, Exit, Killed, NoProc, Normal, Shutdown, is_clean
from supervisors.kernel import Kernel
from supervisors.many_tasks import aawait_many, await_many, yield_many
from supervisors.monitors import Down, Monitor
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import (
    BRUTAL_KILL,
    INFINITY,
    AutoShutdown,
    ChildSpec,
    ChildType,
    Restart,
    check_childspecs,
    child_spec,
)
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.task_stream import async_stream
from supervisors.tasks import Failed, Ok, Task, Tasks, TaskSupervisor
from supervisors.telemetry import Telemetry
from supervisors.tree import draw
from supervisors.via import Via

__all__ = [
    "BRUTAL_KILL",
    "IGNORE",
    "INFINITY",
    "Actor",
    "ActorDied",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "AutoShutdown",
    "Backoff",
    "BlockingCallOnLoop",
    "CallCycle",
    "CallTimeout",
    "Child",
    "ChildSpec",
    "ChildType",
    "Clock",
    "Counts",
    "Crash",
    "Down",
    "DynamicSupervisor",
    "Exit",
    "Failed",
    "Fenced",
    "Kernel",
    "Killed",
    "MailboxFull",
    "ManualClock",
    "MaxChildren",
    "Monitor",
    "NoProc",
    "NoSystem",
    "Normal",
    "NotFound",
    "NotRegistered",
    "Ok",
    "Ref",
    "Registry",
    "Reply",
    "Restart",
    "Restarting",
    "Running",
    "Shutdown",
    "SpecError",
    "StartFailed",
    "Strategy",
    "Supervisor",
    "SupervisorsError",
    "System",
    "SystemClock",
    "SystemStopped",
    "Task",
    "TaskSupervisor",
    "Tasks",
    "Telemetry",
    "Timer",
    "UnknownMessage",
    "UsedAfterFork",
    "Via",
    "aawait_many",
    "async_stream",
    "await_many",
    "blocking",
    "check_childspecs",
    "child_spec",
    "current_deadline",
    "deadline_at",
    "draw",
    "is_clean",
    "yield_many",
]
