"""Casts until all are handled: to one actor, to 1,000 and to 10,000, against pykka's tell and asyncio queues.

    python benchmarks/casts.py [--quick]

The sender goes round all actors, once per sweep, and waits in the end until the last message is handled. asyncio: one
queue and one task per actor, `put_nowait`, the loop gets its turn after every sweep. pykka is not run with 10,000
threads. Microseconds per cast; a gain is the baseline's time divided by ours.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pykka

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Case, Report, Row, Samples, interleave
from benchmarks._targets import Targets
from supervisors.actor import Actor
from supervisors.kernel import Kernel
from supervisors.ref import Ref


class Tally:
    """Set when `wanted` actors have handled all that they were sent."""

    def __init__(self) -> None:
        self.done, self.wanted, self.last = threading.Event(), 0, 0
        self.finished: list[None] = []

    def begin(self, actors: int, each: int) -> None:
        self.done.clear()
        self.finished.clear()
        self.wanted, self.last = actors, each - 1

    def over(self) -> None:
        self.finished.append(None)
        if len(self.finished) == self.wanted:
            self.done.set()


TALLY = Tally()


class Sink(Actor):
    """Ours, on the pool."""

    def take(self, number: int) -> None:
        if number == TALLY.last:
            TALLY.over()


class LoopSink(Sink):
    dispatcher = "loop"


class Plain(pykka.ThreadingActor):
    """The baseline."""

    use_daemon_thread = True

    def on_receive(self, message: int) -> None:
        if message == TALLY.last:
            TALLY.over()


def of_ours(refs: Sequence[Ref[Sink]], sweeps: int) -> Samples:
    TALLY.begin(len(refs), sweeps)
    began = time.perf_counter()
    for number in range(sweeps):
        for ref in refs:
            ref.cast(Sink.take, number)
    return _waited(began, len(refs) * sweeps)


def of_pykka(refs: Sequence[pykka.ActorRef[Any]], sweeps: int) -> Samples:
    TALLY.begin(len(refs), sweeps)
    began = time.perf_counter()
    for number in range(sweeps):
        for ref in refs:
            ref.tell(number)
    return _waited(began, len(refs) * sweeps)


def _waited(began: float, casts: int) -> Samples:
    assert TALLY.done.wait(60)
    return [(time.perf_counter() - began) / casts * 1e6]


def of_asyncio(actors: int, sweeps: int) -> Samples:
    """The same by hand; starting the tasks is not measured."""

    async def sink(queue: asyncio.Queue[int], last: int) -> None:
        while await queue.get() != last:
            pass

    async def main() -> Samples:
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(actors)]
        tasks = [asyncio.create_task(sink(queue, sweeps - 1)) for queue in queues]
        await asyncio.sleep(0)
        began = time.perf_counter()
        for number in range(sweeps):
            for queue in queues:
                queue.put_nowait(number)
            await asyncio.sleep(0)
        await asyncio.wait(tasks)
        return [(time.perf_counter() - began) / (actors * sweeps) * 1e6]

    return asyncio.run(main())


def cases(kernel: Kernel, actors: int, sweeps: int) -> dict[str, Case]:
    """Ours and asyncio's; the actors are there before the first round and for all rounds."""

    def sinks(kind: type[Sink]) -> list[Ref[Sink]]:
        return [kernel.spawn(kind) for _ in range(actors)]

    on_pool, on_loop = sinks(Sink), sinks(LoopSink)
    return {
        "pool": lambda: of_ours(on_pool, sweeps),
        "loop": lambda: of_ours(on_loop, sweeps),
        "asyncio queues": lambda: of_asyncio(actors, sweeps),
    }


def measure(actors: int, sweeps: int, rounds: int, pykkas: int) -> dict[str, Row]:
    """One table. `pykkas` sweeps for pykka, 0 to leave it out."""
    kernel = Kernel()
    plain = [Plain.start() for _ in range(actors)] if pykkas else []
    try:
        found: dict[str, Callable[[], Samples]] = cases(kernel, actors, sweeps)
        if pykkas:
            found["pykka tell"] = lambda: of_pykka(plain, pykkas)
        return interleave(found, rounds)
    finally:
        for each in plain:
            each.stop(block=False)
        kernel.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    rounds = 3 if quick else 7
    report, targets = Report("casts", "µs"), Targets()
    report.absent("pykka tell to 10,000", "10,000 threads")
    one = measure(1, 20_000, rounds, 20_000)
    report.table("to 1 actor", one, "pykka tell")
    thousand = measure(1_000, 20, rounds, 3 if quick else 5)
    report.table("to 1,000 actors", thousand, "pykka tell")
    report.table("to 10,000 actors", measure(10_000, 4, 2 if quick else 4, 0), "asyncio queues")
    targets.at_least("1 actor, pool: gain on pykka", 1 / one["pool"].ratio(one["pykka tell"]), 4)
    targets.at_least("1,000 actors, pool: gain on pykka", 1 / thousand["pool"].ratio(thousand["pykka tell"]), 40)
    for kind in ("pool", "loop"):
        gain = 1 / thousand[kind].ratio(thousand["asyncio queues"])
        targets.at_least(f"1,000 actors, {kind}: gain on asyncio queues", gain, 1)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
