"""`attempt`: one call of a program with its trace, for searches that learn from what happened inside."""

from __future__ import annotations

from typing import Any

from dspy_actors.errors import ProgramError
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program, Trace
from dspy_actors.runner import Settings, refuse_on_loop


def attempt(
    program: Program, inputs: dict[str, Any], settings: Settings, variant: Module | None = None
) -> tuple[Outcome, Trace]:
    """Run `program` once (or `variant` in its place), blocking.

    Returns the outcome, every failure as a value, and the trace: (predictor, inputs, prediction) of each predictor
    that ran, in order. The call is bounded by `settings.deadline`, in seconds.
    """
    refuse_on_loop("compile", "`await asyncio.to_thread(optimizer.compile, ...)`")
    trace: Trace = []
    running = program.host.run_on_loop(program.outcome(inputs, settings, trace=trace, variant=variant))
    try:
        return running.get(), trace
    except ProgramError as error:  # its code wanted to end the process
        return Outcome(call_id="", error=error), trace
    except BaseException:  # Ctrl-C: the call does not go on without us
        running.cancel()
        raise
