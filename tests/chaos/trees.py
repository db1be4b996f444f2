"""As `tests.chaos.actors`, and the supervisors are killed too: whole trees end and come back under load.

    python -m tests.chaos.trees [--seconds 60] [--seed 1] [--switch-interval 1e-5]

A supervisor that ends takes its children along, so deaths and restarts cannot be compared; but every call must end,
every death must be told, and when it is over there must be exactly the actors of one tree, each of which answers.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from supervisors.errors import SupervisorsError
from supervisors.exits import Crash, Normal, Shutdown
from supervisors.ref import Ref
from supervisors.stopping import stop
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import wait_until
from tests.chaos.actors import LOST, NAMES, PLENTY, Book, Node, Watcher, World, command, quietly, run, specs

ALL = len(NAMES) + 4
"""The nodes, their two supervisors, the root and the watcher."""


def _kill_supervisors(system: System, rng: random.Random, going: threading.Event) -> None:
    pause = threading.Event()
    ways: tuple[Callable[[Ref[Any]], object], ...] = (
        lambda ref: ref.fence(),
        lambda ref: ref.exit(rng.choice((Normal(), Shutdown(), Crash(ValueError("told to"))))),
        lambda ref: stop(ref, Shutdown(), LOST),
    )
    while going.is_set():
        with suppress(SupervisorsError):
            ref = rng.choice(system.root.within(LOST).call(Supervisor.which_children)).ref
            if isinstance(ref, Ref):
                rng.choice(ways)(ref)
        pause.wait(rng.random() * 0.02)


@quietly
def trial(seconds: float, seed: int) -> Book:
    """One trial of so many seconds. Its `complaints` are empty when all is well."""
    book = Book()
    with System(max_restarts=PLENTY, max_seconds=0.001) as system:
        book.listen(system.telemetry)
        world = World(book, system.registry, system.spawn(Watcher, book))
        for spec in specs(world):
            system.start_child(spec)
        going = threading.Event()
        going.set()
        threads = [
            threading.Thread(target=_kill_supervisors, args=(system, random.Random(seed - number - 1), going))
            for number in range(2)
        ]
        for thread in threads:
            thread.start()
        run(world, seconds, seed)
        going.clear()
        for thread in threads:
            thread.join()
        _check(system, world)
    return book


def _check(system: System, world: World) -> None:
    book, kernel = world.book, system.kernel

    def at_rest() -> bool:
        is_whole = (len(kernel.live()), kernel.zombies) == (ALL, 0) and all(map(world.registry.whereis, NAMES))
        return is_whole and not book.unnoticed()

    with suppress(AssertionError):
        wait_until(at_rest, LOST)
    book.counts.update(restarts=system.restarts, deaths=len(book.deaths))
    if not at_rest():
        book.complaints.append(f"{len(kernel.live())} actors of {ALL}, {kernel.zombies} zombies:\n{system.draw()}")
    if unnoticed := book.unnoticed():
        book.complaints.append(f"the deaths of {sorted(unnoticed)} were never told")
    for name in NAMES:
        ref = world.registry.whereis(name)
        if ref is None or ref.within(LOST).call(Node.echo, 1) != 1:
            book.complaints.append(f"{name} does not answer")


if __name__ == "__main__":
    sys.exit(command(__doc__, trial))
