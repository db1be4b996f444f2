"""Evaluation: scores, coverage and metrics of every kind."""

from __future__ import annotations

import asyncio
import csv
import gc
import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.errors import (
    BlockingCall,
    EvaluationError,
    NoRuntime,
    ProgramError,
)
from dspy_actors.evaluation.evaluate import Evaluate, Progress
from dspy_actors.evaluation.result import Scored
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from supervisors.dynamic import DynamicSupervisor
from supervisors.testing import wait_until
from tests.dspy_actors.programs import (
    PATIENCE,
    SOON,
    Ask,
    AskLater,
    Gate,
    begin,
    examples,
    qa,
    right,
    runtime,
    says,
)


def evaluate(count: int = 6, **options: Any) -> Evaluate:
    return Evaluate(devset=examples(count), metric=options.pop("metric", right), **options)


# -- scores --------------------------------------------------------------------------------------------------------


def test_the_score_is_the_share_of_right_answers_in_percent() -> None:
    with runtime(lambda request: says(answer="q0")):
        assert evaluate(3)(qa()).score == 33.33


def test_a_table_is_written_whatever_the_model_said(tmp_path: Path) -> None:
    """Half an emoji, as answers end that were cut, is none of UTF-8."""
    with runtime(lambda request: says(answer="ü \ud83d")):
        result = evaluate(1)(qa())
    result.save_json(tmp_path / "rows.json")
    result.save_csv(tmp_path / "rows.csv")
    (row,) = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    (line,) = csv.DictReader((tmp_path / "rows.csv").read_text("utf-8").splitlines())
    assert (row["pred_answer"], line["pred_answer"]) == ("ü \ud83d", "ü \\ud83d")


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_every_kind_of_program_can_be_evaluated(make: Any) -> None:
    with runtime():
        assert evaluate()(make()).score == 100.0


def test_a_started_program_can_be_evaluated_outside_of_the_block() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        assert begin(evaluate(), program).get(PATIENCE).score == 100.0


def test_an_evaluation_can_be_awaited() -> None:
    async def main() -> float | None:
        return (await evaluate().acall(program)).score

    with runtime() as rt:
        program = rt.start(qa())
        assert asyncio.run(main()) == 100.0


def test_the_rows_come_in_the_order_of_the_devset() -> None:
    with runtime():
        result = evaluate(20, num_threads=8)(qa())
    assert [row.example.question for row in result.rows] == [f"q{n}" for n in range(20)]


@pytest.mark.parametrize("concurrency", [1, 7, 64])
def test_the_score_does_not_depend_on_how_many_rows_are_under_way(concurrency: int) -> None:
    def graded(example: Example, prediction: Any, trace: object = None) -> float:
        return 0.1 * int(example.question[1:])

    with runtime():
        assert evaluate(30, metric=graded, num_threads=concurrency)(qa()).score == 145.0


def test_as_many_rows_are_under_way_as_were_asked_for() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        running = begin(evaluate(40, num_threads=16), program)
        gate.wait_for(16)
        assert program.metrics()["inflight"] == 16
        gate.open()
        assert running.get(PATIENCE).score == 100.0


def test_progress_ends_with_all_rows() -> None:
    seen: list[Progress] = []
    with runtime():
        evaluate(6, on_progress=seen.append)(qa())
    assert (seen[-1].done, seen[-1].total, seen[-1].score) == (6, 6, 100.0)


def test_an_evaluation_leaves_no_actor_behind() -> None:
    with runtime() as rt:
        evaluate()(qa())
        for name in ("evaluations", "modules"):
            ref = rt.registry.whereis(name)
            assert ref is not None
            wait_until(lambda ref=ref: not ref.call(DynamicSupervisor.which_children))  # type: ignore[misc]


def test_what_an_evaluation_found_ends_with_its_result_and_waits_for_no_collection() -> None:
    def found() -> int:
        return sum(type(each) is Scored and each.example in devset for each in gc.get_objects())

    devset = [example.copy(here=True) for example in examples(3)]
    with runtime():
        gc.collect()
        gc.disable()
        try:
            result = Evaluate(devset=devset, metric=right)(qa())
            assert found() == len(result.rows) == 3
            del result
            wait_until(lambda: found() == 0)
        finally:
            gc.enable()


# -- metrics -------------------------------------------------------------------------------------------------------


def test_a_metric_may_be_a_coroutine_function() -> None:
    async def later(example: Example, prediction: Any, trace: object = None) -> bool:
        await asyncio.sleep(0)
        return right(example, prediction)

    with runtime():
        assert evaluate(metric=later)(qa()).score == 100.0


def test_a_metric_may_ask_a_model() -> None:
    judge = Predict("question -> answer")

    def judged(example: Example, prediction: Any, trace: object = None) -> bool:
        return bool(judge(question=f"is it {prediction.answer}").answer == f"is it {example.answer}")

    with runtime():
        assert evaluate(metric=judged)(qa()).score == 100.0


@pytest.mark.filterwarnings("ignore:coroutine")  # what the first try, on the programs loop, did not get to run
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_metric_may_run_a_loop_of_its_own() -> None:
    async def later() -> float:
        return 1.0

    with runtime():
        assert evaluate(metric=lambda *_: asyncio.run(later()))(qa()).score == 100.0


def test_a_metric_that_blocks_holds_up_no_other_row() -> None:
    together = threading.Barrier(4, timeout=PATIENCE)
    calls = itertools.count()

    def blocks(example: Example, prediction: Any, trace: object = None) -> float:
        if next(calls) == 0:
            assert not threading.Event().wait(0.02)
        else:
            together.wait()
        return 1.0

    with runtime():
        result = evaluate(5, metric=blocks, num_threads=5)(qa())
    assert (result.score, result.coverage) == (100.0, 1.0)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_metric_that_raises_leaves_its_rows_unscored(error: type[BaseException]) -> None:
    def raises(example: Example, prediction: Any, trace: object = None) -> float:
        if example.question == "q1":
            raise error("the metric's own")
        return 1.0

    with runtime():
        result = evaluate(4, metric=raises)(qa())
    assert (result.score, [row.index for row in result.unscored]) == (100.0, [1])
    assert isinstance(result.unscored[0].error, ProgramError)


class Typo(Module):
    """Fails over every other question, as a program with a slip does."""

    async def aforward(self, question: str) -> Any:
        if int(question[1:]) % 2:
            return Prediction(answer=question).anwser
        return Prediction(answer=question)


def test_a_result_names_how_many_rows_the_program_failed_and_by_what_kind() -> None:
    with runtime():
        said = str(evaluate(5)(Typo()))
    assert said == "60.00 % over 5 of 5 rows (coverage 100%), 2 failed (2 x AttributeError)"


def test_a_result_says_nothing_of_failed_rows_where_there_are_none() -> None:
    with runtime():
        assert str(evaluate(5)(qa())) == "100.00 % over 5 of 5 rows (coverage 100%)"


def test_an_incomplete_result_says_what_the_metric_raised() -> None:
    with runtime():
        result = evaluate(4, metric=lambda example, prediction: prediction.colour)(qa())
    assert "4 x metric AttributeError; row 0: the metric failed on this row: AttributeError: " in str(result)


@pytest.mark.parametrize("value", [None, "good", float("nan"), [1.0]])
def test_a_metric_that_gives_no_number_leaves_its_rows_unscored(value: object) -> None:
    with runtime():
        result = evaluate(2, metric=lambda *_: value)(qa())
    assert (result.score, result.kinds()) == (None, {"program": 2})


@pytest.mark.parametrize(("value", "score"), [(True, 100.0), (0.5, 50.0), (Prediction(score=0.25), 25.0)])
def test_a_metric_gives_a_number_a_bool_or_a_prediction_with_a_score(value: object, score: float) -> None:
    with runtime():
        assert evaluate(2, metric=lambda *_: value)(qa()).score == score


def test_a_metric_that_never_ends_is_ended_with_its_row() -> None:
    async def for_ever(example: Example, prediction: Any, trace: object = None) -> float:
        await asyncio.Event().wait()
        return 1.0

    with runtime() as rt:
        result = evaluate(2, metric=for_ever, deadline=SOON)(rt.start(qa()))
    assert len(result.unscored) == 2


# -- what cannot begin ---------------------------------------------------------------------------------------------


def test_an_empty_devset_is_refused() -> None:
    with runtime(), pytest.raises(EvaluationError, match="empty"):
        evaluate(0)(qa())


def test_an_example_that_does_not_know_its_inputs_is_named() -> None:
    with runtime(), pytest.raises(EvaluationError, match=r"devset\[0\].*with_inputs"):
        Evaluate(devset=[Example(question="q")], metric=right)(qa())


@pytest.mark.parametrize(
    "wrong",
    [{"devset": 5}, {"num_threads": "8"}, {"failure_score": "0"}, {"coverage_floor": None}, {"max_errors": 0}],
    ids=str,
)
def test_an_evaluation_with_a_wrong_argument_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with runtime(), pytest.raises(EvaluationError, match=next(iter(wrong))):
        Evaluate(**{"devset": examples(1), "metric": right, **wrong})(qa())


@pytest.mark.parametrize("metric", [lambda example: 1.0, lambda example, prediction, trace: 1.0, "accuracy"])
def test_a_metric_that_takes_no_example_and_prediction_is_refused(metric: Any) -> None:
    with runtime(), pytest.raises(EvaluationError, match=r"metric\(example, prediction"):
        evaluate(metric=metric)(qa())


def test_an_evaluation_without_a_metric_is_refused() -> None:
    with runtime(), pytest.raises(EvaluationError, match="metric"):
        evaluate(metric=None)(qa())


def test_an_evaluation_with_nothing_under_way_is_refused() -> None:
    with runtime(), pytest.raises(EvaluationError, match="num_threads=0"):
        evaluate(num_threads=0)(qa())


def test_an_evaluation_without_a_runtime_says_so() -> None:
    with pytest.raises(NoRuntime, match="Evaluate"):
        evaluate()(qa())


def test_a_blocking_evaluation_on_a_running_loop_names_acall() -> None:
    async def main() -> None:
        evaluate()(qa())

    with runtime(), pytest.raises(BlockingCall, match="acall"):
        asyncio.run(main())
