"""One question, one answer: our four dispatchers and an asyncio caller, against pykka's ask in the same run.

    python benchmarks/ask.py [--rounds 9] [--asks 2000]

A caller thread (not the main one: there, inline calls go through the pool) asks an idle actor, one question
after the other. "awaited" is a coroutine on an asyncio loop of its own. Microseconds per ask.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pykka

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Samples, interleave
from benchmarks._targets import Targets
from supervisors.actor import Actor
from supervisors.kernel import Kernel


class Plain(pykka.ThreadingActor):
    """The baseline."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


class OnPool(Actor):
    """Answers what it is asked."""

    def echo(self, value: int) -> int:
        return value


class Inline(OnPool):
    inline = True


class OnThread(OnPool):
    dispatcher = "thread"


class OnLoop(OnPool):
    dispatcher = "loop"


class Coroutines(Actor):
    dispatcher = "loop"

    async def echo(self, value: int) -> int:
        return value


def in_thread(ask: Callable[[int], Any], asks: int) -> Samples:
    """µs per ask, seen by a caller thread."""
    found: Samples = []

    def caller() -> None:
        began = time.perf_counter()
        for number in range(asks):
            ask(number)
        found.append((time.perf_counter() - began) / asks * 1e6)

    thread = threading.Thread(target=caller)
    thread.start()
    thread.join()
    return found


def on_loop(ask: Callable[[int], Coroutine[Any, Any, Any]], asks: int) -> Samples:
    """µs per ask, seen by a coroutine on a loop in a thread of its own."""

    async def caller() -> None:
        for number in range(asks):
            await ask(number)

    return [each / asks for each in in_thread(lambda _: asyncio.run(caller()), 1)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--asks", type=int, default=2000)
    given = options.parse_args()
    asks: int = given.asks
    report = Report("ask", "µs")
    kernel = Kernel()
    plain = Plain.start()
    inline, pool = kernel.spawn(Inline), kernel.spawn(OnPool)
    thread, loop, coroutines = kernel.spawn(OnThread), kernel.spawn(OnLoop), kernel.spawn(Coroutines)
    try:
        rows = interleave(
            {
                "pykka ask": lambda: in_thread(plain.ask, asks),
                "inline": lambda: in_thread(lambda n: inline.call(OnPool.echo, n), asks * 5),
                "pool": lambda: in_thread(lambda n: pool.call(OnPool.echo, n), asks),
                "thread": lambda: in_thread(lambda n: thread.call(OnPool.echo, n), asks),
                "loop": lambda: in_thread(lambda n: loop.call(OnPool.echo, n), asks),
                "loop, async def": lambda: in_thread(lambda n: coroutines.call(Coroutines.echo, n), asks),
                "inline, awaited": lambda: on_loop(lambda n: inline.acall(OnPool.echo, n), asks * 5),
                "pool, awaited": lambda: on_loop(lambda n: pool.acall(OnPool.echo, n), asks),
                "loop, awaited": lambda: on_loop(lambda n: loop.acall(OnPool.echo, n), asks),
            },
            given.rounds,
        )
        report.table("one ask at a time", rows, "pykka ask", digits=2)
    finally:
        plain.stop()
        kernel.close()
    targets = Targets()
    limits = {
        "inline": 0.1,
        "pool": 1.0,
        "loop": 1.0,
        "loop, async def": 1.0,
        "pool, awaited": 2.0,
        "loop, awaited": 2.0,
    }
    for name, limit in limits.items():
        targets.at_most(name, rows[name].ratio(rows["pykka ask"]), limit)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
