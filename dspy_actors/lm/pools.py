"""`LMPools` and `ProviderPool`: a supervisor per provider, and under it a worker per endpoint, model and key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dspy_actors.lm.budget import BudgetBook
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.pool_settings import PoolSettings
from dspy_actors.lm.providers.base import KeySource, LMConfig, Provider
from dspy_actors.lm.providers.opening import Opener
from dspy_actors.lm.roster import Roster, Use, idle_longest, needed_least
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.worker import LMWorker, WorkerPlan
from dspy_actors.secret import Secret
from supervisors.actor import Ref
from supervisors.backoff import Backoff
from supervisors.dynamic import DynamicSupervisor
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import ChildSpec, Restart

WORKER_RESTARTS = 20
"""Deaths of one worker within `WORKER_SECONDS` before it is given up; the next call to its model starts it afresh.

Each has a budget of its own: one tenant's worker that dies over and over must not end the calls of the others."""

WORKER_SECONDS = 30.0
WORKER_SHUTDOWN = 10.0

WORKER_BACKOFF = Backoff(base=0.05, cap=2.0, healthy=1.0)
"""The first restart is at once. One that fails, as on an io loop that has just died, must not use up the rest."""

RESTART_PAUSE = 0.001
"""Seconds until a name whose holder has just died is looked up again."""

SWEEP_SECONDS = 30.0
"""How often a pool looks for workers that nobody uses."""

GRACE_SECONDS = 1.0
"""How long a worker may wait for its first call before it is ended for a new one."""

POOLS = "lm pools"


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What the pools are started from: names, the runtime's worker class, how to open a provider, where to count."""

    registry: Registry
    worker: type[LMWorker]
    open_provider: Callable[[LMConfig], Provider]
    counters: LMCounters
    gatehouse: Gatehouse
    usage_log: UsageLog
    book: BudgetBook
    streaming: StreamSettings
    roster: Roster = field(default_factory=Roster)
    settings: PoolSettings = field(default_factory=PoolSettings)

    def worker_plan(self, use: Use) -> WorkerPlan:
        """What a worker is started from."""
        return WorkerPlan(use, self.open_provider, self.counters, self.gatehouse, self.usage_log, self.streaming)

    def load(self, config: LMConfig) -> None:
        """Load what the worker for `config` needs, in this thread: on the io loop every call would stand still."""
        if isinstance(self.open_provider, Opener):
            with suppress(Exception):  # the worker's start will say it to those who wait for it
                self.open_provider.load(config)

    def forget(self, ended: dict[Hashable, Use]) -> None:
        """These workers have ended for good: forget them, and give back what they held."""
        for name, use in ended.items():
            self.roster.gone(name, use)
            self.gatehouse.dismiss(use.config, use.mark)


def pool_name(provider: str) -> Hashable:
    """The registered name of a provider's pool."""
    return ("lm pool", provider)


def worker_name(config: LMConfig) -> Hashable:
    """The registered name of the worker for `config`. It tells keys apart without holding one."""
    return ("lm worker", config.provider, config.base_url, config.model, _key_id(config.api_key), config.timeout)


def _key_id(key: KeySource) -> Hashable:
    """Equal for equal keys; a callable is equal to itself, which its worker keeps alive."""
    if key is None or isinstance(key, Secret):
        return key and key.key_id
    return id(key) if callable(key) else tuple(each.key_id for each in key)


class NamedChildren(DynamicSupervisor):
    """A dynamic supervisor whose children have names and are started when somebody asks for them.

    Only this actor starts them, so two who ask never get two. A name that is free because its holder has just died
    is waited for: its restart is under way, and a second child would take its place.
    """

    def child(self, name: Hashable, spec: ChildSpec, reply: Reply[Any]) -> None:
        """Answer `reply` with the living child called `name`, started from `spec` if there never was one."""
        found = self.registry.whereis(name)
        if found is not None and found.is_alive():
            reply.set(found)
        elif any(child.id == spec.id for child in self.which_children()):
            self.send_after(RESTART_PAUSE, NamedChildren.child, name, spec, reply)
        else:
            started: Ref[Any] | Reply[Any] = self.start_child(spec)
            if isinstance(started, Reply):  # a start that failed is answered with its error
                reply.follow(started)
            else:
                reply.set(started)
                self.has_started(name, spec)

    def has_started(self, name: Hashable, spec: ChildSpec) -> None:
        """The child called `name` stands for the first time."""

    @property
    def registry(self) -> Registry:
        """Where the children are registered."""
        raise NotImplementedError


class ProviderPool(NamedChildren):
    """Supervises the workers of one provider, and ends those that nobody uses (`PoolSettings`).

    Messages, beside a dynamic supervisor's: `worker(config)`: the ref of the worker for `config`, started if there
    is none; `StartFailed` where its provider cannot be opened. `sweep()`: end who is idle, forget who has ended.
    `have_left()`: forget who has left.

    It tells a worker to end, and the worker decides: only he knows whether a call came before that message. A worker
    that dies too often is given up alone (`WORKER_RESTARTS`); its neighbours and the calls they hold never notice.
    """

    def init(self, plan: PoolPlan, provider: str) -> None:  # type: ignore[override]
        self.plan = plan
        self.provider = provider
        self._is_due = False  # a look for those that have left
        super().init(max_restarts=WORKER_RESTARTS, max_seconds=WORKER_SECONDS)
        self._part()  # those of a predecessor ended with it; what guarded them is for their successors
        self.send_after(SWEEP_SECONDS, ProviderPool.sweep)

    @property
    def registry(self) -> Registry:
        return self.plan.registry

    def worker(self, config: LMConfig) -> Reply[Ref[LMWorker]]:
        """The worker for `config`, once it stands."""
        reply: Reply[Ref[LMWorker]] = self.defer()
        plan, name = self.plan, worker_name(config)
        plan.load(config)
        where = f" at {config.base_url}" if config.base_url else ""
        mark = _key_mark(name)
        child = f"{config.provider}/{config.model}{where}{mark}"
        spec = ChildSpec(
            id=child,
            start=self.plan.worker,
            args=(plan.worker_plan(Use(config, mark, child, self.clock.now())),),
            name=self.registry.via(name),
            restart=Restart.TRANSIENT,  # one that was idle is not started again before somebody asks for it
            shutdown=WORKER_SHUTDOWN,
            backoff=WORKER_BACKOFF,
            budget_key=child,
        )
        self.child(name, spec, reply)
        return reply

    def has_started(self, name: Hashable, spec: ChildSpec) -> None:
        """Note the worker, and make room where there are too many."""
        (plan,) = spec.args
        plan.use.born = self.clock.now()
        most = self.plan.settings.most
        if self.plan.roster.add(name, plan.use) > most:
            staying = {name: use for name, use in self.forget_ended().items() if not use.leaves}
            for least in needed_least(staying, len(staying) - most):
                staying[least].leaves = True
                self._tell(least, LMWorker.leave, GRACE_SECONDS)
            self._look_after_those_that_leave()

    def sweep(self) -> None:
        """Tell who has been idle for long to end, forget who has, and come back in half a minute."""
        settings = self.plan.settings
        standing = self.forget_ended()
        for name in idle_longest(standing, len(standing) - settings.keep):
            self._tell(name, LMWorker.retire, settings.idle_seconds)
        self.send_after(SWEEP_SECONDS, ProviderPool.sweep)

    def have_left(self) -> None:
        """Forget who has left, and look again while there is one that leaves."""
        self._is_due = False
        if any(use.leaves for use in self.forget_ended().values()):
            self._look_after_those_that_leave()

    def _look_after_those_that_leave(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.send_after(GRACE_SECONDS, ProviderPool.have_left)

    def forget_ended(self) -> dict[Hashable, Use]:
        """Forget the workers that have ended for good, and what guarded them alone; those that stand."""
        standing = self._part()
        self.plan.gatehouse.sweep()
        return standing

    def _part(self) -> dict[Hashable, Use]:
        """Forget the workers that have ended for good; those that stand."""
        plan = self.plan
        children: set[object] = {child.id for child in self.which_children()}
        standing = plan.roster.of(self.provider)
        plan.forget({name: standing.pop(name) for name, use in list(standing.items()) if use.child not in children})
        return standing

    def _tell(self, name: Hashable, message: Callable[[LMWorker, float], None], seconds: float) -> None:
        ref: Ref[LMWorker] | None = self.registry.whereis(name)
        if ref is not None:
            ref.cast(message, seconds)


class LMPools(NamedChildren):
    """Supervises the provider pools.

    Messages: `pool(provider)`: the ref of its pool, started if there is none. `sweep()`: forget what guards nobody.
    """

    def init(self, plan: PoolPlan) -> None:  # type: ignore[override]
        self.plan = plan
        super().init(max_restarts=3, max_seconds=30.0)
        for provider in plan.roster.providers():  # their workers ended with the predecessor
            plan.forget(plan.roster.of(provider))
        self.send_after(SWEEP_SECONDS, LMPools.sweep)

    def sweep(self) -> None:
        """Forget what guards nobody, also where no pool stands to do it, and come back in half a minute."""
        self.plan.gatehouse.sweep()
        self.send_after(SWEEP_SECONDS, LMPools.sweep)

    @property
    def registry(self) -> Registry:
        return self.plan.registry

    def pool(self, provider: str) -> Reply[Ref[ProviderPool]]:
        """The pool of `provider`, once it stands."""
        reply: Reply[Ref[ProviderPool]] = self.defer()
        name = pool_name(provider)
        spec = ChildSpec(id=provider, start=ProviderPool, args=(self.plan, provider), name=self.registry.via(name))
        self.child(name, spec, reply)
        return reply


def _key_mark(name: Hashable) -> str:
    """Tells workers of one model at one endpoint apart where they have different keys or timeouts."""
    assert isinstance(name, tuple)
    marks = [str(part) for part in name[4:] if part is not None]
    return f" ({', '.join(marks)})" if marks else ""
