"""A call that nobody awaits any more, closed by whoever finds it: the garbage collector, in any context."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from dspy_actors.runner import FRAME, current_frame
from tests.dspy_actors.programs import Gate, qa, runtime


def test_a_call_that_is_dropped_changes_no_other_context() -> None:
    with runtime(Gate()) as rt:
        program = rt.start(qa())
        program.wait_started()
        call: Any = program.outcome({"question": "blue"}, rt.settings)
        Context().run(call.send, None)
        here = FRAME.get()
        assert here is not None
        call.close()
        assert FRAME.get() is here


def test_a_call_that_is_dropped_sets_no_variable_of_the_context_it_is_dropped_in() -> None:
    """The collector may drop it in the middle of a `set`, and CPython does not survive one within another."""
    with runtime(Gate()) as rt:
        program = rt.start(qa())
        program.wait_started()
        before = current_frame()
        call: Any = program.outcome({"question": "blue"}, rt.settings)
        call.send(None)
        inside = FRAME.get()
        assert inside is current_frame()
        assert inside is not before
        call.close()
        assert FRAME.get() is inside
        assert current_frame() is before


def test_a_call_that_was_dropped_is_no_longer_around_those_made_after_it() -> None:
    async def calls() -> str:
        call: Any = program.outcome({"question": "blue"}, rt.settings)
        call.send(None)
        call.close()
        gate.open()
        answer = await program.acall(question="red")
        assert FRAME.get() is current_frame()
        return str(answer.answer)

    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        program.wait_started()
        assert asyncio.run(calls()) == "red"
