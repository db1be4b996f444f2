"""Failure drills: a fault on a real server, what the caller sees of it, and what the server sees of us."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest

from dspy_actors.errors import CircuitOpen, DeadlineExceeded, LMBillingError
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guard_actors import BreakerManager
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.runtime import Runtime
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import (
    OPEN_SECONDS,
    breaker,
    by_hand,
    guarded,
    is_closed,
    limiter,
    quick,
    wait_until_due,
)
from tests.dspy_actors.over_http import CLOCK, KEY, KILLED, ends, submit, worker
from tests.dspy_actors.programs import PATIENCE, SOON, qa
from tests.server.client import StubServer

# -- breaker -----------------------------------------------------------------------------------------------------------


def test_a_closed_breaker_lets_calls_through_in_parallel(stub: StubServer) -> None:
    stub.control(fault="hold")
    with guarded(stub) as rt:
        replies = submit(rt.start(qa()), 8)
        assert stub.wait("held>=8")["peak"] == 8
        stub.release()
        assert ends(replies) == ["ok"] * 8


def opened(rt: Runtime, stub: StubServer, calls: int = 10, fault: str = "status=500") -> None:
    """Ten calls fail and open the model's breaker; then the server is well and has seen nothing."""
    stub.control(fault=fault)
    kind = "lm_server" if fault == "status=500" else "lm_transport"
    assert ends(submit(rt.start(qa()), calls, "broken {n}")) == [kind] * calls
    assert breaker(rt)["state"] == "open"
    stub.control()


def test_failures_open_the_breaker_and_the_next_call_fails_at_once_and_unsent(stub: StubServer) -> None:
    with guarded(stub) as rt:
        opened(rt, stub)
        took = []
        for number in range(20):
            began = time.perf_counter()
            with pytest.raises(CircuitOpen) as caught:
                qa()(question=f"refused {number}")
            took.append(time.perf_counter() - began)
        assert 0 < (caught.value.retry_after or 0) <= 6.0
        assert (caught.value.model, caught.value.attempts) == ("m", 0)
        assert sorted(took)[10] < 0.01
        assert stub.stats()["requests"] == 0


def test_of_a_hundred_callers_at_a_half_open_breaker_one_is_sent(stub: StubServer) -> None:
    with guarded(stub, breaker=quick()) as rt:
        opened(rt, stub)
        stub.control(fault="hold")
        wait_until_due(rt)
        replies = submit(rt.start(qa()), 100)
        stub.wait("held>=1")
        wait_until(lambda: sum(reply.done() for reply in replies) == 99)
        stub.release()
        assert sorted(ends(replies)) == ["circuit_open"] * 99 + ["ok"]
        assert stub.stats()["requests"] == 1


def probing(rt: Runtime, stub: StubServer) -> Any:
    """A probe that the server holds."""
    opened(rt, stub)
    stub.control(fault="hold")
    wait_until_due(rt)
    (reply,) = submit(rt.start(qa()), 1, "probe")
    stub.wait("held>=1")
    return reply


def test_a_cancelled_probe_leaves_the_breaker_half_open_and_the_next_caller_probes(stub: StubServer) -> None:
    with guarded(stub, breaker=quick()) as rt:
        probing(rt, stub).cancel()
        stub.wait("aborted>=1")
        wait_until_due(rt)
        assert breaker(rt)["state"] == "half_open"
        stub.control()
        assert qa()(question="next").answer


def test_a_probe_whose_worker_dies_is_sent_again_as_a_probe(stub: StubServer) -> None:
    with guarded(stub, breaker=quick()) as rt:
        reply = probing(rt, stub)
        worker(rt).exit(KILLED)
        stub.wait("requests>=2", "held>=1")
        assert breaker(rt)["state"] == "half_open"
        stub.release()
        assert ends([reply]) == ["ok"]


def test_a_probe_s_answer_after_a_reset_says_nothing_any_more(stub: StubServer) -> None:
    with guarded(stub, breaker=quick()) as rt:
        reply = probing(rt, stub)
        by_hand(rt, BreakerManager.reset)
        stub.release()
        assert ends([reply]) == ["ok"]
        assert (breaker(rt)["state"], breaker(rt)["calls"]) == ("closed", 0)


def test_a_breaker_opened_by_hand_sends_nothing_until_its_reset(stub: StubServer) -> None:
    with guarded(stub) as rt:
        qa()(question="before")
        by_hand(rt, BreakerManager.force_open)
        assert ends(submit(rt.start(qa()), 5)) == ["circuit_open"] * 5
        by_hand(rt, BreakerManager.reset)
        assert ends(submit(rt.start(qa()), 5)) == ["ok"] * 5
        assert stub.stats()["requests"] == 6


def test_answers_that_are_slow_open_the_breaker_though_none_failed(stub: StubServer) -> None:
    stub.control(fault="delay=60")
    with guarded(stub, breaker=BreakerSettings(slow_seconds=0.05)) as rt:
        assert ends(submit(rt.start(qa()), 10)) == ["ok"] * 10
        assert breaker(rt)["state"] == "open"
        assert ends(submit(rt.start(qa()), 5, "later {n}")) == ["circuit_open"] * 5
        assert stub.stats()["requests"] == 10


@pytest.mark.parametrize("cache", [True, False])
def test_impatient_callers_do_not_open_the_breaker(stub: StubServer, cache: bool) -> None:
    stub.control(fault="delay=500")
    with guarded(stub, lm={"cache": cache}) as rt:
        assert ends(submit(rt.start(qa()).using(deadline=0.05), 100)) == ["deadline"] * 100
        assert breaker(rt).get("state", "closed") == "closed"
        stub.control()
        assert qa()(question="patient").answer


@pytest.mark.parametrize("cache", [True, False])
def test_a_server_that_hangs_opens_the_breaker_when_callers_had_patience(stub: StubServer, cache: bool) -> None:
    clock = ManualClock()
    stub.control(fault="hang")
    with guarded(stub, breaker=BreakerSettings(patience_seconds=30.0), lm={"cache": cache}, clock=clock) as rt:
        replies = submit(rt.start(qa()).using(deadline=30.0), 10)
        wait_until(lambda: rt.numbers().sent == 10)
        clock.advance(30.0)
        assert ends(replies) == ["deadline"] * 10
        wait_until(lambda: breaker(rt)["state"] == "open")


def test_a_cache_hit_needs_no_breaker(stub: StubServer) -> None:
    with guarded(stub) as rt:
        qa()(question="known")
        opened(rt, stub)
        assert qa()(question="known").cached


# -- rate limits -------------------------------------------------------------------------------------------------------


def test_fifty_callers_wait_out_a_rate_limit_together_and_all_finish(stub: StubServer) -> None:
    refusal = "status=429,retry_after=1,delay=300"  # all are under way by then; one by one they would take ten pauses
    stub.control(plan=[{"times": 10, "fault": refusal}])
    with guarded(stub, retries=3) as rt:
        assert ends(submit(rt.start(qa()), 50)) == ["ok"] * 50
        stats = stub.stats()
        assert stats["requests"] <= 65
        assert breaker(rt)["failures"] == 0
    paused = [at for at in stats["arrivals"] if stats["arrivals"][0] + 0.5 < at < stats["arrivals"][0] + 1.0]
    assert len(paused) <= 1


def test_after_a_pause_one_goes_ahead_and_the_others_follow_its_answer(stub: StubServer) -> None:
    stub.control(plan=[{"times": 20, "fault": "status=429,retry_after=0.3,delay=300"}, {"fault": "delay=150"}])
    with guarded(stub, retries=3) as rt:
        assert ends(submit(rt.start(qa()), 20)) == ["ok"] * 20
    arrivals = stub.stats()["arrivals"]
    scout = arrivals[20]
    assert scout - arrivals[0] >= 0.3
    assert not [at for at in arrivals[21:] if at < scout + 0.14]


@pytest.mark.parametrize("code", ["insufficient_quota", "enforced_spend_limit_reached"])
def test_no_money_is_asked_for_once_and_the_key_is_set_aside(stub: StubServer, code: str) -> None:
    stub.control(fault=f"status=429,code={code}")
    with guarded(stub, retries=3) as rt:
        for question in ("first", "second"):
            with pytest.raises(LMBillingError) as caught:
                qa()(question=question)
        assert 50.0 < (caught.value.retry_after or 0.0) <= 60.0
        assert (stub.stats()["requests"], breaker(rt)["failures"]) == (1, 0)


def test_an_outage_is_met_by_no_storm_of_retries(stub: StubServer) -> None:
    stub.control(fault="status=503")
    with guarded(stub, retries=3) as rt:
        assert set(ends(submit(rt.start(qa()), 200))) <= {"lm_server", "circuit_open"}
        assert stub.stats()["requests"] <= 220


def test_without_a_breaker_the_retry_budget_alone_ends_the_storm(stub: StubServer) -> None:
    stub.control(fault="status=503")
    with guarded(stub, retries=3, breaker=BreakerSettings(minimum=1_000_000)) as rt:
        assert ends(submit(rt.start(qa()), 200)) == ["lm_server"] * 200
        assert stub.stats()["requests"] <= 220


def pressed(stub: StubServer) -> tuple[float, float]:
    """161 calls at a server that lets 40 a second through: the share it refused, and how long they took."""
    stub.control(pace={"requests": 40, "seconds": 1.0})
    with guarded(stub, retries=3) as rt:
        ends(submit(rt.start(qa()), 1, "first"))
        began = time.monotonic()
        assert ends(submit(rt.start(qa()), 160)) == ["ok"] * 160
        took = time.monotonic() - began
    stats = stub.stats()
    return stats["statuses"].get("429", 0) / stats["requests"], took


def test_the_limits_of_a_server_that_tells_them_are_learned_and_used_up(stub: StubServer) -> None:
    most = (160 - 40) / 40 / 0.9 + 0.7
    tries = (pressed(stub) for _ in range(4))  # a machine that is busy with other things can only make it worse
    assert any(refused <= 0.02 and took <= most for refused, took in tries)


def test_a_server_that_keeps_a_limit_to_itself_is_found_out(stub: StubServer) -> None:
    stub.control(pace={"requests": 20, "seconds": 0.5, "silent": True})
    with guarded(stub, retries=5) as rt:
        found = ends(submit(rt.start(qa()), 60))
    assert found.count("ok") >= 55
    assert stub.stats()["requests"] <= 60 * 2


@pytest.mark.parametrize("text", ["-1", "0", "banana", "6m0s", "2019-01-01T05:00:30Z", "99999999999999999999"])
def test_headers_that_make_no_sense_stall_nobody(stub: StubServer, text: str) -> None:
    names = ["x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests"]
    names += ["anthropic-ratelimit-requests-reset", "x-ratelimit-limit-tokens"]
    stub.control(fault=",".join(f"h.{name}={quote(text)}" for name in names))
    with guarded(stub) as rt:
        began = time.monotonic()
        assert ends(submit(rt.start(qa()), 10)) == ["ok"] * 10
        assert time.monotonic() - began < 2.0


def test_a_deadline_says_that_the_limiter_was_waited_for(stub: StubServer) -> None:
    stub.control(fault="hold")
    with guarded(stub, limiter=LimiterSettings(max_in_flight=1)) as rt:
        held = submit(rt.start(qa()), 1, "held")
        stub.wait("held>=1")
        with pytest.raises(DeadlineExceeded) as caught:
            rt.start(qa()).using(deadline=SOON)(question="late")
        assert caught.value.phase == "limiter"
        wait_until(lambda: limiter(rt)["waiting"] == 0)
        stub.release()
        assert ends(held) == ["ok"]


def test_a_deadline_says_that_the_model_was_waited_for(stub: StubServer) -> None:
    stub.control(fault="hang")
    with guarded(stub) as rt, pytest.raises(DeadlineExceeded) as caught:
        rt.start(qa()).using(deadline=SOON)(question="late")
    assert caught.value.phase == "model"


def test_a_call_given_up_in_the_line_costs_no_rate_and_is_never_sent(stub: StubServer) -> None:
    stub.control(fault="hold")
    with guarded(stub, limiter=LimiterSettings(requests_per_minute=60, max_in_flight=1)) as rt:
        held = submit(rt.start(qa()), 1, "held")
        stub.wait("held>=1")
        gone = submit(rt.start(qa()), 10, "gone {n}")
        wait_until(lambda: limiter(rt)["waiting"] == 10)
        for reply in gone:
            reply.cancel()
        wait_until(lambda: limiter(rt)["waiting"] == 0)
        stub.release()
        ends(held)
        assert (stub.stats()["requests"], limiter(rt)["in_flight"]) == (1, 0)
        assert limiter(rt)["requests_left"] >= 59.0


def test_urgent_calls_go_before_a_flood_of_others(stub: StubServer) -> None:
    stub.control(fault="hold")
    with guarded(stub, limiter=LimiterSettings(max_in_flight=1)) as rt:
        held = submit(rt.start(qa()), 1, "held")
        stub.wait("held>=1")
        flood = submit(rt.start(qa()).using(priority="optimizer"), 50, "flood {n}")
        wait_until(lambda: limiter(rt)["waiting"] == 50)
        urgent = submit(rt.start(qa()), 1, "urgent")
        wait_until(lambda: limiter(rt)["waiting"] == 51)
        stub.release(1)
        stub.wait("requests>=2", "held>=1")
        assert "urgent" in str(stub.bodies()[-1]["body"])
        for reply in flood:
            reply.cancel()
        stub.release()
        assert ends(held + urgent) == ["ok", "ok"]


# -- servers that are busy, loading or gone ----------------------------------------------------------------------------

BUSY = quote('{"error":"server busy, please try again.  maximum pending requests exceeded"}')
LOADING = quote('{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}')


def test_a_busy_server_s_bare_error_is_read_and_tried_again(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": f"status=503,body={BUSY}"}])
    with guarded(stub, retries=3) as rt:
        assert qa()(question="blue").attempts == 2
        assert breaker(rt)["failures"] == 1


def test_a_server_that_loads_its_model_has_not_failed(stub: StubServer) -> None:
    stub.control(plan=[{"times": 3, "fault": f"status=503,body={LOADING}"}])
    model = LM("local/m", base_url=stub.base_url, api_key=KEY, num_retries=0)
    with guarded(stub) as rt, rt.using(lm=model):
        assert qa()(question="blue").answer
        assert breaker(rt)["failures"] == 0


def test_after_an_outage_the_first_good_answer_comes_within_one_open_time(stub: StubServer) -> None:
    with guarded(stub, breaker=quick(), retries=1) as rt:
        program = rt.start(qa())
        stub.control(fault="status=503")
        outage = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < outage:
            number += 1
            assert ends(submit(program, 5, f"during {number} {{n}}")) != ["ok"] * 5
        assert stub.stats()["requests"] <= 10 + 2 * 5 + 20
        stub.control()
        healed = time.monotonic()
        while ends(submit(program, 1, f"after {(number := number + 1)}")) != ["ok"]:
            assert time.monotonic() < healed + OPEN_SECONDS + 0.5
        wait_until(lambda: ends(submit(program, 1, f"after {time.monotonic()}")) == ["ok"] and is_closed(rt))
        assert ends(submit(program, 5, "during 1 {n}")) == ["ok"] * 5


def test_an_outage_of_the_endpoint_stops_all_its_models_and_leaves_other_endpoints_alone(stub: StubServer) -> None:
    with guarded(stub, provider_breaker=BreakerSettings()) as rt:
        opened(rt, stub, fault="reset")
        other, elsewhere = (
            LM(f"openai/{name}", base_url=url, api_key=KEY, num_retries=0)
            for name, url in (("other", stub.base_url), ("m", stub.at("delay=1")))
        )
        with rt.using(lm=other):
            assert ends(submit(rt.start(qa()), 1, "other")) == ["circuit_open"]
        with rt.using(lm=elsewhere):
            assert ends(submit(rt.start(qa()), 1, "elsewhere")) == ["ok"]
        assert stub.stats()["requests"] == 1


# -- overload ----------------------------------------------------------------------------------------------------------


def test_of_five_thousand_at_once_those_who_find_no_place_are_told_at_once(stub: StubServer) -> None:
    stub.control(fault="hold", keep=1)
    with guarded(stub) as rt:
        program = rt.start(qa(), max_inflight=100, max_queue=400)
        began = time.monotonic()
        replies = submit(program, 5000)
        wait_until(lambda: sum(reply.done() for reply in replies) == 4500)
        assert time.monotonic() - began < 5.0
        stub.wait("held>=100")
        stub.control(keep=1, plan=[])
        for reply in replies:
            assert reply.wait(PATIENCE, CLOCK)
        kinds = [None if reply.exception() is None else reply.exception().kind for reply in replies]  # type: ignore[union-attr]
        assert kinds.count("busy") == 4500
        assert stub.stats()["peak"] <= 100
