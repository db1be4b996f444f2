"""Failure drills: deaths under load. What was asked for ends, what was sent is counted, what guards knew is known."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dspy_actors.cache.manager import CacheManager
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guard_actors import BreakerManager, BudgetManager, LimiterManager, UsageStore
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.tree import GuardSupervisor, LMSupervisor
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import breaker, by_hand, guarded, limiter
from tests.dspy_actors.over_http import KILLED, ends, of_class, submit, worker
from tests.dspy_actors.programs import PATIENCE, qa
from tests.server.client import StubServer

GUARDS = [BreakerManager, LimiterManager, CacheManager, UsageStore, BudgetManager]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_s_death_under_load_loses_no_request(stub: StubServer, guard: Any) -> None:
    stub.control(fault="delay=50")
    with guarded(stub, limiter=LimiterSettings(max_in_flight=20)) as rt:
        replies = submit(rt.start(qa()), 100)
        stub.wait("requests>=20")
        of_class(rt, guard).exit(KILLED)
        assert ends(replies) == ["ok"] * 100
        assert stub.stats()["requests"] == rt.numbers().sent == 100
        wait_until(lambda: rt.system.restarts == 1)


def test_an_open_breaker_is_open_after_its_manager_died_and_the_new_one_resets_it(stub: StubServer) -> None:
    with guarded(stub) as rt:
        qa()(question="before")
        by_hand(rt, BreakerManager.force_open)
        manager = of_class(rt, BreakerManager)
        manager.exit(KILLED)
        manager.down().get(PATIENCE)
        assert ends(submit(rt.start(qa()), 3)) == ["circuit_open"] * 3
        wait_until(lambda: rt.registry.whereis("breakers") not in (None, manager))
        by_hand(rt, BreakerManager.reset)
        assert ends(submit(rt.start(qa()), 3)) == ["ok"] * 3


def test_learned_limits_outlive_the_limiters_manager_and_the_worker(stub: StubServer) -> None:
    stub.control(fault="h.x-ratelimit-limit-requests=600,h.x-ratelimit-remaining-requests=500")
    with guarded(stub) as rt:
        qa()(question="first")
        for ref in (of_class(rt, LimiterManager), worker(rt)):
            ref.exit(KILLED)
            ref.down().get(PATIENCE)
        assert limiter(rt)["requests_per_minute"] == 600.0


def test_a_worker_s_death_gives_back_what_its_requests_held(stub: StubServer) -> None:
    stub.control(fault="hold")
    with guarded(stub, limiter=LimiterSettings(max_in_flight=10)) as rt:
        replies = submit(rt.start(qa()), 30)
        stub.wait("held>=10")
        worker(rt).exit(KILLED)
        stub.wait("requests>=20", "held>=10")
        for count in (30, 40):
            stub.release()
            stub.wait(f"requests>={count}")
        stub.release()
        assert ends(replies) == ["ok"] * 30
        assert (limiter(rt)["in_flight"], limiter(rt)["waiting"]) == (0, 0)


@pytest.mark.parametrize("end", ["exit", "fence"])
def test_the_io_loop_s_death_under_load_loses_no_call_and_leaks_no_connection(stub: StubServer, end: str) -> None:
    stub.control(plan=[{"times": 200, "fault": "hold"}])
    with guarded(stub, limiter=LimiterSettings(max_in_flight=200)) as rt:
        replies = submit(rt.start(qa()), 200)
        stub.wait("held>=200")
        loop = of_class(rt, IOLoop)
        began = time.monotonic()
        if end == "exit":
            loop.exit(KILLED)
        else:
            loop.fence()
        assert ends(replies) == ["ok"] * 200
        assert time.monotonic() - began < 5.0
        assert stub.stats()["requests"] == rt.numbers().sent == 400
        stub.wait("aborted>=200", "in_flight==0")
        assert stub.stats()["open"] <= 200
        assert limiter(rt)["in_flight"] == 0


def test_a_probe_lost_with_the_io_loop_blocks_nobody(stub: StubServer) -> None:
    settings = BreakerSettings(open_seconds=0.05, longest_open_seconds=0.05, jitter=0.0, probes_to_close=1)
    with guarded(stub, breaker=settings) as rt:
        stub.control(fault="status=500")
        ends(submit(rt.start(qa()), 10, "broken {n}"))
        stub.control(plan=[{"times": 1, "fault": "hold"}])
        wait_until(lambda: breaker(rt)["retry_after"] == 0.0)
        probe = submit(rt.start(qa()), 1, "probe")
        stub.wait("held>=1")
        of_class(rt, IOLoop).exit(KILLED)
        assert ends(probe) == ["ok"]
        assert breaker(rt)["state"] == "closed"


@pytest.mark.parametrize("supervisor", [GuardSupervisor, LMSupervisor])
def test_the_death_of_a_supervisor_loses_no_call(stub: StubServer, supervisor: Any) -> None:
    stub.control(plan=[{"times": 50, "fault": "hold"}])
    with guarded(stub) as rt:
        replies = submit(rt.start(qa()), 50)
        stub.wait("held>=50")
        of_class(rt, supervisor).exit(KILLED)
        assert ends(replies) == ["ok"] * 50
        assert stub.stats()["requests"] == rt.numbers().sent
