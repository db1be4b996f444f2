"""A call's id, by which its prediction, its error, its events and the user's own logs are found together."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from dspy_actors import Predict, current_call_id
from dspy_actors.errors import LMServerError, from_wire
from dspy_actors.example import Prediction
from dspy_actors.messages import LMRequest
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import CALL
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.telemetry import Event
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, qa, runtime


def fails(request: LMRequest) -> str:
    """A model whose server is broken."""
    msg = "it is broken"
    raise LMServerError(msg)


def heard(rt: Runtime) -> list[str]:
    """The ids of the calls of `rt` that have ended, in order, as their events have them."""
    found: list[str] = []

    def note(event: Event, took: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        found.append(about["call_id"])

    rt.system.telemetry.attach("ids", CALL, note)
    return found


def awaited(program: Program) -> Any:
    return asyncio.run(program.acall(question="x"))


WAYS: dict[str, Any] = {
    "blocking": lambda program: program(question="x"),
    "awaited": awaited,
    "submitted": lambda program: program.submit(question="x").get(timeout=PATIENCE),
    "safe": lambda program: program.safe_call(question="x").unwrap(),
}


@pytest.mark.parametrize("module", [Predict("question -> answer"), Ask(), AskLater()], ids=["own", "forward", "later"])
@pytest.mark.parametrize("way", WAYS)
def test_a_prediction_names_its_call(way: str, module: Module) -> None:
    with runtime() as rt:
        ids = heard(rt)
        assert [WAYS[way](rt.start(module)).call_id] == ids


@pytest.mark.parametrize("module", [Predict("question -> answer"), Ask(), AskLater()], ids=["own", "forward", "later"])
@pytest.mark.parametrize("way", WAYS)
def test_an_error_names_the_call_that_it_ended(way: str, module: Module) -> None:
    with runtime(fails) as rt:
        ids = heard(rt)
        with pytest.raises(LMServerError) as caught:
            WAYS[way](rt.start(module))
    assert [caught.value.call_id] == ids


def test_an_outcome_and_its_error_have_one_id() -> None:
    with runtime(fails) as rt:
        outcome = rt.start(qa()).safe_call(question="x")
    assert isinstance(outcome.error, LMServerError)
    assert outcome.error.call_id == outcome.call_id


def test_an_error_that_ended_no_call_names_none() -> None:
    assert LMServerError("broken").call_id is None
    assert "call_id" not in LMServerError("broken").to_wire()


def test_an_error_keeps_its_call_on_the_way_to_another_process() -> None:
    error = LMServerError("broken")
    error.call_id = "a-1"
    assert from_wire(error.to_wire()).call_id == "a-1"
    assert pickle.loads(pickle.dumps(error)).call_id == "a-1"


def test_equal_calls_that_fail_together_name_each_its_own() -> None:
    with runtime(fails) as rt:
        ids, program = heard(rt), rt.start(qa())
        replies = [program.submit(question="x") for _ in range(5)]
        errors = [reply.exception() for reply in replies if reply.wait(PATIENCE, rt.system.clock)]
    found = [error.call_id for error in errors if isinstance(error, LMServerError)]
    assert sorted(found, key=str) == sorted(ids)
    assert len(set(ids)) == 5


class Calls(Module):
    """A program that calls another one's handle."""

    def __init__(self, inner: Program) -> None:
        self.inner = inner

    def forward(self, question: str) -> Any:
        return self.inner(question=question)


def test_of_two_calls_that_an_error_ended_it_names_the_inner_one() -> None:
    with runtime(fails) as rt:
        ids = heard(rt)
        with pytest.raises(LMServerError) as caught:
            rt.start(Calls(rt.start(qa())))(question="x")
    assert caught.value.call_id == ids[0] != ids[1]


def test_a_kept_result_names_the_call_that_it_was_given_to() -> None:
    with runtime() as rt:
        ids, program = heard(rt), rt.start(qa(), cached=True)
        found = [program(question="x"), program(question="x"), awaited(program)]
    assert [one.call_id for one in found] == ids
    assert [one.cached for one in found] == [False, True, True]
    assert len(set(ids)) == 3


class Looks(Module):
    """Answers with the id that its code is told, asked in several places."""

    def __init__(self) -> None:
        self.rt: Runtime | None = None

    def __deepcopy__(self, memo: object) -> Looks:
        return self

    def forward(self, question: str) -> Any:
        assert self.rt is not None
        with self.rt.using(sample=1):
            inside = current_call_id()
        with ThreadPoolExecutor() as pool:
            bare = pool.submit(current_call_id).result()
            own = pool.submit(copy_context().run, current_call_id).result()
        return Prediction(answer=[current_call_id(), inside, own, bare])


def test_the_code_of_a_call_can_ask_which_it_is() -> None:
    looks = Looks()
    with runtime() as rt:
        looks.rt = rt
        made = rt.start(looks)(question="x")
    assert made.answer == [made.call_id] * 3 + [None]


class LooksLater(Module):
    async def aforward(self, question: str) -> Any:
        return Prediction(answer=[current_call_id(), await asyncio.create_task(self.look())])

    async def look(self) -> str | None:
        return current_call_id()


def test_so_can_a_task_that_the_call_begins() -> None:
    with runtime() as rt:
        made = rt.start(LooksLater())(question="x")
        assert current_call_id() is None
    assert made.answer == [made.call_id] * 2
