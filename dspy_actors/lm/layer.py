"""`LMLayer`: everything one runtime's way to its models publishes, and one reading of all of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspy_actors.alerts import waker
from dspy_actors.cache.flight import SingleFlight
from dspy_actors.cache.table import Table
from dspy_actors.cache.tiers import AnswerCache
from dspy_actors.cache.watched import WatchedTable
from dspy_actors.errors import LMError
from dspy_actors.lm.breaker import State
from dspy_actors.lm.budget import BudgetBook
from dspy_actors.lm.client import LMClient
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.guards import make_guards
from dspy_actors.lm.in_turn import InTurn
from dspy_actors.lm.layer_settings import LayerSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.outage_reporter import OUTAGES, OutageReporter
from dspy_actors.lm.outages import Outages
from dspy_actors.lm.pools import PoolPlan
from dspy_actors.lm.providers.key_state import HOPELESS, KeyState, key_state
from dspy_actors.lm.pulse import Pulse
from dspy_actors.lm.reach import WorkerFinder
from dspy_actors.lm.roster import Roster
from dspy_actors.lm.tree import LMPlan
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.worker import worker_class
from dspy_actors.messages import LMResponse
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.manager import QUARANTINE, QuarantineManager, QuarantinePlan
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import Quarantine
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspy_actors.cache.disk import DiskCache
    from dspy_actors.quarantine.file import QuarantineFile

LATE = 0.25
"""Seconds of lag from which the io loop is too late for the runtime to call itself ready."""


class LMLayer:
    """The published state: counters, cache, usage, budgets, breakers and limiters, and the client that goes by them.

    Actors look after these tables; none of them holds what cannot be lost. `beside` are tables of those above, which
    are swept and shown with the cache of answers.
    """

    def __init__(
        self, name: str, settings: LayerSettings, kernel: Kernel, registry: Registry, counters: LMCounters
    ) -> None:
        clock = kernel.clock
        self._clock = clock
        self._knows_keys = settings.knows_keys
        self.set_aside = settings.set_aside
        self.servers = settings.servers
        self.counters = counters
        self.beside: list[WatchedTable[Any, Any]] = []
        table: Table[bytes, LMResponse] = Table(
            clock, max_entries=settings.cache_entries, max_bytes=settings.cache_bytes, ttl=settings.cache_seconds
        )
        refusals: Table[tuple[bytes, Hashable], LMError] = Table(clock, max_entries=10_000)
        self.outages = Outages(waker(registry, OUTAGES, OutageReporter.look))
        disk = _disk(settings, kernel.telemetry, self.outages)
        self.cache = AnswerCache(table, refusals, disk, registry, kernel.telemetry)
        self.usage = UsageLog(settings.prices, telemetry=kernel.telemetry)
        self.book = BudgetBook(settings.budgets, settings.session_budgets, clock.now)
        self.set_aside.told = self.outages.set_aside
        self.gatehouse = Gatehouse(settings.guarding, clock, kernel.telemetry, self.outages)
        guards = make_guards(self.cache, SingleFlight(), self.book, self.usage, counters)
        in_turn = InTurn(counters, kernel.telemetry)
        self.client = LMClient(WorkerFinder(registry, clock), guards, in_turn, counters, clock, settings.streaming)
        self.roster = Roster()
        io_loop = f"io of {name}"
        pools = PoolPlan(
            registry,
            worker_class(io_loop),
            settings.open_provider,
            counters,
            self.gatehouse,
            self.usage,
            self.book,
            settings.streaming,
            self.roster,
            settings.pools,
        )
        self.pulse = Pulse()
        file, ask = _quarantine_file(settings.quarantine, registry)
        self.quarantine = Quarantine(
            settings.quarantine, clock, wake=waker(registry, QUARANTINE, QuarantineManager.look), ask=ask
        )
        quarantine = QuarantinePlan(self.quarantine, kernel.telemetry, file)
        self.plan = LMPlan(io_loop, self.pulse, pools, self.cache, self.beside, self.outages, quarantine)

    def health(self, lm: LM | None = None) -> dict[str, object]:
        """Every number of the layer in one reading, as plain data; asks no actor. `keys` are those of `lm`."""
        gatehouse = self.gatehouse
        return {
            "loop_lag_seconds": self.pulse.lag(),
            "workers": self.roster.reading(),
            "numbers": asdict(self.counters.read()),
            "cache": asdict(self.cache.table.stats()),
            **{table.name: asdict(table.stats()) for table in self.beside},
            "disk_cache": self.cache.disk_reading(),
            "breakers": {
                name: {**asdict(reading), "state": reading.state.value}
                for name, reading in gatehouse.readings().items()
            },
            "limiters": gatehouse.limits(),
            "waits": gatehouse.waits.reading(),
            "latencies": {name: lane.reading() for name, lane in list(gatehouse.lanes.items())},
            "retry_budgets": {name: budget.left for name, budget in list(gatehouse.retry_budgets.items())},
            "budgets": self.book.readings(),
            "keys": self._keys(lm),
            "keys_set_aside": self.set_aside.snapshot(),
            "servers": self.servers.snapshot(),
            "quarantine": asdict(self.quarantine.stats()),
        }

    def open(self) -> None:
        """Open the files again that `close` closed."""
        if self.cache.disk is not None:
            self.cache.disk.open()

    def close(self) -> None:
        """Close the files that are open; the actors that wrote them have ended."""
        if self.cache.disk is not None:
            self.cache.disk.close()

    def is_prompt(self) -> bool:
        """Whether the io loop runs and is not held up."""
        lag = self.pulse.lag()
        return lag is not None and lag < LATE

    def breakers_closed(self, lm: LM | None) -> bool:
        """Whether every breaker that a call to `lm` meets is closed: what fails then is not the provider's bad day."""
        return lm is None or all(each.state is State.CLOSED for each in self.gatehouse.breakers_of(lm.config))

    def _keys(self, lm: LM | None) -> dict[str, KeyState]:
        """The state of the keys of `lm` and of its fallbacks, by the models' names."""
        models = () if lm is None else (lm, *(each.lm for each in lm.fallbacks))
        return {each.name: self._key_state(each) for each in models}

    def _key_state(self, lm: LM) -> KeyState:
        return key_state(lm.config, self.set_aside) if self._knows_keys else "unknown"

    def lets_through(self, lm: LM | None, patience: float) -> bool:
        """Whether a call to `lm` or to a fallback, which may take `patience` seconds, would be sent.

        It has a key, its breakers are not open, and no pause of its rate limiter outlasts it.
        """
        if lm is None or any(self.lets_through(each.lm, patience) for each in lm.fallbacks):
            return True
        if self._key_state(lm) in HOPELESS or self.gatehouse.paused(lm.config) > patience:
            return False
        now = self._clock.now()  # a breaker that waits for its probe counts as closed: else nobody would send one
        return all(
            breaker.reading(now).state is State.HALF_OPEN or breaker.reading(now).retry_after == 0.0
            for breaker in self.gatehouse.breakers_of(lm.config)
        )


def _disk(settings: LayerSettings, telemetry: Telemetry, outages: Outages) -> DiskCache | None:
    """The persistent cache, where a file is named: SQLite is loaded here."""
    if settings.cache_path is None:
        return None
    from dspy_actors.cache.disk import DiskCache

    path, seconds = Path(settings.cache_path), settings.cache_disk_seconds
    return DiskCache(path, seconds=seconds, telemetry=telemetry, told=outages.cache_file)


def _quarantine_file(
    settings: QuarantineSettings, registry: Registry
) -> tuple[QuarantineFile, Callable[[Entry, float], Reply[float] | None]] | tuple[None, None]:
    """The quarantine's file and what asks those who share it, where one is named: SQLite is loaded here."""
    if settings.path is None:
        return None, None
    from dspy_actors.quarantine.file import QuarantineFile
    from dspy_actors.quarantine.filing import asker

    return QuarantineFile(settings.path), asker(registry)
