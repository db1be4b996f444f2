"""`dspy-actors run`: a program over the rows of a file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dspy_actors.batch import Mapped
from dspy_actors.cli.bars import VanishingBar
from dspy_actors.cli.earlier import Earlier, read_earlier, refuse_earlier
from dspy_actors.cli.failures import is_down, is_hopeless, is_temporary, one_line
from dspy_actors.cli.in_order import InOrder
from dspy_actors.cli.made_by import made_by
from dspy_actors.cli.programs import Inputs, inputs_of, open_program
from dspy_actors.cli.results import ResultFile, check_out
from dspy_actors.cli.rows import Row, check_rows, read_rows
from dspy_actors.cli.sole_writer import sole_writer
from dspy_actors.cli.stopping import Hurry, Stopping
from dspy_actors.cli.telling import tell
from dspy_actors.cli.unreported import is_outage, unreported
from dspy_actors.errors import CircuitOpen, DeadlineExceeded, LMError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMNumbers
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.runtime import Runtime

MAX_UNPROVEN = 1000
"""Rows that failed before a model answered and wait, unwritten, for the first that one answers."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What the command line asked for. `deadline` is in seconds a row; `cache` is a file that keeps answers."""

    program: str
    signature: str | None
    data: Path
    out: Path
    lm: LM
    resume: bool
    overwrite: bool
    cache: Path | None
    limit: int | None
    concurrency: int
    deadline: float
    as_json: bool


def run(plan: RunPlan, stopping: Stopping) -> dict[str, Any]:
    """Run the job; its summary.

    Everything that can be known to be wrong is found before the result file exists: the program, the data, the key
    and the server, which the first rows that ask a model try out. Raises what is wrong, and `Hurry` where a signal
    comes before the first row.
    """
    module = open_program(plan.program, plan.signature)
    inputs = inputs_of(module)
    check_out(plan.out, plan.data, Path(plan.program), plan.cache)
    if not plan.resume and not plan.overwrite:
        refuse_earlier(plan.out)
    total = check_rows(plan.data, inputs.needed, plan.limit)
    with sole_writer(plan.out) as is_ours:
        return _run(plan, stopping, module, inputs, total, is_ours)


def _run(
    plan: RunPlan, stopping: Stopping, module: Module, inputs: Inputs, total: int, is_ours: bool
) -> dict[str, Any]:
    made = made_by(module, plan.lm)
    earlier = _earlier(plan, total, made)
    keep, lacks_end = (None, False) if earlier is None else (earlier.size, earlier.lacks_end)
    with (
        unreported(is_outage),
        ResultFile(plan.out, keep, lacks_end, is_ours, made) as results,
        Runtime(lm=plan.lm, deadline=plan.deadline, priority="batch", cache_path=plan.cache) as rt,
    ):
        began = rt.system.clock.now()
        work = _Work(plan, rt, results, stopping, total, earlier)
        work.do(module, inputs)
        summary = work.summary(rt.numbers(), rt.system.clock.now() - began)
    if earlier is not None:
        Earlier(plan.out, plan.data, total, made).put_in_order()
    return summary


def _earlier(plan: RunPlan, total: int, made: Mapping[str, str]) -> Earlier | None:
    """What to go on with, once it is known to belong to the data; says where another program or model made some."""
    earlier = read_earlier(plan.out, plan.data, total, made) if plan.resume else None
    if earlier is not None:
        earlier.check(read_rows(plan.data))
        if earlier.count_by_another:
            text = (
                f"dspy-actors: {earlier.count_by_another} of the {earlier.count} predictions kept in {plan.out} were "
                "made by another program, model or options than this run's; --overwrite asks all rows anew"
            )
            tell(text)
    return earlier


class _Work:
    """From rows to lines of the result file."""

    def __init__(
        self,
        plan: RunPlan,
        rt: Runtime,
        results: ResultFile,
        stopping: Stopping,
        total: int,
        earlier: Earlier | None,
    ) -> None:
        self._plan = plan
        self._rt = rt
        self._total = total
        self._earlier = earlier
        self._numbers: Sequence[int] = range(total) if earlier is None else earlier.left()
        self._kept = total - len(self._numbers)
        self._results = results
        self._stopping = stopping
        self._bar = None if plan.as_json else VanishingBar("run", total)
        self._unproven: list[Mapped] = []

    def do(self, module: Module, inputs: Inputs) -> None:
        plan = self._plan
        rows: Iterable[Row] = itertools.islice(read_rows(plan.data), self._total)
        if self._earlier is not None:
            rows = self._earlier.without_kept(rows)
        program = self._rt.start(module, name="run")
        in_order = InOrder(
            self._rt,
            program,
            rows,
            inputs.taken,
            self._stopping,
            concurrency=plan.concurrency,
            patience=plan.deadline,
            on_outage=self._say_outage,
        )
        if self._bar is None:
            self._drain(in_order)
            return
        with self._bar:
            self._drain(in_order)

    def _drain(self, in_order: InOrder) -> None:
        try:
            with self._stopping.draining():
                for one in in_order:
                    with self._stopping.held():
                        self._take(one, in_order)
        except Hurry:
            self._write(in_order.early(self._results.written + len(self._unproven)))
        if not self._stopping.asked and not in_order.has_success:
            self._raise_unreachable(1)
        self._write(())

    def _take(self, one: Mapped, in_order: InOrder) -> None:
        if self._results.written == 0 and self._is_unproven(one.outcome):
            self._unproven.append(one)
            if not in_order.has_success:
                self._raise_unreachable(2)
            return
        self._write([one])

    def _is_unproven(self, outcome: Outcome) -> bool:
        """Whether a first row tells nothing of the model; raises where it tells that no row will get an answer."""
        if is_hopeless(outcome.error):
            outcome.unwrap()
        heard_of_none = outcome.attempts == 0 or isinstance(outcome.error, DeadlineExceeded)
        tells_nothing = heard_of_none and not isinstance(outcome.error, LMError)
        is_unproven = not outcome.ok and (tells_nothing or is_down(outcome.error))
        return is_unproven and len(self._unproven) < MAX_UNPROVEN

    def _say_outage(self, refusal: CircuitOpen) -> None:
        """Tell who watches why nothing moves, and for how long."""
        text = f"dspy-actors: rows wait up to {self._plan.deadline:g} s for the model: {one_line(refusal)}"
        if self._bar is None:
            tell(text)
        else:
            self._bar.say(text)

    def _raise_unreachable(self, count: int) -> None:
        """Raise where `count` first rows found no model, and of their errors one that does not pass, if there is."""
        found = [one.outcome for one in self._unproven if is_down(one.outcome.error)]
        if len(found) >= count:
            next((each for each in found if not is_temporary(each.error)), found[-1]).unwrap()

    def _write(self, more: Any) -> None:
        due, self._unproven = [*self._unproven, *more], []
        for one in due:
            self._results.write(replace(one, index=self._numbers[one.index]))
        if self._bar is not None:
            failed = self._results.failed
            self._bar.at(self._kept + self._results.written, f"{failed} errors" if failed else "")

    def summary(self, numbers: LMNumbers, seconds: float) -> dict[str, Any]:
        """What came of the rows, those that an earlier run has answered included."""
        rows, earlier = self._kept + self._results.written, self._earlier
        return {
            "rows": rows,
            "succeeded": rows - self._results.failed,
            "failed": self._results.failed,
            "truncated": self._results.truncated + (0 if earlier is None else earlier.count_truncated),
            "kept": self._kept,
            "kept_by_another": 0 if earlier is None else earlier.count_by_another,
            "of": self._total,
            "calls": numbers.calls,
            "sent": numbers.sent,
            "cache_hits": numbers.cache_hits,
            "tokens": numbers.tokens,
            "kept_tokens": 0 if earlier is None else earlier.count_tokens,
            "seconds": round(seconds, 3),
            "out": str(self._plan.out) if rows else None,
        }


def exit_code(summary: dict[str, Any], *, strict: bool) -> int:
    """0 where a row that was asked has an answer, or none was left to ask; with `strict` where every row has one."""
    if strict:
        return 0 if 0 < summary["of"] == summary["succeeded"] else 1
    none_was_left = 0 < summary["kept"] == summary["rows"]
    return 0 if none_was_left or summary["succeeded"] > summary["kept"] else 1


def summary_text(summary: dict[str, Any]) -> str:
    """The summary in one line."""
    kept = f" ({summary['kept']} kept)" if summary["kept"] else ""
    cut = f", {summary['truncated']} truncated" if summary["truncated"] else ""
    before = f" (and {summary['kept_tokens']} for those kept)" if summary["kept_tokens"] else ""
    where = f" -> {summary['out']}" if summary["out"] else ", nothing written"
    return (
        f"{summary['rows']} of {summary['of']} rows in {summary['seconds']:.1f} s: "
        f"{summary['succeeded']} succeeded{kept}, {summary['failed']} failed{cut}; {summary['sent']} requests sent, "
        f"{summary['cache_hits']} cache hits, {summary['tokens']} tokens{before}{where}"
    )


def summary_json(summary: dict[str, Any]) -> str:
    """The summary as one JSON object."""
    return json.dumps(summary)
