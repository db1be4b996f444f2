"""A call that nobody awaits any more, closed by whoever finds it: the garbage collector, in any context."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from dspy_actors.runner import FRAME
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
