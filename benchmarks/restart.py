"""From a crash to the replacement's first answer: supervised children against pykka with a hand-written restart.

    python benchmarks/restart.py [--quick]

A caller thread makes the child crash, waits for the replacement and asks it one question. Ours: a call that crashes
(the caller is told of the death), the arrival of the next holder of the name, a call to it. pykka, which restarts
nothing by itself: a message that crashes, `on_failure` tells an actor that starts the replacement and hands it to the
caller through a queue, an ask. Reports go nowhere on either side, and are
written between the bursts. Microseconds per restart.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pykka
import structlog

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Samples, interleave
from benchmarks._targets import Targets
from supervisors.actor import Actor
from supervisors.errors import ActorDied
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System

BURST = 40
"""Restarts in a row, some 10 ms of them: reports are written 20 ms after the first and do not disturb the others."""
PAUSE = 0.1
"""Seconds after each burst, in which the reports are written."""


class Child(Actor):
    """Crashes on demand."""

    def init(self, start: int) -> None:
        self.value = start

    def crash(self) -> None:
        raise ValueError("as it was told to")

    def answer(self, number: int) -> int:
        return number + self.value


class InlineChild(Child):
    inline = True


class ThreadChild(Child):
    dispatcher = "thread"


class Plain(pykka.ThreadingActor):
    """The baseline's child."""

    use_daemon_thread = True

    def __init__(self, keeper: pykka.ActorRef[Any], start: int) -> None:
        super().__init__()
        self.keeper, self.value = keeper, start

    def on_receive(self, message: Any) -> Any:
        if message is None:
            raise ValueError("as it was told to")
        return message + self.value

    def on_failure(self, *raised: Any) -> None:
        self.keeper.tell(self.actor_ref)


class Keeper(pykka.ThreadingActor):
    """The hand-written restart: told of a death, it starts the next one and hands it out."""

    use_daemon_thread = True

    def __init__(self, arrivals: SimpleQueue[pykka.ActorRef[Any]]) -> None:
        super().__init__()
        self.arrivals = arrivals

    def on_receive(self, message: Any) -> None:
        self.arrivals.put(Plain.start(self.actor_ref, 1))


def in_thread(restart: Callable[[], None]) -> Samples:
    """µs for each restart of a burst, seen by a caller thread."""
    samples: Samples = []

    def caller() -> None:
        for _ in range(BURST):
            began = time.perf_counter()
            restart()
            samples.append((time.perf_counter() - began) * 1e6)
        time.sleep(PAUSE)

    thread = threading.Thread(target=caller)
    thread.start()
    thread.join()
    return samples


def of_ours(system: System, key: str) -> Samples:
    """Our restarts of the child `key`."""
    registry = system.registry

    def restart() -> None:
        ref = registry.whereis(key)
        assert ref is not None
        try:
            ref.call(Child.crash)
        except ActorDied:
            pass
        assert registry.arrival(key).get(5).call(Child.answer, 1) == 2

    return in_thread(restart)


def of_pykka(arrivals: SimpleQueue[pykka.ActorRef[Any]]) -> Samples:
    """pykka's restarts; the present child is the one in the queue."""
    ref = [arrivals.get()]

    def restart() -> None:
        ref[0].tell(None)
        ref[0] = arrivals.get()
        assert ref[0].ask(1) == 2

    samples = in_thread(restart)
    arrivals.put(ref[0])
    return samples


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=0)
    given = options.parse_args()
    rounds = given.rounds or (10 if given.quick else 50)
    logging.getLogger("pykka").setLevel(logging.CRITICAL + 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report, targets = Report("restart", "µs"), Targets()
    arrivals: SimpleQueue[pykka.ActorRef[Any]] = SimpleQueue()
    keeper = Keeper.start(arrivals)
    arrivals.put(Plain.start(keeper, 1))
    with System() as system:
        kinds = {"inline": InlineChild, "pool": Child, "thread": ThreadChild}
        specs = [ChildSpec(key, kind, (1,), name=system.via(key)) for key, kind in kinds.items()]
        system.start_child(
            ChildSpec("top", Supervisor, (specs,), {"strategy": Strategy.ONE_FOR_ONE, "max_restarts": 1_000_000})
        )
        rows = interleave(
            {
                "pykka, by hand": lambda: of_pykka(arrivals),
                "inline child": lambda: of_ours(system, "inline"),
                "pool child": lambda: of_ours(system, "pool"),
                "thread child": lambda: of_ours(system, "thread"),
            },
            rounds,
        )
    pykka.ActorRegistry.stop_all()
    report.table("crash to answering", rows, "pykka, by hand", digits=1)
    targets.at_most("inline child", rows["inline child"].ratio(rows["pykka, by hand"]), 0.25)
    targets.at_most("pool child", rows["pool child"].ratio(rows["pykka, by hand"]), 0.5)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
