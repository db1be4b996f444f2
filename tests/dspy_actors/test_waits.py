"""Who waits is seen by tenant: how many calls now and since when, and how long those have waited that do no more."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.waits import KEPT, Waits
from dspy_actors.runtime import Runtime
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import KILLED, of_class
from tests.dspy_actors.programs import PATIENCE, Gate, qa, runtime

NOBODY = {"waiting": 0, "oldest_seconds": 0.0}


def test_waits_are_counted_by_tenant_now_and_afterwards() -> None:
    clock = ManualClock()
    waits = Waits(clock.now)
    first = waits.begin("a")
    clock.advance(2.0)
    second, other = waits.begin("a"), waits.begin("b")
    clock.advance(1.0)
    assert waits.reading() == {
        "a": {"waiting": 2, "oldest_seconds": 3.0, "waited": 0, "waited_seconds": 0.0},
        "b": {"waiting": 1, "oldest_seconds": 1.0, "waited": 0, "waited_seconds": 0.0},
    }
    first()
    clock.advance(1.0)
    assert waits.reading()["a"] == {"waiting": 1, "oldest_seconds": 2.0, "waited": 1, "waited_seconds": 3.0}
    second()
    other()
    assert waits.reading() == {
        "a": {**NOBODY, "waited": 2, "waited_seconds": 5.0},
        "b": {**NOBODY, "waited": 1, "waited_seconds": 2.0},
    }


def test_of_very_many_tenants_those_that_wait_are_kept_and_the_last() -> None:
    waits = Waits(ManualClock().now)
    still = waits.begin("waits")
    for number in range(KEPT + 10):
        waits.begin(f"t{number}")()
    reading = waits.reading()
    assert (len(reading), reading["waits"]["waiting"], f"t{KEPT + 9}" in reading) == (KEPT, 1, True)
    still()


def seen(rt: Runtime) -> dict[str, int]:
    waits: Any = rt.health()["waits"]
    return {tenant: reading["waiting"] for tenant, reading in waits.items()}


@pytest.mark.parametrize("place", ["limit", "program"])
def test_health_says_which_tenants_wait(place: str) -> None:
    gate = Gate()
    guarding = Guarding(limiter=LimiterSettings(max_in_flight=1 if place == "limit" else None))
    with runtime(gate, guarding=guarding) as rt:
        program = rt.start(qa(), max_inflight=1 if place == "program" else None)
        first = program.using(tenant="a").submit(question="first")
        gate.wait_for()
        others = [program.using(tenant=name).submit(question=f"{name} {n}") for n, name in enumerate("abb")]
        wait_until(lambda: seen(rt) == {"a": 1, "b": 2})
        others[0].cancel()
        wait_until(lambda: seen(rt) == {"a": 0, "b": 2})
        gate.open()
        for reply in (first, *others[1:]):
            reply.get(PATIENCE)
        assert seen(rt) == {"a": 0, "b": 0}


def test_nobody_waits_any_more_whose_io_loop_has_died() -> None:
    gate = Gate()
    with runtime(gate, guarding=Guarding(limiter=LimiterSettings(max_in_flight=1))) as rt:
        program = rt.start(qa())
        replies = [program.using(tenant="a").submit(question=f"q{n}") for n in range(3)]
        gate.wait_for()
        wait_until(lambda: seen(rt) == {"a": 2})
        of_class(rt, IOLoop).exit(KILLED)
        gate.open()
        for reply in replies:
            reply.get(PATIENCE)
        assert seen(rt) == {"a": 0}
