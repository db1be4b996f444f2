"""What a dropped call had sent: given up as if it had been cancelled, unless somebody else waits for it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from dspy_actors.modules.module import Module
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, Gate, qa, runtime


async def dropped(call: Any, gate: Gate, drop: Callable[[Any], object]) -> None:
    """Begin the call, and drop it in the middle of its request; its loop goes on."""
    waits = Context().run(call.send, None)  # as in a task of its own
    waits._asyncio_future_blocking = False  # as a task says that it has taken it
    await asyncio.to_thread(gate.wait_for)
    drop(call)


def close(call: Any) -> None:
    call.close()


@pytest.mark.parametrize("module", [qa, Ask, AskLater], ids=["ours", "in a thread", "on the loop"])
def test_the_request_of_a_call_that_is_closed_is_given_up(module: Callable[[], Module]) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(module())
        program.wait_started()
        asyncio.run(dropped(program.acall(question="dropped"), gate, close))
        gate.wait_for_cancel()
        wait_until(lambda: rt.numbers().unanswered == 1)


def test_the_request_of_a_call_that_the_collector_ends_is_given_up() -> None:
    def drop(call: Any) -> None:
        circle: list[object] = [call]
        circle.append(circle)

    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        program.wait_started()
        asyncio.run(dropped(program.acall(question="dropped"), gate, drop))
        gc.collect()
        gate.wait_for_cancel()


def test_a_request_that_somebody_else_waits_for_goes_on() -> None:
    async def calls() -> None:
        call = program.acall(question="same")
        await dropped(call, gate, lambda _: None)
        other = asyncio.ensure_future(program.acall(question="same"))
        await asyncio.to_thread(wait_until, lambda: rt.numbers().coalesced == 1)
        close(call)
        await asyncio.to_thread(first_turn_of_the_programs_loop)
        gate.open()
        assert (await other).answer == "same"

    def first_turn_of_the_programs_loop() -> None:
        turn = threading.Event()
        program.host.soon(turn.set)
        assert turn.wait(PATIENCE)

    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        program.wait_started()
        asyncio.run(calls())
        assert rt.numbers().unanswered == 0
