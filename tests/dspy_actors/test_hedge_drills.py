"""Hedging on a real server: how many requests it sees, which of them are aborted, and what is booked for them."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.envelope import CLASSES, Priority
from dspy_actors.errors import DeadlineExceeded, LMServerError
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.gates import HEDGED
from dspy_actors.lm.hedge import Hedge
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.retry_budget import RetryBudgetSettings
from dspy_actors.lm.usage_log import UsageRecord
from dspy_actors.runtime import Runtime
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import guarded, limiter
from tests.dspy_actors.over_http import KILLED, ends, submit, worker
from tests.dspy_actors.programs import PATIENCE, SOON, qa
from tests.server.client import StubServer

ALWAYS = Hedge(samples=5, share=1.0)
KNOWN = 0.02
"""Seconds that the answers took which are known before a drill begins."""


def hedged(stub: StubServer, hedge: Hedge | bool = ALWAYS, **settings: Any) -> Runtime:
    """A runtime, not started, whose model may be asked twice."""
    return guarded(stub, lm={"hedge": hedge, **settings.pop("lm", {})}, **settings)


def warm(rt: Runtime, stub: StubServer, plan: list[dict[str, Any]], known: float = KNOWN, answers: int = 300) -> None:
    """So many answers took so many seconds; the server has seen nothing and follows `plan`."""
    lm = rt.settings.lm
    assert lm is not None
    qa_unhedged(rt, lm)
    assert rt._layer is not None
    (lane,) = rt._layer.gatehouse.lanes.values()
    for _ in range(answers):
        lane.learn(known)
    stub.control(plan=plan)


def qa_unhedged(rt: Runtime, lm: LM) -> None:
    with rt.using(lm=lm.copy(hedge=False)):
        qa()(question="before")


def rows(rt: Runtime) -> list[UsageRecord]:
    """What is booked of the calls of the drill."""
    assert rt._layer is not None
    return list(rt._layer.usage.records())[1:]


HOLD_ONE = [{"times": 1, "fault": "hold"}]
HOLD_TWO = [{"times": 2, "fault": "hold"}]


def test_a_stuck_request_is_overtaken_by_a_second_one_and_closed(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_ONE)
        prediction = qa()(question="blue")
        counts = stub.wait("aborted>=1")
        assert (counts["requests"], counts["aborted"]) == (2, 1)
        assert (prediction.attempts, prediction.model) == (2, "openai/m")
        numbers = rt.numbers()
        assert (numbers.hedges, numbers.retries, numbers.sent, numbers.unanswered) == (1, 0, 3, 1)


def test_both_requests_are_booked_to_the_usage_log_and_to_the_budget(stub: StubServer) -> None:
    with hedged(stub, budgets={"": Budget(requests=10)}) as rt:
        warm(rt, stub, HOLD_ONE)
        qa()(question="blue")
        assert sorted((row.status, row.attempt) for row in rows(rt)) == [("cancelled", 1), ("ok", 2)]
        budgets: Any = rt.health()["budgets"]
        assert budgets["tenant (none)"]["requests"] == {"bound": 10, "spent": 3, "reserved": 0}
        assert limiter(rt)["in_flight"] == 0


def test_a_second_request_is_told(stub: StubServer) -> None:
    told: list[Any] = []
    with hedged(stub) as rt:
        rt.system.kernel.telemetry.attach("test", HEDGED, lambda event, numbers, about: told.append(dict(about)))
        warm(rt, stub, HOLD_ONE)
        qa()(question="blue")
    assert [about["model"] for about in told] == ["openai/m"]


def test_where_the_first_one_answers_after_all_the_second_is_closed(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_TWO)
        (reply,) = submit(rt.start(qa()), 1)
        stub.wait("held>=2")
        stub.release(1)
        assert ends([reply]) == ["ok"]
        counts = stub.wait("aborted>=1")
        assert (counts["requests"], counts["aborted"]) == (2, 1)
        assert sorted((row.status, row.attempt) for row in rows(rt)) == [("cancelled", 2), ("ok", 1)]


def test_a_quick_answer_is_asked_for_once(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [], known=PATIENCE)
        assert ends(submit(rt.start(qa()), 20)) == ["ok"] * 20
        assert (stub.stats()["requests"], rt.numbers().hedges) == (20, 0)


def test_at_most_their_share_of_the_requests_is_sent_twice(stub: StubServer) -> None:
    with hedged(stub, Hedge(samples=5, share=0.05)) as rt:
        warm(rt, stub, [{"fault": "delay=100"}], known=0.001)
        program = rt.start(qa())
        for batch in range(4):
            assert ends(submit(program, 25, f"batch {batch} " + "{n}")) == ["ok"] * 25
        hedges = rt.numbers().hedges
        assert 0 < hedges <= 5
        assert stub.stats()["requests"] == 100 + hedges


def test_a_budget_that_allows_one_request_pays_for_no_second_one(stub: StubServer) -> None:
    with hedged(stub, budgets={"t": Budget(requests=1)}) as rt:
        warm(rt, stub, [{"fault": "delay=150"}])
        with rt.using(tenant="t"):
            assert qa()(question="blue").attempts == 1
        assert (stub.stats()["requests"], rt.numbers().hedges) == (1, 0)
        budgets: Any = rt.health()["budgets"]
        assert budgets["tenant t"]["requests"] == {"bound": 1, "spent": 1, "reserved": 0}


def test_where_no_second_request_is_sent_nothing_stays_set_aside_for_one(stub: StubServer) -> None:
    unpaid = RetryBudgetSettings(capacity=0.0)
    with hedged(stub, retry_budget=unpaid, budgets={"t": Budget(requests=2)}) as rt:
        warm(rt, stub, HOLD_ONE)
        assert rt._layer is not None
        (lane,) = rt._layer.gatehouse.lanes.values()
        (reply,) = submit(rt.start(qa()).using(tenant="t"), 1)
        stub.wait("held>=1")
        wait_until(lambda: lane._earned < 0.5)  # a second request was thought of
        budgets: Any = rt.health
        wait_until(lambda: budgets()["budgets"]["tenant t"]["requests"]["reserved"] == 1)
        stub.release()
        assert ends([reply]) == ["ok"]


def test_a_retry_budget_that_is_empty_pays_for_no_second_request(stub: StubServer) -> None:
    with hedged(stub, retry_budget=RetryBudgetSettings(capacity=0.0)) as rt:
        warm(rt, stub, [{"fault": "delay=100"}])
        assert ends(submit(rt.start(qa()), 5)) == ["ok"] * 5
        assert (stub.stats()["requests"], rt.numbers().hedges) == (5, 0)


def test_a_second_request_is_paid_for_from_the_retry_budget(stub: StubServer) -> None:
    with hedged(stub, retry_budget=RetryBudgetSettings(capacity=10.0, refund=0.0)) as rt:
        warm(rt, stub, [{"fault": "delay=100"}])
        assert ends(submit(rt.start(qa()), 5)) == ["ok"] * 5
        assert rt.numbers().hedges == 2
        (left,) = rt.health()["retry_budgets"].values()  # type: ignore[attr-defined]
        assert left == 0.0


def test_a_second_request_that_finds_no_room_leaves_the_line_as_the_first_one_answers(stub: StubServer) -> None:
    with hedged(stub, limiter=LimiterSettings(max_in_flight=1)) as rt:
        warm(rt, stub, HOLD_ONE)
        (reply,) = submit(rt.start(qa()), 1)
        wait_until(lambda: limiter(rt)["waiting"] == 1)
        stub.release()
        assert ends([reply]) == ["ok"]
        assert (limiter(rt)["waiting"], limiter(rt)["in_flight"]) == (0, 0)
        assert (stub.stats()["requests"], rt.numbers().hedges, len(rows(rt))) == (1, 0, 1)


@pytest.mark.parametrize("priority", CLASSES)
def test_a_second_request_waits_in_the_class_of_its_call(stub: StubServer, priority: Priority) -> None:
    with hedged(stub, limiter=LimiterSettings(max_in_flight=1)) as rt:
        warm(rt, stub, HOLD_ONE)
        (reply,) = submit(rt.start(qa()).using(priority=priority), 1)
        wait_until(lambda: limiter(rt)["waiting"] == 1)
        assert [limiter(rt)[f"waiting_{name}"] for name in CLASSES] == [int(name == priority) for name in CLASSES]
        stub.release()
        assert ends([reply]) == ["ok"]


def test_a_second_request_that_waits_grows_more_urgent_with_its_call(stub: StubServer) -> None:
    with hedged(stub, limiter=LimiterSettings(max_in_flight=1)) as rt:
        warm(rt, stub, HOLD_ONE)
        program = rt.start(qa())
        replies = submit(program.using(priority="optimizer"), 1)
        wait_until(lambda: limiter(rt)["waiting_optimizer"] == 1)
        replies += submit(program, 1)
        wait_until(lambda: limiter(rt)["waiting_interactive"] == 1)
        assert (limiter(rt)["waiting"], rt.numbers().coalesced) == (1, 1)
        stub.release()
        assert ends(replies) == ["ok", "ok"]


def test_a_second_request_that_fails_leaves_it_to_the_first(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [*HOLD_ONE, {"times": 1, "fault": "status=500"}])
        (reply,) = submit(rt.start(qa()), 1)
        wait_until(lambda: len(rows(rt)) == 1)
        assert not reply.done()
        stub.release()
        assert ends([reply]) == ["ok"]
        assert stub.stats()["requests"] == 2


def test_where_both_fail_the_call_has_failed_twice(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [{"times": 1, "fault": "delay=300,status=503"}, {"times": 1, "fault": "status=500"}])
        with pytest.raises(LMServerError) as caught:
            qa()(question="blue")
        assert (caught.value.status, caught.value.attempts) == (503, 2)
        assert stub.stats()["requests"] == 2


def test_a_hedge_uses_up_no_retry(stub: StubServer) -> None:
    plan = [{"times": 1, "fault": "delay=300,status=503"}, {"times": 2, "fault": "status=500,retry_after=0"}]
    with hedged(stub, retries=2) as rt:
        warm(rt, stub, plan)
        assert qa()(question="blue").attempts == 4
        assert (rt.numbers().hedges, rt.numbers().retries) == (1, 2)
    assert stub.stats()["requests"] == 4


def test_a_cancelled_call_closes_both_requests(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_TWO)
        (reply,) = submit(rt.start(qa()), 1)
        stub.wait("held>=2")
        reply.cancel()
        counts = stub.wait("aborted>=2")
        assert (counts["requests"], counts["aborted"]) == (2, 2)
        wait_until(lambda: len(rows(rt)) == 2)
        assert {row.status for row in rows(rt)} == {"cancelled"}
        assert limiter(rt)["in_flight"] == 0


def test_a_deadline_ends_both_requests(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_TWO)
        with pytest.raises(DeadlineExceeded) as caught:
            rt.start(qa()).using(deadline=max(SOON, 0.3))(question="blue")
        assert caught.value.phase == "model"
        assert stub.wait("aborted>=2")["requests"] == 2


def test_a_worker_that_dies_with_two_requests_leaves_neither_behind(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_TWO)
        (reply,) = submit(rt.start(qa()), 1)
        stub.wait("held>=2")
        worker(rt).exit(KILLED)
        assert ends([reply]) == ["ok"]
        assert stub.wait("aborted>=2")["requests"] == 3
        assert rt.numbers().resubmits == 1
        assert limiter(rt)["in_flight"] == 0


def test_equal_calls_share_both_requests(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_ONE)
        replies = submit(rt.start(qa()), 10, "the same")
        assert ends(replies) == ["ok"] * 10
        assert stub.wait("aborted>=1")["requests"] == 2


def test_a_stream_is_asked_for_once(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [{"fault": "delay=150"}])
        for _ in rt.stream("hello"):
            pass
        assert (stub.stats()["requests"], rt.numbers().hedges) == (1, 0)


def test_without_being_told_to_nothing_is_sent_twice(stub: StubServer) -> None:
    with hedged(stub, False) as rt:
        warm(rt, stub, [{"fault": "delay=100"}])
        assert ends(submit(rt.start(qa()), 5)) == ["ok"] * 5
        assert (stub.stats()["requests"], rt.numbers().hedges) == (5, 0)


def test_callers_who_leave_say_nothing_of_how_long_answers_take(stub: StubServer) -> None:
    with hedged(stub, False) as rt:
        warm(rt, stub, [{"fault": "hold"}], known=5.0, answers=20)
        replies = submit(rt.start(qa()), 100)
        stub.wait("held>=100")
        for reply in replies:
            reply.cancel()
        stub.wait("aborted>=100")
        wait_until(lambda: len(rows(rt)) == 100)
        (reading,) = rt.health()["latencies"].values()  # type: ignore[attr-defined]
        assert (reading["answers"], reading["p50_seconds"]) == (21, 5.0)


def test_one_that_was_overtaken_counts_as_long_as_it_took(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [{"times": 1, "fault": "hold"}, {"times": 1, "fault": "delay=150"}], known=0.05)
        qa()(question="blue")
        stub.wait("aborted>=1")
        took = sorted(row.seconds for row in rows(rt))
        assert took[0] >= 0.15
        assert took[1] >= took[0] + 0.05


def test_a_second_request_that_was_too_late_says_nothing_of_how_long_answers_take(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, HOLD_TWO, answers=20)
        (reply,) = submit(rt.start(qa()), 1)
        stub.wait("held>=2")
        stub.release(1)
        assert ends([reply]) == ["ok"]
        stub.wait("aborted>=1")
        wait_until(lambda: len(rows(rt)) == 2)
        (reading,) = rt.health()["latencies"].values()  # type: ignore[attr-defined]
        assert reading["answers"] == 22


def test_what_answers_take_is_shown(stub: StubServer) -> None:
    with hedged(stub) as rt:
        warm(rt, stub, [], known=0.5)
        (reading,) = rt.health()["latencies"].values()  # type: ignore[attr-defined]
        assert reading == {"answers": 256, "p50_seconds": 0.5, "p95_seconds": 0.5}
