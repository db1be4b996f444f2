"""`attempt`: a call of a program with its trace, for searches that learn from what happened inside."""

from __future__ import annotations

from typing import Any

from dspy_actors.errors import ProgramError
from dspy_actors.evaluation.host import EvaluationHost
from dspy_actors.evaluation.job import MOMENT
from dspy_actors.evaluation.second_tries import wait_after
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program, Trace
from dspy_actors.runner import Settings, refuse_on_loop


def attempt(
    host: EvaluationHost, program: Program, inputs: dict[str, Any], settings: Settings, variant: Module | None = None
) -> tuple[Outcome, Trace]:
    """Run `program` (or `variant` in its place), blocking; what the infrastructure failed is run again as a row is.

    Returns the outcome of the last try, every failure as a value, and its trace: (predictor, inputs, prediction) of
    each predictor that ran, in order. All tries together are bounded by `settings.deadline`, in seconds. Raises
    `ShuttingDown` where the runtime ends between two tries.
    """
    until, tries = host.clock.now() + settings.deadline, 0
    while True:
        outcome, trace = _once(program, inputs, settings, variant)
        wait = wait_after(outcome.fault, tries)
        if wait is None or host.clock.now() + wait >= until:
            return outcome, trace
        tries += 1
        host.pause(wait).get()
        settings = settings.bind(deadline=max(MOMENT, until - host.clock.now()))


def _once(
    program: Program, inputs: dict[str, Any], settings: Settings, variant: Module | None
) -> tuple[Outcome, Trace]:
    refuse_on_loop("compile", "`await asyncio.to_thread(optimizer.compile, ...)`")
    trace: Trace = []
    running = program.host.run_on_loop(program.outcome(dict(inputs), settings, trace=trace, variant=variant))
    try:
        return running.get(), trace
    except ProgramError as error:  # its code wanted to end the process
        return Outcome(call_id="", error=error), trace
    except BaseException:  # Ctrl-C: the call does not go on without us
        running.cancel()
        raise
