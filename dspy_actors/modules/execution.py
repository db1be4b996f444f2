"""How the module of one call is run: native code where its caller is, users' code where it does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from dspy_actors.errors import DspyActorsError
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module, run_awaited, run_blocking
from dspy_actors.modules.user_code import cancellations, cancelled_itself, was_cancelled
from dspy_actors.runner import FRAME, Frame, Runner, deadline_exceeded, drive, settle_in
from supervisors.reply import Reply


def execute(host: Runner, name: str, module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    """Run `module` for the call of `frame`, blocking. `name` is the program's, for the thread its code runs in."""
    token = FRAME.set(frame)
    try:
        if module.native:
            return run_blocking(module, inputs, frame)
        return drive(_foreign(host, name, module, inputs, frame), frame)
    finally:
        FRAME.reset(token)


def executed(
    host: Runner, name: str, module: Module, inputs: dict[str, Any], frame: Frame
) -> Coroutine[Any, Any, Prediction]:
    """Run `module` for the call of `frame`, awaited inside that; an `aforward` runs on the loop that awaits."""
    if module.native:
        return run_awaited(module, inputs, frame)
    if getattr(module, "aforward", None) is None:
        return _foreign(host, name, module, inputs, frame)
    return _bounded(module, inputs, frame)


async def _bounded(module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    before = cancellations()
    try:
        async with asyncio.timeout(_left(frame)):
            return await run_awaited(module, inputs, frame)
    except asyncio.CancelledError as error:
        if not was_cancelled(before):
            raise cancelled_itself(error) from error
        raise
    except TimeoutError as error:
        if isinstance(error, DspyActorsError) or _left(frame) > 0:
            raise
        raise deadline_exceeded("aforward", frame) from error


async def _foreign(host: Runner, name: str, module: Module, inputs: dict[str, Any], frame: Frame) -> Prediction:
    """Wait for user code that runs elsewhere. Whatever ends the wait ends what the code still waits for."""
    assert frame.scope is not None
    try:
        return await settle_in(frame, _begin(host, name, module, inputs, frame), "forward")
    except BaseException:
        frame.scope.cancel()
        raise


def _begin(host: Runner, name: str, module: Module, inputs: dict[str, Any], frame: Frame) -> Reply[Prediction]:
    if getattr(module, "forward", None) is None and getattr(module, "aforward", None) is not None:
        return host.run_on_loop(run_awaited(module, inputs, frame))
    return host.run_in_thread(lambda: run_blocking(module, inputs, frame), name)


def _left(frame: Frame) -> float:
    assert frame.envelope is not None
    assert frame.envelope.deadline is not None
    return max(0.0, frame.envelope.deadline - frame.runner.clock.now())
