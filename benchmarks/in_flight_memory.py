"""Memory a call in flight takes: resident KB a call, ours over the bare transport's own, each in a fresh process.

Reach: at most 10 KB over the bare transport, awaited.

    python benchmarks/in_flight_memory.py [--calls 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from _report import Report, Row
from _stub import HEADERS, StubServer, body_of, installed, stub

from dspy_actors import LM, Predict, Runtime
from dspy_actors.lm.transports.base import HTTPRequest, TransportSettings
from dspy_actors.lm.transports.choose import choose


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--case", nargs=3, metavar=("KIND", "TRANSPORT", "PORT"), help="used by the script itself")
    options = arguments.parse_args()
    if options.case:
        kind, transport, port = options.case
        print(json.dumps(asyncio.run((_bare if kind == "bare" else _ours)(transport, int(port), options.calls))))
        return
    report = Report("in_flight_memory", "KB a call")
    names = ["httpx", "aiohttp"] if installed("aiohttp") else ["httpx"]
    if len(names) == 1:
        report.absent("aiohttp", "pip install 'dspy-actors[fast]'")
    with stub() as server:
        rows: dict[str, Row] = {}
        for name in names:
            for kind in ("bare", "ours"):
                row = rows[f"{kind}, {name}"] = Row(f"{kind}, {name}")
                row.rounds = [[_measured(server, kind, name, options.calls)] for _ in range(options.rounds)]
            over = rows[f"ours, {name}"].median - rows[f"bare, {name}"].median
            rows[f"ours, {name}"].notes["over_transport"] = round(over, 2)
    report.table(f"{options.calls} calls awaited at once", rows, f"bare, {names[0]}")
    report.close(reach={"over_transport": 10})


def _measured(server: StubServer, kind: str, transport: str, calls: int) -> float:
    server.control(answer={"mode": "layout", "text": "4"}, keep=1)
    command = [sys.executable, __file__, "--case", kind, transport, str(server.port), "--calls", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _resident_kb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise SystemExit("this benchmark reads /proc/self/status, which this system does not have")


async def _held(server: StubServer, calls: int, tasks: list[asyncio.Task[object]], before: float) -> float:
    """KB a call, once all of them are held at the provider."""
    await asyncio.to_thread(partial(server.wait, f"held=={calls}", timeout=60.0))
    found = (_resident_kb() - before) / calls
    await asyncio.to_thread(server.release)
    await asyncio.gather(*tasks)
    return found


def _server(port: int) -> StubServer:
    server = StubServer()
    server.port = port
    return server


async def _bare(name: str, port: int, calls: int) -> float:
    server = _server(port)
    transport = choose(name)(server.base_url, TransportSettings(connections=calls))
    body = body_of("What is 2 + 2?")
    await transport.send(HTTPRequest("POST", f"{server.base_url}/chat/completions", HEADERS, body))
    url = f"{server.at('hold')}/chat/completions"
    before = _resident_kb()
    tasks = [asyncio.create_task(_send(transport, url, body)) for _ in range(calls)]
    found = await _held(server, calls, tasks, before)
    await transport.aclose()
    return found


async def _send(transport: object, url: str, body: bytes) -> object:
    return await transport.send(HTTPRequest("POST", url, HEADERS, body))  # type: ignore[attr-defined]


async def _ours(name: str, port: int, calls: int) -> float:
    server = _server(port)
    async with Runtime(LM("openai/stub", base_url=server.base_url, api_key="x", cache=False), transport=name) as rt:
        program = rt.start(Predict("question -> answer"), max_inflight=calls)
        await program.acall(question="What is 2 + 2?")
        held = program.using(lm=LM("openai/stub", base_url=server.at("hold"), api_key="x", cache=False))
        before = _resident_kb()
        with rt.using(lm=LM("openai/stub", base_url=server.at("hold"), api_key="x", cache=False)):
            tasks = [asyncio.create_task(_call(held, number)) for number in range(calls)]
        return await _held(server, calls, tasks, before)


async def _call(program: object, number: int) -> object:
    return await program.acall(question=f"What is {number} + 2?")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
