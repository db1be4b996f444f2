"""`LMPools` and `ProviderPool`: a supervisor per provider, and under it a worker per endpoint, model and key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from dspy_actors.lm.budget import BudgetBook
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.providers.base import KeySource, LMConfig, Provider
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
"""Deaths of one provider's workers within `WORKER_SECONDS` before the whole LM layer is started afresh."""

WORKER_SECONDS = 30.0
WORKER_SHUTDOWN = 10.0

WORKER_BACKOFF = Backoff(base=0.05, cap=2.0, healthy=1.0)
"""The first restart is at once. One that fails, as on an io loop that has just died, must not use up the rest."""

RESTART_PAUSE = 0.001
"""Seconds until a name whose holder has just died is looked up again."""

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

    def worker_plan(self, config: LMConfig, key_mark: str) -> WorkerPlan:
        """What the worker for `config` is started from."""
        return WorkerPlan(
            config, self.open_provider, self.counters, self.gatehouse, self.usage_log, self.streaming, key_mark
        )


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

    @property
    def registry(self) -> Registry:
        """Where the children are registered."""
        raise NotImplementedError


class ProviderPool(NamedChildren):
    """Supervises the workers of one provider.

    Messages, beside a dynamic supervisor's: `worker(config)`: the ref of the worker for `config`, started if there
    is none; `StartFailed` where its provider cannot be opened.
    """

    def init(self, plan: PoolPlan) -> None:  # type: ignore[override]
        self.plan = plan
        super().init(max_restarts=WORKER_RESTARTS, max_seconds=WORKER_SECONDS)

    @property
    def registry(self) -> Registry:
        return self.plan.registry

    def worker(self, config: LMConfig) -> Reply[Ref[LMWorker]]:
        """The worker for `config`, once it stands."""
        reply: Reply[Ref[LMWorker]] = self.defer()
        plan, name = self.plan, worker_name(config)
        where = f" at {config.base_url}" if config.base_url else ""
        spec = ChildSpec(
            id=f"{config.provider}/{config.model}{where}" + _key_mark(name),
            start=self.plan.worker,
            args=(plan.worker_plan(config, _key_mark(name)),),
            name=self.registry.via(name),
            restart=Restart.PERMANENT,
            shutdown=WORKER_SHUTDOWN,
            backoff=WORKER_BACKOFF,
        )
        self.child(name, spec, reply)
        return reply


class LMPools(NamedChildren):
    """Supervises the provider pools. Messages: `pool(provider)`: the ref of its pool, started if there is none."""

    def init(self, plan: PoolPlan) -> None:  # type: ignore[override]
        self.plan = plan
        super().init(max_restarts=3, max_seconds=30.0)

    @property
    def registry(self) -> Registry:
        return self.plan.registry

    def pool(self, provider: str) -> Reply[Ref[ProviderPool]]:
        """The pool of `provider`, once it stands."""
        reply: Reply[Ref[ProviderPool]] = self.defer()
        name = pool_name(provider)
        spec = ChildSpec(id=provider, start=ProviderPool, args=(self.plan,), name=self.registry.via(name))
        self.child(name, spec, reply)
        return reply


def _key_mark(name: Hashable) -> str:
    """Tells workers of one model at one endpoint apart where they have different keys or timeouts."""
    assert isinstance(name, tuple)
    marks = [str(part) for part in name[4:] if part is not None]
    return f" ({', '.join(marks)})" if marks else ""
