"""Outputs of a program while they are written: what that costs beside the model's stream and the bare transport.

`bare` is our transport driven by plain asyncio, as in `stream`: the same bytes, cut at the blank lines, JSON parsed.
`a model's` is `rt.stream`, `a program's` is `program.stream` of one predictor with the chat and with the JSON adapter.

    python benchmarks/stream_program.py [--events 50000] [--rounds 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from _peers import transports
from _report import Report, Row, interleave
from _sse import Streaming, streaming
from _stub import cpu_seconds
from _targets import Targets
from stream import CANCELS, bare_events, closing, model_at

from dspy_actors import ChatAdapter, JSONAdapter, Module, Predict, Prediction, Runtime


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=50_000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    name, events = transports()[-1], options.events
    report, targets = Report("stream_program", "us"), Targets()
    with streaming() as server:
        cases: dict[str, Callable[[], list[float]]] = {
            f"bare, {name}": partial(_timed, events, partial(bare_events, server, name, events), events),
            "a model's": partial(_timed, events, partial(_of_model, server, name, events), events),
            "a program's, chat": partial(
                _timed, events, partial(_of_program, server, name, "chat", events), 5 * events
            ),
            "a program's, json": partial(
                _timed, events, partial(_of_program, server, name, "json", events), 5 * events
            ),
        }
        rows = interleave(cases, options.rounds)
        left = _cancel(server, name)
    for row in rows.values():
        row.notes["events_a_cpu_second"] = round(1e6 / row.median)
    report.table("client's CPU an event", rows, f"bare, {name}", digits=2)
    for adapter in ("chat", "json"):
        each = 1e6 / rows[f"a program's, {adapter}"].median
        targets.at_least(f"events a core's second, {adapter}", each, 50_000, "events")
        over = rows[f"a program's, {adapter}"].median / rows["a model's"].median
        targets.at_most(f"a program's stream over a model's, {adapter}", over, 1.5)
    for title, row in left.items():
        row.notes["p90"] = round(row.percentile(0.9))
        targets.at_most(f"close() to the socket closed, {title}, median", row.median / 1000, 5.0, "ms")
        targets.at_most(f"close() to the socket closed, {title}, p90", row.percentile(0.9) / 1000, 5.0, "ms")
    report.table("from close() of a program's stream to the socket closed, as the server sees it", left, digits=0)
    report.close(targets=targets.show())


def _timed(events: int, case: Callable[[], int], expected: int) -> list[float]:
    before = cpu_seconds()
    found = case()
    took = cpu_seconds() - before
    if not expected - 1 <= found <= expected:  # the last space of a text in chat layout is no part of it
        raise SystemExit(f"{found} of {expected} arrived; the numbers are void")
    return [took / events * 1e6]


def _of_model(server: Streaming, name: str, events: int) -> int:
    with Runtime(model_at(server, f"fast-{events}"), transport=name) as rt:
        return sum(1 for _ in rt.stream("go"))


def _of_program(server: Streaming, name: str, kind: str, events: int) -> int:
    adapter: Any = ChatAdapter() if kind == "chat" else JSONAdapter()
    with Runtime(model_at(server, f"{kind}-{events}"), transport=name, adapter=adapter) as rt:
        return sum(len(chunk.chunk) for chunk in rt.start(Predict("question -> answer")).stream(question="go"))


class Blocking(Module):
    """A program whose `forward` is plain code, so has a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = Predict("question -> answer")

    def forward(self, question: str) -> Prediction:
        return self.answer(question=question)


def _cancel(server: Streaming, name: str) -> dict[str, Row]:
    rows = {"native": Row("native"), "forward in a thread": Row("forward in a thread")}
    for title, module in (("native", Predict("question -> answer")), ("forward in a thread", Blocking())):
        with Runtime(model_at(server, "chatpaced-100000-50"), transport=name) as rt:
            program = rt.start(module)
            for _ in range(CANCELS):
                stream = program.stream(question="go")
                stream.take().get(10.0)
                rows[title].rounds.append([closing(stream, server) * 1e6])
    return rows


if __name__ == "__main__":
    main()
