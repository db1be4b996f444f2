"""Optimizers: which demonstrations they choose, what the teacher does not see, and that the student stays as it was."""

from __future__ import annotations

import asyncio
import threading
from random import Random
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dspy_actors.errors import (
    BlockingCall,
    CircuitOpen,
    DspyActorsError,
    EvaluationError,
    LMAuthError,
    LMNotConfiguredError,
    LMServerError,
    NoRuntime,
    ShuttingDown,
)
from dspy_actors.example import Example, Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.optimizers.bootstrap_few_shot import BootstrapFewShot, Bootstrapped
from dspy_actors.optimizers.labeled_few_shot import LabeledFewShot
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, asked, begin, echo, examples, qa, right, runtime, says


class Twice(Module):
    """Asks one predictor twice and another one once."""

    def __init__(self) -> None:
        self.draft = qa()
        self.final = ChainOfThought("draft -> answer")

    async def aforward(self, question: str) -> Any:
        first = await self.draft.acall(question=question)
        second = await self.draft.acall(question=f"{question}?")
        return await self.final.acall(draft=f"{first.answer} {second.answer}")


def twice(request: LMRequest) -> str:
    last = request.messages[-1].text
    return says(reasoning="because", answer="done") if "[[ ## draft ## ]]" in last else echo(request)


def only(*questions: str) -> Any:
    """A metric that agrees with the answers to these questions."""
    return lambda example, prediction, trace=None: example.question in questions


def questions(module: Any) -> list[str]:
    return [str(demo["question"]) for demo in module.demos]


def augmented(module: Any) -> list[str]:
    return [str(demo["question"]) for demo in module.demos if demo.get("augmented")]


def bootstrap(**options: Any) -> BootstrapFewShot:
    return BootstrapFewShot(metric=options.pop("metric", right), **{"max_labeled_demos": 0, **options})


# -- labelled ------------------------------------------------------------------------------------------------------


def test_labelled_demos_are_drawn_as_dspy_draws_them() -> None:
    made = LabeledFewShot(4).compile(qa(), trainset=examples(10))
    assert questions(made) == [f"q{n}" for n in Random(0).sample(range(10), 4)]


def test_labelled_demos_are_the_first_ones_without_sampling() -> None:
    made = LabeledFewShot(3).compile(qa(), trainset=examples(10), sample=False)
    assert questions(made) == ["q0", "q1", "q2"]


def test_there_are_no_more_labelled_demos_than_examples() -> None:
    assert len(LabeledFewShot(16).compile(qa(), trainset=examples(3)).demos) == 3


def test_labelled_demos_need_no_runtime() -> None:
    assert LabeledFewShot(1).compile(qa(), trainset=examples(1)).demos


def test_a_labelled_demo_has_the_fields_of_the_signature_and_no_others() -> None:
    example = Example(question="q", answer="a", source="s").with_inputs("question")
    (demo,) = LabeledFewShot(1).compile(qa(), trainset=[example]).demos
    assert dict(demo) == {"question": "q", "answer": "a"}


def test_a_negative_number_of_demos_is_refused() -> None:
    with pytest.raises(EvaluationError, match="k=-1"):
        LabeledFewShot(-1)


# -- what is bootstrapped ------------------------------------------------------------------------------------------


def test_solved_examples_become_demos_in_their_order() -> None:
    with runtime():
        made = bootstrap(metric=only("q1", "q3", "q4")).compile(qa(), trainset=examples(6))
    assert augmented(made) == ["q1", "q3", "q4"]


def test_no_more_examples_are_tried_than_are_needed() -> None:
    with runtime() as rt:
        bootstrap(max_bootstrapped_demos=2).compile(qa(), trainset=examples(10))
        assert rt.numbers().calls == 2


def test_without_a_metric_every_answer_counts() -> None:
    with runtime():
        made = bootstrap(metric=None, max_bootstrapped_demos=3).compile(qa(), trainset=examples(6))
    assert augmented(made) == ["q0", "q1", "q2"]


def test_what_was_cut_off_is_no_demo_and_no_failure_and_another_round_may_be_whole() -> None:
    def model(request: LMRequest) -> LMResponse:
        is_cut = asked(request) == "q1" or (asked(request) == "q2" and request.sample == 0)
        return LMResponse((echo(request),), "m", None, ("length" if is_cut else "stop",))

    with runtime(model):
        made = bootstrap(max_rounds=2, max_errors=1).compile(qa(), trainset=examples(4))
    assert augmented(made) == ["q0", "q2", "q3"]


def test_a_threshold_decides_what_counts() -> None:
    def graded(example: Example, prediction: Any, trace: object = None) -> float:
        return 0.2 * int(example.question[1:])

    with runtime():
        made = bootstrap(metric=graded, metric_threshold=0.5).compile(qa(), trainset=examples(6))
    assert augmented(made) == ["q3", "q4", "q5"]


def test_a_metric_gets_the_trace() -> None:
    seen: list[Any] = []

    def traced(example: Example, prediction: Any, trace: Any = None) -> bool:
        seen.extend(trace)
        return True

    with runtime():
        bootstrap(metric=traced, max_bootstrapped_demos=1).compile(qa(), trainset=examples(1))
    (_, inputs, prediction) = seen[0]
    assert (inputs, prediction.answer) == ({"question": "q0"}, "q0")


@pytest.mark.parametrize(("value", "count"), [(Prediction(score=0.0), 0), (Prediction(score=1.0), 4), (0, 0), (0.1, 4)])
def test_a_success_is_what_is_not_zero(value: Any, count: int) -> None:
    with runtime():
        made = bootstrap(metric=lambda *_: value).compile(qa(), trainset=examples(6))
    assert len(augmented(made)) == count


@pytest.mark.parametrize("value", ["wrong", None, float("nan"), [1]])
def test_what_is_no_score_for_an_evaluation_is_no_success(value: Any) -> None:
    """Text was one, for it is truthy."""
    with runtime(), pytest.raises(EvaluationError, match="a metric returns a"):
        bootstrap(metric=lambda *_: value, max_errors=3).compile(qa(), trainset=examples(6))


def test_a_metric_that_takes_no_trace_is_refused_before_anybody_is_asked() -> None:
    """It failed after ten answers that were paid for."""

    def agrees(example: Example, prediction: Any) -> bool:
        return True

    with pytest.raises(EvaluationError, match=r"agrees.*metric\(example, prediction, trace\); add trace=None"):
        bootstrap(metric=agrees)


def test_a_metric_may_be_a_coroutine_function() -> None:
    async def later(example: Example, prediction: Any, trace: object = None) -> bool:
        await asyncio.sleep(0)
        return bool(example.question == "q2")

    with runtime():
        made = bootstrap(metric=later).compile(qa(), trainset=examples(4))
    assert augmented(made) == ["q2"]


def test_a_metric_may_ask_a_model() -> None:
    judge = qa()

    def judged(example: Example, prediction: Any, trace: object = None) -> bool:
        return bool(judge(question="q2").answer == prediction.answer)

    with runtime():
        assert augmented(bootstrap(metric=judged).compile(qa(), trainset=examples(4))) == ["q2"]


def test_every_predictor_gets_demos_of_its_own_fields() -> None:
    with runtime(twice):
        made = bootstrap(metric=None, max_bootstrapped_demos=1).compile(Twice(), trainset=examples(1))
    assert {key for key in made.final.predict.demos[0] if key != "augmented"} == {"draft", "reasoning", "answer"}


def test_a_predictor_that_was_asked_twice_gives_one_demo_an_example() -> None:
    with runtime(twice):
        made = bootstrap(metric=None, max_bootstrapped_demos=3).compile(Twice(), trainset=examples(3))
    assert [question.rstrip("?") for question in questions(made.draft)] == ["q0", "q1", "q2"]


def test_the_same_search_finds_the_same_demos() -> None:
    def search() -> list[str]:
        with runtime(twice):
            made = bootstrap(metric=None, max_labeled_demos=5).compile(Twice(), trainset=examples(12))
        return questions(made.draft)

    assert search() == search()


# -- filling up ----------------------------------------------------------------------------------------------------


def test_labelled_examples_fill_up_what_was_not_solved() -> None:
    with runtime():
        made = bootstrap(metric=only("q0", "q1"), max_labeled_demos=5).compile(qa(), trainset=examples(10))
    assert (len(made.demos), augmented(made)) == (5, ["q0", "q1"])


def test_a_solved_example_is_not_used_again_to_fill_up() -> None:
    with runtime():
        made = bootstrap(metric=only("q0", "q1"), max_labeled_demos=16).compile(qa(), trainset=examples(6))
    assert sorted(questions(made)) == [f"q{n}" for n in range(6)]


def test_what_fills_up_is_drawn_as_dspy_draws_it() -> None:
    rest = [f"q{n}" for n in range(2, 10)]
    Random(0).shuffle(rest)
    with runtime():
        made = bootstrap(metric=only("q0", "q1"), max_labeled_demos=5).compile(qa(), trainset=examples(10))
    assert questions(made)[2:] == Random(0).sample(rest, 3)


# -- the teacher ---------------------------------------------------------------------------------------------------


def shown(request: LMRequest) -> list[str]:
    """The questions of the demonstrations in a prompt."""
    turns = [message.text for message in request.messages[1:-1] if message.role == "user"]
    return [turn.split("[[ ## question ## ]]\n")[1].split("\n\n")[0] for turn in turns]


def test_the_teacher_is_shown_labelled_examples_but_never_the_one_it_is_asked() -> None:
    provider = ScriptedProvider(echo)
    with Runtime(lm="scripted/m", open_provider=lambda config: provider):
        bootstrap(max_labeled_demos=6, max_bootstrapped_demos=6).compile(qa(), trainset=examples(6))
    for request in provider.requests:
        assert sorted([*shown(request), asked(request)]) == [f"q{n}" for n in range(6)]


def test_a_compiled_teacher_keeps_its_own_demos() -> None:
    provider = ScriptedProvider(echo)
    teacher = LabeledFewShot(1).compile(qa(), trainset=examples(1))
    teacher._compiled = True
    with Runtime(lm="scripted/m", open_provider=lambda config: provider):
        bootstrap(max_labeled_demos=4).compile(qa(), trainset=examples(6)[2:3], teacher=teacher)
    assert shown(provider.requests[0]) == ["q0"]


def test_a_teacher_with_other_predictors_is_refused() -> None:
    with runtime(), pytest.raises(EvaluationError, match="predictors"):
        bootstrap().compile(qa(), trainset=examples(2), teacher=Twice())


def test_a_teacher_with_another_signature_is_refused() -> None:
    with runtime(), pytest.raises(EvaluationError, match="signature"):
        bootstrap().compile(qa(), trainset=examples(2), teacher=Predict("question -> reply"))


# -- rounds and errors ---------------------------------------------------------------------------------------------


def asked_in_rounds(rounds: int) -> list[tuple[int, object]]:
    provider = ScriptedProvider(echo)
    with Runtime(lm="scripted/m", open_provider=lambda config: provider):
        bootstrap(metric=only(), max_rounds=rounds).compile(qa(), trainset=examples(1))
    return [(request.sample, request.options.get("temperature")) for request in provider.requests]


def test_an_example_is_tried_once_by_default() -> None:
    assert asked_in_rounds(1) == [(0, None)]


def test_later_rounds_are_new_samples_at_temperature_one() -> None:
    assert asked_in_rounds(3) == [(0, None), (1, 1.0), (2, 1.0)]


def test_a_solved_example_is_not_tried_again() -> None:
    with runtime() as rt:
        bootstrap(max_rounds=3).compile(qa(), trainset=examples(2))
        assert rt.numbers().calls == 2


def some_fail(request: LMRequest) -> Any:
    return LMServerError("not here", status=501) if asked(request) in ("q0", "q2") else echo(request)


def test_an_example_that_fails_is_passed_over() -> None:
    with runtime(some_fail):
        made = bootstrap().compile(qa(), trainset=examples(4))
    assert augmented(made) == ["q1", "q3"]


def test_too_many_failures_end_the_search_with_the_last_of_them() -> None:
    with runtime(some_fail), pytest.raises(EvaluationError, match="max_errors=2") as caught:
        bootstrap(max_errors=2).compile(qa(), trainset=examples(4))
    assert isinstance(caught.value.__cause__, LMServerError)


def test_an_error_without_a_repr_ends_the_search_as_any_other() -> None:
    class Dumb(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no word")

    class Failing(Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = qa()

        def forward(self, question: str) -> Prediction:
            raise Dumb

    with runtime(), pytest.raises(EvaluationError, match="Dumb, whose repr raised RuntimeError"):
        bootstrap(max_errors=1).compile(Failing(), trainset=examples(2))


# -- the infrastructure --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [LMServerError("down", status=501), LMAuthError("no", status=401), None])
def test_a_search_in_which_every_example_met_an_outage_is_an_error(fault: Exception | None) -> None:
    lm = None if fault is None else "scripted/m"
    with runtime(lambda request: fault, lm=lm), pytest.raises(EvaluationError, match="no example could be") as caught:
        bootstrap(max_labeled_demos=16).compile(qa(), trainset=examples(9))
    assert isinstance(caught.value.__cause__, LMNotConfiguredError if fault is None else type(fault))
    assert f"9 x {caught.value.__cause__.kind}" in str(caught.value)


def test_a_search_that_an_outage_kept_from_some_examples_says_so_in_the_log() -> None:
    steps: list[Bootstrapped] = []
    structlog.configure()
    with capture_logs() as logs, runtime(some_fail):
        made = bootstrap(on_progress=steps.append).compile(qa(), trainset=examples(4))
    (line,) = (each for each in logs if each["event"] == "bootstrap.incomplete")
    assert augmented(made) == ["q1", "q3"]
    assert (line["log_level"], line["tried"], line["solved"], line["unanswered"]) == ("warning", 4, 2, 2)
    assert "2 x lm_server" in line["reason"]
    assert [step.unanswered for step in steps] == [1, 1, 2, 2]


def test_an_outage_that_a_metric_meets_is_counted_too() -> None:
    def judged(example: Example, prediction: Any, trace: object = None) -> bool:
        raise LMServerError("the judge is down", status=501)

    with runtime(), pytest.raises(EvaluationError, match="4 x lm_server"):
        bootstrap(metric=judged).compile(qa(), trainset=examples(4))


def test_a_search_that_fails_by_itself_is_no_outage() -> None:
    def unreadable(request: LMRequest) -> str:
        return "no layout"

    structlog.configure()
    with capture_logs() as logs, runtime(unreadable):
        assert augmented(bootstrap().compile(qa(), trainset=examples(4))) == []
    assert [each for each in logs if each["event"] == "bootstrap.incomplete"] == []


def test_an_example_that_a_later_round_answers_was_tried() -> None:
    def first_fails(request: LMRequest) -> Any:
        return LMServerError("down", status=501) if request.sample == 0 else echo(request)

    with runtime(first_fails):
        made = bootstrap(metric=only("q1"), max_rounds=2).compile(qa(), trainset=examples(3))
    assert augmented(made) == ["q1"]


def test_an_example_that_the_infrastructure_failed_is_tried_again() -> None:
    left = {"q1": 1}

    def passing(request: LMRequest) -> Any:
        return LMServerError("down", status=503) if left.pop(asked(request), None) else echo(request)

    structlog.configure()
    with capture_logs() as logs, runtime(passing, lm=LM("scripted/m", num_retries=0)):
        assert augmented(bootstrap().compile(qa(), trainset=examples(3))) == ["q0", "q1", "q2"]
    assert [each for each in logs if each["event"] == "bootstrap.incomplete"] == []


def test_a_search_between_two_tries_ends_with_its_runtime() -> None:
    arrived = threading.Event()

    def down(request: LMRequest) -> Exception:
        arrived.set()
        return LMServerError("down", status=503, retry_after=30.0)

    with runtime(down, lm=LM("scripted/m", num_retries=0), deadline=60.0) as rt:

        def search() -> None:
            with rt.using():
                bootstrap().compile(qa(), trainset=examples(2))

        searching = begin(search)
        assert arrived.wait(PATIENCE)
        rt.shutdown()
        with pytest.raises(ShuttingDown):
            searching.get(PATIENCE)


def test_an_example_is_not_tried_again_beyond_its_deadline() -> None:
    fault = CircuitOpen("not asked", retry_after=3600.0)
    with runtime(lambda request: fault), pytest.raises(EvaluationError, match="1 x circuit_open"):
        bootstrap().compile(qa(), trainset=examples(1))


def slow_outage(clock: ManualClock, *answered: str) -> Any:
    """A model that answers these questions, and is down for the others, which it says after 40 s."""

    def script(request: LMRequest) -> Any:
        if asked(request) in answered:
            return echo(request)
        clock.advance(40.0)
        return LMServerError("down", status=501)

    return script


def test_an_outage_is_waited_for_no_longer_than_two_deadlines() -> None:
    """It was one for each of `max_errors` tries."""
    clock, steps = ManualClock(), list[Bootstrapped]()
    match = r"the infrastructure failed every try for more than a call's deadline \(60 s\)"
    with runtime(slow_outage(clock), clock=clock, deadline=60.0):
        begun = clock.now()
        with pytest.raises(EvaluationError, match=match) as caught:
            bootstrap(on_progress=steps.append).compile(qa(), trainset=examples(9))
        assert clock.now() - begun <= 120.0
    assert (isinstance(caught.value.__cause__, DspyActorsError), len(steps)) == (True, 2)


def test_an_answer_ends_an_outage() -> None:
    clock = ManualClock()
    with runtime(slow_outage(clock, "q2", "q5"), clock=clock, deadline=60.0):
        made = bootstrap().compile(qa(), trainset=examples(6))
    assert augmented(made) == ["q2", "q5"]


def test_a_search_is_refused_once_its_runtime_lets_no_calls_in() -> None:
    with runtime() as rt:
        rt.drain(PATIENCE)
        with pytest.raises(ShuttingDown, match=r"BootstrapFewShot\.compile"):
            bootstrap().compile(qa(), trainset=examples(4))


def test_a_runtime_that_drains_in_the_middle_of_a_search_leaves_no_half_program() -> None:
    with runtime() as rt:

        def drains(example: Example, prediction: Any, trace: object = None) -> bool:
            return rt.drain(PATIENCE)

        with pytest.raises(ShuttingDown, match="drains"):
            bootstrap(metric=drains).compile(qa(), trainset=examples(4))


def test_a_metric_that_raises_counts_as_a_failure() -> None:
    def raises(example: Example, prediction: Any, trace: object = None) -> bool:
        if example.question == "q0":
            raise ValueError("the metric's own")
        return True

    with runtime():
        assert augmented(bootstrap(metric=raises).compile(qa(), trainset=examples(3))) == ["q1", "q2"]


def test_a_program_that_wants_to_end_the_process_counts_as_a_failure() -> None:
    class Exits(Module):
        def __init__(self) -> None:
            self.ask = qa()

        async def aforward(self, question: str) -> Any:
            if question == "q0":
                raise SystemExit(3)
            return await self.ask.acall(question=question)

    with runtime():
        assert augmented(bootstrap().compile(Exits(), trainset=examples(3)).ask) == ["q1", "q2"]


# -- the student ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [LabeledFewShot(2), bootstrap()])
def test_the_student_stays_as_it_was(optimizer: Any) -> None:
    student = qa()
    student.demos = [{"question": "own", "answer": "own"}]
    with runtime():
        optimizer.compile(student, trainset=examples(4))
    assert questions(student) == ["own"]


def test_what_comes_back_is_compiled() -> None:
    with runtime():
        assert bootstrap().compile(qa(), trainset=examples(2))._compiled


def test_what_comes_back_answers_with_its_demos() -> None:
    def count(request: LMRequest) -> str:
        return says(answer=len(shown(request)))

    with runtime(count):
        made = bootstrap(metric=None, max_bootstrapped_demos=2).compile(qa(), trainset=examples(4))
        assert made(question="blue").answer == "2"


def test_a_search_leaves_no_actor_behind() -> None:
    with runtime() as rt:
        bootstrap().compile(qa(), trainset=examples(4))
        modules = rt.registry.whereis("modules")
        assert modules is not None
        wait_until(lambda: not modules.call(DynamicSupervisor.which_children))


def test_a_search_tells_how_far_it_is() -> None:
    seen: list[Bootstrapped] = []
    with runtime():
        bootstrap(metric=only("q1"), on_progress=seen.append).compile(qa(), trainset=examples(3))
    assert [(step.tried, step.solved) for step in seen] == [(1, 0), (2, 1), (3, 1)]


# -- what cannot begin ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [LabeledFewShot(2), bootstrap()])
def test_an_empty_trainset_is_refused(optimizer: Any) -> None:
    with runtime(), pytest.raises(EvaluationError, match="empty"):
        optimizer.compile(qa(), trainset=[])


@pytest.mark.parametrize("optimizer", [LabeledFewShot(2), bootstrap()])
def test_an_example_that_does_not_know_its_inputs_is_named(optimizer: Any) -> None:
    with runtime(), pytest.raises(EvaluationError, match=r"trainset\[0\]"):
        optimizer.compile(qa(), trainset=[Example(question="q", answer="a")])


@pytest.mark.parametrize("name", ["max_bootstrapped_demos", "max_labeled_demos", "max_rounds", "max_errors"])
def test_a_number_that_makes_no_sense_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(EvaluationError, match=name):
        BootstrapFewShot(**{name: -1})


def test_a_search_without_a_runtime_names_itself() -> None:
    with pytest.raises(NoRuntime, match="BootstrapFewShot"):
        bootstrap().compile(qa(), trainset=examples(1))


def test_a_search_on_a_running_loop_says_what_to_write() -> None:
    async def main() -> None:
        bootstrap().compile(qa(), trainset=examples(1))

    with runtime(), pytest.raises(BlockingCall, match=r"to_thread\(optimizer.compile"):
        asyncio.run(main())
