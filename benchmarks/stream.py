"""Streams through the whole path: events a second, memory behind a slow reader, how fast one closes.

The `bare` rows are our transport driven by plain asyncio: it reads the same bytes, cuts them at the blank lines and
parses each event's JSON, without guards, pieces, buffer or supervision. The server is a process of its own.

    python benchmarks/stream.py [--events 100000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from _peers import transports
from _report import Report, Row, interleave
from _sse import Streaming, streaming
from _stub import cpu_seconds
from _targets import Targets

from dspy_actors import LM, Runtime
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.transports.base import HTTPRequest, TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.stream_reader import StreamReader

_HEADERS = {"content-type": "application/json", "accept": "text/event-stream"}
BYTES_AN_EVENT = 232
CANCELS = 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    report, targets = Report("stream", "us"), Targets()
    with streaming() as server:
        _memory(report, targets, server)  # first: what others have freed would hide its growth
        _events(report, targets, server, options.events, options.rounds)
        _cancel(report, targets, server)
    report.close(targets=targets.show())


# -- events a second ---------------------------------------------------------------------------------------------------


def _events(report: Report, targets: Targets, server: Streaming, events: int, rounds: int) -> None:
    cases: dict[str, Callable[[], list[float]]] = {}
    for name in transports():
        cases[f"bare, {name}"] = partial(_timed, events, partial(bare_events, server, name, events))
        cases[f"ours, for, {name}"] = partial(_timed, events, partial(_read_events, server, name, events, sync=True))
        cases[f"ours, async for, {name}"] = partial(
            _timed, events, partial(_read_events, server, name, events, sync=False)
        )
    rows = interleave(cases, rounds)
    for row in rows.values():
        row.notes["events_a_cpu_second"] = round(1e6 / row.median)
    report.table("client's CPU an event", rows, f"bare, {transports()[-1]}", digits=2)
    for name in transports():
        for kind in ("for", "async for"):
            row = rows[f"ours, {kind}, {name}"]
            targets.at_least(f"events a core's second, {kind}, {name}", 1e6 / row.median, 50_000, "events")


def _timed(events: int, case: Callable[[], int]) -> list[float]:
    before = cpu_seconds()
    found = case()
    took = cpu_seconds() - before
    if found != events:
        raise SystemExit(f"{found} of {events} events arrived; the numbers are void")
    return [took / events * 1e6]


def bare_events(server: Streaming, name: str, events: int) -> int:
    async def read() -> int:
        transport = choose(name)(server.base_url, TransportSettings())
        count = 0
        async for chunk in bare_chunks(transport, server, f"fast-{events}"):
            choices = chunk.get("choices")
            count += bool(choices and choices[0]["delta"].get("content"))
        await transport.aclose()
        return count

    return asyncio.run(read())


async def bare_chunks(transport: Any, server: Streaming, model: str) -> AsyncIterator[dict[str, Any]]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "go"}], "stream": True}).encode()
    incoming = await transport.open(HTTPRequest("POST", f"{server.base_url}/chat/completions", _HEADERS, body))
    rest = b""
    while data := await incoming.read():
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            if block != b"data: [DONE]":
                yield json.loads(block[6:])
    await incoming.aclose()


def model_at(server: Streaming, name: str) -> LM:
    return LM(f"openai/{name}", base_url=server.base_url, api_key="x", cache=False, num_retries=0)


def _read_events(server: Streaming, name: str, events: int, *, sync: bool) -> int:
    with Runtime(model_at(server, f"fast-{events}"), transport=name) as rt:
        if sync:
            return sum(1 for _ in rt.stream("go"))

        async def read() -> int:
            count = 0
            async for _ in rt.stream("go"):
                count += 1
            return count

        return asyncio.run(read())


# -- a slow reader -----------------------------------------------------------------------------------------------------


def _memory(report: Report, targets: Targets, server: Streaming) -> None:
    """10 MB to a reader that first does not read at all, then reads in small sips."""
    events = 10_000_000 // BYTES_AN_EVENT
    rows = {"10 MB to a slow reader": Row("10 MB to a slow reader")}
    grown: list[float] = []
    with Runtime(model_at(server, f"fast-{events}"), transport=transports()[-1]) as rt:
        _sip(rt.stream("go", model_at(server, "fast-5000")))
        gc.collect()
        before = _resident()
        stream = rt.stream("go")
        count = len(stream.take().get(10.0) or ())
        threading.Event().wait(1.0)
        stalled = _resident() - before
        while (pieces := stream.take().get(10.0)) is not None:
            count += len(pieces)
            if len(grown) % 50 == 0:
                threading.Event().wait(0.005)
            grown.append(_resident() - before)
        if count < events:
            raise SystemExit(f"{count} of {events} pieces arrived; the numbers are void")
    row = rows["10 MB to a slow reader"]
    row.rounds.append([max(grown) * 1000])
    row.notes |= {"MB_while_not_reading": round(stalled, 2), "MB_at_most": round(max(grown), 2)}
    report.table("resident memory behind a slow reader (thousandths of a MB)", rows, digits=0)
    targets.at_most("memory growth, 10 MB to a slow reader", max(max(grown), stalled), 5.0, "MB")


def _sip(stream: LMStream) -> None:
    for _ in stream:
        pass


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


# -- leaving -----------------------------------------------------------------------------------------------------------


def closing(stream: StreamReader[Any], server: Streaming) -> float:
    """Seconds from `close()` to the end that the server saw; it is asked afterwards, so that nothing is in the way."""
    server.closed()
    began = time.monotonic()
    stream.close()
    threading.Event().wait(0.05)
    while not (closed := server.closed()):
        pass
    return closed[0] - began


def _cancel(report: Report, targets: Targets, server: Streaming) -> None:
    rows = {}
    for name in transports():
        row = rows[f"close() to the server's end, {name}"] = Row(name)
        with Runtime(model_at(server, "paced-100000-50"), transport=name) as rt:
            for _ in range(CANCELS):
                stream = rt.stream("go")
                stream.take().get(10.0)
                row.rounds.append([closing(stream, server) * 1e6])
    report.table("from close() to the socket closed, as the server sees it", rows, digits=0)
    for name, row in rows.items():
        targets.at_most(f"{name}, median", row.median / 1000, 5.0, "ms")


if __name__ == "__main__":
    main()
