"""Each request that a server saw has its record, and the id that it went out with; none has another's."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.errors import LMError
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage_log import UsageRecord
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.over_http import KEY, KILLED, ends, submit, worker
from tests.dspy_actors.programs import PATIENCE, SOON, qa
from tests.server.client import StubServer

TRANSPORT = pytest.mark.parametrize("transport", ["aiohttp", "httpx", "h11"])


def rows(rt: Runtime) -> list[UsageRecord]:
    assert rt._layer is not None
    return list(rt._layer.usage.records())


def agree(rt: Runtime, stub: StubServer) -> bool:
    """Whether the server saw what is reported as sent, and each under the id of one record."""
    seen = sorted(request["headers"]["x-request-id"] for request in stub.bodies())
    booked = sorted(f"{row.call_id}.{row.attempt}" for row in rows(rt))
    return seen == booked and rt.numbers().sent == rt.usage().attempts == len(seen)


def are_distinct(rt: Runtime) -> bool:
    booked = [(row.call_id, row.attempt) for row in rows(rt)]
    return len(set(booked)) == len(booked)


@TRANSPORT
def test_a_request_over_a_connection_that_the_server_had_dropped_is_booked_too(
    stub: StubServer, transport: Any
) -> None:
    stub.control(plan=[{"times": 1}, {"times": 1, "fault": "drop"}])
    with guarded(stub, transport=transport, budgets={"": Budget(requests=9)}) as rt:
        qa()(question="first")
        assert qa()(question="second").attempts == 1
        assert [row.status for row in rows(rt)] == ["ok", "error", "ok"]
        assert agree(rt, stub)
        budgets: Any = rt.health()["budgets"]
        assert budgets["tenant (none)"]["requests"] == {"bound": 9, "spent": 3, "reserved": 0}


def test_an_answer_that_nobody_counted_is_booked_by_its_length(stub: StubServer) -> None:
    stub.control(fault="no_usage")
    with guarded(stub) as rt:
        answer = qa()(question="what does it cost?").answer
        (row,) = rows(rt)
        assert row.usage is not None
        assert row.usage.estimated
        assert row.usage.completion_tokens >= len(answer) / 4 > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("fault", "is_billed"), [("hang", True), ("hang=body", True), ("status=500", False), ("status=504", False)]
)
def test_the_prompt_of_a_request_that_had_no_answer_is_booked_and_that_of_a_failed_one_is_not(
    stub: StubServer, fault: str, is_billed: bool, streamed: bool
) -> None:
    """What a provider did not answer in time counted as free, and a budget of tokens or money never ended."""
    stub.control(fault=f"{fault},whole")
    lm = LM("openai/m", base_url=stub.base_url, api_key=KEY, num_retries=0, timeout=SOON, max_tokens=1)
    with Runtime(lm, deadline=PATIENCE, budgets={"": Budget(tokens=10_000)}) as rt:
        ask = (lambda: list(rt.stream("what does it cost?"))) if streamed else lambda: qa()(question="what?")
        with pytest.raises(LMError):
            ask()
        (row,) = rows(rt)
        assert (row.status, row.usage is not None and row.usage.estimated) == ("error", is_billed)
        budgets: Any = rt.health()["budgets"]
        assert (budgets["tenant (none)"]["tokens"]["spent"] > 0) == is_billed


@TRANSPORT
def test_a_stream_over_a_connection_that_the_server_had_dropped_is_booked_too(stub: StubServer, transport: Any) -> None:
    stub.control(plan=[{"times": 1}, {"times": 1, "fault": "drop"}])
    with guarded(stub, transport=transport) as rt:
        qa()(question="first")
        with rt.stream("second") as stream:
            assert "".join(piece.text for piece in stream if hasattr(piece, "text"))
        assert [row.status for row in rows(rt)] == ["ok", "error", "ok"]
        assert agree(rt, stub)


def test_a_request_with_a_key_that_was_refused_is_booked_too(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = iter(["old-key", KEY])
    model = LM("openai/m", base_url=stub.base_url, api_key=lambda: next(keys, KEY), num_retries=0)
    with Runtime(model, deadline=PATIENCE) as rt:
        qa()(question="blue")
        assert [row.status for row in rows(rt)] == ["error", "ok"]
        assert agree(rt, stub)


def test_the_attempts_at_a_model_and_at_its_fallback_are_told_apart(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=500"}])
    second = LM("openai/second", base_url=stub.base_url, api_key=KEY)
    with guarded(stub, lm={"fallbacks": [second]}) as rt:
        assert qa()(question="blue").attempts == 2
        assert [(row.model, row.attempt) for row in rows(rt)] == [("openai/m", 1), ("openai/second", 2)]
        assert agree(rt, stub)


class Two(Module):
    """Asks twice in one call."""

    def __init__(self) -> None:
        self.one = Predict("question -> answer")
        self.other = ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        self.one(question=question)
        return self.other(question=question)


def test_the_requests_of_all_parts_of_a_program_are_told_apart(stub: StubServer) -> None:
    with guarded(stub) as rt:
        rt.start(Two())(question="blue")
        assert (len(rows(rt)), are_distinct(rt), agree(rt, stub)) == (2, True, True)


def test_a_request_and_the_one_that_takes_its_place_after_a_workers_death_are_told_apart(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "hold"}])
    with guarded(stub) as rt:
        replies = submit(rt.start(qa()), 1)
        stub.wait("held>=1")
        worker(rt).exit(KILLED)
        assert ends(replies) == ["ok"]
        assert [(row.status, row.attempt) for row in rows(rt)] == [("cancelled", 1), ("ok", 2)]
        assert agree(rt, stub)
