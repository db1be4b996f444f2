"""`Evaluate`: a program's score over examples, with every failure told apart from a wrong answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

from dspy_actors.errors import EvaluationError, ProgramError, ShuttingDown
from dspy_actors.evaluation.fan_out import fan_out
from dspy_actors.evaluation.feed import Feed
from dspy_actors.evaluation.host import EvaluationHost, host_of
from dspy_actors.evaluation.job import Job, Row
from dspy_actors.evaluation.judge import Judge, Metric, check_metric
from dspy_actors.evaluation.result import EvaluationResult, Scored
from dspy_actors.evaluation.second_tries import wait_after
from dspy_actors.example import Example
from dspy_actors.modules.fingerprint import fingerprint, function_mark
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.modules.results import result_key, score_key
from dspy_actors.runner import Frame, Settings, call_around, current_frame, refuse_on_loop

TICK = 0.1
"""Seconds between two looks at the progress."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is: rows done of `total`, the sum of scores so far, and rows that ended in an error."""

    done: int
    total: int
    scored: int
    score_sum: float
    errors: int

    @property
    def score(self) -> float | None:
        """The score so far in percent, `None` before the first scored row."""
        return None if self.scored == 0 else 100.0 * self.score_sum / self.scored


class Evaluate:
    """Scores programs on `devset` with `metric`. Reusable; every call is a new evaluation.

    Args:
        devset: examples that know their inputs (`Example(...).with_inputs(...)`).
        metric: `metric(example, prediction, trace=None)` -> number or bool; may be a coroutine function.
        num_threads: how many rows are under way at once. They are slots of evaluation actors on one event loop,
            not threads, unless the program's `forward` is ordinary blocking code.
        failure_score: the score of a row the program itself failed.
        coverage_floor: the share of rows that must be scored; below it the result is `incomplete`.
        max_errors: stop taking rows once the program itself has failed this many; `None` never stops.
        reuse: take over the scores of rows that this metric has scored before, for equal parameters, model and example,
            within the last half hour and in this runtime.
        deadline: seconds one row may take, `None` for the runtime's.
        on_progress: called with `Progress` about ten times a second, in the thread that called the evaluation.
        display_progress: a progress bar on standard error.

    Raises `EvaluationError` for an empty devset, an example that does not know its inputs, a metric that cannot be
    called with an example and a prediction, or `num_threads` below 1; `ShuttingDown` where the runtime drains or has
    ended before it begins. One that ends in the middle keeps what was scored.
    """

    def __init__(
        self,
        *,
        devset: Sequence[Example],
        metric: Metric | None = None,
        num_threads: int = 8,
        failure_score: float = 0.0,
        coverage_floor: float = 0.9,
        max_errors: int | None = None,
        reuse: bool = False,
        deadline: float | None = None,
        display_progress: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> None:
        self.devset = devset
        self.metric = metric
        self.num_threads = num_threads
        self.failure_score = failure_score
        self.coverage_floor = coverage_floor
        self.max_errors = max_errors
        self.reuse = reuse
        self.deadline = deadline
        self.display_progress = display_progress
        self.on_progress = on_progress

    def __call__(
        self,
        program: Module | Program,
        *,
        metric: Metric | None = None,
        devset: Sequence[Example] | None = None,
        num_threads: int | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> EvaluationResult:
        """Evaluate, blocking. Ctrl-C stops taking rows, cancels those under way, and is raised on."""
        refuse_on_loop("Evaluate", "`await evaluate.acall(program)`")
        run = self._begin(
            program,
            self.metric if metric is None else metric,
            self.devset if devset is None else devset,
            self.num_threads if num_threads is None else num_threads,
        )
        show = on_progress or self.on_progress
        try:
            with _bar(self.display_progress and show is None, run) as tick:
                while not run.job.done.wait(TICK, run.host.clock):
                    (show or tick)(run.progress())
                (show or tick)(run.progress())
        except BaseException:
            run.cancel()
            raise
        finally:
            run.close()
        return run.result()

    async def acall(self, program: Module | Program) -> EvaluationResult:
        """Evaluate from a coroutine, without blocking its loop."""
        run = self._begin(program, self.metric, self.devset, self.num_threads)
        try:
            await run.job.done.settles(None, run.host.clock)
        except BaseException:
            run.cancel()
            raise
        finally:
            run.close()
        return run.result()

    def _begin(
        self, program: Module | Program, metric: Metric | None, devset: Sequence[Example], num_threads: int
    ) -> _Run:
        if metric is None:
            msg = "Evaluate needs a metric: a function metric(example, prediction, trace=None) -> number or bool"
            raise EvaluationError(msg)
        check_metric(metric)
        _check_numbers(self, num_threads)
        rows = _rows(devset)
        host, found = host_of(program)
        settings = found.of_class("batch")
        if self.deadline is not None:
            settings = settings.bind(deadline=self.deadline)
        run = _Run(self, host, settings, program, metric, rows)
        fan_out(host, run.job, min(num_threads, len(rows)))
        return run


class _Run:
    """One evaluation under way. `deliver` runs on the programs loop; the rest in the thread that evaluates."""

    def __init__(
        self,
        plan: Evaluate,
        host: EvaluationHost,
        settings: Settings,
        program: Module | Program,
        metric: Metric,
        rows: list[Row],
    ) -> None:
        self.plan = plan
        self.host = host
        self.total = len(rows)
        self.ended: dict[int, Scored] = {}
        self.failures = 0
        self.errors = 0
        self.scored = 0
        self.score_sum = 0.0
        self.stop_reason: str | None = None
        self.began = host.clock.now()
        self.judge = Judge(metric, Frame(host, settings, outer=call_around(current_frame())))
        self.own = program if isinstance(program, Program) else host.start(program)
        self.closes = not isinstance(program, Program)
        self.keys = self._known_keys(rows, metric, settings) if plan.reuse else {}
        left = self._unknown(rows) if self.keys else rows
        self.job = Job(self.own, settings, Feed(left), self.deliver, host.clock)

    async def deliver(self, row: Row, outcome: Outcome) -> float | Callable[[], object]:
        """Judge one row's outcome, or ask for another try where the infrastructure failed it."""
        wait = None if self.job.is_given_up() else wait_after(outcome.fault, row.tries)
        if wait is not None and self.job.fits(row, wait):
            return wait
        if outcome.prediction is None:
            return partial(self._keep, self._unanswered(row, outcome))
        try:
            score = await self.judge.score(row.source, outcome.prediction)
        except ProgramError as error:
            return partial(self._keep, Scored(row.index, row.source, "unscored", None, outcome, error))
        key = self.keys.get(row.index)
        if key is not None and outcome.met is None and outcome.truncated is None:
            self.host.results.keep_score(key, outcome.prediction, score)
        return partial(self._keep, Scored(row.index, row.source, "scored", score, outcome))

    def _unanswered(self, row: Row, outcome: Outcome) -> Scored:
        if outcome.fault is not None:
            return Scored(row.index, row.source, "unscored", None, outcome, outcome.error)
        return Scored(row.index, row.source, "failed", self.plan.failure_score, outcome, outcome.error)

    def _known_keys(self, rows: list[Row], metric: Metric, settings: Settings) -> dict[int, bytes]:
        """The keys under which the rows' scores are kept, for those that can have one."""
        program, mark = fingerprint(self.own.module), function_mark(metric)
        keys = {row.index: score_key(result_key(program, row.inputs, settings), row.source, mark) for row in rows}
        return {index: key for index, key in keys.items() if key is not None}

    def _unknown(self, rows: list[Row]) -> list[Row]:
        """The rows that have to be run; the others have ended with the scores they had."""
        left = []
        for row in rows:
            key = self.keys.get(row.index)
            found = self.host.results.score(key)
            if found is None:
                left.append(row)
            else:
                prediction, score = found
                self._keep(Scored(row.index, row.source, "scored", score, Outcome("", prediction, cached=1)))
        return left

    def _keep(self, scored: Scored) -> None:
        self.ended[scored.index] = scored
        self.errors += scored.error is not None
        if scored.score is not None:
            self.scored += 1
            self.score_sum += scored.score
        if scored.verdict != "failed":
            return
        self.failures += 1
        limit = self.plan.max_errors
        if limit is not None and self.failures >= limit and not self.job.stopped:
            self.stop_reason = f"stopped after {self.failures} rows that the program failed (max_errors={limit})"
            self.job.stop()

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(len(self.ended), self.total, self.scored, self.score_sum, self.errors)

    def cancel(self) -> None:
        """Take no more rows and give up those under way."""
        self.job.stop()
        self.host.stop_evaluations(self.job)

    def close(self) -> None:
        """Stop the program that was started for this evaluation alone."""
        if self.closes:
            self.own.stop()

    def result(self) -> EvaluationResult:
        """What was found, rows in the order of the devset. Raises what kept the evaluation from its end."""
        error = self.job.done.exception()
        if isinstance(error, ShuttingDown):  # what is finished is kept
            self.stop_reason = f"stopped by the end of the runtime after {len(self.ended)} of {self.total} rows"
        elif error is not None:
            raise error
        ended, self.ended = self.ended, {}  # what was found is the caller's alone: it ends with that, at once
        rows = tuple(ended[index] for index in sorted(ended))
        coverage = self.scored / self.total
        total = sum(row.score for row in rows if row.score is not None)
        score = None if self.scored == 0 else round(100.0 * total / self.scored, 2)
        seconds = self.host.clock.now() - self.began
        return EvaluationResult(score, rows, coverage, seconds, self._incomplete(coverage, rows), self.total)

    def _incomplete(self, coverage: float, rows: Iterable[Scored]) -> str | None:
        if self.stop_reason is not None:
            return self.stop_reason
        if coverage >= self.plan.coverage_floor:
            return None
        return f"only {coverage:.0%} of the rows could be scored ({_reasons(rows)})"


def _reasons(rows: Iterable[Scored]) -> str:
    """Why rows have no score: how many by kind, and what the metric said where it was the metric."""
    kinds: Counter[str] = Counter()
    said = ""
    for row in rows:
        if row.verdict != "unscored":
            continue
        if isinstance(row.error, ProgramError) and row.outcome.fault is None:
            kinds[f"metric {row.error.error_type}"] += 1
            said = said or f"; row {row.index}: {' '.join(row.error.message.split()):.160}"
        elif row.kind is not None:
            kinds[row.kind] += 1
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())) + said


def _check_numbers(plan: Evaluate, num_threads: object) -> None:
    whole, number = (int,), (int, float)
    for name, value, kinds, least, what in (
        ("num_threads", num_threads, whole, 1, "a whole number, 1 row under way or more"),
        ("failure_score", plan.failure_score, number, -math.inf, "a number"),
        ("coverage_floor", plan.coverage_floor, number, 0, "a share from 0 to 1"),
        (
            "max_errors",
            1 if plan.max_errors is None else plan.max_errors,
            whole,
            1,
            "a whole number or None",
        ),
    ):
        if not isinstance(value, kinds) or isinstance(value, bool) or value < least:
            msg = f"{name}={value!r}: {what}"
            raise EvaluationError(msg)


def _rows(devset: Sequence[Example]) -> list[Row]:
    if not isinstance(devset, Sized) or isinstance(devset, (str, Mapping)):
        msg = f"devset is a list of examples, not {type(devset).__name__}"
        raise EvaluationError(msg)
    if len(devset) == 0:
        msg = "the devset is empty: there is nothing to evaluate on"
        raise EvaluationError(msg)
    rows = []
    for index, example in enumerate(devset):
        keys = example.input_keys if isinstance(example, Example) else None
        if keys is None:
            msg = f"devset[{index}] does not know its inputs; write Example(...).with_inputs('question')"
            raise EvaluationError(msg)
        rows.append(Row(index, {name: value for name, value in example.items() if name in keys}, example))
    return rows


def _bar(wanted: bool, run: Any) -> Any:
    from dspy_actors.evaluation.progress import NoBar, ProgressBar

    return ProgressBar("evaluate", run.total) if wanted else NoBar()
