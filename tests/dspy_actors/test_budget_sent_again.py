"""A request that is sent once more within its attempt is asked of the budget first, as every other one is."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import pytest

from dspy_actors.errors import (
    AdapterParseError,
    BudgetExceeded,
    DspyActorsError,
    LMAuthError,
    LMServerError,
    LMTransportError,
)
from dspy_actors.lm.budget import Amount, Budget, BudgetBook
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.over_http import KEY
from tests.dspy_actors.programs import PATIENCE, qa
from tests.server.client import StubServer

TRANSPORT = pytest.mark.parametrize("transport", ["aiohttp", "httpx", "h11"])
LOADING = "status=503,message=Loading model"
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


def ask(rt: Runtime, streamed: bool, question: str = "blue") -> None:
    if not streamed:
        qa()(question=question)
        return
    with rt.stream(question) as stream:
        for _ in stream:
            pass


def spent(rt: Runtime) -> Any:
    budgets: Any = rt.health()["budgets"]
    return budgets["tenant (none)"]["requests"]


def assert_refused(failed: DspyActorsError) -> None:
    """What went before the refusal is told first; the budget's word is its cause and its note."""
    refusal = failed.__cause__
    assert isinstance(refusal, BudgetExceeded)
    assert (refusal.scope, refusal.left) == ("tenant (none)", 0.0)
    assert [note.partition(":")[2].strip() for note in failed.__notes__] == [refusal.message]


@STREAMED
@TRANSPORT
def test_no_request_goes_out_again_over_the_budget_where_the_server_had_dropped_the_connection(
    stub: StubServer, transport: Any, streamed: bool
) -> None:
    stub.control(plan=[{"times": 1}, {"times": 1, "fault": "drop"}])
    with guarded(stub, transport=transport, budgets={"": Budget(requests=2)}) as rt:
        ask(rt, streamed)
        with pytest.raises(LMTransportError, match="the connection broke before") as failed:
            ask(rt, streamed, "other")
        assert failed.value.attempts == 1
        assert_refused(failed.value)
        assert stub.stats()["requests"] == rt.numbers().sent == rt.usage().attempts == 2
        assert spent(rt) == {"bound": 2, "spent": 2, "reserved": 0}


@STREAMED
def test_no_other_key_is_tried_over_the_budget(stub: StubServer, streamed: bool) -> None:
    stub.control(keys=[KEY])
    keys = chain(["old-key"], repeat(KEY))
    model = LM("openai/m", base_url=stub.base_url, api_key=lambda: next(keys), num_retries=0, cache=False)
    with Runtime(model, deadline=PATIENCE, budgets={"": Budget(requests=1)}) as rt:
        with pytest.raises(LMAuthError) as failed:
            ask(rt, streamed)
        assert (failed.value.status, failed.value.attempts) == (401, 1)
        assert_refused(failed.value)
        assert stub.stats()["requests"] == rt.usage().attempts == 1
        assert spent(rt) == {"bound": 1, "spent": 1, "reserved": 0}
        rt.set_budget(Budget(requests=2), tenant="")
        ask(rt, streamed)


def test_a_server_that_has_loaded_its_model_is_not_asked_again_over_the_budget(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": LOADING}])
    model = LM("local/m", base_url=stub.base_url, num_retries=0)
    with Runtime(model, deadline=PATIENCE, budgets={"": Budget(requests=1)}) as rt:
        with pytest.raises(LMServerError, match="Loading model") as failed:
            ask(rt, streamed=False)
        assert_refused(failed.value)
        assert [seen["target"] for seen in stub.bodies()] == ["/v1/chat/completions", "/health"]
        assert spent(rt) == {"bound": 1, "spent": 1, "reserved": 0}


class Stubborn(ScriptedProvider):
    """A provider of one's own that asks twice where it is refused."""

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        try:
            return await super().complete(request, attempt)
        except LMServerError:
            attempt.observer.again()
            return await super().complete(request, attempt)


def test_the_second_try_of_a_provider_of_ones_own_is_asked_of_the_budget_and_booked() -> None:
    yes = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
    provider = Stubborn([LMServerError("no"), yes, LMServerError("no"), yes])
    lm = LM("scripted/m", cache=False, num_retries=0)
    with Runtime(lm, open_provider=lambda config: provider, budgets={"": Budget(requests=3)}) as rt:
        assert qa()(question="blue").answer == "yes"
        with pytest.raises(BudgetExceeded):
            qa()(question="blue")
        assert (len(provider.requests), rt.usage().attempts) == (3, 3)
        assert spent(rt) == {"bound": 3, "spent": 3, "reserved": 0}


def test_an_answer_that_cannot_be_read_is_told_where_the_budget_has_no_room_for_another() -> None:
    provider = ScriptedProvider(["no layout at all"])
    with Runtime(LM("scripted/m"), open_provider=lambda config: provider, budgets={"": Budget(requests=1)}):
        with pytest.raises(AdapterParseError) as failed:
            qa()(question="blue")
        assert failed.value.text == "no layout at all"
        assert_refused(failed.value)


def test_what_failed_before_is_told_to_who_waits_for_a_shared_answer_too(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = chain(["old-key"], repeat(KEY))
    model = LM("openai/m", base_url=stub.base_url, api_key=lambda: next(keys), num_retries=0, cache=True)
    with Runtime(model, deadline=PATIENCE, budgets={"": Budget(requests=1)}):
        with pytest.raises(LMAuthError) as failed:
            qa()(question="blue")
        assert_refused(failed.value)


def test_what_is_set_aside_for_a_request_beside_another_stays_when_one_is_sent_again() -> None:
    book = BudgetBook({"a": Budget(requests=3)}, {})
    ledgers = book.ledgers("a", "")
    hold = book.hold(ledgers, Amount(40, requests=1))
    hold.cover(Amount(), 2)
    hold.again(Amount(requests=1))
    (ledger,) = ledgers
    assert ledger.reserved == Amount(80, requests=3)
    with pytest.raises(BudgetExceeded, match="0 requests left"):
        hold.again(Amount(requests=1))
    hold.settle(Amount(60, requests=3))
    hold.again(Amount(requests=1))  # too late to mean anything
    assert (ledger.reserved, ledger.spent) == (Amount(), Amount(60, requests=3))
