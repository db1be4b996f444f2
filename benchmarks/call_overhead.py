"""What one call costs when the provider answers at once: ms a call, sequential, same process, same rounds.

Baseline: a bare synchronous httpx POST of the same prompt. `transport` rows are our transport driven through a loop
by a blocking caller, which is the path our calls take; what our rows add to them is the price of supervision.

    python benchmarks/call_overhead.py [--rounds 7] [--calls 200]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import httpx
from _peers import KNOWN, UNKNOWN, dspy_program, load_dspy, our_program, transports
from _report import Report, Row, interleave
from _stub import HEADERS, LoopThread, StubServer, body_of, stub

from dspy_actors.lm.transports.base import HTTPRequest, TransportSettings
from dspy_actors.lm.transports.choose import choose

BASELINE = "httpx POST, sync"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--calls", type=int, default=200)
    options = arguments.parse_args()
    report = Report("call_overhead", "ms")
    with ExitStack() as stack:
        server = stack.enter_context(stub())
        cases = _cases(stack, server, report)
        timed = {name: partial(_time, call, options.calls) for name, call in cases.items()}
        rows = interleave(timed, options.rounds)
        _over(rows)
        report.table(f"one call, {options.calls} in a row, 0 ms provider", rows, BASELINE)
        if server.stats()["invalid"]:
            raise SystemExit("the provider refused requests; the numbers are void")
    report.close()


def _cases(stack: ExitStack, server: StubServer, report: Report) -> dict[str, Callable[[], object]]:
    url = f"{server.base_url}/chat/completions"
    body = body_of("What is 2 + 2?")
    client = stack.enter_context(httpx.Client(timeout=30, trust_env=False))
    cases: dict[str, Callable[[], object]] = {
        BASELINE: lambda: client.post(url, content=body, headers=HEADERS).json()["choices"]
    }
    dspy = load_dspy()
    if dspy is None:
        report.absent("dspy", "pip install 'dspy-actors[dspy]'")
    else:
        for name, model in (("DSPy Predict, known model", KNOWN), ("DSPy Predict, unknown model", UNKNOWN)):
            cases[name] = partial(dspy_program(dspy, server.base_url, model), question="What is 2 + 2?")
    for transport in transports():
        cases[f"transport {transport}"] = _bare(stack, server, transport, HTTPRequest("POST", url, HEADERS, body))
        program = stack.enter_context(our_program(server.base_url, transport))
        cases[f"dspy_actors Predict, {transport}"] = partial(program, question="What is 2 + 2?")
    if len(transports()) == 1:
        report.absent("aiohttp", "pip install 'dspy-actors[fast]'")
    return cases


def _bare(stack: ExitStack, server: StubServer, name: str, request: HTTPRequest) -> Callable[[], object]:
    loop = LoopThread()
    stack.callback(loop.close)

    async def create() -> object:
        return choose(name)(server.base_url, TransportSettings())

    transport = loop.run(create())
    stack.callback(lambda: loop.run(transport.aclose()))  # type: ignore[attr-defined]
    return lambda: loop.run(transport.send(request))  # type: ignore[attr-defined]


def _time(call: Callable[[], object], calls: int) -> list[float]:
    samples = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        samples.append((time.perf_counter() - began) * 1000)
    return samples


def _over(rows: dict[str, Row]) -> None:
    """Note by how much a case is over the transport it runs on, in ms."""
    for name, row in rows.items():
        own = rows.get(f"transport {name.rpartition(', ')[2]}")
        row.notes["over_transport_ms"] = "" if own is None else round(row.median - own.median, 3)


if __name__ == "__main__":
    main()
