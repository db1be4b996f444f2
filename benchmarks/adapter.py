"""What an adapter costs a call: microseconds to write the prompt and to read the answer, beside DSPy's.

python benchmarks/adapter.py [--rounds 7] [--calls 200]

The signature is `question, context -> answer, label` (a Literal); the demonstrations are as many as the row says. The
same tuple of demonstrations is handed in each time, as a program does; "new demos" hands in another each time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

from _peers import load_dspy
from _report import Report, interleave

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.signature.inputs import validate_inputs
from dspy_actors.signature.signature import make_signature

ARROW = "question, context -> answer, label: Literal['yes', 'no']"
INPUTS = {"question": "Does the library close on Sundays?", "context": "Opening hours: Monday to Saturday, 9 to 18."}
ANSWER = "[[ ## answer ## ]]\nIt is closed on Sundays.\n\n[[ ## label ## ]]\nyes\n\n[[ ## completed ## ]]\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--calls", type=int, default=200)
    given = arguments.parse_args()
    report = Report("adapter", "us")
    dspy = load_dspy()
    if dspy is None:
        report.absent("dspy", "pip install 'dspy-actors[dspy]'")
    for demos in (0, 16):
        cases = {f"{name}, {demos} demos": call for name, call in _cases(dspy, demos).items()}
        rows = interleave({name: partial(_time, call, given.calls) for name, call in cases.items()}, given.rounds)
        report.table(f"a call's words, {demos} demos", rows, f"dspy format + parse, {demos} demos", digits=1)
    report.close()


def _demos(number: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"question": f"Question {n}, which is about as long as another?", "context": "Some context. " * 5}
        | {"answer": f"An answer to question {n}.", "label": "yes"}
        for n in range(number)
    )


def _cases(dspy: Any, number: int) -> dict[str, Callable[[], object]]:
    signature, adapter, demos = make_signature(ARROW), ChatAdapter(), _demos(number)
    others = cycle([_demos(number) for _ in range(200)])

    def both(current: tuple[dict[str, Any], ...]) -> object:
        adapter.format(signature, current, INPUTS)
        return adapter.parse(signature, ANSWER)

    cases: dict[str, Callable[[], object]] = {
        "dspy_actors format + parse": lambda: both(demos),
        "dspy_actors format": lambda: adapter.format(signature, demos, INPUTS),
        "dspy_actors parse": lambda: adapter.parse(signature, ANSWER),
        "dspy_actors inputs checked": lambda: validate_inputs(signature, INPUTS),
    }
    if number:
        cases["dspy_actors, new demos"] = lambda: both(next(others))
    if dspy is not None:
        theirs, their_adapter, their_demos = dspy.Signature(ARROW), dspy.ChatAdapter(), list(demos)
        cases["dspy format + parse"] = lambda: (
            their_adapter.format(theirs, their_demos, INPUTS),
            their_adapter.parse(theirs, ANSWER),
        )
    return cases


def _time(call: Callable[[], object], calls: int) -> list[float]:
    samples = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        samples.append((time.perf_counter() - began) * 1_000_000)
    return samples


if __name__ == "__main__":
    main()
