"""A runtime that drains lets the calls under way finish, with the calls that they make themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from dspy_actors.errors import ShuttingDown
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from tests.dspy_actors.programs import PATIENCE, Ask, Gate, begin, qa, runtime

Way = Callable[[Runtime, Program], str]


class Held(Module):
    """Waits until the test lets it go on, and then calls in its `way`."""

    def __init__(self, way: Callable[[], str]) -> None:
        self.way = way
        self.began = threading.Event()
        self.go = threading.Event()

    def forward(self, question: str) -> Prediction:
        self.began.set()
        assert self.go.wait(PATIENCE)
        return Prediction(answer=self.way())

    def __deepcopy__(self, memo: Any) -> Held:
        return self


def streamed(inner: Program) -> str:
    stream = inner.stream(question="q")
    list(stream)
    return str(stream.prediction.answer)


def within(rt: Runtime, inner: Program) -> str:
    with rt.using(tenant="t"):
        return str(inner(question="q").answer)


def in_a_thread_of_its_own(inner: Program) -> str:
    context = copy_context()
    return str(begin(lambda: context.run(inner, question="q")).get(PATIENCE).answer)


def evaluated(rt: Runtime, inner: Program) -> str:
    examples = [Example(question="q", answer="q").with_inputs("question")]
    return "q" if Evaluate(devset=examples, metric=lambda e, p: e.answer == p.answer)(inner).score == 100 else "?"


async def awaited(inner: Program) -> str:
    return str((await inner.acall(question="q")).answer)


WAYS: dict[str, Way] = {
    "called": lambda rt, inner: inner(question="q").answer,
    "called safely": lambda rt, inner: inner.safe_call(question="q").unwrap().answer,
    "submitted": lambda rt, inner: inner.submit(question="q").get(PATIENCE).answer,
    "awaited on a loop of its own": lambda rt, inner: asyncio.run(awaited(inner)),
    "streamed": lambda rt, inner: streamed(inner),
    "mapped": lambda rt, inner: next(rt.map(inner, [{"question": "q"}])).outcome.unwrap().answer,
    "evaluated": evaluated,
    "started meanwhile": lambda rt, inner: rt.start(Ask())(question="q").answer,
    "without a handle": lambda rt, inner: ALONE(question="q").answer,
    "under other settings": within,
    "in a thread of its own": lambda rt, inner: in_a_thread_of_its_own(inner),
    "asked of the model": lambda rt, inner: "q" if list(rt.stream("[[ ## question ## ]]\nq")) else "?",
}

ALONE = qa()


@pytest.fixture
def rt() -> Iterator[Runtime]:
    with runtime() as each:
        yield each


@pytest.mark.parametrize("way", WAYS)
def test_draining_lets_in_what_a_call_under_way_calls(rt: Runtime, way: str) -> None:
    inner = rt.start(qa())
    outer = Held(lambda: WAYS[way](rt, inner))
    running = rt.start(outer).submit(question="o")
    assert outer.began.wait(PATIENCE)
    assert rt.drain(0.0) is False
    drained = begin(rt.drain, PATIENCE)
    outer.go.set()
    assert running.get(PATIENCE).answer == "q"
    assert drained.get(PATIENCE) is True


def test_draining_waits_for_a_call_that_outlives_the_one_it_was_made_in() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        inner, left = rt.start(qa()), []

        def leave() -> str:
            left.append(inner.submit(question="q"))
            gate.wait_for()
            return "left"

        outer = Held(leave)
        running = rt.start(outer).submit(question="o")
        assert outer.began.wait(PATIENCE)
        assert rt.drain(0.0) is False
        outer.go.set()
        assert running.get(PATIENCE).answer == "left"
        assert rt.drain(0.0) is False
        gate.open()
        assert rt.drain(PATIENCE) is True
        assert left[0].get(PATIENCE).answer == "q"


def test_draining_refuses_a_call_from_outside_while_others_are_under_way(rt: Runtime) -> None:
    inner, outer = rt.start(qa()), Held(lambda: "o")
    running = rt.start(outer).submit(question="o")
    assert outer.began.wait(PATIENCE)
    assert rt.drain(0.0) is False
    assert not rt.ready()
    with pytest.raises(ShuttingDown, match="drains"):
        inner(question="q")
    with pytest.raises(ShuttingDown, match="drains"):
        ALONE(question="q")
    with pytest.raises(ShuttingDown, match="drains"):
        next(rt.map(inner, [{"question": "q"}]))
    outer.go.set()
    assert running.get(PATIENCE).answer == "o"


def test_draining_refuses_what_is_left_of_a_call_that_has_ended(rt: Runtime) -> None:
    """A thread that a call left behind stands in its frame, and in no call any more."""
    inner, context = rt.start(qa()), []

    def leave() -> str:
        context.append(copy_context())
        return "o"

    outer = Held(leave)
    outer.go.set()
    rt.start(outer)(question="o")
    assert rt.drain(PATIENCE)
    with pytest.raises(ShuttingDown, match="drains"):
        context[0].run(inner, question="q")


def test_a_tree_about_to_be_stopped_refuses_what_a_call_under_way_calls(rt: Runtime) -> None:
    """What `shutdown` does first."""
    inner = rt.start(qa())
    outer = Held(lambda: repr(inner.safe_call(question="q").error))
    running = rt.start(outer).submit(question="o")
    assert outer.began.wait(PATIENCE)
    host: Any = inner.host
    host.shut_door()
    outer.go.set()
    assert "ShuttingDown" in running.get(PATIENCE).answer
