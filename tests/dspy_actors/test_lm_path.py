"""The way of a question to a model and back, over HTTP: what the server may do wrong, and many questions at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspy_actors.errors import (
    DeadlineExceeded,
    LMAuthError,
    LMConfigurationError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMTransportError,
    LMUnexpectedError,
)
from dspy_actors.lm.lm import LM
from dspy_actors.runtime import Runtime
from tests.dspy_actors.over_http import ends, lm, submit
from tests.dspy_actors.programs import PATIENCE, SOON, begin, qa
from tests.server.client import StubServer

# -- faults of the server ----------------------------------------------------------------------------------------------


def test_an_answer_arrives(rt: Runtime) -> None:
    assert qa()(question="blue").answer


def test_what_the_server_counts_is_what_is_counted_here(rt: Runtime, stub: StubServer) -> None:
    ends(submit(rt.start(qa()), 20))
    assert rt.numbers().sent == stub.stats()["requests"] == 20


@pytest.mark.parametrize("fault", ["status=500", "status=503", "status=429,retry_after=0", "reset", "drop", "cut=10"])
def test_a_fault_that_passes_is_tried_again(rt: Runtime, stub: StubServer, fault: str) -> None:
    stub.control(plan=[{"times": 1, "fault": fault}])
    assert qa()(question="blue").attempts == 2


def test_a_retry_waits_as_long_as_the_server_says(fast: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=429,retry_after=0.4"}])
    qa()(question="blue")
    first, second = stub.stats()["arrivals"]
    assert second - first >= 0.4


def test_a_server_that_wants_more_patience_than_there_is_gets_no_further_request(
    fast: Runtime, stub: StubServer
) -> None:
    stub.control(fault="status=429,retry_after=30")
    with pytest.raises(LMRateLimitError):
        qa()(question="blue")
    assert stub.stats()["requests"] == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status=500", LMServerError),
        ("status=429,retry_after=0", LMRateLimitError),
        ("status=401", LMAuthError),
        ("reset", LMTransportError),
        ("malformed", LMUnexpectedError),
        ("html", LMUnexpectedError),
        ("no_choices", LMUnexpectedError),
    ],
)
def test_a_fault_that_stays_is_a_typed_error(rt: Runtime, stub: StubServer, fault: str, error: type[LMError]) -> None:
    with rt.using(lm=lm(stub, fault, num_retries=0)), pytest.raises(error) as caught:
        qa()(question="blue")
    assert caught.value.model == "m"


def test_retries_end_after_as_many_as_were_asked_for(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="status=429,retry_after=0")
    with fast.using(lm=lm(stub, num_retries=2)), pytest.raises(LMRateLimitError) as caught:
        qa()(question="blue")
    assert (stub.stats()["requests"], caught.value.attempts) == (3, 3)


def test_a_refused_key_is_not_tried_again(fast: Runtime, stub: StubServer) -> None:
    stub.control(keys=["another"])
    with pytest.raises(LMAuthError):
        qa()(question="blue")
    assert stub.stats()["requests"] == 1


def test_a_server_that_hangs_ends_at_the_deadline(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hang")
    with pytest.raises(DeadlineExceeded):
        rt.start(qa()).using(deadline=SOON)(question="blue")


def test_a_server_that_hangs_in_the_middle_ends_at_the_deadline(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hang=body")
    with pytest.raises(DeadlineExceeded):
        rt.start(qa()).using(deadline=SOON)(question="blue")


def test_a_server_sees_that_a_call_was_given_up(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hang")
    with pytest.raises(DeadlineExceeded):
        rt.start(qa()).using(deadline=SOON)(question="blue")
    assert stub.wait("aborted>=1")["aborted"] == 1


def test_a_server_that_is_not_there_is_a_transport_error(rt: Runtime) -> None:
    nowhere = LM("openai/m", base_url="http://127.0.0.1:9/v1", num_retries=0)
    with rt.using(lm=nowhere), pytest.raises(LMTransportError):
        qa()(question="blue")


def test_an_unknown_provider_names_the_known_ones(fast: Runtime) -> None:
    with fast.using(lm="nobody/m"), pytest.raises(LMConfigurationError, match="openai"):
        qa()(question="blue")


def test_a_provider_that_cannot_be_opened_is_an_error_of_the_model() -> None:
    def broken(config: object) -> Any:
        raise OSError("no such device")

    with Runtime(lm="own/m", open_provider=broken), pytest.raises(LMConfigurationError, match="no such device"):
        qa()(question="blue")


def test_an_error_of_one_call_stays_with_it(fast: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"match": "poison", "fault": "status=400"}])
    replies = submit(fast.start(qa()), 10, "{n}") + submit(fast.start(qa()), 1, "poison")
    assert ends(replies) == ["ok"] * 10 + ["lm_invalid_request"]


# -- many at once ------------------------------------------------------------------------------------------------------


def test_a_burst_of_awaited_calls_all_end(rt: Runtime, stub: StubServer) -> None:
    async def burst() -> list[Any]:
        return await asyncio.gather(*(program.acall(question=f"q{n}") for n in range(200)))

    program = rt.start(qa())
    assert len(asyncio.run(burst())) == 200
    assert stub.stats()["requests"] == 200


def test_a_call_from_a_thread_is_as_good_as_an_awaited_one(rt: Runtime) -> None:
    program = rt.start(qa())
    assert begin(lambda: program(question="blue")).get(PATIENCE).answer
