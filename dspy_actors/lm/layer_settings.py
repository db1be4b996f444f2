"""`LayerSettings`: how one runtime asks its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dspy_actors.arguments import a, numbers, wholes
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.pool_settings import PoolSettings
from dspy_actors.lm.prices import Price
from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.quarantine.settings import QuarantineSettings


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """How one runtime asks its models. `budgets` are by tenant, `session_budgets` by session, `prices` by model.

    `knows_keys` says whether `open_provider` opens our own providers, so that what they do with keys is known.
    """

    open_provider: Callable[[LMConfig], Provider]
    knows_keys: bool = False
    set_aside: SetAside = field(default_factory=SetAside)
    servers: Servers = field(default_factory=Servers)
    guarding: Guarding = field(default_factory=Guarding)
    streaming: StreamSettings = field(default_factory=StreamSettings)
    prices: Mapping[str, Price] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    session_budgets: Mapping[str, Budget] = field(default_factory=dict)
    cache_entries: int = 100_000
    cache_bytes: int = 64 * 1024 * 1024
    cache_seconds: float = 1800.0
    cache_path: str | Path | None = None
    cache_disk_seconds: float = 7 * 86_400.0
    quarantine: QuarantineSettings = field(default_factory=QuarantineSettings)
    pools: PoolSettings = field(default_factory=PoolSettings)

    def __post_init__(self) -> None:
        numbers("Runtime", above=0, cache_seconds=self.cache_seconds, cache_disk_seconds=self.cache_disk_seconds)
        wholes("Runtime", least=1, cache_entries=self.cache_entries, cache_bytes=self.cache_bytes)
        a((str, Path, type(None)), "Runtime", "cache_path", self.cache_path, "a path, or None")
        a(StreamSettings, "Runtime", "streaming", self.streaming, "a StreamSettings")
        a(PoolSettings, "Runtime", "pools", self.pools, "a PoolSettings")
        a(QuarantineSettings, "Runtime", "quarantine", self.quarantine, "a QuarantineSettings")
        a(Callable, "Runtime", "open_provider", self.open_provider, "a function of a config that gives a provider")  # type: ignore[arg-type]
        self.guarding.check_limiters(ours=self.knows_keys)
