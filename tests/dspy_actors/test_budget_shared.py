"""Equal calls share a request, and not the poverty of whoever sends it: one who can pay for another sends that."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.lm.budget import Budget
from dspy_actors.lm.lm import LM
from dspy_actors.runtime import Runtime
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import NEVER, guarded
from tests.dspy_actors.over_http import KEY, ends
from tests.dspy_actors.programs import PATIENCE, qa
from tests.server.client import StubServer

POOR = {"p": Budget(requests=1), "q": Budget(requests=1), "z": Budget(requests=0)}
"""Budgets by session; the others have none."""


def poor(stub: StubServer) -> Runtime:
    """A runtime whose sessions may spend more or less."""
    return guarded(stub, lm={"cache": True}, retries=2, breaker=NEVER, session_budgets=POOR)


def spent(rt: Runtime, session: str) -> dict[str, int]:
    budgets: Any = rt.health()["budgets"]
    return dict(budgets[f"session {session}"]["requests"])


def ask_together(rt: Runtime, stub: StubServer, sessions: str) -> list[Reply[Any]]:
    """The same question in each of the sessions, `a` to `z`; the first one sends it, and the others wait with it."""
    program = rt.start(qa())
    first, *others = sessions
    replies = [program.using(session=first).submit(question="blue")]
    stub.wait("held>=1")
    replies += [program.using(session=each).submit(question="blue") for each in others]
    wait_until(lambda: rt.numbers().coalesced == len(others))
    return replies


@pytest.mark.parametrize(
    ("sessions", "well"), [("pr", "r"), ("pqr", "r"), ("pzr", "r"), ("prr", "rr"), ("pzqrz", "rz"), ("pqz", "")]
)
def test_who_can_pay_for_another_try_makes_it_where_the_one_who_asked_for_all_cannot(
    stub: StubServer, sessions: str, well: str
) -> None:
    """All ended in the failure of the first try, of the one whose budget had no room for a second."""
    payers = sum(each in "pq" for each in sessions)
    stub.control(plan=[{"times": 1, "fault": "hold,status=503"}, *[{"times": 1, "fault": "status=503"}] * (payers - 1)])
    with poor(stub) as rt:
        replies = ask_together(rt, stub, sessions)
        stub.release()
        failed = len(sessions) - len(well)
        assert ends(replies) == ["lm_server"] * failed + ["ok"] * len(well)
        assert [spent(rt, each) for each in "pz"] == [
            {"bound": 1, "spent": 1, "reserved": 0},
            {"bound": 0, "spent": 0, "reserved": 0},
        ]
        assert stub.stats()["requests"] == payers + bool(well)


def test_a_call_that_is_made_again_and_waits_again_is_counted_once(stub: StubServer) -> None:
    """More calls had waited for an equal one than there were."""
    stub.control(plan=[{"times": 1, "fault": "hold,status=503"}, {"times": 1, "fault": "status=503"}])
    with poor(stub) as rt:
        replies = ask_together(rt, stub, "pqzzz")
        stub.release()
        assert ends(replies) == ["lm_server"] * 5
        assert (rt.numbers().calls, rt.numbers().coalesced) == (5, 4)


def test_where_the_first_key_was_refused_and_its_budget_has_no_room_another_session_asks(stub: StubServer) -> None:
    """The first one's error was the others' too, though one of them had the money to ask with the second key."""
    stub.control(plan=[{"times": 1, "fault": "hold,status=401"}])
    model = LM("openai/m", base_url=stub.base_url, api_key=["old-key-0123456789", KEY], num_retries=0)
    with Runtime(model, deadline=PATIENCE, session_budgets=POOR) as rt:
        replies = ask_together(rt, stub, "pr")
        stub.release()
        assert ends(replies) == ["lm_auth", "ok"]


def test_a_call_that_was_given_up_while_it_shared_is_not_made_again(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "hold,status=503"}])
    with poor(stub) as rt:
        first, other = ask_together(rt, stub, "pr")
        other.cancel()
        wait_until(lambda: rt.health()["programs"]["inflight"] == 1)  # type: ignore[index]  # it has left the others
        stub.release()
        assert ends([first]) == ["lm_server"]
        assert (rt.numbers().sent, stub.stats()["requests"]) == (1, 1)
