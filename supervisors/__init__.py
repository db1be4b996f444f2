"""Erlang/OTP's supervision for Python, on pykka: actors that crash, and supervisors that bring them back.

**A counter** that crashes and comes back:

    >>> from supervisors import Actor, ActorDied, Supervisor, System
    >>> class Counter(Actor):
    ...     value = 42
    ...     def divide(self, by):
    ...         self.value //= by
    ...         return self.value
    >>> with System(children=[Counter]) as system:
    ...     for by in (2, 0, 1):
    ...         counter = system.root.call(Supervisor.which_child, "Counter").ref
    ...         try: print(counter.call(Counter.divide, by))
    ...         except ActorDied as died: print(died.exit)
    21
    Crash(error=ZeroDivisionError('integer division or modulo by zero'))
    42

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

**Where this departs from OTP**: what holds here, and why or what holds there. The letter says what a row is about (C
specs, S starts, H stops, T strategies, I limits of restarts, M questions to supervisors, K monitors, V calls, G
registries, J tasks, Q partitions, Z the rest), the number which of the rules there; our tests are named so too:

    C03                  3 restarts in 5 seconds are the default           Elixir's numbers, not Erlang's 1 in 5
    C09                  `start` is a class or a function                  Python has no module, function and arguments
    C10 V22 Z10          no hot upgrade, hibernation, other nodes          there is no virtual machine to do it
    C11 C18              unknown fields and options are errors             a slip of the pen must not become a default
    C17 I03 I04          the window counts floats, inclusive               OTP's seconds make it T to T + 1 s, by chance
    C19 T12 T13          DynamicSupervisor, by ref, for one spec of many   Elixir's way; the ref of the dead is NotFound
    S06                  an odd value of `init` is a TypeError             Python has no throw
    S14 S15              `start_timeout` is 30 s                           OTP waits for ever, and the tree with it
    S17 H12 H15          a child ends with its parent, Normal too          nobody outlives who answers for it
    I12                  backoff, the state `waiting`                      off unless a spec asks for it
    H04 V14              `terminate` runs at every cooperative stop        a thread is not ended without its consent
    H05 H07 K03          Killed means fenced                               what the old thread sends is refused
    H13                  `ref.exit` is an order, from anybody              `links.exit` is the signal, which is ignored
    H18                  a supervisor's short `shutdown` is only logged    its children end with it: none is orphaned
    M01                  which_children is in start order                  OTP's is the reverse
    M11 V02 V11          noproc is ActorDied(NoProc); a cast is dropped    callers catch one error, whatever the exit
    M12                  calls to a supervisor have a finite timeout       as every call; `within` gives another
    K05                  demonitor always takes a queued Down back         OTP's `flush`: it asked for no more of them
    V07                  a late reply is a `Reply`, settled by anybody     pykka's futures, which can be awaited
    V13                  an unknown method is refused in the caller        a slip of the caller must not end the server
    V20                  exits and `continue_with` overtake                a stop must not wait behind a backlog
    G12                  keys are compared with their type                 to a dict 1, 1.0 and True are one key
    G16                  matches are functions                             Python has no match specifications
    G18 G19              a registry is a table, not a process              it can neither die nor be unknown
    J02 J04              a task can be awaited by anybody, and again       pykka's futures can
    J06 J07              a tied task ends with its caller, not he with it  the caller learns of its crash when it waits
    J09                  a function that does not stop is fenced           as H05; unreported, for its caller asked
    J15 J18              a late or failed item is a `Failed`, no more      the stream goes on; Elixir's exits the caller
    Q01                  partitions by a stable hash                       Python's hash of a str differs by process
    Z09                  auto_shutdown for dynamic supervisors             a batch is over when its last job is

Every crash and every restart is reported, with its traceback, however many there are; OTP's logger drops a flood. What
bounds it is the supervisor's `max_restarts` within `max_seconds`; a structlog processor may drop more.

**Beyond OTP**, each switched on by its option: `Backoff` between the attempts to restart a child; `budget_key`, so that
unrelated failures do not use up one budget; `max_zombies`, so that threads which do not come back end who lost them.
And always: who calls himself, directly or in a ring, is told at once (`CallCycle`), as is who would wait for his own
end (`StopFromBelow`); answers that come too late are dropped and counted.

`DynamicSupervisor` has children that come and go, `PartitionSupervisor` one for each part of the keys, `TaskSupervisor`
(through `Tasks`) runs functions and gives their values back; `async_stream` runs one over many items. `System` holds a
tree; `system.draw()` shows it. `supervisors.sys` looks into running actors, `supervisors.links` ties them together,
`supervisors.ports` runs functions in processes that can be killed, `supervisors.stages` moves events on demand, and
`supervisors.pytest_plugin` gives tests a system and finds what they leave behind.

pykka's refs, `ask`, `tell` and proxies keep working, but for this: an exception in a handler ends the actor, also when
it was asked. Supervision and crash reports go through structlog, loaded when the first one is written.
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
    StopFromBelow,
    SupervisorsError,
    SystemStopped,
    UnknownMessage,
    UsedAfterFork,
)
from supervisors.exits import Crash, Exit, Killed, NoProc, Normal, Shutdown, is_clean
from supervisors.kernel import Kernel
from supervisors.links import ExitSignal, link, unlink
from supervisors.many_tasks import aawait_many, await_many, yield_many
from supervisors.monitors import Down, Monitor
from supervisors.partition import PartitionSupervisor
from supervisors.ref import Ref
from supervisors.registry import Registered, Registry, Unregistered
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
from supervisors.stopping import astop, stop
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
    "ExitSignal",
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
    "PartitionSupervisor",
    "Ref",
    "Registered",
    "Registry",
    "Reply",
    "Restart",
    "Restarting",
    "Running",
    "Shutdown",
    "SpecError",
    "StartFailed",
    "StopFromBelow",
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
    "Unregistered",
    "UsedAfterFork",
    "Via",
    "aawait_many",
    "astop",
    "async_stream",
    "await_many",
    "blocking",
    "check_childspecs",
    "child_spec",
    "current_deadline",
    "deadline_at",
    "draw",
    "is_clean",
    "link",
    "stop",
    "unlink",
    "yield_many",
]
