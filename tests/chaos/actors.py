"""Twelve named actors of every kind, killed at random in every way while they call each other; everything is counted.

    python -m tests.chaos.actors [--seconds 60] [--seed 1] [--switch-interval 1e-5]

Every call must end, in its own answer or in a typed error; every death of an actor must be one notice to whoever
watches it and one restart; no actor may be run by two threads at once, nor in another one's context, nor get one
sender's messages out of order; and nothing may be left afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import structlog

from supervisors.actor import Actor, Down
from supervisors.current import CURRENT
from supervisors.errors import CallTimeout, SupervisorsError
from supervisors.exits import Crash, Exit, Normal, Shutdown
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.telemetry import Telemetry
from supervisors.testing import wait_until
from tests.leaks import left, seen

NAMES = tuple(f"n{number}" for number in range(12))
TIED = 4
"""How many of them, the last ones, stand under a one_for_all supervisor; the others are on their own."""
CLIENTS, KILLERS = 6, 2
LOST = 20.0
"""Seconds after which an answer counts as lost."""
PLENTY = 10**9

FATAL: tuple[BaseException, ...] = (
    ValueError("chaos"),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    OSError(5, "chaos"),
)
"""What actors crash with; one object each, raised again and again."""


@dataclass
class Book:
    """What happened; every field is written by many threads, and only appended to or counted under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    watched: list[int] = field(default_factory=list)
    notices: list[int] = field(default_factory=list)
    deaths: list[int] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    """Incarnations: whom the watcher watched, of whom it had a notice, who died, and who was up for its supervisor."""

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def unnoticed(self) -> set[int]:
        """Whose death the watcher was not told, or has not come to yet."""
        return set(self.watched).intersection(self.deaths).difference(self.notices)

    def listen(self, telemetry: Telemetry) -> None:
        """Write down what the system tells of itself."""

        def started(event: object, measurements: object, metadata: Any) -> None:
            if metadata["id"] in NAMES and metadata["ref"] is not None:
                self.started.append(metadata["ref"].incarnation)

        def ended(event: object, measurements: Any, metadata: Any) -> None:
            if issubclass(metadata["class"], Node):
                self.deaths.append(metadata["ref"].incarnation)
                with self.lock:
                    self.counts["messages"] += measurements["messages"]

        telemetry.attach("chaos", ("supervisor", "child", "start"), started)
        telemetry.attach("chaos", ("actor", "exit"), ended)
        telemetry.attach("chaos", ("supervisor", "child", "restart"), lambda *_: self.count("restarts"))
        telemetry.attach("chaos", ("supervisor", "child", "terminate"), lambda *_: self.count("told to supervisors"))

    def __str__(self) -> str:
        told = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        return "\n".join([told, *(f"WRONG: {complaint}" for complaint in self.complaints)])


@dataclass(frozen=True)
class World:
    """What all actors of one trial share."""

    book: Book
    registry: Registry
    watcher: Ref[Watcher]
    late: SimpleQueue[tuple[Reply[Any], int] | None] = field(default_factory=SimpleQueue)


class Watcher(Actor):
    """Monitors every life, and notes each notice."""

    def init(self, book: Book) -> None:
        self.book = book

    def watch(self, ref: Ref[Any]) -> None:
        self.book.watched.append(ref.incarnation)
        self.monitor(ref)

    def on_info(self, message: Any) -> None:
        if isinstance(message, Down):
            self.book.notices.append(message.ref.incarnation)


class Node(Actor):
    """Answers with the number it is given: at once, late, or by way of others."""

    def init(self, world: World) -> None:
        self.world = world
        self.inside = False
        self.last: dict[int, int] = {}
        world.watcher.cast(Watcher.watch, self.ref)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Complain if somebody else is in here, or this runs in another's context."""
        if self.inside:
            self.world.book.complaints.append(f"{self.name} is run twice at once")
        if CURRENT.get() is not self._cell:
            self.world.book.complaints.append(f"{self.name} is run in the context of {CURRENT.get()}")
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def echo(self, number: int) -> int:
        with self.alone():
            return number

    def note(self, sender: int, number: int) -> None:
        with self.alone():
            if self.last.get(sender, -1) >= number:
                self.world.book.complaints.append(f"{self.name} got {number} of {sender} after {self.last[sender]}")
            self.last[sender] = number

    def late(self, number: int) -> Reply[int]:
        with self.alone():
            reply = self.defer()
            self.world.late.put((reply, number))
            return reply

    def relay(self, number: int, path: list[str]) -> int:
        """Ask the first of `path` to relay to the others. What goes wrong there is no crash of this one."""
        with self.alone():
            if not path:
                return number
            with suppress(SupervisorsError):
                return self.world.registry.via(path[0]).within(LOST).call(Node.relay, number, path[1:])
            return number

    def fail(self, error: BaseException) -> None:
        with self.alone():
            raise error

    def end(self, exit: Exit) -> None:
        self.stop(exit)


class InlineNode(Node):
    inline = True

    def relay(self, number: int, path: list[str]) -> int:
        """It has promised never to block."""
        return self.echo(number)


class ThreadNode(Node):
    dispatcher = "thread"


class LoopNode(Node):
    dispatcher = "loop"

    async def relay(self, number: int, path: list[str]) -> int:  # type: ignore[override]
        with self.alone():
            await asyncio.sleep(0)
            if path:
                with suppress(SupervisorsError):
                    return await self.world.registry.via(path[0]).within(LOST).acall(Node.relay, number, path[1:])
            return number

    async def fail(self, error: BaseException) -> None:  # type: ignore[override]
        with self.alone():
            await asyncio.sleep(0)
            raise error


KINDS = (Node, InlineNode, ThreadNode, LoopNode)


def client(world: World, number: int, rng: random.Random, going: threading.Event) -> None:
    """Ask, in every way there is, until `going` is cleared. Each answer is the question."""
    book, ticket = world.book, number
    while going.is_set():
        ticket += CLIENTS
        via = world.registry.via(rng.choice(NAMES)).within(LOST)
        way = rng.randrange(6)
        if way == 0:
            with suppress(SupervisorsError):
                via.cast(Node.note, number, ticket)
            continue
        try:
            if way == 1:
                value = via.call(Node.late, ticket)
            elif way == 2:
                value = via.call(Node.relay, ticket, rng.sample(NAMES, rng.randrange(3)))
            elif way == 3:
                value = via.send_request(Node.echo, ticket).get(LOST)
            elif way == 4:
                ref = via.whereis()
                value = ticket if ref is None else ref.within(LOST).call(Node.echo, ticket)
            else:
                value = via.call(Node.echo, ticket)
        except SupervisorsError as error:
            _failed(book, error)
        else:
            book.count("answers")
            if value != ticket:
                book.complaints.append(f"{ticket} was answered with {value}")


def awaiting_client(world: World, rng: random.Random, going: threading.Event) -> None:
    """As `client`, sixteen at once on an asyncio loop."""

    async def one(ticket: int) -> None:
        while going.is_set():
            via = world.registry.via(rng.choice(NAMES)).within(LOST)
            method: Any = rng.choice((Node.echo, Node.late))
            try:
                value = await via.acall(method, ticket)
            except SupervisorsError as error:
                _failed(world.book, error)
                await asyncio.sleep(0.001)
            else:
                world.book.count("awaited answers")
                if value != ticket:
                    world.book.complaints.append(f"{ticket} was answered with {value}")

    async def all_of_them() -> None:
        await asyncio.gather(*(one(-ticket) for ticket in range(1, 17)))

    asyncio.run(all_of_them())


def _failed(book: Book, error: SupervisorsError) -> None:
    book.count(type(error).__name__)
    if isinstance(error, CallTimeout):
        book.complaints.append(f"an answer is lost: {error}")


def settler(world: World) -> None:
    """Settle the deferred replies, from a thread that has nothing to do with the actors; None ends it."""
    while (entry := world.late.get()) is not None:
        entry[0].set(entry[1])


def killer(world: World, rng: random.Random, going: threading.Event) -> None:
    """End whoever has a name, in any way, a thousand times a second or so."""
    pause = threading.Event()
    ways: tuple[Callable[[Ref[Any]], object], ...] = (
        lambda ref: ref.exit(rng.choice((Normal(), Shutdown(), Crash(ValueError("told to"))))),
        lambda ref: ref.cast(Node.fail, rng.choice(FATAL)),
        lambda ref: ref.cast(Node.end, Normal()),
        lambda ref: ref.fence(),
        lambda ref: ref.stop(block=False),
    )
    while going.is_set():
        ref = world.registry.whereis(rng.choice(NAMES))
        if ref is not None:
            world.book.count("kills")
            with suppress(SupervisorsError):
                rng.choice(ways)(ref)
        pause.wait(rng.random() * 0.002)


def specs(world: World) -> list[ChildSpec]:
    """Two supervisors over all nodes."""
    nodes = [
        ChildSpec(name, KINDS[number % len(KINDS)], (world,), name=world.registry.via(name), shutdown=LOST)
        for number, name in enumerate(NAMES)
    ]
    limits = {"max_restarts": PLENTY, "max_seconds": 0.001}
    free = {"strategy": Strategy.ONE_FOR_ONE, **limits}
    tied = {"strategy": Strategy.ONE_FOR_ALL, **limits}
    return [
        ChildSpec("free", Supervisor, (nodes[:-TIED],), free, start_timeout=LOST),
        ChildSpec("tied", Supervisor, (nodes[-TIED:],), tied, start_timeout=LOST),
    ]


def quietly(trial: Callable[[float, int], Book]) -> Callable[[float, int], Book]:
    """A trial whose deaths are no news, and after which nothing may be left."""

    def quiet(seconds: float, seed: int) -> Book:
        before = seen()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            book = trial(seconds, seed)
        finally:
            structlog.reset_defaults()
        book.complaints += [f"left behind: {each}" for each in left(before)]
        return book

    return quiet


@quietly
def trial(seconds: float, seed: int) -> Book:
    """One trial of so many seconds. Its `complaints` are empty when all is well."""
    book, telemetry = Book(), Telemetry()
    book.listen(telemetry)
    with System(telemetry=telemetry) as system:
        world = World(book, system.registry, system.spawn(Watcher, book))
        for spec in specs(world):
            system.start_child(spec)
        run(world, seconds, seed)
        _check(system, world)
        telemetry.detach("chaos")
    return book


def run(world: World, seconds: float, seed: int) -> None:
    """The clients and the killers, for so many seconds."""
    going = threading.Event()
    going.set()
    rngs = [random.Random(seed + number) for number in range(CLIENTS + KILLERS + 1)]
    jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        *((client, (world, number, rngs[number], going)) for number in range(CLIENTS)),
        *((killer, (world, rngs[CLIENTS + number], going)) for number in range(KILLERS)),
        (awaiting_client, (world, rngs[-1], going)),
    ]
    threads = [threading.Thread(target=job, args=args, name=f"chaos-{job.__name__}") for job, args in jobs]
    settling = threading.Thread(target=settler, args=(world,), name="chaos-settler")
    for thread in (settling, *threads):
        thread.start()
    threading.Event().wait(seconds)
    going.clear()
    for thread in threads:
        thread.join(LOST * 2)
        if thread.is_alive():
            world.book.complaints.append(f"{thread.name} hangs")
    world.late.put(None)
    settling.join()


def _check(system: System, world: World) -> None:
    """When everything has come to rest: do the numbers agree?"""
    book = world.book

    def numbers() -> tuple[int, ...]:
        """Of those that were up: deaths, notices; then what the supervisors say: ended, restarted, started."""
        up = set(book.started)
        deaths, notices = (len(up.intersection(each)) for each in (book.deaths, book.notices))
        return deaths, notices, book.counts["told to supervisors"], book.counts["restarts"], len(up) - len(NAMES)

    def at_rest() -> bool:
        alive = [world.registry.whereis(name) for name in NAMES]
        agree = len(set(numbers())) == 1 and not book.unnoticed()
        return all(alive) and agree and system.kernel.zombies == 0

    with suppress(AssertionError):
        wait_until(at_rest, LOST)
    deaths, notices, told, restarts, again = numbers()
    book.counts.update(deaths=deaths, notices=notices)
    if len({deaths, notices, told, restarts, again}) != 1:
        book.complaints.append(
            f"{deaths} deaths, {notices} notices, {told} told to supervisors, {restarts} restarts, {again} starts again"
        )
    if unnoticed := book.unnoticed():
        book.complaints.append(f"the deaths of {sorted(unnoticed)} were never told")
    for what, lives in (("died", book.deaths), ("was reported", book.notices), ("was started", book.started)):
        if len(set(lives)) != len(lives):
            book.complaints.append(f"somebody {what} twice")
    for name in NAMES:
        ref = world.registry.whereis(name)
        if ref is None or ref.within(LOST).call(Node.echo, 1) != 1:
            book.complaints.append(f"{name} does not answer")
    if system.kernel.zombies:
        book.complaints.append(f"{system.kernel.zombies} fenced actors still have a thread")


def command(about: str | None, trial: Callable[[float, int], Book]) -> int:
    """Run a trial from the command line; the exit code is 1 when something is wrong."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments.add_argument("--switch-interval", type=float, default=sys.getswitchinterval())
    options = arguments.parse_args()
    sys.setswitchinterval(options.switch_interval)
    print(f"seed {options.seed}, {options.seconds:g} s, switching every {options.switch_interval:g} s", flush=True)
    began = time.monotonic()
    found = trial(options.seconds, options.seed)
    print(f"{found}\n{time.monotonic() - began:.0f} s")
    return 1 if found.complaints else 0


if __name__ == "__main__":
    sys.exit(command(__doc__, trial))
