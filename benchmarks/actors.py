"""What an actor costs: memory while idle, and its start and stop, against pykka's threads.

    python benchmarks/actors.py [--quick]

Memory is the growth of the process's resident set, in a process of its own for each line, from before the first actor
(threads and modules are there already) to after the last. 100,000 actors are all asked, and all must answer.
Starting and stopping is done 1,000 at a time: all are begun, then all are awaited, then all are told to stop, then all
are awaited. pykka starts one by one (its `start` waits for the thread only) and stops with `block=False` first.
KiB and microseconds per actor.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks._report import Report, Row, Samples, interleave
from benchmarks._targets import Targets
from supervisors.actor import Actor
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System

BATCH = 1_000


class Idle(Actor):
    """Bare: no state of its own."""

    def answer(self) -> int:
        return 1


class IdleInline(Idle):
    inline = True


class IdleOnLoop(Idle):
    dispatcher = "loop"


class Plain(pykka.ThreadingActor):
    """The baseline."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return 1


# memory, in a process of its own


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def bare(number: int, cls: type[Idle] = Idle) -> dict[str, float]:
    """`number` actors without a name or a supervisor; each is asked once in the end."""
    kernel = Kernel()
    kernel.spawn(cls).call(Idle.answer)
    before = resident()
    began = time.perf_counter()
    refs = [kernel.spawn(cls) for _ in range(number)]
    spawned = time.perf_counter() - began
    size = resident() - before
    began = time.perf_counter()
    replies = [ref.send_request(Idle.answer) for ref in refs]
    answered = sum(reply.get(60) for reply in replies)
    asked = time.perf_counter() - began
    assert answered == number
    found = {"KiB": size / number / 1024, "spawn µs": spawned / number * 1e6, "ask µs": asked / number * 1e6}
    os.write(1, json.dumps(found).encode())  # 100,000 stops are not what is measured here
    os._exit(0)


def supervised(number: int) -> dict[str, float]:
    """`number` children of one supervisor, each with a name of its own."""
    with System() as system:
        top = system.start_child(ChildSpec("top", Supervisor, kwargs={"strategy": Strategy.ONE_FOR_ONE}))
        top.call(Supervisor.start_child, ChildSpec("first", Idle, name=system.via("first")))
        before = resident()
        began = time.perf_counter()
        for each in range(number):
            spec = ChildSpec(f"child {each}", Idle, name=system.via(f"child {each}"))
            top.call(Supervisor.start_child, spec)
        spawned = time.perf_counter() - began
        size = resident() - before
        os.write(1, json.dumps({"KiB": size / number / 1024, "spawn µs": spawned / number * 1e6}).encode())
        os._exit(0)


def threads(number: int) -> dict[str, float]:
    """`number` of pykka's actors."""
    Plain.start().ask(1)
    before = resident()
    began = time.perf_counter()
    refs = [Plain.start() for _ in range(number)]
    spawned = time.perf_counter() - began
    size = resident() - before
    began = time.perf_counter()
    assert sum(pykka.get_all([ref.ask(1, block=False) for ref in refs])) == number
    asked = time.perf_counter() - began
    found = {"KiB": size / number / 1024, "spawn µs": spawned / number * 1e6, "ask µs": asked / number * 1e6}
    os.write(1, json.dumps(found).encode())
    os._exit(0)


WHAT: dict[str, Callable[[int], dict[str, float]]] = {
    "bare, pool": bare,
    "bare, loop": lambda number: bare(number, IdleOnLoop),
    "named and supervised": supervised,
    "pykka": threads,
}


def apart(what: str, number: int) -> Row:
    """Run one line of `WHAT` in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(number)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = found.pop("KiB")
    return Row(f"{what}, {number:,}", [[size]], found)


# start and stop


def of_ours(kernel: Kernel, cls: type[Idle]) -> Samples:
    """µs per actor for the start and the stop of a batch."""
    began = time.perf_counter()
    begun = [kernel.begin(cls) for _ in range(BATCH)]
    for _, started in begun:
        started.get(30)
    refs = [cell.ref for cell, _ in begun]
    downs = [ref.down() for ref in refs]
    for ref in refs:
        ref.exit(Shutdown())
    for down in downs:
        down.get(30)
    return [(time.perf_counter() - began) / BATCH * 1e6]


def of_spawn(kernel: Kernel, cls: type[Idle]) -> Samples:
    """As `of_ours`, but each start is awaited before the next one."""
    began = time.perf_counter()
    refs = [kernel.spawn(cls) for _ in range(BATCH)]
    downs = [ref.down() for ref in refs]
    for ref in refs:
        ref.exit(Shutdown())
    for down in downs:
        down.get(30)
    return [(time.perf_counter() - began) / BATCH * 1e6]


def of_pykka() -> Samples:
    began = time.perf_counter()
    refs = [Plain.start() for _ in range(BATCH)]
    stopped = [ref.stop(block=False) for ref in refs]
    for each in stopped:
        each.get(timeout=30)
    return [(time.perf_counter() - began) / BATCH * 1e6]


def lives(rounds: int) -> dict[str, Row]:
    """The table of starts and stops."""
    kernel = Kernel()
    try:
        return interleave(
            {
                "pykka": of_pykka,
                "pool": lambda: of_ours(kernel, Idle),
                "inline": lambda: of_ours(kernel, IdleInline),
                "loop": lambda: of_ours(kernel, IdleOnLoop),
                "pool, spawn by spawn": lambda: of_spawn(kernel, Idle),
                "inline, spawn by spawn": lambda: of_spawn(kernel, IdleInline),
            },
            rounds,
        )
    finally:
        kernel.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        WHAT[given.one[0]](int(given.one[1]))
    report, targets = Report("actors", "KiB and µs"), Targets()
    many = 20_000 if given.quick else 100_000
    wanted = [("pykka", 1_000), ("bare, pool", 10_000), ("bare, loop", 10_000), ("named and supervised", 10_000)]
    rows = {row.name: row for row in (apart(*each) for each in [*wanted, ("bare, pool", many)])}
    pykkas = rows["pykka, 1,000"]
    report.table("KiB of an idle actor", rows, "pykka, 1,000")
    batches = lives(3 if given.quick else 7)
    report.table("µs for start and stop, in batches of 1,000", batches, "pykka", digits=1)
    targets.at_most("bare, 10,000", rows["bare, pool, 10,000"].median, 2.5, "KiB")
    targets.at_most("named and supervised, 10,000", rows["named and supervised, 10,000"].ratio(pykkas), 0.2)
    targets.at_least("alive and answering", many, 20_000 if given.quick else 100_000, "actors")
    targets.at_most("start and stop in a batch, pool", batches["pool"].ratio(batches["pykka"]), 0.15)
    report.close(targets=targets.show())


if __name__ == "__main__":
    main()
