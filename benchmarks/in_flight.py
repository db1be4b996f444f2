"""1,000 calls at once against a provider that takes 3 s: wall seconds, over the ideal, and the peak the provider saw.

`bare` rows are our transport driven by plain asyncio, without prompts, parsing, guards or supervision.
DSPy awaits the same calls with `acall`, at its defaults.

    python benchmarks/in_flight.py [--calls 1000] [--seconds 3] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from _peers import KNOWN, dspy_program, load_dspy, transports
from _report import Report, Row
from _stub import HEADERS, StubServer, body_of, cpu_seconds, stub
from _targets import Targets

from dspy_actors import LM, Predict, Runtime
from dspy_actors.lm.transports.base import HTTPRequest, TransportSettings
from dspy_actors.lm.transports.choose import choose

REACH = {"httpx": 1.8, "aiohttp": 1.35}
"""Wall over ideal that is to be reached with each transport."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, default=1000)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    report = Report("in_flight", "s")
    with stub() as server:
        cases: dict[str, Callable[[], Awaitable[None]]] = {}
        for name in transports():
            cases[f"bare, {name}"] = partial(_bare, server, name, options.calls)
            cases[f"ours, {name}"] = partial(_ours, server, name, options.calls)
        if len(transports()) == 1:
            report.absent("aiohttp", "pip install 'dspy-actors[fast]'")
        dspy = load_dspy()
        if dspy is None:
            report.absent("dspy", "pip install 'dspy-actors[dspy]'")
        else:
            cases["DSPy, acall"] = partial(_dspy, dspy, server, options.calls)
        rows = {name: Row(name) for name in cases}
        for _ in range(options.rounds):
            for name, case in cases.items():
                _measure(server, rows[name], case, options.calls, options.seconds)
    for row in rows.values():
        row.notes["over_ideal"] = round(row.median / options.seconds, 3)
    report.table(f"{options.calls} calls of {options.seconds:g} s at once", rows, "bare, httpx")
    report.close(targets=_targets(rows, options.calls).show())


def _measure(server: StubServer, row: Row, case: Callable[[], Awaitable[None]], calls: int, seconds: float) -> None:
    server.control(answer={"mode": "layout", "text": "4"}, fault=f"delay={seconds * 1000:g}", keep=1)
    before = cpu_seconds()
    took: list[float] = []

    async def timed() -> None:
        began = time.perf_counter()
        await case()
        took.append(time.perf_counter() - began)

    asyncio.run(timed())
    row.rounds.append(took)
    row.notes["cpu_ms_a_call"] = round((cpu_seconds() - before) / calls * 1000, 3)
    stats = server.stats()
    row.notes["peak"] = max(stats["peak"], row.notes.get("peak", 0))
    if stats["answered"] != calls or stats["invalid"]:
        raise SystemExit(f"{row.name}: {stats['answered']} of {calls} calls were answered; the numbers are void")


async def _bare(server: StubServer, name: str, calls: int) -> None:
    transport = choose(name)(server.base_url, TransportSettings(connections=calls))
    request = HTTPRequest("POST", f"{server.base_url}/chat/completions", HEADERS, body_of("What is 2 + 2?"))
    await asyncio.gather(*(transport.send(request) for _ in range(calls)))
    await transport.aclose()


async def _ours(server: StubServer, name: str, calls: int) -> None:
    lm = LM("openai/stub", base_url=server.base_url, api_key="x", cache=False)
    async with Runtime(lm, transport=name) as runtime:
        program = runtime.start(Predict("question -> answer"))
        await asyncio.gather(*(program.acall(question=f"What is {number} + 2?") for number in range(calls)))


async def _dspy(dspy: Any, server: StubServer, calls: int) -> None:
    program = dspy_program(dspy, server.base_url, KNOWN)
    await asyncio.gather(*(program.acall(question=f"What is {number} + 2?") for number in range(calls)))


def _targets(rows: dict[str, Row], calls: int) -> Targets:
    targets = Targets()
    for name in transports():
        row = rows[f"ours, {name}"]
        targets.at_most(f"wall over ideal, {name}", row.notes["over_ideal"], REACH[name])
        targets.at_least(f"peak at the provider, {name}", row.notes["peak"], calls, "calls")
    return targets


if __name__ == "__main__":
    main()
