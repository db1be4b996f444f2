"""A `Predict` answered from the cache: from memory, from disk, and DSPy's the same, in milliseconds.

Reach: memory <= 0.1 ms, disk <= 0.2 ms.

    python benchmarks/cache_hit.py [--rounds 5] [--calls 300]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from _peers import KNOWN, load_dspy
from _report import Report, interleave
from _stub import StubServer, stub

from dspy_actors import LM, Predict, Runtime


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--calls", type=int, default=300)
    options = arguments.parse_args()
    report = Report("cache_hit", "ms")
    with ExitStack() as stack:
        server = stack.enter_context(stub())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases: dict[str, Callable[[], list[float]]] = {
            "dspy_actors, memory": _memory(stack, server, options.calls),
            "dspy_actors, disk": partial(_disk, server, folder / "answers.sqlite", options.calls),
        }
        dspy = load_dspy()
        if dspy is None:
            report.absent("dspy", "pip install 'dspy-actors[dspy]'")
        else:
            _dspy_cases(cases, dspy, server, folder, options.calls)
        rows = interleave(cases, options.rounds)
    report.table("a hit", rows, "dspy_actors, memory")
    report.close(reach={"memory": 0.1, "disk": 0.2})


def _timed(call: Callable[..., Any], calls: int) -> list[float]:
    took = []
    for number in range(calls):
        began = time.perf_counter()
        call(question=f"What is {number} + 2?")
        took.append((time.perf_counter() - began) * 1000)
    return took


def _lm(server: StubServer) -> LM:
    return LM("openai/stub", base_url=server.base_url, api_key="x")


def _memory(stack: ExitStack, server: StubServer, calls: int) -> Callable[[], list[float]]:
    runtime = stack.enter_context(Runtime(_lm(server)))
    program = runtime.start(Predict("question -> answer"))
    _timed(program, calls)
    return partial(_timed, program, calls)


def _disk(server: StubServer, path: Path, calls: int) -> list[float]:
    """A new runtime each round: its memory is empty, its file is not."""
    with Runtime(_lm(server), cache_path=path) as runtime:
        program = runtime.start(Predict("question -> answer"))
        program(question="the first call starts the worker's name and the programs loop")
        return _timed(program, calls)


def _dspy_cases(
    cases: dict[str, Callable[[], list[float]]], dspy: Any, server: StubServer, folder: Path, calls: int
) -> None:
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(folder / "dspy"))
    program = dspy.Predict("question -> answer")
    program.set_lm(dspy.LM(KNOWN, api_base=server.base_url, api_key="x", cache=True))
    _timed(program, calls)

    def from_disk() -> list[float]:
        dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir=str(folder / "dspy"))
        try:
            return _timed(program, calls)
        finally:
            dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(folder / "dspy"))
            _timed(program, calls)

    cases["DSPy, memory"] = partial(_timed, program, calls)
    cases["DSPy, disk"] = from_disk


if __name__ == "__main__":
    main()
