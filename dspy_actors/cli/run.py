"""`dspy-actors run`: a program over the rows of a file."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspy_actors.batch import Mapped
from dspy_actors.cli.failures import is_fatal
from dspy_actors.cli.programs import input_names, open_program
from dspy_actors.cli.results import ResultFile
from dspy_actors.cli.rows import check_rows, read_rows
from dspy_actors.cli.stopping import Hurry, Stopping
from dspy_actors.errors import DataError
from dspy_actors.evaluation.progress import NoBar, ProgressBar
from dspy_actors.lm.lm import LM
from dspy_actors.modules.module import Module
from dspy_actors.runtime import Runtime


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What the command line asked for."""

    program: str
    signature: str | None
    data: Path
    out: Path
    lm: LM
    limit: int | None
    concurrency: int
    deadline: float
    as_json: bool


def run(plan: RunPlan) -> tuple[dict[str, Any], int]:
    """Run the job; the summary and the exit code.

    Everything that can be known to be wrong is found before the result file exists: the program, the data, the key
    and the server, which the first row tries out.
    """
    module = open_program(plan.program, plan.signature)
    needed = input_names(module)
    total = check_rows(plan.data, needed, plan.limit)
    _check_out(plan.out, plan.data)
    with (
        Stopping() as stopping,
        ResultFile(plan.out) as results,
        Runtime(lm=plan.lm, deadline=plan.deadline, priority="batch") as rt,
    ):
        began = rt.system.clock.now()
        _work(plan, rt, module, needed, results, stopping, total)
        seconds = rt.system.clock.now() - began
        numbers = rt.numbers()
    summary = {
        "rows": results.written,
        "succeeded": results.written - results.failed,
        "failed": results.failed,
        "of": total,
        "calls": numbers.calls,
        "sent": numbers.sent,
        "cache_hits": numbers.cache_hits,
        "tokens": numbers.tokens,
        "seconds": round(seconds, 3),
        "out": str(plan.out),
    }
    return summary, stopping.exit_code


def _work(
    plan: RunPlan, rt: Runtime, module: Module, needed: list[str], results: ResultFile, stopping: Stopping, total: int
) -> None:
    program = rt.start(module, name="run")
    rows = stopping.until(itertools.islice(read_rows(plan.data), plan.limit))
    bar = NoBar() if plan.as_json else ProgressBar("run", total)
    with bar:
        mapped = rt.map(program, rows, concurrency=plan.concurrency, inputs=needed or None)
        try:
            for one in mapped:
                if results.written == 0 and is_fatal(one.outcome.error):
                    one.outcome.unwrap()
                results.write(one)
                _show(bar, results, one)
        except Hurry:
            mapped.close()  # type: ignore[attr-defined]


def _show(bar: Any, results: ResultFile, one: Mapped) -> None:
    if isinstance(bar, ProgressBar):
        bar.at(results.written, f"{results.failed} errors" if results.failed else "")


def _check_out(out: Path, data: Path) -> None:
    if out.resolve() == data.resolve():
        msg = f"--out {out} is the data file itself; name another file"
        raise DataError(msg, path=str(out))
    if out.is_dir() or not out.parent.is_dir():
        msg = f"--out {out}: {'it is a directory' if out.is_dir() else 'its directory does not exist'}"
        raise DataError(msg, path=str(out))


def summary_text(summary: dict[str, Any]) -> str:
    """The summary in one line."""
    return (
        f"{summary['rows']} of {summary['of']} rows in {summary['seconds']:.1f} s: {summary['succeeded']} succeeded, "
        f"{summary['failed']} failed; {summary['sent']} requests sent, {summary['cache_hits']} cache hits, "
        f"{summary['tokens']} tokens -> {summary['out']}"
    )


def summary_json(summary: dict[str, Any]) -> str:
    """The summary as one JSON object."""
    return json.dumps(summary)
