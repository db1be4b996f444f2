"""What the drills share: runtimes with quick guards, and readings of them."""

from __future__ import annotations

from typing import Any

from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guard_actors import BreakerManager
from dspy_actors.lm.guarding import Guarding
from dspy_actors.runtime import Runtime
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import lm
from tests.dspy_actors.programs import PATIENCE
from tests.server.client import StubServer

OPEN_SECONDS = 0.3
NEVER = BreakerSettings(minimum=1_000_000)


def guarded(stub: StubServer, *, fault: str = "", retries: int = 0, **settings: Any) -> Runtime:
    """A runtime, not started, whose calls are sent once; `Guarding`'s settings by name, others are the runtime's.

    Only the model's breaker can open, unless `provider_breaker` says otherwise.
    """
    names = {"breaker", "provider_breaker", "limiter", "limiters", "retry_budget"} & set(settings)
    guarding = {name: settings.pop(name) for name in names}
    guarding.setdefault("provider_breaker", NEVER)
    model = lm(stub, fault, num_retries=retries, **settings.pop("lm", {}))
    options = {"transport": "aiohttp", "deadline": PATIENCE, **settings}
    return Runtime(lm=model, guarding=Guarding(**guarding), **options)


def quick(**changes: Any) -> BreakerSettings:
    """A breaker that is open for a moment only."""
    return BreakerSettings(
        **{"open_seconds": OPEN_SECONDS, "longest_open_seconds": OPEN_SECONDS, "jitter": 0.0, **changes}
    )


def breaker(rt: Runtime) -> dict[str, Any]:
    """The reading of the model's breaker; empty before the first call."""
    readings: Any = rt.health()["breakers"]
    return next((reading for name, reading in readings.items() if "/m" in name.partition(" at ")[0]), {})


def breaker_name(rt: Runtime) -> str:
    readings: Any = rt.health()["breakers"]
    return next(name for name in readings if "/m" in name.partition(" at ")[0])


def by_hand(rt: Runtime, what: Any) -> None:
    """`BreakerManager.force_open` or `.reset` for the model."""
    manager = rt.registry.whereis("breakers")
    assert manager is not None
    assert manager.call(what, breaker_name(rt))


def limiter(rt: Runtime) -> dict[str, Any]:
    """The reading of the one limiter there is."""
    readings: Any = rt.health()["limiters"]
    (reading,) = readings.values()
    return dict(reading)


def is_closed(rt: Runtime) -> bool:
    return bool(breaker(rt)["state"] == "closed")


def wait_until_due(rt: Runtime) -> None:
    """Return once the model's breaker would let a probe through."""
    wait_until(lambda: breaker(rt)["retry_after"] == 0.0)


__all__ = [
    "OPEN_SECONDS",
    "BreakerManager",
    "breaker",
    "breaker_name",
    "by_hand",
    "guarded",
    "is_closed",
    "limiter",
    "quick",
    "wait_until_due",
]
