"""The supervision tree of one runtime, as a list."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from dspy_actors.lm.tree import LMPlan, LMSupervisor
from supervisors.actor import Ref
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

RESTART_PAUSE = 0.005
"""Seconds until an instance is started again whose name is not free yet."""


@dataclass(frozen=True, slots=True)
class RuntimePlan:
    """What a runtime's tree is started from, again and again. Everything published lives in here.

    `going` is called when the tree begins to stop on purpose, before its children are stopped. `instances` are the
    specs of the programs that are started, by their registered names.
    """

    name: str
    registry: Registry
    lm: LMPlan
    going: Callable[[], object]
    instances: dict[Hashable, ChildSpec]


class RuntimeSupervisor(Supervisor):
    """rest_for_one: programs lean on task threads, and everything leans on the models."""

    def init(self, plan: RuntimePlan) -> None:  # type: ignore[override]
        self.plan = plan
        via = plan.registry.via
        super().init(
            [
                ChildSpec("lm", LMSupervisor, args=(plan.lm,), shutdown=30.0),
                ChildSpec("tasks", TaskSupervisor, name=via(TASKS), shutdown=10.0),
                ChildSpec("modules", ModuleSupervisor, args=(plan.instances,), name=via(MODULES), shutdown=10.0),
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
    """Supervises the instances of started programs. They admit and book only, so they hardly ever fail.

    `instances` outlives this actor, which may end with the models: its successor starts each of them again. Whoever
    ends a program for good takes it out before.
    """

    def init(self, instances: dict[Hashable, ChildSpec]) -> None:  # type: ignore[override]
        super().init(max_restarts=100, max_seconds=60.0)
        self.instances = instances
        for name in list(instances):
            self.continue_with(ModuleSupervisor.start_again, name)

    def start_again(self, name: Hashable) -> None:
        """Start an instance that lived under the predecessor; one that still ends has to leave its name first."""
        spec = self.instances.get(name)
        if spec is None or any(child.id == spec.id for child in self.which_children()):
            return
        started: object = self.start_child(spec)
        if not isinstance(started, Ref):
            self.send_after(RESTART_PAUSE, ModuleSupervisor.start_again, name)
        elif name not in self.instances:  # ended for good meanwhile, by someone who may not have found it
            self.terminate_child(started)


class EvaluationSupervisor(DynamicSupervisor):
    """Supervises temporary evaluation actors, which are never restarted: whoever started one hears of its end."""

    def init(self) -> None:  # type: ignore[override]
        super().init()
