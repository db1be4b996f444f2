"""The LM branch of the supervision tree, as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dspy_actors.cache.manager import CacheManager
from dspy_actors.cache.table import Table
from dspy_actors.cache.tiers import DISK_WRITER, AnswerCache
from dspy_actors.lm.guard_actors import BreakerManager, BudgetManager, LimiterManager, UsageStore
from dspy_actors.lm.io_loop import IOLoop, end_loop
from dspy_actors.lm.outage_reporter import OUTAGES, OutageReporter
from dspy_actors.lm.outages import Outages
from dspy_actors.lm.pools import POOLS, LMPools, PoolPlan
from dspy_actors.lm.pulse import Pulse
from dspy_actors.quarantine.manager import QUARANTINE, QuarantineManager, QuarantinePlan
from supervisors.exits import Exit
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class LMPlan:
    """What the LM branch is started from. The cache is published: losing its actors loses no entry.

    `beside` are tables of others that its manager looks after too.
    """

    io_loop: str
    pulse: Pulse
    pools: PoolPlan
    cache: AnswerCache
    beside: Sequence[Table[Any, Any]]
    outages: Outages
    quarantine: QuarantinePlan


class LMSupervisor(Supervisor):
    """rest_for_one: what stands later leans on what stands earlier. 3 restarts in 30 s, then it gives up."""

    def init(self, plan: LMPlan) -> None:  # type: ignore[override]
        via = plan.pools.registry.via
        self._io_loop = plan.io_loop
        super().init(
            [
                ChildSpec("guards", GuardSupervisor, args=(plan,), shutdown=10.0),
                ChildSpec("io loop", IOLoop, args=(plan.io_loop, plan.pulse), shutdown=10.0),
                ChildSpec("pools", LMPools, args=(plan.pools,), name=via(POOLS), shutdown=15.0),
            ],
            strategy=Strategy.REST_FOR_ONE,
            max_restarts=3,
            max_seconds=30.0,
        )

    def terminate(self, exit: Exit) -> None:
        """Stop the children, then the loop, on which nobody is left."""
        super().terminate(exit)
        end_loop(self.kernel, self._io_loop)


class GuardSupervisor(Supervisor):
    """one_for_one: each guard's state is published outside its actor, so none leans on another."""

    def init(self, plan: LMPlan) -> None:  # type: ignore[override]
        via = plan.pools.registry.via
        super().init(
            [
                ChildSpec("usage", UsageStore, args=(plan.pools.usage_log,), name=via("usage")),
                ChildSpec("cache", CacheManager, args=(plan.cache, plan.beside), name=via("cache")),
                *_writer(plan),
                ChildSpec("budgets", BudgetManager, args=(plan.pools.book,), name=via("budgets")),
                ChildSpec("limiters", LimiterManager, args=(plan.pools.gatehouse,), name=via("limiters")),
                ChildSpec("breakers", BreakerManager, args=(plan.pools.gatehouse,), name=via("breakers")),
                ChildSpec(
                    "outages",
                    OutageReporter,
                    args=(plan.outages, plan.quarantine.telemetry),
                    name=via(OUTAGES),
                    shutdown=10.0,
                ),
                ChildSpec(
                    "quarantine",
                    _manager(plan.quarantine),
                    args=(plan.quarantine,),
                    name=via(QUARANTINE),
                    shutdown=10.0,
                ),
            ],
            strategy=Strategy.ONE_FOR_ONE,
            max_restarts=3,
            max_seconds=30.0,
        )


def _writer(plan: LMPlan) -> list[ChildSpec]:
    """The writer of the persistent cache, where there is one."""
    if plan.cache.disk is None:
        return []
    from dspy_actors.cache.disk import DiskWriter

    name = plan.pools.registry.via(DISK_WRITER)
    return [ChildSpec("cache writer", DiskWriter, args=(plan.cache.disk,), name=name, shutdown=10.0)]


def _manager(plan: QuarantinePlan) -> type[QuarantineManager]:
    """The quarantine's actor: one that writes a file has a thread of its own."""
    if plan.file is None:
        return QuarantineManager
    from dspy_actors.quarantine.filing import FilingManager

    return FilingManager
