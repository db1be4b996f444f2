"""How long interactive calls wait at a rate limit while an optimizer floods it with 10,000 calls.

Two tenants, one model: `service` asks ten times a second, `sweep` asks for 10,000 optimizer calls at once. The server
keeps a limit of 100 requests a second, of which it tells in headers, or lets ten requests run at once for 100 ms each.
`idle` is the same interactive load without the flood. A call's time is from its start to its answer, everything
included; its queue wait is what it spent in the line before the limiter.

    python benchmarks/fairness.py [--flood 10000] [--calls 100]
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _report import Report, Row
from _stub import StubServer, stub
from _targets import Targets

from dspy_actors import LM, DspyActorsError, Guarding, LimiterSettings, Predict, Program, Runtime
from dspy_actors.lm.gates import WAITED

RATE = 100
EVERY = 0.1
"""Seconds between two interactive calls."""

NONE = 1.0
"""Milliseconds in the line that count as no wait: whoever waits for nobody else is through in microseconds."""

PACED: dict[str, Any] = {"pace": {"requests": RATE, "seconds": 1.0}}
SLOW: dict[str, Any] = {"fault": "delay=100"}
REGIMES: dict[str, tuple[dict[str, Any], LimiterSettings]] = {
    f"{RATE} requests a second, learned": (PACED, LimiterSettings()),
    "10 requests at a time, 100 ms each": (SLOW, LimiterSettings(max_in_flight=10)),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--flood", type=int, default=10_000)
    arguments.add_argument("--calls", type=int, default=100)
    options = arguments.parse_args()
    report, targets = Report("fairness", "ms"), Targets()
    with stub() as server:
        for regime, (behaviour, limits) in REGIMES.items():
            times, waits = {}, {}
            for name, flood in (("idle", 0), ("flooded", options.flood)):
                server.control(answer={"mode": "layout", "text": "4"}, keep=1, **behaviour)
                times[name], waits[name] = _measured(server, limits, flood, options.calls)
            report.table(f"{regime}: an interactive call, start to answer", times, "idle")
            report.table(f"{regime}: its queue wait", waits)
            _aim(targets, regime, times, waits)
    report.close(targets=targets.show())


def _aim(targets: Targets, regime: str, times: dict[str, Row], waits: dict[str, Row]) -> None:
    idle, flooded = waits["idle"].percentile(0.99), waits["flooded"].percentile(0.99)
    targets.at_most(f"p99 of the queue wait ({regime})", flooded, max(2.0 * idle, NONE), "ms")
    idle, flooded = times["idle"].percentile(0.99), times["flooded"].percentile(0.99)
    targets.at_most(f"p99 of a call, flooded over idle ({regime})", flooded / idle, 2.0)


def _measured(server: StubServer, limits: LimiterSettings, flood: int, calls: int) -> tuple[Row, Row]:
    lm = LM("openai/stub", base_url=server.base_url, api_key="x", num_retries=10)
    times, waits = Row("time"), Row("wait")
    with Runtime(lm, guarding=Guarding(limiter=limits), max_inflight=2 * flood + 100) as rt:
        waited: list[float] = []
        rt.system.kernel.telemetry.attach("waits", WAITED, _keeper(waited))
        program = rt.start(Predict("question -> answer"))
        asks = program.using(tenant="service", priority="interactive")
        asks(question="first")
        with _flooded(program, rt, flood) as answered:
            before = len(answered)
            began = time.perf_counter()
            spent = [_asked(asks, number, began) for number in range(calls)]
            seconds = time.perf_counter() - began
            times.notes["flood's answers a second"] = (len(answered) - before) / seconds
    times.rounds.append(spent)
    waits.rounds.append([0.0] * (calls - len(waited)) + waited)
    waits.notes["calls that waited"] = len(waited)
    return times, waits


def _asked(asks: Program, number: int, began: float) -> float:
    """Milliseconds of one interactive call, made when its time has come."""
    time.sleep(max(0.0, began + number * EVERY - time.perf_counter()))
    start = time.perf_counter()
    asks(question=f"What is {number} + 2?")
    return (time.perf_counter() - start) * 1e3


def _keeper(waited: list[float]) -> Any:
    def keep(event: Any, measurements: Any, metadata: Any) -> None:
        if metadata["priority"] == "interactive":
            waited.append(measurements["seconds"] * 1e3)

    return keep


@contextmanager
def _flooded(program: Program, rt: Runtime, calls: int) -> Iterator[list[float]]:
    """So many optimizer calls, under way in a thread of their own; yields when they wait in line, ends them after."""
    answered: list[float] = []
    sweep = program.using(tenant="sweep", priority="optimizer")
    loop = asyncio.new_event_loop()

    async def one(number: int) -> None:
        try:
            await sweep.acall(question=f"candidate {number}")
            answered.append(time.perf_counter())
        except DspyActorsError:
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(calls)), return_exceptions=True)

    task: asyncio.Task[None] = loop.create_task(all_of_them())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    try:
        _wait_for_line(rt, calls, answered)
        yield answered
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def _wait_for_line(rt: Runtime, calls: int, answered: list[float]) -> None:
    """Return when all of the flood has come: what is not answered is under way or stands in line."""
    waiting = 0
    while waiting + len(answered) < calls - RATE:
        time.sleep(0.05)
        readings: Any = rt.health()["limiters"]
        waiting = sum(reading["waiting_optimizer"] for reading in readings.values())


if __name__ == "__main__":
    main()
