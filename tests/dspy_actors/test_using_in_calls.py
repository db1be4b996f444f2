"""A `with rt.using(...)` block in the code of a call: what is called in there is part of that call."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dspy_actors import Evaluate, Example
from dspy_actors.errors import CallCancelled, DeadlineExceeded
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import CALL
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.reply import Reply
from supervisors.telemetry import Event
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Gate, asked, begin, echo, qa, runtime


def let_go_of(rt: Runtime) -> None:
    """Wait until the threads that calls left behind have come back."""
    wait_until(lambda: rt.system.kernel.zombies == 0)


class Within(Module):
    """Calls `inner`, a handle or a bare module, under settings of its own."""

    def __init__(self, rt: Runtime, inner: Program | Module) -> None:
        self.rt = rt
        self.inner = inner

    def __deepcopy__(self, memo: object) -> Within:
        return self

    def forward(self, question: str) -> Any:
        with self.rt.using(sample=1):
            return self.inner(question=question)


def inner_of(rt: Runtime, how: str) -> Program | Module:
    return rt.start(qa(), name="inner") if how == "handle" else qa()


HOW = pytest.mark.parametrize("how", ["handle", "bare"])


@HOW
def test_what_is_called_in_there_is_paid_for_by_the_call_around_it(how: str) -> None:
    with runtime() as rt:
        made = rt.start(Within(rt, inner_of(rt, how)), name="outer")(question="x")
    assert made.attempts == 1
    assert made.usage is not None


@HOW
def test_its_event_names_the_call_around_it(how: str) -> None:
    told: list[Mapping[str, Any]] = []

    def note(event: Event, took: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        told.append(about)

    with runtime() as rt:
        rt.system.telemetry.attach("test", CALL, note)
        rt.start(Within(rt, inner_of(rt, how)), name="outer")(question="x")
    inner, outer = told
    assert (inner["outer"], outer["outer"]) == (outer["call_id"], None)


@HOW
def test_it_ends_with_the_deadline_of_the_call_around_it(how: str) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(Within(rt, inner_of(rt, how)), name="outer")
        with pytest.raises(DeadlineExceeded):
            program.using(deadline=SOON)(question="x")
        gate.wait_for()
        gate.wait_for_cancel()


@HOW
def test_it_is_cancelled_with_the_call_around_it(how: str) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        reply = rt.start(Within(rt, inner_of(rt, how)), name="outer").submit(question="x")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()


class Late(Module):
    """Holds its thread until the test lets go, and then calls `inner` under settings of its own."""

    def __init__(self, rt: Runtime, inner: Program | Module) -> None:
        self.rt = rt
        self.inner = inner
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.ended: Reply[Any] = Reply()

    def __deepcopy__(self, memo: object) -> Late:
        return self

    def forward(self, question: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        try:
            with self.rt.using(sample=1):
                self.ended.set(self.inner(question=question))
        except Exception as error:
            self.ended.fail(error)
        return Prediction(answer="late")


@HOW
def test_a_call_that_was_cancelled_asks_no_model_from_in_there(how: str) -> None:
    with runtime() as rt:
        late = Late(rt, inner_of(rt, how))
        reply = rt.start(late, name="outer").submit(question="x")
        assert late.begun.wait(PATIENCE)
        reply.cancel()
        wait_until(lambda: rt.system.kernel.zombies == 1)
        late.go_on.set()
        with pytest.raises(CallCancelled):
            late.ended.get(PATIENCE)
        assert rt.numbers().calls == 0
        let_go_of(rt)


class Judges(Module):
    """Evaluates another program in its own call."""

    def __init__(self, inner: Program) -> None:
        self.inner = inner
        self.ended: Reply[Any] = Reply()

    def __deepcopy__(self, memo: object) -> Judges:
        return self

    def forward(self, question: str) -> Any:
        rows = [Example(question=f"{question}{n}").with_inputs("question") for n in range(3)]
        found = Evaluate(devset=rows, metric=lambda example, prediction: True)(self.inner)
        self.ended.set([row.kind for row in found.rows])
        return Prediction(score=found.score)


def test_the_rows_of_an_evaluation_in_a_call_are_cancelled_with_it_and_not_tried_again() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        judges = Judges(rt.start(qa(), name="inner"))
        reply = rt.start(judges, name="outer").submit(question="x")
        gate.wait_for(3)
        reply.cancel()
        gate.wait_for_cancel(3)
        assert judges.ended.get(PATIENCE) == ["cancelled"] * 3
        let_go_of(rt)


def test_the_rows_of_an_evaluation_in_a_call_are_paid_for_by_that() -> None:
    with runtime() as rt:
        made = rt.start(Judges(rt.start(qa(), name="inner")), name="outer")(question="x")
    assert (made.score, made.attempts) == (100.0, 3)


class TooLate(Module):
    """Evaluates a bare module in its own call, once that is cancelled."""

    def __init__(self) -> None:
        self.ended: Reply[Any] = Reply()

    def __deepcopy__(self, memo: object) -> TooLate:
        return self

    async def aforward(self, question: str) -> Any:
        rows = [Example(question=question).with_inputs("question")]
        try:
            await asyncio.Event().wait()
        finally:
            try:
                self.ended.set(await Evaluate(devset=rows, metric=lambda example, prediction: True).acall(qa()))
            except Exception as error:
                self.ended.fail(error)


def test_an_evaluation_in_a_call_that_was_cancelled_starts_no_program_that_would_stay() -> None:
    late = TooLate()
    with runtime() as rt:
        program = rt.start(late, name="outer")
        with pytest.raises(DeadlineExceeded):
            program.using(deadline=SOON)(question="x")
        with pytest.raises(CallCancelled):
            late.ended.get(PATIENCE)
        assert rt.health()["programs"]["started"] == 1  # type: ignore[index]


class Asks(Module):
    """Evaluates `inner` in its own call with a metric that asks `judge`, once the test lets go."""

    def __init__(self, inner: Program, judge: Program | Module) -> None:
        self.inner = inner
        self.judge = judge
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __deepcopy__(self, memo: object) -> Asks:
        return self

    def forward(self, question: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        rows = [Example(question=f"{question}{n}").with_inputs("question") for n in range(3)]

        async def metric(example: Example, prediction: Prediction, trace: object = None) -> bool:
            return bool((await self.judge.acall(question=f"is {example.question} right")).answer)

        return Prediction(score=Evaluate(devset=rows, metric=metric)(self.inner).score)


@HOW
def test_what_the_metric_of_an_evaluation_in_a_call_asks_is_paid_for_by_that(how: str) -> None:
    with runtime() as rt:
        asks = Asks(rt.start(qa(), name="rated"), inner_of(rt, how))
        asks.go_on.set()
        made = rt.start(asks, name="outer")(question="x")
    assert (made.score, made.attempts) == (100.0, 6)


@HOW
def test_what_the_metric_of_an_evaluation_in_a_call_asks_is_cancelled_with_it(how: str) -> None:
    gate = Gate()
    with runtime(lambda request: gate(request) if "right" in asked(request) else echo(request)) as rt:
        asks = Asks(rt.start(qa(), name="rated"), inner_of(rt, how))
        asks.go_on.set()
        reply = rt.start(asks, name="outer").submit(question="x")
        gate.wait_for(3)
        reply.cancel()
        gate.wait_for_cancel(3)
        let_go_of(rt)


@HOW
def test_the_metric_of_an_evaluation_in_a_call_may_ask_while_the_runtime_drains(how: str) -> None:
    with runtime() as rt:
        asks = Asks(rt.start(qa(), name="rated"), inner_of(rt, how))
        reply = rt.start(asks, name="outer").submit(question="x")
        assert asks.begun.wait(PATIENCE)
        drained = begin(lambda: rt.drain(PATIENCE))
        wait_until(lambda: not rt.ready())
        asks.go_on.set()
        assert reply.get(PATIENCE).score == 100.0
        drained.get(PATIENCE)


class Maps(Module):
    """Maps another program over rows without end in its own call."""

    def __init__(self, rt: Runtime, inner: Program) -> None:
        self.rt = rt
        self.inner = inner
        self.ended: Reply[list[Any]] = Reply()

    def __deepcopy__(self, memo: object) -> Maps:
        return self

    def forward(self, question: str) -> Any:
        rows = ({"question": f"{question}{n}"} for n in itertools.count())
        found: list[Any] = []
        try:
            found.extend(self.rt.map(self.inner, rows, concurrency=3, ordered=False))
        except CallCancelled:
            self.ended.set(found)
            raise
        return Prediction(answer="never")


def test_a_mapping_in_a_call_reads_no_more_rows_when_that_is_cancelled() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        maps = Maps(rt, rt.start(qa(), name="inner"))
        reply = rt.start(maps, name="outer").submit(question="x")
        gate.wait_for(3)
        reply.cancel()
        assert [type(mapped.outcome.error) for mapped in maps.ended.get(PATIENCE)] == [CallCancelled] * 3
        let_go_of(rt)


def test_a_block_outside_of_every_call_is_no_call() -> None:
    with runtime() as rt, rt.using(sample=1):
        made = begin(lambda: rt.start(qa())(question="x")).get(timeout=PATIENCE)
    assert made.attempts == 1
