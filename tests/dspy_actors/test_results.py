"""Kept results and kept scores: given again for what is equal in everything that decides an answer, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspy_actors import LM, Evaluate, Example, Predict, Runtime
from dspy_actors.messages import LMRequest
from dspy_actors.testing.providers import ScriptedProvider

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


def test_a_metric_without_a_name_of_its_own_is_not_reused(rt: Runtime, provider: ScriptedProvider) -> None:
    for _ in range(2):
        Evaluate(devset=ROWS, metric=lambda example, prediction, trace=None: 1.0, reuse=True)(
            Predict("question -> answer")
        )

    assert len(provider.requests) == 2 * len(ROWS)
