"""`Judge`: when a metric is moved from the programs loop to task threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.evaluation.judge import Judge
from dspy_actors.example import Example, Prediction
from dspy_actors.runner import Frame, Settings
from supervisors.clock import ManualClock
from supervisors.reply import Reply


class Threads:
    """Stands for the runtime: counts what it is asked to run in a thread, and runs it."""

    def __init__(self) -> None:
        self.asked = 0

    def run_in_thread(self, body: Callable[[], Any], name: str) -> Reply[Any]:
        self.asked += 1
        reply: Reply[Any] = Reply()
        reply.set(body())
        return reply


def moved_after(seconds: Iterable[float]) -> list[bool]:
    """For a metric that takes so long, call by call: whether the call was made in a thread."""
    threads: Any = Threads()
    clock = ManualClock()
    calls = iter(taken := list(seconds))

    def metric(example: Example, prediction: Prediction, trace: object = None) -> float:
        clock.advance(next(calls))
        return 1.0

    judge = Judge(metric, Frame(threads, Settings(None, ChatAdapter())), clock.now)
    moved = []
    for _ in taken:
        before = threads.asked
        assert asyncio.run(judge.score(Example(), Prediction())) == 1.0
        moved.append(threads.asked > before)
    return moved


def test_a_quick_metric_stays_on_the_loop() -> None:
    assert moved_after([0.001] * 10) == [False] * 10


def test_a_metric_that_was_held_up_now_and_then_stays_on_the_loop() -> None:
    assert moved_after([0.012, 0.012, 0.001] * 5) == [False] * 15


@pytest.mark.parametrize("seconds", [0.0051, 0.012])
def test_a_metric_that_is_slow_three_times_running_is_moved_for_good(seconds: float) -> None:
    assert moved_after([seconds] * 3 + [0.0] * 3) == [False] * 3 + [True] * 3


def test_a_metric_that_is_very_slow_once_is_moved_at_once() -> None:
    assert moved_after([0.001, 0.016, 0.001]) == [False, False, True]
