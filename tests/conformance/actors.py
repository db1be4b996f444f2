"""Children that write down their lives as the recorded ones do, and the words that the trees are written in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from supervisors.actor import Actor
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, SupervisorsError
from supervisors.exits import Exit, Killed, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.spec import ChildSpec, Restart
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.conformance.words import BOOM, CRASH, EXITS, word
from tests.supervisors.workers import Script

T = TypeVar("T")

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
ONE, REST, ALL = Strategy.ONE_FOR_ONE, Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL
STRATEGIES = {"one_for_one": ONE, "rest_for_one": REST, "one_for_all": ALL}
PLENTY = 1_000_000
"""Restarts that are never used up."""


class Worker(Actor):
    """Logs `+a` started, `~a` ignored, `!a` failed to start, `-a reason` when it ends."""

    def init(self, name: str, log: Log, script: Script | None = None) -> Any:
        said = None if script is None else script.next()
        self.log, self.label, self.value = log, name, 0
        log.add({True: f"!{name}", said is IGNORE: f"~{name}", said is None: f"+{name}"}[True])
        if isinstance(said, BaseException):
            raise said
        return said

    def terminate(self, exit: Exit) -> None:
        self.log.add(f"-{self.label} {word(exit)}")

    def hello(self) -> str:
        return self.label

    def bump(self, n: int) -> int:
        self.value += n
        return self.value

    def note(self, what: object) -> None:
        self.log.add(what)

    def crash(self, error: BaseException = BOOM) -> None:
        raise error

    def end(self, exit: Exit, *answer: Any) -> None:
        self.stop(exit, *answer)

    def late(self) -> Reply[Any]:
        self.kept = self.defer()
        return self.kept

    def hold(self, gate: Gate) -> str:
        gate.pass_()
        return "held"

    def on_info(self, message: object) -> None:
        self.log.add(message)


class InlineWorker(Worker):
    inline = True


class LoopWorker(Worker):
    dispatcher = "loop"


class OwnThreadWorker(Worker):
    dispatcher = "thread"


KINDS: tuple[type[Worker], ...] = (Worker, InlineWorker, LoopWorker, OwnThreadWorker)

ENDS = [(Worker, how) for how in EXITS] + [(cls, how) for cls in KINDS[1:] for how in ("crash", "killed")]
"""Every end of one kind, and of the other kinds those that differ."""


class BadEnd(Worker):
    """Its `terminate` raises."""

    def terminate(self, exit: Exit) -> None:
        super().terminate(exit)
        raise RuntimeError("cannot end in peace")


class Gate:
    """Holds whoever passes until it is opened; tells that somebody is there."""

    def __init__(self) -> None:
        self._here, self._open = threading.Event(), threading.Event()

    def pass_(self) -> None:
        self._here.set()
        self._open.wait(10)

    def reached(self) -> None:
        assert self._here.wait(5), "nobody came"

    def open(self) -> None:
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


class SlowEnd(Worker):
    """Logs `<a` when its end begins and `>a` when it is over; a gate holds it in between."""

    def init(self, name: str, log: Log, script: Script | None = None, gate: Gate | None = None) -> Any:
        self.gate = gate
        return super().init(name, log, script)

    def terminate(self, exit: Exit) -> None:
        self.log.add(f"<{self.label}")
        if self.gate is not None:
            self.gate.pass_()
        self.log.add(f">{self.label}")


def spec(
    name: str,
    log: Log,
    /,
    cls: Callable[..., Any] = Worker,
    script: Script | None = None,
    gate: Gate | None = None,
    **fields: Any,
) -> ChildSpec:
    """The spec of a worker."""
    kwargs = {} if gate is None else {"gate": gate}
    return ChildSpec(name, cls, (name, log, script), kwargs, **fields)


def letters(names: str, log: Log) -> list[ChildSpec]:
    """A worker for each letter."""
    return [spec(name, log) for name in names]


def tree_spec(
    id: str, children: Sequence[Any], strategy: Strategy = ONE, restart: Restart = PERMANENT, **options: Any
) -> ChildSpec:
    """The spec of a supervisor as a child, by default one that bears no crash."""
    return ChildSpec(id, Supervisor, (children,), {"strategy": strategy, "max_restarts": 0} | options, restart=restart)


def supervise(
    kernel: Kernel, children: Sequence[Any] = (), strategy: Strategy = ONE, max_restarts: int = 3, **options: Any
) -> Ref[Supervisor]:
    """A running supervisor."""
    ref = kernel.spawn(Supervisor, children, strategy=strategy, max_restarts=max_restarts, **options)
    assert isinstance(ref, Ref)
    return ref


def fresh(kernel: Kernel, log: Log, children: Sequence[Any], *args: Any, **options: Any) -> Ref[Supervisor]:
    """A running supervisor, and the log empty."""
    ref = supervise(kernel, children, *args, **options)
    log.clear()
    return ref


def worker(kernel: Kernel, log: Log | None = None, cls: type[Worker] = Worker, name: str = "a") -> Ref[Worker]:
    """A running worker under no supervisor, and the log empty."""
    log = Log() if log is None else log
    ref = kernel.spawn(cls, name, log)
    assert isinstance(ref, Ref)
    log.clear()
    return ref


def child(sup: Ref[Any], id: str) -> Ref[Any]:
    """The running child of that id."""
    ref = sup.call(Supervisor.which_child, id).ref
    assert isinstance(ref, Ref), f"{id} is {ref}"
    return ref


def states(sup: Ref[Any]) -> dict[Any, Any]:
    """Each id as running, restarting, waiting or None; a barrier too: what was sent before has been handled."""
    lines = sup.call(sup.actor_class.which_children)
    return {line.id: "running" if isinstance(line.ref, Ref) else line.ref for line in lines}


def ids(sup: Ref[Any]) -> list[Any]:
    """Ids in start order."""
    return list(states(sup))


def alive(sup: Ref[Any]) -> bool:
    """Whether the supervisor lives on after all it was told."""
    try:
        sup.call(sup.actor_class.count_children)
    except ActorDied:
        return False
    return True


def counts(sup: Ref[Any]) -> dict[str, int]:
    """count_children as the recordings have it."""
    return dict(sup.call(sup.actor_class.count_children)._asdict())


def finish(ref: Ref[Any], how: str | Exit = CRASH) -> None:
    """Let the actor end by itself and wait until it is dead."""
    exit = EXITS[how] if isinstance(how, str) else how  # noqa: A001
    gone = ref.down()  # asked for before the end, it is told after the supervisor was
    if isinstance(exit, Killed):
        ref.fence()
    else:
        ref.exit(exit)
    gone.get(5)


def end_child(sup: Ref[Any], id: str, how: str | Exit = CRASH) -> bool:
    """Let a child end; True if its supervisor, having dealt with it, lives on."""
    finish(child(sup, id), how)
    return alive(sup)


def ended_by(sup: Ref[Any], id: str, how: str | Exit = CRASH) -> str:
    """How the supervisor ended when its child did; those that watch it know by then."""
    gone = sup.down()
    end_child(sup, id, how)
    return word(gone.get(5))


def answer(fn: Callable[..., Any], *args: Any) -> str | None:
    """What an API call answers, as the recordings have it."""
    try:
        given = fn(*args)
    except ActorDied as died:
        return "noproc" if word(died.exit) == "noproc" else "exit"
    except SupervisorsError as error:
        name = type(error).__name__
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    if given is None:
        return "ok"
    return "pid" if isinstance(given, Ref) else "ignore" if given is IGNORE else str(given)


def api(sup: Ref[Any], method: Callable[..., Any], *args: Any) -> str | None:
    """A supervisor's API call as the recordings have its answer."""
    return answer(sup.call, method, *args)


@contextmanager
def busy(sup: Ref[Any]) -> Iterator[None]:
    """Nothing that happens in the block is heard by the supervisor before its end; then it all was handled."""
    with Gate() as gate:

        def start(kernel: Kernel) -> object:
            gate.pass_()
            return IGNORE

        sup.cast(sup.actor_class.start_child, ChildSpec("busy", start, restart=TEMPORARY))
        gate.reached()
        yield
    alive(sup)


class Background:
    """A call in a thread of its own."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self._reply: Reply[Any] = Reply()
        self._thread = threading.Thread(target=self._run, args=(fn, args), daemon=True)
        self._thread.start()

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._reply.set(fn(*args))
        except BaseException as error:
            self._reply.fail(error)

    def done(self) -> bool:
        return self._reply.done()

    def value(self) -> Any:
        """Wait for it: its value or its exception."""
        self._thread.join(10)
        return self._reply.get(0)


def queued(ref: Ref[Any], messages: int) -> None:
    """Wait until so many messages wait in the actor's mailbox."""
    wait_until(lambda: ref.snapshot()["queue"] >= messages)


def let_time_pass(clock: ManualClock, until: Callable[[], object], step: float = 0.5) -> None:
    """Advance the clock until something has happened."""

    def look() -> bool:
        if until():
            return True
        clock.advance(step)
        return bool(until())

    wait_until(look)


def stop(sup: Ref[Any], exit: Exit = Shutdown()) -> str:  # noqa: B008 - a frozen value
    """Stop a supervisor as whoever is responsible for it; its exit as a word."""
    finish(sup, exit)
    return word(sup.down().get(5))
