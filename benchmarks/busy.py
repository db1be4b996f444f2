"""Latency of an ask while four threads compute: inline and pool actors against pykka.

    python benchmarks/busy.py [--quick]

The peers are plain threads in a loop of pure Python, so they hold the GIL for as long as they may. Whoever has to hand
a question to another thread waits for their slices to end; whoever runs the handler in place does not. Milliseconds
per ask; the ratio of the p99 is over all rounds together.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pykka

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Row, Samples, interleave
from benchmarks._targets import Targets
from supervisors.actor import Actor
from supervisors.kernel import Kernel


class OnPool(Actor):
    """Answers what it is asked."""

    def echo(self, value: int) -> int:
        return value


class Inline(OnPool):
    inline = True


class OnThread(OnPool):
    dispatcher = "thread"


class Plain(pykka.ThreadingActor):
    """The baseline."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def computing(peers: int) -> Iterator[None]:
    """`peers` threads that compute while the block runs."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(number * number for number in range(10_000))

    threads = [threading.Thread(target=compute) for _ in range(peers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def in_thread(ask: Callable[[int], Any], asks: int, peers: int) -> Samples:
    """ms for each ask, seen by a caller thread."""
    samples: Samples = []

    def caller() -> None:
        for number in range(asks):
            began = time.perf_counter()
            ask(number)
            samples.append((time.perf_counter() - began) * 1e3)

    thread = threading.Thread(target=caller)
    with computing(peers):
        thread.start()
        thread.join()
    return samples


def measure(peers: int, asks: int, rounds: int) -> dict[str, Row]:
    """One table."""
    kernel = Kernel()
    plain = Plain.start()
    inline, pool, thread = kernel.spawn(Inline), kernel.spawn(OnPool), kernel.spawn(OnThread)
    try:
        return interleave(
            {
                "pykka ask": lambda: in_thread(plain.ask, asks, peers),
                "inline": lambda: in_thread(lambda n: inline.call(OnPool.echo, n), asks, peers),
                "pool": lambda: in_thread(lambda n: pool.within(60).call(OnPool.echo, n), asks, peers),
                "thread": lambda: in_thread(lambda n: thread.within(60).call(OnPool.echo, n), asks, peers),
            },
            rounds,
        )
    finally:
        plain.stop()
        kernel.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    report, targets = Report("busy", "ms"), Targets()
    for peers, asks, rounds in ((0, 500, 3), (4, 30 if quick else 60, 2 if quick else 6)):
        rows = measure(peers, asks, rounds)
        report.table(f"with {peers} peers", rows, "pykka ask")
    worst = rows["pykka ask"].percentile(0.99)
    targets.at_most("p99, 4 peers, inline", rows["inline"].percentile(0.99) / worst, 0.01)
    targets.at_most("p99, 4 peers, pool", rows["pool"].percentile(0.99) / worst, 1)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
