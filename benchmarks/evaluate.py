"""Evaluate 512 examples against a provider that takes 50 ms, at 8, 64 and 256 in flight: wall seconds over the ideal.

The ideal is ceil(examples / in flight) x 50 ms. `transport` rows are our transport driven by plain asyncio, without
prompts, parsing or supervision. DSPy runs at the best of several thread counts up to the level. Above 64 in flight an
evaluation is over in a fifth of a second, in which any other work of the machine weighs much: there are more rounds
there, in proportion to the level, so that all levels are measured for about as long.

What one row leaves behind is collected before the next begins: DSPy keeps a history of its calls, and a full collection
of that takes 50 to 180 ms, which would be counted for whichever row it falls upon.

    python benchmarks/evaluate.py [--rounds 5] [--levels 8 64 256] [--examples 512]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from _peers import KNOWN, dspy_program, load_dspy, our_program, transports
from _report import Report, Row, interleave
from _stub import HEADERS, StubServer, body_of, cpu_seconds, stub

from dspy_actors.lm.transports.base import HTTPRequest, Transport, TransportSettings
from dspy_actors.lm.transports.choose import choose

DELAY = 0.05


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--examples", type=int, default=512)
    arguments.add_argument("--levels", type=int, nargs="+", default=[8, 64, 256])
    options = arguments.parse_args()
    report = Report("evaluate", "s")
    dspy = load_dspy()
    if dspy is None:
        report.absent("dspy", "pip install 'dspy-actors[dspy]'")
    if len(transports()) == 1:
        report.absent("aiohttp", "pip install 'dspy-actors[fast]'")
    for level in options.levels:
        _level(report, dspy, level, options.examples, options.rounds * max(1, level // 64))
    report.close()


def _level(report: Report, dspy: Any, level: int, examples: int, rounds: int) -> None:
    ideal = math.ceil(examples / level) * DELAY
    with ExitStack() as stack:
        server = stack.enter_context(stub())
        works: dict[str, Callable[[], object]] = {}
        for name in transports():
            works[f"transport {name}"] = _bare(stack, server, name, level, examples)
            works[f"dspy_actors Evaluate, {name}"] = _ours(stack, server, name, level, examples)
        if dspy is not None:
            threads = _best_threads(dspy, server, level, examples)
            works["DSPy Evaluate"] = _dspy(dspy, server, threads, examples)
        notes: dict[str, list[tuple[float, int]]] = {name: [] for name in works}
        rows = interleave(
            {name: partial(_measure, server, work, examples, notes[name]) for name, work in works.items()}, rounds
        )
    for name, row in rows.items():
        _note(row, notes[name], ideal, examples, rows)
    if dspy is not None:
        rows["DSPy Evaluate"].notes["threads"] = threads
    report.table(f"{level} in flight, ideal {ideal:.2f} s", rows, "transport httpx")


def _measure(
    server: StubServer, work: Callable[[], object], examples: int, notes: list[tuple[float, int]]
) -> list[float]:
    server.control(answer={"mode": "layout", "text": "4"}, keep=1)
    gc.collect()
    cpu, began = cpu_seconds(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    stats = server.stats()
    if stats["answered"] < examples or stats["invalid"]:
        raise SystemExit(f"the provider answered {stats['answered']} of {examples}, refused {stats['invalid']}")
    notes.append((cpu * 1000 / examples, stats["peak"]))
    return [wall]


def _note(row: Row, notes: list[tuple[float, int]], ideal: float, examples: int, rows: dict[str, Row]) -> None:
    bare = rows.get(f"transport {row.name.rpartition(', ')[2]}")
    row.notes = {
        "over_ideal": round(row.median / ideal, 2),
        "over_transport": "" if bare is None else round(row.ratio(bare), 2),
        "per_second": round(examples / row.median),
        "cpu_ms": round(sorted(cpu for cpu, _ in notes)[len(notes) // 2], 2),
        "peak": max(peak for _, peak in notes),
    }


def _slow(server: StubServer) -> str:
    return server.at(f"delay={DELAY * 1000:.0f}")


def _bare(stack: ExitStack, server: StubServer, name: str, level: int, examples: int) -> Callable[[], object]:
    """So many tasks take questions from one iterator; connections stay open between the rounds, as they do for all."""
    url = f"{_slow(server)}/chat/completions"
    runner = stack.enter_context(asyncio.Runner())

    async def create() -> Transport:
        return choose(name)(server.base_url, TransportSettings(connections=level))

    async def one(transport: Transport, questions: Iterator[int]) -> None:
        for number in questions:
            response = await transport.send(HTTPRequest("POST", url, HEADERS, body_of(f"What is {number} + 2?")))
            json.loads(response.body)["choices"][0]["message"]["content"]

    async def run(transport: Transport) -> None:
        questions = iter(range(examples))
        await asyncio.gather(*(one(transport, questions) for _ in range(level)))

    transport = runner.run(create())
    stack.callback(lambda: runner.run(transport.aclose()))
    return lambda: runner.run(run(transport))


def _ours(stack: ExitStack, server: StubServer, name: str, level: int, examples: int) -> Callable[[], object]:
    from dspy_actors import Evaluate, Example

    program = stack.enter_context(our_program(_slow(server), name))
    rows = [Example(question=f"What is {n} + 2?", answer="4").with_inputs("question") for n in range(examples)]
    return partial(Evaluate(devset=rows, metric=_metric, num_threads=level), program)


def _metric(example: Any, prediction: Any, trace: object = None) -> bool:
    return bool(example.answer == prediction.answer)


def _dspy(dspy: Any, server: StubServer, threads: int, examples: int) -> Callable[[], object]:
    rows = [dspy.Example(question=f"What is {n} + 2?", answer="4").with_inputs("question") for n in range(examples)]
    judge = dspy.Evaluate(devset=rows, metric=_metric, num_threads=threads, display_progress=False)
    program = dspy_program(dspy, _slow(server), KNOWN)
    return partial(judge, program)


def _best_threads(dspy: Any, server: StubServer, level: int, examples: int) -> int:
    """The thread count up to `level` that finishes first, each tried once."""
    found: dict[int, float] = {}
    for threads in sorted({level, min(level, 128), min(level, 64), min(level, 32)}):
        work = _dspy(dspy, server, threads, examples)
        found[threads] = _measure(server, work, examples, [])[0]
    return min(found, key=lambda threads: found[threads])


if __name__ == "__main__":
    main()
