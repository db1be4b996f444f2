"""`Outcome.attempts`: every request that was made for a call, whatever came of it and whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import DeadlineExceeded, DspyActorsError, LMInvalidRequestError, LMServerError
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Script, ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.programs import Ask, AskLater, Gate, begin, qa, says

DOWN = LMServerError("down", status=503, retry_after=0.0)
YES = says(answer="yes")
WAYS = pytest.mark.parametrize("program", [qa, Ask, AskLater])


def scripted(script: Script, **options: Any) -> tuple[ScriptedProvider, Runtime]:
    provider = ScriptedProvider(script)
    lm = options.pop("lm", LM("scripted/m", num_retries=2))
    return provider, Runtime(lm=lm, open_provider=lambda config: provider, **options)


@WAYS
def test_a_call_whose_provider_failed_counts_its_requests(program: Callable[[], Module]) -> None:
    provider, rt = scripted([DOWN] * 3)
    with rt:
        outcome = rt.start(program()).safe_call(question="x")
    assert (outcome.error.__class__, outcome.attempts, len(provider.requests)) == (LMServerError, 3, 3)


def test_a_call_that_was_refused_counts_its_request() -> None:
    provider, rt = scripted([LMInvalidRequestError("no", status=400)])
    with rt:
        outcome = rt.start(qa()).safe_call(question="x")
    assert (outcome.attempts, len(provider.requests)) == (1, 1)


def test_what_failed_before_the_answer_is_counted() -> None:
    _, rt = scripted([DOWN, DOWN, YES])
    with rt:
        outcome = rt.start(qa()).safe_call(question="x")
    assert (outcome.attempts, outcome.unwrap().attempts) == (3, 3)


def test_the_requests_of_all_models_that_failed_are_counted() -> None:
    _, rt = scripted([DOWN] * 4, lm=LM("scripted/a", num_retries=1, fallbacks=[LM("scripted/b", num_retries=1)]))
    with rt:
        outcome = rt.start(qa()).safe_call(question="x")
    assert outcome.attempts == 4


@WAYS
def test_a_call_that_met_its_deadline_counts_its_request(program: Callable[[], Module]) -> None:
    clock, gate = ManualClock(), Gate()
    _, rt = scripted(gate, clock=clock, deadline=5.0)
    with rt:
        call = begin(_asks(rt, program))
        gate.wait_for()
        clock.advance(5.0)
        outcome = call.get(10)
    assert (type(outcome.error), outcome.attempts) == (DeadlineExceeded, 1)


def _asks(rt: Runtime, program: Callable[[], Module]) -> Callable[[], Any]:
    started = rt.start(program())
    return lambda: started.safe_call(question="x")


def test_nothing_is_counted_for_those_who_joined_an_equal_call() -> None:
    gate = Gate()

    async def failing(request: Any) -> DspyActorsError:
        await gate(request)
        return DOWN

    _, rt = scripted(failing, lm=LM("scripted/m", num_retries=0))
    with rt:
        asks = _asks(rt, qa)
        calls = [begin(asks)]
        gate.wait_for()
        calls.append(begin(asks))
        wait_until(lambda: rt.numbers().coalesced == 1)
        gate.open()
        outcomes = [call.get(10) for call in calls]
    assert [each.attempts for each in outcomes] == [1, 0]


def test_an_answer_from_the_cache_counts_no_request() -> None:
    _, rt = scripted([YES])
    with rt:
        asks = _asks(rt, qa)
        assert [asks().attempts, asks().attempts] == [1, 0]


class Calls(Module):
    """Calls started programs, one after the other."""

    def __init__(self, *started: Program) -> None:
        self.started = started

    def __deepcopy__(self, memo: object) -> Calls:
        return self

    def forward(self, question: str) -> Prediction:
        ends = [each.safe_call(question=question) for each in self.started]
        return Prediction(attempts=[each.attempts for each in ends])


def test_the_requests_of_calls_within_the_call_are_its_own_too() -> None:
    _, rt = scripted([DOWN, YES, DOWN, DOWN], lm=LM("scripted/m", num_retries=1))
    with rt:
        inner = rt.start(qa()), rt.start(qa()).using(sample=1)
        outcome = rt.start(Calls(*inner)).safe_call(question="x")
    assert (outcome.unwrap()["attempts"], outcome.attempts) == ([2, 2], 4)


class Twice(Module):
    """Asks two questions."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Any:
        self.ask(question=question)
        return self.ask(question=f"{question} again")


def test_a_call_that_failed_tells_what_its_answers_have_used() -> None:
    provider, rt = scripted([YES, DOWN], lm=LM("scripted/m", num_retries=0))
    with rt:
        outcome = rt.start(Twice()).safe_call(question="x")
    assert outcome.usage is not None
    assert (outcome.usage.completion_tokens, outcome.attempts, len(provider.requests)) == (len(YES.split()), 2, 2)
