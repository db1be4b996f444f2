"""Calls that their callers have dropped: the garbage collector ends them, at any moment and in any thread."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest

from dspy_actors.modules.admission import Admission, Limits
from dspy_actors.modules.instance import ModuleInstance
from dspy_actors.modules.program import Program
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Gate, qa, runtime


class Meddling(str):
    """A call's id that does something when it is looked up, as a collection may at any moment."""

    __slots__ = ("meddle",)
    meddle: Callable[[], object]

    def __hash__(self) -> int:
        self.meddle()
        return super().__hash__()


@pytest.fixture
def thresholds() -> Iterator[None]:
    """The collector's thresholds as they were, afterwards."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_a_call_frees_its_place_in_the_middle_of_anothers_coming() -> None:
    admission = Admission("p", Limits(max_inflight=2, max_queue=0))
    assert admission.enter_at_once("dropped")
    coming = Meddling("coming")
    coming.meddle = lambda: admission.leave("dropped")
    assert admission.enter_at_once(coming)
    assert [str(each) for each in admission.running] == ["coming"]


@pytest.mark.parametrize("threshold", [1, 7, 50])
def test_calls_that_the_collector_ends_stop_nobody(thresholds: None, threshold: int) -> None:
    with runtime() as rt:
        program = rt.start(qa())

        async def calls() -> list[str]:
            answers = []
            for number in range(60):
                drop(program.acall(question=f"dropped {number}"))
                answers.append((await program.acall(question=f"{number}")).answer)
            return answers

        gc.set_threshold(threshold, 1_000_000)
        answers = asyncio.run(calls())
        gc.collect()
        assert len(answers) == 60
        wait_until(lambda: running(program) == 0)


def test_a_call_that_is_dropped_in_the_queue_takes_no_place_when_its_turn_comes() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa(), name="qa", max_inflight=1)
        first = program.submit(question="first")
        gate.wait_for()
        call: Any = program.acall(question="dropped")

        async def begins() -> None:
            call.send(None)

        asyncio.run(begins())
        instance = rt.registry.whereis(("module", "qa"))
        assert instance is not None
        instance.call(ModuleInstance.let_in)  # by then it has heard of the call
        call.close()
        gate.open()
        assert first.get(PATIENCE).answer == "first"
        instance.call(ModuleInstance.let_in)
        assert running(program) == 0


def drop(call: Coroutine[Any, Any, Any]) -> None:
    """Begin a call and let go of it in a circle, so that only the collector ends it."""
    with suppress(StopIteration):  # it was answered at once
        call.send(None)
    circle: list[object] = [call]
    circle.append(circle)


def running(program: Program) -> int:
    """How many calls have a place in it now."""
    return len(program._plan.admission.running)
