"""`EvaluationHost`: what an evaluation needs of its runtime, and how it is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dspy_actors.evaluation.fan_out import Crew
from dspy_actors.evaluation.job import Job
from dspy_actors.modules.host import Host
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.modules.results import Results
from dspy_actors.runner import Settings, call_around, checkpoint, current_frame, require_frame


class EvaluationHost(Host, Crew, Protocol):
    """A runtime, as an evaluation sees it."""

    @property
    def results(self) -> Results:
        """What programs have answered and how examples were scored."""
        ...

    def check_open(self, name: str) -> None:
        """Raises `ShuttingDown` once the runtime drains or has ended, `NoRuntime` in a forked child."""
        ...

    def start(self, module: Module) -> Program:
        """Start a program of its own for `module`."""
        ...

    def warn(self, event: str, fields: Mapping[str, object]) -> None:
        """A warning in the log, as `dspy_actors`. Never raises."""
        ...

    def stop_evaluations(self, job: Job) -> None:
        """End the evaluation actors of `job`; the calls they have open are cancelled."""
        ...


def host_of(
    program: Module | Program, name: str = "Evaluate", write: str = "evaluate(program)"
) -> tuple[EvaluationHost, Settings]:
    """The runtime that `program` belongs to, or the one in force here, with its settings.

    Raises `NoRuntime`, which calls the caller `name` and says where to `write` the call, for a module outside every
    runtime, `ShuttingDown` where the runtime lets no more calls in, and `CallCancelled` in the code of a call that was
    cancelled.
    """
    if isinstance(program, Program):
        host: Any = program.host
        settings = program.in_force()
    else:
        frame = require_frame(name, write)
        host, settings = frame.runner, frame.settings
    check_call()
    host.check_open(name)
    return host, settings


def check_call() -> None:
    """Raise `CallCancelled` in the code of a call that was cancelled. Before anything is started, which would stay."""
    around = call_around(current_frame())
    if around is not None:
        checkpoint(around)
