"""`Judge`: calls the user's metric where it does no harm, and makes a number of what it returns."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from dspy_actors.errors import BlockingCall, EvaluationError, ProgramError
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.user_code import cancellations, was_cancelled
from dspy_actors.runner import FRAME, Frame
from supervisors.errors import BlockingCallOnLoop
from supervisors.exits import said

Metric: TypeAlias = Callable[..., Any]
"""`metric(example, prediction, trace=None)` -> a number, a bool, a `Prediction` with `score`, or an awaitable of it."""

LONG = 0.005
"""Seconds a metric may hold the programs loop."""

TIMES = 3
"""How often in a row, or how many times as long at once, before it is moved to task threads. A quick metric whose
thread lost the interpreter to another one for a moment looks as if it had taken that long."""

_NUMBERS = frozenset((bool, int, float))
_ELSEWHERE = object()


class Judge:
    """Scores predictions with one metric.

    A metric runs on the programs loop as long as it is quick. One that asks a model in the blocking way, or takes
    longer than 15 ms once or 5 ms three times running, is called in a task thread from then on, so that it cannot hold
    up the other rows. A metric that is a coroutine function is awaited. One call of it may take as long as one row.
    """

    def __init__(self, metric: Metric, frame: Frame, now: Callable[[], float] = time.perf_counter) -> None:
        self._metric = metric
        self._frame = frame
        self._now = now
        self._slow = 0
        self._in_thread = False

    async def score(self, example: Example, prediction: Prediction) -> float:
        """The score of one prediction. Raises `ProgramError` where the metric raises or returns no number."""
        token, before = FRAME.set(self._frame), cancellations()
        try:
            value = self._at_once(example, prediction)
            if value.__class__ not in _NUMBERS:  # there may be something to wait for
                async with asyncio.timeout(self._frame.settings.deadline):
                    value = await self._later(value, example, prediction)
            return as_score(value)
        except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and was_cancelled(before):
                raise
            msg = f"the metric failed on this row: {type(error).__name__}: {said(error)}"
            raise ProgramError(msg, error_type=type(error).__name__) from error
        finally:
            FRAME.reset(token)

    def _at_once(self, example: Example, prediction: Prediction) -> Any:
        """What the metric returns on this loop; `_ELSEWHERE` where it is to be called in a task thread."""
        if self._in_thread:
            return _ELSEWHERE
        began = self._now()
        try:
            value = self._metric(example, prediction)
        except (BlockingCall, BlockingCallOnLoop):
            self._in_thread = True
            return _ELSEWHERE
        except RuntimeError as error:
            told = said(error)
            if "loop" not in told or "running" not in told:  # asyncio.run(...) in a metric
                raise
            self._in_thread = True
            return _ELSEWHERE
        held = self._now() - began
        self._slow = self._slow + 1 if held > LONG else 0
        self._in_thread = self._slow >= TIMES or held > TIMES * LONG
        return value

    async def _later(self, value: Any, example: Example, prediction: Prediction) -> Any:
        if value is _ELSEWHERE:
            runner = self._frame.runner
            value = await runner.run_in_thread(lambda: self._metric(example, prediction), "metric")
        return await value if inspect.isawaitable(value) else value


def check_metric(metric: object, *, is_traced: bool = False) -> None:
    """Raise `EvaluationError` for what cannot be called as a metric, as far as Python tells.

    One that `is_traced` is called with the trace too, as optimizers do.
    """
    if not callable(metric):
        msg = f"a metric is a function metric(example, prediction, trace=None), not {type(metric).__name__}"
        raise EvaluationError(msg)
    try:
        taken = inspect.signature(metric)
    except (TypeError, ValueError):  # some builtins do not say
        return
    try:
        taken.bind(*(None,) * (3 if is_traced else 2))
    except TypeError as error:
        name = getattr(metric, "__name__", type(metric).__name__)
        call = "metric(example, prediction, trace); add trace=None" if is_traced else "metric(example, prediction)"
        msg = f"the metric {name}{taken} is called as {call}: {error}"
        raise EvaluationError(msg) from None


async def awaited(value: Awaitable[Any]) -> Any:
    """Any awaitable as a coroutine."""
    return await value


def as_score(value: Any) -> float:
    """A metric's result as a finite number; raises `TypeError` or `ValueError` for anything else."""
    if value.__class__ not in _NUMBERS and not hasattr(value, "__float__"):
        msg = f"a metric returns a number or a bool, not {type(value).__name__}"
        raise TypeError(msg)
    number = float(value)
    if not math.isfinite(number):
        msg = f"a metric returns a finite number, not {number}"
        raise ValueError(msg)
    return number
