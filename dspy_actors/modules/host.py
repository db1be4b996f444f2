"""`Host`: the runtime as a program's handle sees it."""

from __future__ import annotations

from typing import Protocol

from dspy_actors.modules.instance import InstancePlan
from dspy_actors.modules.queueing import Doorkeeper
from dspy_actors.runner import Runner
from supervisors.telemetry import Telemetry
from supervisors.via import Via


class Host(Runner, Doorkeeper, Protocol):
    """What a handle needs of its runtime beyond running: whether calls are let in, who counts and hears of them."""

    @property
    def telemetry(self) -> Telemetry: ...

    def begin_call(self, name: str) -> None:
        """Raise `ShuttingDown` once the runtime drains; otherwise count a call as open."""
        ...

    def end_call(self) -> None:
        """Count a call as finished."""
        ...

    def stop_program(self, plan: InstancePlan, instance: Via) -> None:
        """End a started program's actor, if it is the one of this plan."""
        ...
