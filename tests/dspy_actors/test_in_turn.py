"""Going on to the next model, step by step: what is cancelled, told and forgotten at each moment."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.envelope import Envelope
from dspy_actors.errors import CallCancelled, LMServerError
from dspy_actors.lm.in_turn import InTurn
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, LMResponse
from supervisors.clock import SystemClock
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry
from tests.dspy_actors.programs import PATIENCE

CHAIN = LM("s/a", fallbacks=["s/b", "s/c"])
DOWN = LMServerError("down", attempts=1)
YES = Answer(LMResponse(("yes",), "b"))


class Models:
    """Sends by hand: `replies` are what the models were asked for, in order; `then` runs as one is asked."""

    def __init__(self, then: Callable[[str], object] = lambda model: None) -> None:
        self.replies: dict[str, Reply[Answer]] = {}
        self.requests: dict[str, LMRequest] = {}
        self._then = then

    def __call__(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        reply = self.replies[lm.model] = Reply()
        self.requests[lm.model] = request
        self._then(lm.model)
        return reply


class Case:
    """One call through `CHAIN`."""

    def __init__(self, models: Models, may_go_on: Callable[[], bool] = lambda: True) -> None:
        self.counters = LMCounters()
        self.in_turn = InTurn(self.counters, Telemetry())
        request = LMRequest("a", (), {"seed": 1})
        self.reply = self.in_turn.ask(CHAIN, request, Envelope("c"), models, may_go_on)

    @property
    def forgotten(self) -> bool:
        """Whether nothing is kept of a call that is over."""
        return self.in_turn.asked_now(self.reply) is self.reply


def test_the_model_that_is_asked_at_the_moment_is_known() -> None:
    models = Models()
    case = Case(models)
    assert case.in_turn.asked_now(case.reply) is models.replies["a"]
    models.replies["a"].fail(DOWN)
    assert case.in_turn.asked_now(case.reply) is models.replies["b"]
    models.replies["b"].set(YES)
    assert case.reply.take().model == "s/b"
    assert case.forgotten


def test_cancelling_cancels_the_one_that_is_asked() -> None:
    models = Models()
    case = Case(models)
    models.replies["a"].fail(DOWN)
    case.reply.cancel()
    assert models.replies["b"].cancelled()
    assert case.forgotten


def test_a_call_that_is_cancelled_as_the_next_model_is_asked_leaves_nothing_open() -> None:
    cases: list[Case] = []
    models = Models(lambda model: cases[0].reply.cancel() if model == "b" else None)
    cases.append(Case(models))
    models.replies["a"].fail(DOWN)
    assert models.replies["b"].cancelled()
    assert "c" not in models.replies
    assert cases[0].forgotten


def test_a_call_that_was_cancelled_asks_no_other_model() -> None:
    models = Models()
    case = Case(models)
    case.reply.cancel()
    models.replies["a"].fail(DOWN)
    assert list(models.replies) == ["a"]


def test_a_model_that_cannot_be_asked_ends_the_call_with_what_it_raised() -> None:
    def broken(model: str) -> None:
        if model == "b":
            raise ZeroDivisionError

    models = Models(broken)
    case = Case(models)
    models.replies["a"].fail(DOWN)
    assert isinstance(case.reply.exception(), ZeroDivisionError)
    assert case.forgotten


def test_an_error_that_is_no_model_s_ends_the_call() -> None:
    models = Models()
    case = Case(models)
    error = CallCancelled("given up")
    models.replies["a"].fail(error)
    assert case.reply.exception() is error
    assert list(models.replies) == ["a"]


def test_whether_it_may_go_on_is_asked_once_a_model_and_only_where_there_is_one() -> None:
    asked: list[bool] = []

    def may_go_on() -> bool:
        asked.append(True)
        return len(asked) < 2

    models = Models()
    case = Case(models, may_go_on)
    models.replies["a"].fail(DOWN)
    models.replies["b"].fail(DOWN)
    assert (list(models.replies), len(asked)) == (["a", "b"], 2)
    assert isinstance(case.reply.exception(), LMServerError)


def test_the_next_model_is_asked_in_the_context_of_the_caller() -> None:
    from contextvars import ContextVar

    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: list[str] = []
    models = Models(lambda model: seen.append(whose.get()))
    token = whose.set("the caller's")
    case = Case(models)
    whose.reset(token)
    models.replies["a"].fail(DOWN)
    assert seen == ["the caller's", "the caller's"]
    case.reply.cancel()


@pytest.mark.parametrize("seed", range(20))
def test_a_call_that_is_cancelled_at_any_moment_leaves_no_model_asked(seed: int) -> None:
    rng, clock = random.Random(seed), SystemClock()
    for _ in range(20):
        models = Models()
        case = Case(models)
        begin = threading.Barrier(2)

        def fail_all(models: Models = models, begin: threading.Barrier = begin) -> None:
            begin.wait(PATIENCE)
            for name in ("a", "b", "c"):
                found: Any = models.replies.get(name)
                if found is None or not found.fail(DOWN):
                    return

        thread = threading.Thread(target=fail_all)
        thread.start()
        begin.wait(PATIENCE)
        for _ in range(rng.randrange(200)):
            pass
        case.reply.cancel()
        thread.join(PATIENCE)
        assert case.reply.wait(PATIENCE, clock)
        assert all(reply.done() for reply in models.replies.values())
        assert case.forgotten
    clock.close()
