"""Evaluation: whose fault a failure is, crashes of rows and actors, and an early end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import (
    Busy,
    CircuitOpen,
    LMAuthError,
    LMServerError,
    ProgramError,
    ShuttingDown,
)
from dspy_actors.evaluation.evaluate import Evaluate, Progress
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest
from dspy_actors.modules.module import Module
from dspy_actors.runtime import Runtime
from supervisors.actor import Ref
from supervisors.dynamic import DynamicSupervisor
from supervisors.exits import Crash
from supervisors.testing import wait_until
from tests.dspy_actors.programs import (
    PATIENCE,
    SOON,
    Gate,
    asked,
    begin,
    echo,
    examples,
    qa,
    right,
    runtime,
    says,
)


def evaluate(count: int = 6, **options: Any) -> Evaluate:
    return Evaluate(devset=examples(count), metric=options.pop("metric", right), **options)


def poisoned(request: LMRequest) -> Any:
    """Answers all but `q1` and `q3` rightly."""
    question = asked(request)
    return "no layout" if question in ("q1", "q3") else says(answer=question)


class Fails(Module):
    """Answers, but fails in its own way at the questions it is given."""

    def __init__(self, *questions: str, error: type[BaseException] = ValueError) -> None:
        self.ask = qa()
        self.questions = questions
        self.error = error

    async def aforward(self, question: str) -> Any:
        if question in self.questions:
            raise self.error("its own fault")
        return await self.ask.acall(question=question)


class Wraps(Module):
    """Turns what its model meets into an error of its own."""

    def __init__(self, chained: bool = True) -> None:
        self.ask = qa()
        self.chained = chained

    def forward(self, question: str) -> Any:
        failed = False
        try:
            return self.ask(question=question)
        except Exception:
            if self.chained:
                raise ValueError("wrapped") from None
            failed = True
        assert failed
        raise ValueError("told by nobody")


def down(request: LMRequest) -> Any:
    return LMServerError("not here", status=501)


# -- whose fault it is ---------------------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_read_scores_zero_and_is_listed() -> None:
    with runtime(poisoned):
        result = evaluate(4)(qa())
    assert (result.score, result.coverage, result.kinds()) == (50.0, 1.0, {"parse": 2})


def test_an_exception_of_the_program_scores_zero_and_is_listed() -> None:
    with runtime():
        result = evaluate(4)(Fails("q1"))
    assert (result.score, result.kinds()) == (75.0, {"ValueError": 1})


def test_the_score_of_a_failure_can_be_chosen() -> None:
    with runtime():
        assert evaluate(4, failure_score=0.5)(Fails("q1")).score == 87.5


def some_down(request: LMRequest) -> Any:
    return down(request) if asked(request) == "q1" else echo(request)


@pytest.mark.parametrize("make", [qa, Wraps, lambda: Wraps(chained=False)])
def test_an_outage_is_no_score_however_the_program_puts_it(make: Any) -> None:
    with runtime(some_down):
        result = evaluate(4)(make())
    assert (result.score, result.coverage, [row.index for row in result.unscored]) == (100.0, 0.75, [1])


def test_an_unscored_row_keeps_the_error_of_the_program() -> None:
    with runtime(some_down):
        result = evaluate(4)(Wraps())
    assert isinstance(result.unscored[0].error, ValueError)
    assert isinstance(result.unscored[0].outcome.fault, LMServerError)


def test_a_row_that_the_infrastructure_failed_is_tried_again() -> None:
    left = {"q1": 1}

    def passing(request: LMRequest) -> Any:
        if left.pop(asked(request), None):
            return LMServerError("down", status=503)
        return echo(request)

    with runtime(passing, lm=LM("scripted/m", num_retries=0)):
        assert evaluate(4)(qa()).coverage == 1.0


class Outage(Gate):
    """Fails the first requests, so many of them, and then holds every answer back as a gate does."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.failing = itertools.count(-failing)

    async def __call__(self, request: LMRequest) -> Any:
        if next(self.failing) < 0:
            self._arrived.release()
            return LMServerError("down", status=503)
        return await super().__call__(request)


def test_rows_that_are_tried_again_are_as_many_at_once_as_the_first_time() -> None:
    gate = Outage(6)
    with runtime(gate, lm=LM("scripted/m", num_retries=0)) as rt:
        running = begin(evaluate(6, num_threads=6), rt.start(qa()))
        gate.wait_for(6)
        gate.wait_for(6)
        gate.open()
        assert running.get(PATIENCE).score == 100.0


def test_rows_between_two_tries_are_not_lost_with_the_actors_that_had_them() -> None:
    gate = Outage(6)
    gate.open()
    with runtime(gate, lm=LM("scripted/m", num_retries=0)) as rt:
        running = begin(evaluate(6, num_threads=6), rt.start(qa()))
        gate.wait_for(6)
        supervisor = rt.registry.whereis("evaluations")
        assert supervisor is not None
        for child in supervisor.call(DynamicSupervisor.which_children):
            child.ref.fence()
        assert (running.get(PATIENCE).score, len(running.get(0).rows)) == (100.0, 6)


@pytest.mark.parametrize("fault", [CircuitOpen("not asked", retry_after=0.6), Busy("full")])
def test_a_row_that_was_refused_for_a_while_is_tried_again(fault: Exception) -> None:
    class Refused(Module):
        left = 1

        async def aforward(self, question: str) -> Any:
            Refused.left -= 1
            if Refused.left >= 0:
                raise fault
            return Prediction(answer=question)

    with runtime():
        result = evaluate(1)(Refused())
    assert (result.coverage, result.seconds >= 0.5) == (1.0, True)


def test_all_tries_of_a_row_end_within_its_deadline() -> None:
    with runtime(Gate()) as rt:
        result = evaluate(2, deadline=SOON)(rt.start(qa()))
    assert (result.kinds(), result.seconds < 1.0) == ({"deadline": 2}, True)


def test_a_refused_key_is_not_tried_again_and_again() -> None:
    def refused(request: LMRequest) -> Any:
        return LMAuthError("who are you?", status=401)

    with runtime(refused) as rt:
        evaluate(4)(qa())
        assert rt.numbers().sent == 4


def test_below_the_floor_of_coverage_a_result_is_incomplete_and_says_why() -> None:
    with runtime(lambda request: LMServerError("down", status=501)):
        result = evaluate(4)(qa())
    assert result.score is None
    assert result.incomplete == "only 0% of the rows could be scored (4 x lm_server)"


def test_above_the_floor_of_coverage_a_result_is_complete() -> None:
    with runtime(some_down):
        assert evaluate(4, coverage_floor=0.75)(qa()).incomplete is None


def test_a_drained_runtime_scores_no_row_as_zero() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        running = begin(evaluate(6, num_threads=1), rt.start(qa()))
        gate.wait_for()
        begin(rt.drain, PATIENCE)
        wait_until(lambda: not rt.ready())
        gate.open()
        result = running.get(PATIENCE)
    assert (result.score, result.kinds()) == (100.0, {"shutting_down": 5})


@pytest.mark.parametrize("end", [lambda rt: rt.drain(PATIENCE), lambda rt: rt.shutdown()], ids=["drain", "shutdown"])
def test_an_evaluation_is_refused_as_a_call_is_once_its_runtime_lets_none_in(end: Callable[[Runtime], object]) -> None:
    with runtime() as rt:
        program = rt.start(qa())
        end(rt)
        with pytest.raises(ShuttingDown, match="Evaluate"):
            evaluate()(program)
        with pytest.raises(ShuttingDown, match="Evaluate"):
            asyncio.run(evaluate().acall(program))
        with pytest.raises(ShuttingDown, match="Evaluate"):
            evaluate()(qa())


def test_an_evaluation_at_the_shutdown_keeps_what_is_finished() -> None:
    gate = Gate()

    async def first_only(request: LMRequest) -> Any:
        return echo(request) if asked(request) == "q0" else await gate(request)

    done = threading.Event()
    rt = runtime(first_only).start_up()
    watch = evaluate(6, num_threads=1, on_progress=lambda progress: progress.done == 1 and done.set())
    running = begin(watch, rt.start(qa()))
    assert done.wait(PATIENCE)
    rt.shutdown()
    result = running.get(PATIENCE)
    assert result.rows[0].score == 1.0
    assert "shutting_down" in str(result.incomplete)


# -- crashes -------------------------------------------------------------------------------------------------------


class Unspeakable(BaseException):
    """Cannot be put into words."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Unspeakable])
@pytest.mark.parametrize("concurrency", [1, 8, 20])
def test_a_row_that_wants_to_end_the_process_is_an_error_and_its_neighbours_are_unharmed(
    error: type[BaseException], concurrency: int
) -> None:
    with runtime():
        result = evaluate(12, num_threads=concurrency)(Fails("q3", "q7", error=error))
    assert [row.index for row in result.errors] == [3, 7]
    assert (result.coverage, len(result.rows)) == (1.0, 12)


def test_a_row_that_awaited_what_was_cancelled_is_an_error_of_the_program() -> None:
    with runtime():
        result = evaluate(6)(Fails("q3", error=asyncio.CancelledError))
    assert [(row.index, type(row.error)) for row in result.errors] == [(3, ProgramError)]
    assert (result.coverage, len(result.rows)) == (1.0, 6)


def test_the_metric_of_a_row_may_await_what_was_cancelled_and_the_others_are_scored() -> None:
    async def cancelled(example: Any, prediction: Any, trace: object = None) -> bool:
        if example.question == "q3":
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        return True

    with runtime():
        result = evaluate(6, metric=cancelled)(qa())
    assert ([row.index for row in result.errors], result.score) == ([3], 100.0)


def test_a_metric_may_raise_what_cannot_be_put_into_words() -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def raises(example: Any, prediction: Any, trace: object = None) -> bool:
        if example.question == "q3":
            raise Wordless
        return True

    with runtime():
        result = evaluate(6, metric=raises)(qa())
    assert "1 x metric Wordless" in str(result)


def test_rows_of_an_evaluation_actor_that_was_killed_are_taken_over() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        running = begin(evaluate(8, num_threads=4), rt.start(qa()))
        gate.wait_for(4)
        supervisor = rt.registry.whereis("evaluations")
        assert supervisor is not None
        for child in supervisor.call(DynamicSupervisor.which_children)[:2]:
            child.ref.fence()
        gate.open()
        assert (running.get(PATIENCE).score, len(running.get(0).rows)) == (100.0, 8)


@pytest.mark.parametrize("end", [Ref.fence, lambda ref: ref.exit(Crash(RuntimeError("killed by the test")))])
def test_no_row_is_lost_or_counted_twice_while_evaluation_actors_die(end: Any) -> None:
    asked_so_far = itertools.count(1)

    def deadly(request: LMRequest) -> str:
        if next(asked_so_far) % 15 == 0:
            end(next(ref for ref in rt.system.kernel.live() if ref.snapshot()["class"] == "EvaluationActor"))
        return echo(request)

    with runtime(deadly) as rt:
        result = evaluate(150, num_threads=16)(qa())
        mapped = list(rt.map(qa(), ({"question": f"m{n}"} for n in range(150))))
    assert (result.score, result.coverage, len(result.rows)) == (100.0, 1.0, 150)
    assert [each.outcome.ok for each in mapped] == [True] * 150


def test_an_evaluation_outlives_the_supervisor_of_its_actors() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        running = begin(evaluate(8, num_threads=4), rt.start(qa()))
        gate.wait_for(4)
        supervisor = rt.registry.whereis("evaluations")
        assert supervisor is not None
        supervisor.exit(Crash(RuntimeError("killed by the test")))
        gate.open()
        assert len(running.get(PATIENCE).rows) == 8


# -- an early end --------------------------------------------------------------------------------------------------


def test_too_many_failures_of_the_program_stop_the_evaluation() -> None:
    with runtime(lambda request: "no layout"):
        result = evaluate(50, max_errors=3, num_threads=1)(qa())
    assert len(result.rows) == 3
    assert "max_errors=3" in str(result.incomplete)


class Interrupts:
    """A progress that raises what Ctrl-C raises."""

    def __call__(self, progress: Progress) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_gives_up_the_rows_under_way() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        with pytest.raises(KeyboardInterrupt):
            evaluate(20, num_threads=4, on_progress=Interrupts())(program)
        wait_until(lambda: program.metrics()["inflight"] == 0)
        evaluations = rt.registry.whereis("evaluations")
        assert evaluations is not None
        wait_until(lambda: not evaluations.call(DynamicSupervisor.which_children))


def test_a_cancelled_evaluation_gives_up_the_rows_under_way() -> None:
    gate = Gate()

    async def main(rt: Runtime) -> None:
        program = rt.start(qa())
        task = asyncio.create_task(evaluate(20).acall(program))
        await asyncio.to_thread(gate.wait_for, 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until, lambda: program.metrics()["inflight"] == 0)

    with runtime(gate) as rt:
        asyncio.run(main(rt))
