"""500 identical calls at once: how many requests reach the provider, and how long all of them take.

DSPy runs its own cache here, in memory, as it does by default: what it does with calls that are made at once.

    python benchmarks/coalesce.py [--calls 500] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from _peers import KNOWN, load_dspy, transports
from _report import Report, Row
from _stub import StubServer, stub
from _targets import Targets

from dspy_actors import LM, Predict, Runtime

DELAY_MS = 100


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    report = Report("coalesce", "s")
    with stub() as server:
        cases: dict[str, Callable[[int], None]] = {
            f"ours, {name}": partial(_ours, server, name, options.calls) for name in transports()
        }
        dspy = load_dspy()
        if dspy is None:
            report.absent("dspy", "pip install 'dspy-actors[dspy]'")
        else:
            cases["DSPy, acall"] = partial(_dspy, dspy, server, options.calls)
        rows = {name: Row(name) for name in cases}
        for number in range(options.rounds):
            for name, case in cases.items():
                server.control(answer={"mode": "layout", "text": "4"}, fault=f"delay={DELAY_MS}", keep=1)
                began = time.perf_counter()
                case(number)
                rows[name].rounds.append([time.perf_counter() - began])
                seen = server.stats()["requests"]
                rows[name].notes["upstream"] = max(seen, rows[name].notes.get("upstream", 0))
    report.table(f"{options.calls} identical calls at once, {DELAY_MS} ms provider", rows)
    targets = Targets()
    for name in transports():
        targets.at_most(f"requests upstream, {name}", rows[f"ours, {name}"].notes["upstream"], 1, "requests")
    report.close(targets=targets.show())


def _ours(server: StubServer, transport: str, calls: int, number: int) -> None:
    async def ask(program: Any) -> None:
        await asyncio.gather(*(program.acall(question=f"What is {number} + 2?") for _ in range(calls)))

    with Runtime(LM("openai/stub", base_url=server.base_url, api_key="x"), transport=transport) as runtime:
        asyncio.run(ask(runtime.start(Predict("question -> answer"))))


def _dspy(dspy: Any, server: StubServer, calls: int, number: int) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    program = dspy.Predict("question -> answer")
    program.set_lm(dspy.LM(KNOWN, api_base=server.base_url, api_key="x"))

    async def ask() -> None:
        await asyncio.gather(*(program.acall(question=f"What is {number} + 2?") for _ in range(calls)))

    asyncio.run(ask())


if __name__ == "__main__":
    main()
