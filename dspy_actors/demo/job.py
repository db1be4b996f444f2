"""The main job: evaluate, optimize, evaluate again, under a supervision tree, with a crash on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dspy_actors.demo.crash import WorkerCrash
from dspy_actors.demo.table import Table
from dspy_actors.errors import AdapterError
from dspy_actors.evaluation.evaluate import Evaluate, Progress
from dspy_actors.evaluation.result import EvaluationResult
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMNumbers
from dspy_actors.modules.predict import Predict
from dspy_actors.optimizers.bootstrap_few_shot import BootstrapFewShot, Bootstrapped
from dspy_actors.runtime import Runtime

MIN_OPEN = 16
"""Requests that must be open when the worker is crashed; fewer where the concurrency or the data allow no more."""

BOOTSTRAPPED = 8
LABELED = 40


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the job runs on."""

    lm: LM
    table: Table
    out: Path
    concurrency: int = 32
    deadline: float = 120.0


class Stage(Protocol):
    """Shows the steps of the job as they happen."""

    def step(self, title: str) -> None: ...

    def text(self, text: str) -> None: ...

    def bar(self, title: str, total: int) -> Any:
        """A context manager that gives a callable taking progress records."""
        ...


@dataclass(slots=True)
class DemoReport:
    """What came of it."""

    baseline: EvaluationResult
    optimized: EvaluationResult
    reloaded: EvaluationResult
    majority_class: float
    numbers: LMNumbers
    restarts: int
    open_at_crash: int
    back_after: float | None
    demos: int
    tree: str
    out: Path
    seconds: float
    incomplete: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Rows that ended in nothing: neither a prediction nor an error."""
        return sum(r.rows_asked - len(r.rows) for r in (self.baseline, self.optimized, self.reloaded))

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        numbers = self.numbers
        return {
            "baseline": self.baseline.score,
            "optimized": self.optimized.score,
            "majority_class": self.majority_class,
            "coverage": min(self.baseline.coverage, self.optimized.coverage),
            "reloaded": self.reloaded.score,
            "rows": len(self.optimized.rows),
            "demos": self.demos,
            "calls": numbers.calls,
            "sent": numbers.sent,
            "cache_hits": numbers.cache_hits,
            "coalesced": numbers.coalesced,
            "retries": numbers.retries,
            "resubmits": numbers.resubmits,
            "unanswered": numbers.unanswered,
            "tokens": numbers.tokens,
            "restarts": self.restarts,
            "open_at_crash": self.open_at_crash,
            "restarted_after": self.back_after,
            "lost": self.lost,
            "incomplete": self.incomplete,
            "saved": str(self.out),
            "seconds": round(self.seconds, 3),
        }


def run_demo(plan: DemoPlan, stage: Stage) -> DemoReport:
    """Run the job in a runtime of its own. Raises what the first call raises, before anything else is done."""
    rows = max(1, len(plan.table.held_out) // 2)
    crash = WorkerCrash(plan.lm, min(MIN_OPEN, plan.concurrency, rows))
    with Runtime(lm=plan.lm, deadline=plan.deadline, name="demo", open_provider=crash.open_provider) as rt:
        return _Demo(plan, stage, rt, crash).run()


class _Demo:
    def __init__(self, plan: DemoPlan, stage: Stage, rt: Runtime, crash: WorkerCrash) -> None:
        self.plan = plan
        self.stage = stage
        self.rt = rt
        self.crash = crash

    def run(self) -> DemoReport:
        plan, table, clock, crash = self.plan, self.plan.table, self.rt.system.clock, self.crash
        began = clock.now()
        student = Predict(table.signature)
        self._try_out(student)
        tree = self.rt.draw()
        self.stage.text(tree)
        crash.arm(self.rt)
        baseline = self._evaluate("baseline", student)
        if crash.open_at_crash:
            self.stage.text(crash_text(crash, self.rt.numbers()))
        optimized = self._optimize(student)
        improved = self._evaluate("optimized", optimized)
        optimized.save(plan.out)
        reloaded = Predict(table.signature)
        reloaded.load(plan.out)
        again = self._evaluate("saved and loaded again", reloaded)
        return DemoReport(
            baseline=baseline,
            optimized=improved,
            reloaded=again,
            majority_class=table.majority_class(),
            numbers=self.rt.numbers(),
            restarts=self.rt.system.restarts,
            open_at_crash=crash.open_at_crash,
            back_after=crash.back_after,
            demos=len(optimized.demos),
            tree=tree,
            out=plan.out,
            seconds=clock.now() - began,
            incomplete=[r.incomplete for r in (baseline, improved, again) if r.incomplete],
        )

    def _try_out(self, student: Predict) -> None:
        """One call, which finds out what keeps every call from working."""
        self.stage.step(f"one call first, to see that {self.plan.lm.name} answers")
        try:
            student(**dict(self.plan.table.held_out[0].inputs().items()))
        except AdapterError:  # the model answers; how well is what the job finds out
            pass

    def _evaluate(self, title: str, program: Predict) -> EvaluationResult:
        table = self.plan.table
        evaluate = Evaluate(devset=table.held_out, metric=table.metric, num_threads=self.plan.concurrency)
        with self.stage.bar(title, len(table.held_out)) as show:
            update: Callable[[Progress], object] = show
            return evaluate(program, on_progress=update)

    def _optimize(self, student: Predict) -> Predict:
        table = self.plan.table
        with self.stage.bar("bootstrap demonstrations", BOOTSTRAPPED) as show:

            def step(found: Bootstrapped) -> None:
                show(Progress(found.solved, found.wanted, 0, 0.0, 0))

            optimizer = BootstrapFewShot(
                metric=table.metric,
                max_bootstrapped_demos=BOOTSTRAPPED,
                max_labeled_demos=LABELED,
                on_progress=step,
            )
            return optimizer.compile(student, trainset=table.train)


def crash_text(crash: WorkerCrash, numbers: LMNumbers) -> str:
    """What the staged crash came to, in one line."""
    back = "" if crash.back_after is None else f"; its successor stood after {crash.back_after * 1000:.0f} ms"
    return (
        f"crashed the LM worker with {crash.open_at_crash} requests open{back}; "
        f"{numbers.resubmits} calls were sent again"
    )
