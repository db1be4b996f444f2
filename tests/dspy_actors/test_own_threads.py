"""Predictors in threads that a program makes itself: they belong to its call where they are given its context."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from dspy_actors.errors import NoRuntime
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from tests.dspy_actors.programs import Gate, begin, qa, runtime

NAMES = ("a", "b", "c")


class InPool(Module):
    """Asks in threads of a pool, each with a copy of the call's context."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Prediction:
        with ThreadPoolExecutor(len(NAMES)) as pool:
            asked = [pool.submit(copy_context().run, self.ask, question=question + name) for name in NAMES]
            return Prediction(answer=[each.result().answer for each in asked])


class InThreads(Module):
    """Asks in asyncio's threads."""

    def __init__(self) -> None:
        self.ask = qa()

    async def aforward(self, question: str) -> Prediction:
        asked = (asyncio.to_thread(self.ask, question=question + name) for name in NAMES)
        return Prediction(answer=[each.answer for each in await asyncio.gather(*asked)])


class InBareThread(Module):
    """Asks in a thread that knows nothing of the call."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.ask, question=question).result()


def blocking(program: Program) -> Prediction:
    return program(question="q")


def awaited(program: Program) -> Prediction:
    return asyncio.run(_awaited(program))


async def _awaited(program: Program) -> Prediction:
    return await program.acall(question="q")


@pytest.mark.parametrize("call", [blocking, awaited])
@pytest.mark.parametrize("make", [InPool, InThreads])
def test_predictors_in_threads_with_the_calls_context_belong_to_the_call(
    make: Callable[[], Module], call: Callable[[Program], Prediction]
) -> None:
    with runtime() as rt:
        prediction = call(rt.start(make()))
    assert prediction.answer == ["qa", "qb", "qc"]
    assert prediction.attempts == 3


@pytest.mark.parametrize("make", [InPool, InThreads])
def test_they_ask_at_the_same_time(make: Callable[[], Module]) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        answer = begin(blocking, rt.start(make()))
        gate.wait_for(3)
        gate.open()
        assert answer.get(10).answer == ["qa", "qb", "qc"]


def test_a_thread_without_the_calls_context_finds_no_runtime() -> None:
    with runtime() as rt:
        program = rt.start(InBareThread())
        with pytest.raises(NoRuntime, match=r"pool\.submit\(contextvars\.copy_context\(\)\.run, "):
            program(question="q")
