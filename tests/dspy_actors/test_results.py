"""Kept results and kept scores: given again for what is equal in everything that decides an answer, and only then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from dspy_actors import LM, Evaluate, Example, Module, Predict, Prediction, Runtime
from dspy_actors.cache.manager import SWEEP_SECONDS, CacheManager
from dspy_actors.cache.watched import HIT, MISS
from dspy_actors.errors import LMServerError
from dspy_actors.messages import LMRequest
from dspy_actors.modules.results import SECONDS
from dspy_actors.testing.providers import Scripted, ScriptedProvider
from supervisors.clock import ManualClock

ROWS = [Example(question=str(n), answer="yes").with_inputs("question") for n in range(6)]


def answer(request: LMRequest) -> str:
    return "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"


def right(example: Example, prediction: object, trace: object = None) -> bool:
    return bool(example.answer == prediction.answer)  # type: ignore[attr-defined]


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider(answer)


@pytest.fixture
def rt(provider: ScriptedProvider) -> Iterator[Runtime]:
    with Runtime(LM("scripted/m", cache=False), open_provider=lambda config: provider) as runtime:
        yield runtime


def test_a_program_started_as_cached_answers_equal_inputs_once(rt: Runtime, provider: ScriptedProvider) -> None:
    program = rt.start(Predict("question -> answer"), cached=True)
    first, second = program(question="q"), program(question="q")

    assert (first.cached, second.cached, second.attempts) == (False, True, 0)
    assert (second, len(provider.requests)) == (first, 1)


class Guesses(Module):
    """Has an answer of its own where the model has none."""

    def __init__(self) -> None:
        self.ask = Predict("question -> answer")

    def forward(self, question: str) -> Prediction:
        try:
            return Prediction(answer=self.ask(question=question).answer)
        except LMServerError:
            return Prediction(answer="no idea")


def down_once() -> ScriptedProvider:
    """The model `m` is down for its first request; `second` gives other answers than it."""
    left = [LMServerError("down", status=503)]

    def script(request: LMRequest) -> Scripted:
        if request.model == "m":
            return left.pop() if left else answer(request)
        return answer(request).replace("yes", "perhaps")

    return ScriptedProvider(script)


ALONE = LM("scripted/m", cache=False, num_retries=0)


@pytest.mark.parametrize(
    ("module", "lm", "said"),
    [
        (Predict("question -> answer"), ALONE.copy(fallbacks=["scripted/second"]), ["perhaps", "yes", "yes"]),
        (Guesses(), ALONE, ["no idea", "yes", "yes"]),
    ],
    ids=["fallback", "guess"],
)
def test_what_came_of_an_outage_is_not_kept_beyond_it(module: Module, lm: LM, said: list[str]) -> None:
    provider = down_once()
    with Runtime(lm, open_provider=lambda config: provider) as rt:
        program = rt.start(module, cached=True)
        answers = [program(question="q") for _ in said]
    assert [each.answer for each in answers] == said
    assert [each.cached for each in answers] == [False, False, True]


def test_a_score_that_came_of_an_outage_is_not_kept_beyond_it() -> None:
    provider = down_once()
    with Runtime(ALONE, open_provider=lambda config: provider):
        evaluate = Evaluate(devset=ROWS[:1], metric=right, reuse=True)
        assert [evaluate(Guesses()).score for _ in range(3)] == [0.0, 100.0, 100.0]
    assert len(provider.requests) == 2


def test_a_program_is_not_cached_unless_asked(rt: Runtime, provider: ScriptedProvider) -> None:
    program = rt.start(Predict("question -> answer"))
    program(question="q")
    program(question="q")

    assert len(provider.requests) == 2


@pytest.mark.parametrize("change", ["inputs", "demos", "instructions", "tenant", "model", "options", "sample"])
def test_whatever_decides_an_answer_is_part_of_its_key(rt: Runtime, provider: ScriptedProvider, change: str) -> None:
    module = Predict("question -> answer")
    program = rt.start(module, cached=True)
    program(question="q")
    if change == "demos":
        module.demos = [{"question": "a", "answer": "b"}]
        program.activate(module)
    if change == "instructions":
        module.signature = module.signature.with_instructions("Answer.")
        program.activate(module)
    settings: dict[str, dict[str, object]] = {
        "tenant": {"tenant": "other"},
        "model": {"lm": LM("scripted/other", cache=False)},
        "options": {"options": {"temperature": 1.0}},
        "sample": {"sample": 1},
    }
    with rt.using(**settings.get(change, {})):
        again = program(question="another" if change == "inputs" else "q")

    assert (again.cached, len(provider.requests)) == (False, 2)


def test_an_evaluation_that_reuses_scores_runs_no_row_twice(rt: Runtime, provider: ScriptedProvider) -> None:
    evaluate = Evaluate(devset=ROWS, metric=right, reuse=True)
    first, second = evaluate(Predict("question -> answer")), evaluate(Predict("question -> answer"))

    assert (first.score, second.score, second.coverage) == (100.0, 100.0, 1.0)
    assert len(provider.requests) == len(ROWS)


def test_an_evaluation_runs_every_row_unless_asked(rt: Runtime, provider: ScriptedProvider) -> None:
    evaluate = Evaluate(devset=ROWS, metric=right)
    evaluate(Predict("question -> answer"))
    evaluate(Predict("question -> answer"))

    assert len(provider.requests) == 2 * len(ROWS)


def test_rows_that_are_new_are_run_beside_those_that_are_known(rt: Runtime, provider: ScriptedProvider) -> None:
    Evaluate(devset=ROWS[:4], metric=right, reuse=True)(Predict("question -> answer"))
    result = Evaluate(devset=ROWS, metric=right, reuse=True)(Predict("question -> answer"))

    assert ([row.index for row in result.rows], len(provider.requests)) == (list(range(6)), 6)


class Fixed:
    """A metric with a state."""

    def __init__(self, score: float) -> None:
        self.score = score

    def __call__(self, example: Example, prediction: object, trace: object = None) -> float:
        return self.score


def fixed(score: float) -> Any:
    def metric(example: Example, prediction: object, trace: object = None) -> float:
        return score

    return metric


@pytest.mark.parametrize(
    "made", [Fixed, fixed, lambda score: Fixed(score).__call__, lambda score: partial(same, score)]
)
def test_metrics_that_differ_in_what_they_hold_do_not_share_scores(rt: Runtime, made: Any) -> None:
    program = rt.start(Predict("question -> answer"))
    scores = [Evaluate(devset=ROWS, metric=made(score), reuse=True)(program).score for score in (0.0, 1.0)]

    assert scores == [0.0, 100.0]


def same(score: float, example: Example, prediction: object, trace: object = None) -> float:
    return score


def test_a_metric_is_known_again_by_its_code_and_what_it_closes_over(rt: Runtime, provider: ScriptedProvider) -> None:
    for _ in range(2):
        Evaluate(devset=ROWS, metric=fixed(1.0), reuse=True)(Predict("question -> answer"))

    assert len(provider.requests) == len(ROWS)


class Signed(Module):
    """A program whose answer hangs on an attribute."""

    def __init__(self, name: object) -> None:
        self.name = name
        self.ask = Predict("question -> answer")

    def forward(self, question: str) -> Prediction:
        return Prediction(answer=f"{self.ask(question=question).answer}, {self.name}")


def test_programs_that_differ_in_an_attribute_do_not_share_results(rt: Runtime) -> None:
    answers = [rt.start(Signed(name), cached=True)(question="q").answer for name in ("Ann", "Bob")]

    assert answers == ["yes, Ann", "yes, Bob"]


def test_a_program_with_an_attribute_that_nobody_can_write_down_is_not_kept(
    rt: Runtime, provider: ScriptedProvider
) -> None:
    program = rt.start(Signed(re.compile("x")), cached=True)
    program(question="q")
    program(question="q")
    health: Any = rt.health()

    assert (len(provider.requests), health["module_result"]["uncacheable"]) == (2, 2)


def test_nobody_who_changes_a_prediction_changes_what_is_kept(rt: Runtime) -> None:
    program = rt.start(Predict("question -> answer"), cached=True)
    for _ in range(3):
        prediction = program(question="q")
        assert prediction.answer == "yes"
        prediction.answer = "no"


def test_hits_and_misses_of_every_table_are_events(rt: Runtime) -> None:
    told: list[tuple[str, str, str]] = []
    for event in (HIT, MISS):
        rt.system.kernel.telemetry.attach(
            str(event),
            event,
            lambda event, measured, said: told.append((event[1], said["table"], said.get("tier", ""))),
        )
    program = rt.start(Predict("question -> answer")).using(lm=LM("scripted/m"))
    evaluate = Evaluate(devset=ROWS[:1], metric=right, reuse=True)
    cached = rt.start(Predict("question -> answer"), cached=True)
    for _ in range(2):
        program(question="q")
        cached(question="q")
        evaluate(program)

    assert {table for _, table, _ in told} == {"lm_response", "module_result", "evaluation"}
    assert [(what, tier) for what, table, tier in told if table == "module_result"] == [("miss", ""), ("hit", "memory")]
    assert [(what, tier) for what, table, tier in told if table == "evaluation"] == [("miss", ""), ("hit", "memory")]


def test_what_is_kept_is_swept_and_shown_with_the_cache(provider: ScriptedProvider) -> None:
    clock = ManualClock()
    with Runtime(LM("scripted/m"), open_provider=lambda config: provider, clock=clock) as rt:
        rt.start(Predict("question -> answer"), cached=True)(question="q")
        clock.advance(SECONDS + SWEEP_SECONDS)
        manager = rt.registry.whereis("cache")
        assert manager is not None
        manager.call(CacheManager.sweep)
        health: Any = rt.health()

    assert [health[table]["entries"] for table in ("cache", "module_result", "evaluation")] == [0, 0, 0]
