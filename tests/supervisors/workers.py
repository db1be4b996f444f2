"""Children that write down their starts and stops, and the words the supervision tests are written in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from supervisors.actor import Actor
from supervisors.children import Children
from supervisors.exits import Crash, Exit
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec, Restart
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until


class Worker(Actor):
    """Logs `+name` when it starts and `-name` when it is stopped; starts as its `script` says."""

    def init(self, name: str, log: Log, script: Script | None = None) -> Any:
        said = None if script is None else script.next()
        if isinstance(said, BaseException):
            log.add(f"!{name}")
            raise said
        log.add(f"+{name}")
        self.label, self.log = name, log
        return said

    def terminate(self, exit: Exit) -> None:
        self.log.add(f"-{self.label}" if not isinstance(exit, Crash) else f"x{self.label}")

    def hello(self) -> str:
        return self.label

    def hang(self, until: threading.Event, began: threading.Event) -> None:
        began.set()
        until.wait(10)

    def fail(self, error: BaseException) -> None:
        raise error


class InlineWorker(Worker):
    inline = True


class LoopWorker(Worker):
    dispatcher = "loop"


class OwnThreadWorker(Worker):
    dispatcher = "thread"


class BadStop(Worker):
    """Its `terminate` raises."""

    def terminate(self, exit: Exit) -> None:
        super().terminate(exit)
        raise RuntimeError("cannot stop in peace")


class Script:
    """What each start of a child does, in turn: None starts, IGNORE ignores, an exception fails. The last one stays."""

    def __init__(self, *outcomes: Any) -> None:
        self._outcomes = list(outcomes)
        self.starts = 0

    def next(self) -> Any:
        self.starts += 1
        return self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]


BOOM = ValueError("boom")
CRASH = Crash(BOOM)


def spec(
    name: str, log: Log, /, cls: Callable[..., Any] = Worker, script: Script | None = None, **fields: Any
) -> ChildSpec:
    """The spec of a worker."""
    return ChildSpec(name, cls, (name, log, script), **fields)


def supervise(
    kernel: Kernel,
    children: Sequence[Any] = (),
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    max_restarts: int = 3,
    **options: Any,
) -> Ref[Supervisor]:
    """A running supervisor."""
    ref = kernel.spawn(Supervisor, children, strategy=strategy, max_restarts=max_restarts, **options)
    assert isinstance(ref, Ref)
    return ref


def child(sup: Ref[Supervisor], id: str) -> Ref[Worker]:
    """The running child of that id, once its supervisor watches it: a start is known a moment before that."""
    ref = sup.call(Supervisor.which_child, id).ref
    assert isinstance(ref, Ref)
    watchers = ref.mailbox.watchers
    wait_until(lambda: not ref.is_alive() or any(isinstance(each, Children) for each in list(watchers)))
    return ref


def state(sup: Ref[Supervisor], id: str) -> object:
    """The child's ref, None, "restarting" or "waiting"."""
    return sup.call(Supervisor.which_child, id).ref


def ids(sup: Ref[Supervisor]) -> list[Any]:
    """Ids in start order; a barrier too: what was sent before has been handled."""
    return [line.id for line in sup.call(Supervisor.which_children)]


def end(ref: Ref[Any], exit: Exit = CRASH) -> None:
    """Let the actor end by itself with `exit`, and wait until it is dead."""
    down = ref.down()  # asked for before the end, it is told after the supervisor was
    ref.exit(exit)
    down.get(5)


def gone(ref: Ref[Any]) -> Exit:
    """Wait until the actor is dead; its exit."""
    return ref.down().get(5)


PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
ONE, REST, ALL = Strategy.ONE_FOR_ONE, Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL
