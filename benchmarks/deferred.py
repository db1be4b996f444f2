"""10,000 answers that are all under way at once, through an actor on a loop, against plain asyncio.

    python benchmarks/deferred.py [--quick]

Each question takes 0.3 s of sleep. "a task each": the handler defers its reply and leaves the rest to a task of the
actor; plain asyncio gathers as many tasks. "a timer each": the handler defers and has the loop settle the reply; plain
asyncio has the loop settle a future. The questions come from a coroutine on the actor's own loop, as an application
on one loop asks, and (last row) from another thread. Wall seconds, and microseconds of CPU per answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Row, Samples
from benchmarks._targets import Targets
from supervisors.actor import Actor, Ref
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.kernel import Kernel
from supervisors.reply import Reply

SLEEP = 0.3


class Server(Actor):
    """Answers later, any number at a time."""

    dispatcher = "loop"

    def by_task(self, number: int) -> Reply[int]:
        reply: Reply[int] = self.defer()
        self.start_task(self.work(number, reply))
        return reply

    async def work(self, number: int, reply: Reply[int]) -> None:
        await asyncio.sleep(SLEEP)
        reply.set(number)

    def by_timer(self, number: int) -> Reply[int]:
        reply: Reply[int] = self.defer()
        asyncio.get_running_loop().call_later(SLEEP, reply.set, number)
        return reply


async def ask_all(ref: Ref[Server], method: Callable[[Any, int], Reply[int]], asks: int) -> int:
    """All questions at once, on whatever loop."""
    replies = [ref.send_request(method, number) for number in range(asks)]
    return sum([await reply for reply in replies])


def ask_from_thread(ref: Ref[Server], asks: int) -> int:
    replies = [ref.send_request(Server.by_task, number) for number in range(asks)]
    return sum(reply.get(60) for reply in replies)


async def tasks_by_hand(asks: int) -> int:
    async def work(number: int) -> int:
        await asyncio.sleep(SLEEP)
        return number

    return sum(await asyncio.gather(*(work(number) for number in range(asks))))


async def timers_by_hand(asks: int) -> int:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = []
    for number in range(asks):
        future: asyncio.Future[int] = loop.create_future()
        loop.call_later(SLEEP, future.set_result, number)
        futures.append(future)
    return sum([await future for future in futures])


def timed(ask: Callable[[], int], asks: int) -> tuple[float, float]:
    """Wall seconds and µs of CPU per answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    assert ask() == asks * (asks - 1) // 2
    return time.perf_counter() - wall, (time.process_time() - cpu) / asks * 1e6


def measure(asks: int, rounds: int) -> tuple[dict[str, Row], dict[str, Row]]:
    """The table of wall times and that of CPU."""
    kernel = Kernel()
    ref = kernel.spawn(Server)
    loop = kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)

    def here(coro: Callable[[], Coroutine[Any, Any, int]]) -> Callable[[], int]:
        return lambda: loop.run(coro()).get(60)

    cases: dict[str, Callable[[], int]] = {
        "asyncio, a task each": here(lambda: tasks_by_hand(asks)),
        "actor, a task each": here(lambda: ask_all(ref, Server.by_task, asks)),
        "asyncio, a timer each": here(lambda: timers_by_hand(asks)),
        "actor, a timer each": here(lambda: ask_all(ref, Server.by_timer, asks)),
        "actor, a task each, asked by a thread": lambda: ask_from_thread(ref, asks),
    }
    walls, cpus = {name: Row(name) for name in cases}, {name: Row(name) for name in cases}
    names = list(cases)
    try:
        for number in range(-1, rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                wall, cpu = timed(cases[name], asks)
                if number >= 0:
                    walls[name].rounds.append(Samples([wall]))
                    cpus[name].rounds.append(Samples([cpu]))
    finally:
        kernel.close()
    return walls, cpus


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    report, targets = Report("deferred", "s and µs"), Targets()
    for asks, rounds in ((1_000, 3), (10_000, 3 if quick else 9)):
        walls, cpus = measure(asks, rounds)
        report.table(f"wall seconds, {asks:,} at once", walls, "asyncio, a task each")
        report.table(f"µs of CPU per answer, {asks:,} at once", cpus, "asyncio, a task each", digits=1)
    for what in ("a task each", "a timer each"):
        for word, rows in (("wall", walls), ("CPU", cpus)):
            ratio = rows[f"actor, {what}"].ratio(rows[f"asyncio, {what}"])
            targets.at_most(f"10,000, {what}, {word}", ratio, 1.1)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
