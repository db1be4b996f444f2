"""`dspy-actors demo`: the main job, shown step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspy_actors.cli.bars import VanishingBar
from dspy_actors.cli.results import check_out
from dspy_actors.cli.rows import read_rows
from dspy_actors.cli.unreported import unreported
from dspy_actors.demo.crash import StagedCrash
from dspy_actors.demo.data import INSTRUCTIONS, read_tickets
from dspy_actors.demo.job import DemoPlan, DemoReport, run_demo
from dspy_actors.demo.table import Table, table_of
from dspy_actors.errors import DataError
from dspy_actors.lm.lm import LM


class Screen:
    """Shows the job on standard output, its bars on standard error."""

    def __init__(self) -> None:
        from rich.console import Console

        self._out = Console(highlight=False, soft_wrap=True, markup=False)

    def step(self, title: str) -> None:
        """A heading."""
        self._out.print(f"\n{title}")

    def text(self, text: str) -> None:
        """Lines as they are."""
        self._out.print(f"\n{text}")

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Any]:
        """A progress bar."""
        with VanishingBar(title, total) as bar:
            yield bar


class Silence:
    """Shows nothing: for `--json`."""

    def step(self, title: str) -> None:
        """Nothing."""

    def text(self, text: str) -> None:
        """Nothing."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Any]:
        """Nothing."""
        yield lambda progress: None


def demo(lm: LM, data: Path | None, signature: str | None, out: Path, concurrency: int, as_json: bool) -> int:
    """Run the job and show it; the exit code."""
    check_out(out, data)
    if out.suffix != ".json":
        msg = f"--out {out}: a saved program is a .json file; name one"
        raise DataError(msg, path=str(out))
    table = _table(data, signature)
    stage = Silence() if as_json else Screen()
    if not as_json:
        stage.text(_opening(lm, table, data))
    with unreported(_is_staged):
        report = run_demo(DemoPlan(lm, table, out, concurrency), stage)
    if as_json:
        print(json.dumps(report.as_json()))  # noqa: T201
    else:
        stage.text(closing(report))
    return 1 if report.incomplete or report.lost else 0


def _is_staged(event: Mapping[str, Any]) -> bool:
    """Whether a line reports the staged crash, which the job shows itself: it would come in between the bars."""
    return StagedCrash.__name__ in str(event.get("reason"))


def _table(data: Path | None, signature: str | None) -> Table:
    if data is None:
        return table_of(read_tickets(), signature or "ticket -> category, urgency", INSTRUCTIONS)
    return table_of(list(read_rows(data)), signature)


def _opening(lm: LM, table: Table, data: Path | None) -> str:
    about = ""
    if lm.provider == "embedded":
        about = (
            "\nembedded/knn is no language model: it is a small word matcher inside this package that learns from the"
            "\ndemonstrations in its prompt. Use --lm openai/MODEL --base-url URL for a real one."
        )
    source = "support tickets that ship with the package" if data is None else str(data)
    return (
        f"model     {lm.name}\ndata      {source}: {len(table.train)} rows to learn from, "
        f"{len(table.held_out)} held out\nprogram   Predict({table.signature.signature!r}){about}"
    )


def closing(report: DemoReport) -> str:
    """The figures at the end."""
    numbers = report.numbers
    counts = (
        f"calls {numbers.calls}   sent {numbers.sent}   cache hits {numbers.cache_hits}   tokens {numbers.tokens}   "
        f"retries {numbers.retries}   sent again {numbers.resubmits}   restarts {report.restarts}   lost {report.lost}"
    )
    lines = [
        f"majority class   {report.majority_class:6.2f} %  (always the commonest label)",
        f"baseline         {report.baseline}",
        f"optimized        {report.optimized}, with {report.demos} demonstrations",
        f"loaded again     {report.reloaded}",
        "",
        counts,
        f"saved to {report.out} in {report.seconds:.1f} s",
    ]
    return "\n".join([*lines, *(f"INCOMPLETE: {why}" for why in report.incomplete)])
