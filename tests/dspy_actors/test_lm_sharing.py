"""Equal questions at once share one request; what makes questions equal."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import KEY, ends, lm, submit
from tests.dspy_actors.programs import PATIENCE, SOON, echo, qa
from tests.server.client import StubServer

# -- equal questions at once -------------------------------------------------------------------------------------------


def test_five_hundred_equal_calls_at_once_send_one_request(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(rt.start(qa()), 500, "blue")
    wait_until(lambda: rt.numbers().coalesced == 499)
    stub.wait("held>=1")
    stub.release()
    assert (ends(replies), stub.stats()["requests"]) == (["ok"] * 500, 1)


def test_only_one_of_equal_calls_bears_the_cost(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(fast.start(qa()), 5, "blue")
    wait_until(lambda: fast.numbers().coalesced == 4)
    stub.wait("held>=1")
    stub.release()
    ends(replies)
    assert sorted(reply.get(0).attempts for reply in replies) == [0, 0, 0, 0, 1]
    joined = [reply.get(0) for reply in replies if reply.get(0).attempts == 0]
    assert [(each.usage, each.cached) for each in joined] == [(None, False)] * 4


def test_others_get_the_answer_when_the_first_of_equal_calls_leaves(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    first, *others = submit(fast.start(qa()), 4, "blue")
    wait_until(lambda: fast.numbers().coalesced == 3)
    stub.wait("held>=1")
    first.cancel()
    stub.release()
    assert (ends(others), stub.stats()["aborted"]) == (["ok"] * 3, 0)


def test_others_get_the_answer_after_the_deadline_of_the_first(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    program = fast.start(qa())
    first = program.using(deadline=SOON).submit(question="blue")
    stub.wait("held>=1")
    other = program.submit(question="blue")
    assert ends([first]) == ["deadline"]
    stub.release()
    assert (ends([other]), stub.stats()["requests"]) == (["ok"], 1)


def test_others_get_the_answer_when_the_first_leaves_before_the_worker_stands() -> None:
    may_open = threading.Event()

    def slow(config: object) -> ScriptedProvider:
        assert may_open.wait(PATIENCE)
        return ScriptedProvider(echo)

    with Runtime(lm="own/m", open_provider=slow) as rt:
        program = rt.start(qa())
        first = program.submit(question="blue")
        wait_until(lambda: rt.numbers().calls == 1)
        other = program.submit(question="blue")
        wait_until(lambda: rt.numbers().coalesced == 1)
        first.cancel()
        wait_until(lambda: program.metrics()["inflight"] == 1)
        may_open.set()
        assert other.get(PATIENCE).answer == "blue"


def test_the_server_sees_an_abort_when_all_of_equal_calls_leave(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(rt.start(qa()), 5, "blue")
    stub.wait("held>=1")
    wait_until(lambda: rt.numbers().coalesced == 4)
    for reply in replies:
        reply.cancel()
    assert stub.wait("aborted>=1")["requests"] == 1


def test_a_question_everybody_left_can_be_asked_again(fast: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "hold"}])
    program = fast.start(qa())
    left = program.submit(question="blue")
    stub.wait("held>=1")
    left.cancel()
    stub.wait("aborted>=1")
    assert program(question="blue").answer


def test_every_one_of_equal_calls_gets_an_equal_error_of_its_own(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold,status=401")
    replies = submit(fast.start(qa()), 5, "blue")
    wait_until(lambda: fast.numbers().coalesced == 4)
    stub.wait("held>=1")
    stub.release()
    assert ends(replies) == ["lm_auth"] * 5
    errors = [reply.exception() for reply in replies]
    assert len({id(error) for error in errors}) == 5
    assert len({str(error) for error in errors}) == 1


def test_without_the_cache_every_call_is_sent(fast: Runtime, stub: StubServer) -> None:
    with fast.using(lm=lm(stub, cache=False)):
        ends(submit(fast.start(qa()), 5, "blue"))
    assert stub.stats()["requests"] == 5


# -- what tells questions apart ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"tenant": "another"}, {"sample": 1}, {"options": {"temperature": 0.5}}, {"lm": "endpoint"}]
)
def test_a_question_that_differs_in_anything_is_asked_anew(
    fast: Runtime, stub: StubServer, changes: dict[str, Any]
) -> None:
    if changes == {"lm": "endpoint"}:
        changes = {"lm": lm(stub, "delay=0")}
    program = fast.start(qa())
    program(question="blue")
    assert not program.using(**changes)(question="blue").cached


def test_a_failure_of_the_server_is_not_kept(fast: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 8, "fault": "status=501"}])
    program = fast.start(qa())
    first = ends([program.submit(question="blue")])
    stub.control()

    assert first != ["ok"]
    assert program(question="blue").answer


def test_a_request_that_is_invalid_is_refused_again_without_asking(fast: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=400"}])
    program = fast.start(qa())

    assert ends([program.submit(question="blue")]) == ["lm_invalid_request"]
    assert ends([program.submit(question="blue")]) == ["lm_invalid_request"]
    assert stub.stats()["requests"] == 1


@dataclass
class Vault:
    """Gives a key. Not hashable, as it can be changed."""

    key: str = KEY

    def __call__(self) -> str:
        return self.key


def test_calls_whose_key_comes_from_one_callable_share_a_request_though_it_is_not_hashable(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "hold"}, {"fault": "status=400"}])
    model = lm(stub, num_retries=0)
    with Runtime(model, deadline=PATIENCE) as rt:
        one, other = (rt.start(qa()).using(lm=model.copy(api_key=vault)) for vault in (Vault(), Vault()))
        replies = submit(one, 3, "blue")
        wait_until(lambda: rt.numbers().coalesced == 2)
        stub.wait("held>=1")
        stub.release()
        assert ends(replies) == ["ok"] * 3
        assert ends(submit(one, 2, "red")) == ends(submit(one, 1, "red")) * 2 == ["lm_invalid_request"] * 2
        assert stub.stats()["requests"] == 2
        assert ends(submit(other, 1, "red")) == ["lm_invalid_request"]
        assert stub.stats()["requests"] == 3


def test_a_model_that_one_account_does_not_have_is_asked_for_with_the_key_of_another(stub: StubServer) -> None:
    """For half a minute nobody was let ask for it."""
    stub.control(plan=[{"times": 1, "fault": "status=404,code=model_not_found"}])
    model = lm(stub, num_retries=0)
    with Runtime(model, deadline=PATIENCE) as rt:
        program = rt.start(qa())
        other = program.using(lm=model.copy(api_key="sk-of-another-0123"))
        assert ends([program.submit(question="blue")]) == ["lm_unsupported_model"]
        assert ends([other.submit(question="blue")]) == ["ok"]


@pytest.mark.parametrize(
    ("first", "other", "ended"),
    [
        ({"api_key": "sk-of-another-0123"}, {}, ["lm_auth", "ok"]),
        ({"timeout": 0.2}, {"timeout": PATIENCE}, ["lm_timeout", "ok"]),
        ({"num_retries": 0}, {"num_retries": 1}, ["lm_server", "ok"]),
    ],
    ids=["key", "timeout", "retries"],
)
def test_a_call_does_not_end_with_the_key_or_the_patience_of_an_equal_one(
    stub: StubServer, first: dict[str, Any], other: dict[str, Any], ended: list[str]
) -> None:
    """It got the error of the other: told a user that a key is wrong that is another user's."""
    fault = {"api_key": "hold,status=401", "timeout": "hang", "num_retries": "hold,status=503"}[next(iter(first))]
    stub.control(plan=[{"times": 1, "fault": fault}])
    model = lm(stub, num_retries=0)
    with Runtime(model, deadline=PATIENCE) as rt:
        program = rt.start(qa())
        replies = [program.using(lm=model.copy(**first)).submit(question="blue")]
        stub.wait("requests>=1")
        replies.append(program.using(lm=model.copy(**other)).submit(question="blue"))
        stub.release()
        assert ends(replies) == ended
