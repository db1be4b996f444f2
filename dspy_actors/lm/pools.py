"""`LMPools` and `ProviderPool`: a supervisor per provider, and under it a worker per endpoint, model and key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.worker import LMWorker, WorkerPlan
from dspy_actors.secret import Secret
from supervisors.actor import Ref
from supervisors.dynamic import DynamicSupervisor
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, Restart

WORKER_RESTARTS = 20
"""Deaths of one provider's workers within `WORKER_SECONDS` before the whole LM layer is started afresh."""

WORKER_SECONDS = 30.0
WORKER_SHUTDOWN = 10.0

POOLS = "lm pools"


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What the pools are started from: names, the runtime's worker class, how to open a provider, where to count."""

    registry: Registry
    worker: type[LMWorker]
    open_provider: Callable[[LMConfig], Provider]
    counters: LMCounters


def pool_name(provider: str) -> Hashable:
    """The registered name of a provider's pool."""
    return ("lm pool", provider)


def worker_name(config: LMConfig) -> Hashable:
    """The registered name of the worker for `config`. It tells keys apart without holding one."""
    key = config.api_key
    key_id = key.key_id if isinstance(key, Secret) else None if key is None else id(key)
    return ("lm worker", config.provider, config.base_url, config.model, key_id, config.timeout)


class ProviderPool(DynamicSupervisor):
    """Supervises the workers of one provider.

    Messages, beside a dynamic supervisor's: `worker(config)`: the ref of the worker for `config`, started if there
    is none. Only this actor starts workers, so two callers never start two.
    """

    def init(self, plan: PoolPlan) -> None:  # type: ignore[override]
        self.plan = plan
        super().init(max_restarts=WORKER_RESTARTS, max_seconds=WORKER_SECONDS)

    def worker(self, config: LMConfig) -> Ref[LMWorker]:
        """The worker for `config`; raises `StartFailed` where its provider cannot be opened."""
        name = worker_name(config)
        found = self.plan.registry.whereis(name)
        if found is not None and found.is_alive():
            return found
        where = f" at {config.base_url}" if config.base_url else ""
        spec = ChildSpec(
            id=f"{config.provider}/{config.model}{where}",
            start=self.plan.worker,
            args=(WorkerPlan(config, self.plan.open_provider, self.plan.counters),),
            name=self.plan.registry.via(name),
            restart=Restart.PERMANENT,
            shutdown=WORKER_SHUTDOWN,
        )
        return self.start_child(spec)


class LMPools(DynamicSupervisor):
    """Supervises the provider pools. Messages: `pool(provider)`: the ref of its pool, started if there is none."""

    def init(self, plan: PoolPlan) -> None:  # type: ignore[override]
        self.plan = plan
        super().init(max_restarts=3, max_seconds=30.0)

    def pool(self, provider: str) -> Ref[ProviderPool]:
        """The pool of `provider`."""
        name = pool_name(provider)
        found = self.plan.registry.whereis(name)
        if found is not None and found.is_alive():
            return found
        spec = ChildSpec(id=provider, start=ProviderPool, args=(self.plan,), name=self.plan.registry.via(name))
        return self.start_child(spec)
