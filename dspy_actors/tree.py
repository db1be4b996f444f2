"""The supervision tree of one runtime, as a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dspy_actors.lm.tree import LMPlan, LMSupervisor
from supervisors.dynamic import DynamicSupervisor
from supervisors.exits import Exit, is_clean
from supervisors.registry import Registry
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.tasks import TaskSupervisor

TASKS = "tasks"
MODULES = "modules"
EVALUATIONS = "evaluations"


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """What a runtime's tree is started from, again and again. Everything published lives in here.

    `going` is called when the tree begins to stop on purpose, before its children are stopped.
    """

    name: str
    registry: Registry
    lm: LMPlan
    going: Callable[[], object]


class RuntimeSupervisor(Supervisor):
    """rest_for_one: programs lean on task threads, and everything leans on the models."""

    def init(self, plan: RuntimePlan) -> None:  # type: ignore[override]
        self.plan = plan
        via = plan.registry.via
        super().init(
            [
                ChildSpec("lm", LMSupervisor, args=(plan.lm,), shutdown=30.0),
                ChildSpec("tasks", TaskSupervisor, name=via(TASKS), shutdown=5.0),
                ChildSpec("modules", ModuleSupervisor, name=via(MODULES), shutdown=10.0),
                ChildSpec("evaluations", EvaluationSupervisor, name=via(EVALUATIONS), shutdown=10.0),
            ],
            strategy=Strategy.REST_FOR_ONE,
            max_restarts=3,
            max_seconds=30.0,
        )

    def terminate(self, exit: Exit) -> None:
        if is_clean(exit):  # calls that wait would hold up the threads they wait in
            self.plan.going()
        super().terminate(exit)


class ModuleSupervisor(DynamicSupervisor):
    """Supervises the instances of started programs. They admit and book only, so they hardly ever fail."""

    def init(self) -> None:  # type: ignore[override]
        super().init(max_restarts=100, max_seconds=60.0)


class EvaluationSupervisor(DynamicSupervisor):
    """Supervises temporary evaluation actors, which are never restarted: whoever started one hears of its end."""

    def init(self) -> None:  # type: ignore[override]
        super().init()
