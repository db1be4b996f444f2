"""`BootstrapFewShot`: demonstrations made by a teacher that solves training examples."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from random import Random
from typing import Any

from dspy_actors.errors import EvaluationError, ShuttingDown
from dspy_actors.evaluation.attempt import attempt
from dspy_actors.evaluation.host import EvaluationHost
from dspy_actors.evaluation.job import MOMENT
from dspy_actors.evaluation.judge import Metric, as_score, awaited, check_metric
from dspy_actors.example import Example
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import kind_of
from dspy_actors.modules.program import Program, Trace
from dspy_actors.optimizers.base import M, check_module, checked_trainset, labelled, searching
from dspy_actors.optimizers.labeled_few_shot import LabeledFewShot
from dspy_actors.runner import Settings, fault_of
from supervisors.exits import shown

Demo = dict[str, dict[str, Any]]
Demos = dict[str, list[dict[str, Any]]]

RETRY_TEMPERATURE = 1.0
"""Temperature of a teacher's second and later tries at one example, as in DSPy."""


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """One step of the search: examples looked at so far, and how many the teacher has solved.

    `unanswered` are those that it has not, because the infrastructure failed them.
    """

    tried: int
    solved: int
    wanted: int
    unanswered: int = 0


class BootstrapFewShot:
    """Lets a teacher solve training examples and keeps what it did, where the metric agrees, as demonstrations.

    The algorithm is DSPy 3.4.1's: examples in order, one after another, until `max_bootstrapped_demos` are solved;
    the example itself is hidden from the teacher's demos; labelled examples fill up to `max_labeled_demos`. But what an
    answer that was cut off has solved is no demonstration: it would teach to end in the middle.

    An example that the infrastructure fails is tried again as `Evaluate` does, within the runtime's deadline. It says
    nothing about the teacher: where no example got further there is no program but an error, and where some did not
    the warning `bootstrap.incomplete` in the log counts them. An outage is waited for two deadlines at most: the
    first try's that it fails, and one more for all that follow, until one of them is answered.

    Args:
        metric: `metric(example, prediction, trace)` -> a score as `Evaluate` takes it, not zero for a success; without
            one everything counts.
        metric_threshold: a success is a metric of at least this much, instead of one that is not zero.
        max_bootstrapped_demos: solved examples to collect.
        max_labeled_demos: demos in all, filled up with labelled examples.
        max_rounds: tries per example; later ones at temperature 1.
        max_errors: give up after this many tries that ended in an error, of the teacher or of the metric.
        on_progress: called with `Bootstrapped` after every example, in the caller's thread.
    """

    def __init__(
        self,
        *,
        metric: Metric | None = None,
        metric_threshold: float | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        max_rounds: int = 1,
        max_errors: int = 10,
        on_progress: Callable[[Bootstrapped], object] | None = None,
    ) -> None:
        for name, value, least in (
            ("max_bootstrapped_demos", max_bootstrapped_demos, 0),
            ("max_labeled_demos", max_labeled_demos, 0),
            ("max_rounds", max_rounds, 1),
            ("max_errors", max_errors, 1),
        ):
            if value < least:
                msg = f"{name}={value}: at least {least}"
                raise EvaluationError(msg)
        if metric is not None:
            check_metric(metric, is_traced=True)
        self.metric = metric
        self.metric_threshold = metric_threshold
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.max_rounds = max_rounds
        self.max_errors = max_errors
        self.on_progress = on_progress

    def compile(self, student: M, *, trainset: Sequence[Example], teacher: Module | None = None) -> M:
        """A copy of `student` with demonstrations. Blocking, inside a runtime.

        Raises:
            EvaluationError: the trainset is empty, the teacher does not fit, `max_errors` tries failed, an outage
                went on for two deadlines, or the infrastructure failed every example; of the last three the cause is
                the last failure.
            ShuttingDown: the runtime lets no more calls in, from before or in the middle of the search.
            TypeError: the student or the teacher is no module; a started program is one by its `module`.
        """
        check_module(student)
        if teacher is not None:
            check_module(teacher)
        examples = checked_trainset(trainset)
        made = student.reset_copy()
        guide = self._teacher(student, teacher, examples)
        _check_pair(made, guide)
        with searching(made, "BootstrapFewShot.compile") as (host, settings):
            program = host.start(guide)
            try:
                demos, solved = _Search(self, host, settings, program, guide).run(examples)
            finally:
                program.stop()
        self._give(made, demos, [e for i, e in enumerate(examples) if i not in solved])
        made._compiled = True
        return made

    def _teacher(self, student: Module, teacher: Module | None, examples: list[Example]) -> Module:
        guide = (teacher or student).deepcopy()
        if self.max_labeled_demos > 0 and not guide._compiled:
            return LabeledFewShot(self.max_labeled_demos).compile(guide, trainset=examples)
        return guide

    def _give(self, made: Module, demos: Demos, rest: list[Example]) -> None:
        Random(0).shuffle(rest)
        rng = Random(0)
        for name, predictor in made.named_predictors():
            augmented = demos.get(name, [])[: self.max_bootstrapped_demos]
            size = max(0, min(self.max_labeled_demos - len(augmented), len(rest)))
            drawn = rng.sample(rest, size)
            predictor.demos = [*augmented, *(labelled(example, predictor) for example in drawn)]


class _Search:
    """One run over the trainset."""

    def __init__(
        self, plan: BootstrapFewShot, host: EvaluationHost, settings: Settings, program: Program, teacher: Module
    ) -> None:
        self.plan = plan
        self.host = host
        self.settings = settings
        self.program = program
        self.teacher = teacher
        self.errors = 0
        self.tried = 0
        self.rounds = 0
        self.lost_rounds = 0
        self.unanswered: Counter[str] = Counter()
        """Kinds of failures of the infrastructure, one for each example that they kept from being solved."""
        self.fault: Exception | None = None
        self.until: float | None = None
        """When an outage has lasted too long, on the runtime's clock in seconds; `None` where there is none."""

    def run(self, examples: list[Example]) -> tuple[Demos, set[int]]:
        """The demos by predictor, and the positions of the examples they were made from."""
        demos: Demos = {}
        solved: set[int] = set()
        wanted = self.plan.max_bootstrapped_demos
        for index, example in enumerate(examples):
            if len(solved) >= wanted:
                break
            self.tried = index + 1
            found = self._solve(example)
            if found is None and self.fault is not None:
                self.unanswered[kind_of(self.fault)] += 1
            if found is not None:
                solved.add(index)
                for name, demo in found.items():
                    demos.setdefault(name, []).append(demo)
            if self.plan.on_progress is not None:
                self.plan.on_progress(Bootstrapped(self.tried, len(solved), wanted, self.unanswered.total()))
        self._tell(len(solved))
        return demos, solved

    def _tell(self, solved: int) -> None:
        """Say what the infrastructure has kept from the result, if anything. Raises where that is all of it."""
        lost = self.unanswered.total()
        if lost == 0:
            return
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.unanswered.items()))
        if self.lost_rounds == self.rounds:
            msg = f"no example could be tried, so there is nothing to choose demonstrations by ({kinds}); the last: "
            raise EvaluationError(f"{msg}{self.fault!r}") from self.fault
        reason = f"the infrastructure failed {lost} of the {self.tried} examples that were tried ({kinds})"
        fields = {"name": "BootstrapFewShot", "tried": self.tried, "solved": solved, "unanswered": lost}
        self.host.warn("bootstrap.incomplete", {**fields, "reason": reason})

    def _solve(self, example: Example) -> Demo | None:
        self.fault = None
        variant = _without(self.teacher, example)
        names = {id(predictor): name for name, predictor in variant.named_predictors()}
        for round_ in range(self.plan.max_rounds):
            settings = self.settings
            if round_ > 0:
                settings = settings.bind(sample=round_, options={**settings.options, "temperature": RETRY_TEMPERATURE})
            self.rounds += 1
            inputs = dict(example.inputs().items())
            outcome, trace = attempt(self.host, self.program, inputs, self._within(settings), variant)
            if isinstance(outcome.error, ShuttingDown):  # what was found so far is no whole search
                raise outcome.error
            if outcome.prediction is None:
                self._count(outcome.error, outcome.fault)
                continue
            self.until = None
            if outcome.truncated is not None:
                continue
            try:
                succeeded = self._succeeded(example, outcome.prediction, trace)
            except Exception as error:
                self._count(error, fault_of(error))
                continue
            if succeeded:
                return _demos_of(trace, names)
        return None

    def _within(self, settings: Settings) -> Settings:
        """The settings of the next try, which in an outage has no longer than that may last."""
        if self.until is None:
            return settings
        return settings.bind(deadline=min(settings.deadline, max(MOMENT, self.until - self.host.clock.now())))

    def _succeeded(self, example: Example, prediction: Any, trace: Trace) -> bool:
        if self.plan.metric is None:
            return True
        value = self.plan.metric(example, prediction, trace)
        if isawaitable(value):
            value = self.host.run_on_loop(awaited(value)).get()
        score, threshold = as_score(value), self.plan.metric_threshold
        return score != 0.0 if threshold is None else score >= threshold

    def _count(self, error: Exception | None, fault: Exception | None) -> None:
        self.errors += 1
        now, deadline = self.host.clock.now(), self.settings.deadline
        if fault is None:
            self.until = None
        else:
            self.lost_rounds += 1
            self.fault = fault
            if self.until is None:
                self.until = now + deadline
            elif now + MOMENT >= self.until:
                msg = f"the infrastructure failed every try for more than a call's deadline ({deadline:g} s)"
                raise EvaluationError(f"{msg}; the last: {shown(error)}") from error
        if self.errors >= self.plan.max_errors:
            msg = f"{self.errors} tries failed (max_errors={self.plan.max_errors}); the last: {shown(error)}"
            raise EvaluationError(msg) from error


def _check_pair(student: Module, teacher: Module) -> None:
    ours, theirs = dict(student.named_predictors()), dict(teacher.named_predictors())
    if list(ours) != list(theirs):
        msg = f"the teacher's predictors are {list(theirs)}, the student's {list(ours)}; they must be the same"
        raise EvaluationError(msg)
    for name, predictor in ours.items():
        if predictor.signature.signature != theirs[name].signature.signature:
            msg = f"predictor {name}: the teacher's signature is {theirs[name].signature.signature!r}, the student's "
            raise EvaluationError(msg + repr(predictor.signature.signature))


def _without(teacher: Module, example: Example) -> Module:
    """The teacher with `example` hidden from its demos."""
    variant = teacher.deepcopy()
    for predictor in variant.predictors():
        own = labelled(example, predictor)
        predictor.demos = [demo for demo in predictor.demos if dict(demo) != own]
    return variant


def _demos_of(trace: Trace, names: dict[int, str]) -> Demo:
    """One demo a predictor, by name; of several, half of the time the last, else an earlier one.

    The draw is seeded by what the demos say, so it is the same in every run.
    """
    found: Demos = {}
    for step, inputs, prediction in trace:
        name = names.get(id(step))
        if name is not None:
            outputs = dict(prediction.items())  # type: ignore[attr-defined]
            found.setdefault(name, []).append({"augmented": True, **inputs, **outputs})
    return {name: demos[0] if len(demos) == 1 else _drawn(demos) for name, demos in found.items()}


def _drawn(demos: list[dict[str, Any]]) -> dict[str, Any]:
    seed = hashlib.sha256(repr(demos).encode()).digest()
    rng = Random(int.from_bytes(seed[:8], "big"))
    return demos[-1] if rng.random() < 0.5 else rng.choice(demos[:-1])
