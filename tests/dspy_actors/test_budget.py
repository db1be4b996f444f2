"""Budgets, prices, usage records: what is set aside, what is charged, what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from dspy_actors import LM, Predict, Runtime
from dspy_actors.envelope import Envelope, new_call_id
from dspy_actors.errors import BudgetExceeded, DspyActorsError, LMConfigurationError, LMServerError
from dspy_actors.lm.budget import Amount, Budget, BudgetBook, Ledger
from dspy_actors.lm.estimate import likely_usage
from dspy_actors.lm.prices import Price, cost_of
from dspy_actors.lm.work import Work
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import worker
from tests.dspy_actors.programs import PATIENCE

TEXT = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
PRICE = Price("1.00", "2.00", cached="0.50")


def answer(request: LMRequest) -> LMResponse:
    return LMResponse((TEXT,), "m", Usage(100, 10))


def runtime(provider: ScriptedProvider, **options: object) -> Runtime:
    lm = LM("scripted/m", max_tokens=50, cache=False, num_retries=0)
    return Runtime(lm, open_provider=lambda config: provider, **options)  # type: ignore[arg-type]


def test_a_price_counts_cached_tokens_apart() -> None:
    assert PRICE.of(Usage(1_000_000, 500_000, cached_tokens=400_000)) == Decimal("1.8")


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert cost_of(Usage(1, 1), "openai/x", {}) is None


@pytest.mark.parametrize("bad", [-1, "NaN", float("inf")])
def test_a_price_that_makes_no_sense_is_refused(bad: object) -> None:
    with pytest.raises(LMConfigurationError, match="prompt"):
        Price(bad, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["tokens", "money", "requests"])
def test_a_budget_below_zero_is_refused(field: str) -> None:
    with pytest.raises(LMConfigurationError, match=field):
        Budget(**{field: -1})


@pytest.mark.parametrize("bad", [float("nan"), "many"])
@pytest.mark.parametrize("field", ["tokens", "money", "requests"])
def test_a_budget_of_what_is_no_number_is_refused(field: str, bad: Any) -> None:
    with pytest.raises(LMConfigurationError, match=field):
        Budget(**{field: bad})


def test_what_is_reserved_cannot_be_reserved_again() -> None:
    book = BudgetBook({"a": Budget(tokens=100)}, {})
    ledgers = book.ledgers("a", "")
    book.reserve(ledgers, Amount(60, requests=1))

    with pytest.raises(BudgetExceeded) as refused:
        book.reserve(ledgers, Amount(60, requests=1))
    assert (refused.value.scope, refused.value.left) == ("tenant a", 40.0)


def test_a_refused_reservation_leaves_the_other_ledger_alone() -> None:
    book = BudgetBook({"a": Budget(tokens=100)}, {"s": Budget(requests=0)})
    with pytest.raises(BudgetExceeded):
        book.reserve(book.ledgers("a", "s"), Amount(10, requests=1))

    book.reserve(book.ledgers("a", ""), Amount(100, requests=1))
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve(book.ledgers("a", ""), Amount(1))
    assert refused.value.left == 0.0


def test_settling_gives_back_what_was_not_spent() -> None:
    book = BudgetBook({"a": Budget(tokens=100)}, {})
    ledgers = book.ledgers("a", "")
    book.reserve(ledgers, Amount(90))
    book.settle(ledgers, Amount(90), Amount(10))

    book.reserve(ledgers, Amount(90))
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve(ledgers, Amount(1))
    assert refused.value.left == 0.0


def test_a_call_over_the_budget_is_refused_before_anything_is_sent() -> None:
    provider = ScriptedProvider(answer)
    with runtime(provider, budgets={"": Budget(tokens=10)}), pytest.raises(BudgetExceeded, match="tokens left"):
        Predict("question -> answer")(question="q")

    assert provider.requests == []


def test_a_session_has_a_budget_of_its_own() -> None:
    provider = ScriptedProvider(answer)
    with runtime(provider, session_budgets={"s": Budget(requests=1)}) as rt:
        program = rt.start(Predict("question -> answer"))
        with rt.using(session="s"):
            program(question="1")
            with pytest.raises(BudgetExceeded):
                program(question="2")
        program(question="3")

    assert len(provider.requests) == 2


def test_calls_made_at_once_do_not_spend_more_together_than_they_may() -> None:
    provider = ScriptedProvider(answer)
    with runtime(provider, budgets={"": Budget(requests=5)}) as rt:
        program = rt.start(Predict("question -> answer"))

        def one(number: int) -> bool:
            try:
                program(question=str(number))
            except BudgetExceeded:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(one, range(40)))

    assert (sum(outcomes), len(provider.requests)) == (5, 5)


def test_an_answer_from_the_cache_costs_nothing() -> None:
    provider = ScriptedProvider(answer)
    options = {"budgets": {"": Budget(requests=1)}, "open_provider": lambda config: provider}
    with Runtime(LM("scripted/m", max_tokens=50), **options):  # type: ignore[arg-type]
        program = Predict("question -> answer")
        program(question="q")

        assert program(question="q").cached


def test_every_attempt_is_booked_with_its_cost() -> None:
    with runtime(ScriptedProvider(answer), prices={"scripted/m": PRICE}) as rt, rt.using(tenant="t"):
        Predict("question -> answer")(question="q")

        totals = rt.usage(tenant="t")
        assert (totals.attempts, totals.tokens, totals.cost, totals.unpriced) == (1, 110, Decimal("0.00012"), 0)
        assert rt.usage(tenant="other").attempts == 0


def test_a_failed_attempt_is_booked_and_counts_against_the_budget() -> None:
    def refuse(request: LMRequest) -> LMResponse:
        raise LMServerError("down", status=500)

    with runtime(ScriptedProvider(refuse), budgets={"": Budget(requests=1)}) as rt:
        program = Predict("question -> answer")
        with pytest.raises(LMServerError):
            program(question="1")

        assert rt.usage().attempts == 1
        with pytest.raises(BudgetExceeded):
            program(question="2")


def test_a_request_is_sent_again_only_as_often_as_the_budget_allows() -> None:
    def refuse(request: LMRequest) -> LMResponse:
        raise LMServerError("down", status=500, retry_after=0.0)

    provider = ScriptedProvider(refuse)
    with runtime(provider, budgets={"": Budget(requests=3)}) as rt:
        with rt.using(lm=LM("scripted/m", num_retries=9)), pytest.raises(LMServerError) as caught:
            Predict("question -> answer")(question="1")
        budgets = rt.health()["budgets"]
    assert (caught.value.attempts, len(provider.requests)) == (3, 3)
    assert budgets["tenant (none)"]["requests"] == {"bound": 3, "spent": 3, "reserved": 0}  # type: ignore[index]


def test_what_a_failed_attempt_did_not_spend_is_there_for_the_next() -> None:
    fails = iter([False, True, False])

    def script(request: LMRequest) -> LMResponse:
        if next(fails):
            raise LMServerError("down", status=500, retry_after=0.0)
        return answer(request)

    provider = ScriptedProvider(script)
    with runtime(provider) as rt, rt.using(lm=LM("scripted/m", max_tokens=50, cache=False, num_retries=1)):
        program = Predict("question -> answer")
        program(question="1")
        rt.set_budget(Budget(tokens=likely_usage(provider.requests[0]).total_tokens), tenant="t")
        with rt.using(tenant="t"):
            assert program(question="1").attempts == 2


def test_what_a_model_did_not_spend_is_there_for_its_fallback() -> None:
    fails: Reply[None] = Reply()

    async def script(request: LMRequest) -> LMResponse:
        if request.model == "m":
            await fails
            raise LMServerError("down", status=500)
        return answer(request)

    lm = LM("scripted/m", num_retries=0, fallbacks=[LM("scripted/second", num_retries=0)])
    request = LMRequest("m", (Message.of("user", "hello"),), {})
    tokens = likely_usage(request).total_tokens
    with runtime(ScriptedProvider(script), budgets={"": Budget(tokens=tokens)}) as rt:
        assert rt._layer is not None
        reply = rt._layer.client.submit(lm, request, Envelope(new_call_id(), ()))
        fails.set(None)
        assert reply.get(PATIENCE).model == "scripted/second"


def test_what_is_set_aside_follows_what_a_call_does() -> None:
    book = BudgetBook({"a": Budget(tokens=100, requests=3)}, {})
    ledgers = book.ledgers("a", "")
    hold = book.hold(ledgers, Amount(40, requests=1))
    hold.cover(Amount(), 2)  # a second one beside it
    with pytest.raises(BudgetExceeded, match="20 tokens left"):
        hold.cover(Amount(), 3)
    (ledger,) = ledgers
    hold.cover(Amount(), 1)  # the second one is not sent after all
    assert ledger.reserved == Amount(40, requests=1)
    hold.cover(Amount(0, requests=2), 1)  # both have failed, and it is sent again
    assert ledger.reserved == Amount(40, requests=3)
    hold.settle(Amount(30, requests=3))
    assert (ledger.reserved, ledger.spent) == (Amount(), Amount(30, requests=3))
    hold.cover(Amount(30, requests=3), 1)  # too late to mean anything
    hold.charge(Amount(5))
    assert (ledger.reserved, ledger.spent) == (Amount(), Amount(35, requests=3))


def given_up_work() -> tuple[BudgetBook, Ledger, Work]:
    """A call that may cost all of its budget, and has one attempt under way, which is called `first`."""
    book = BudgetBook({"a": Budget(requests=1)}, {})
    (ledger,) = ledgers = book.ledgers("a", "")
    work = Work(LM("scripted/m"), LMRequest("m", (), {}), Envelope(new_call_id(), ()))
    work.hold = book.hold(ledgers, Amount(requests=1))
    assert work.begin("first")
    work.hold.settle(*work.settle(work.hold.charge, work.hold.let_go))
    return book, ledger, work


@pytest.mark.parametrize("was_sent", [True, False])
def test_what_a_call_that_was_given_up_has_under_way_stays_set_aside_until_that_is_booked(was_sent: bool) -> None:
    book, ledger, work = given_up_work()
    with pytest.raises(BudgetExceeded):
        book.reserve((ledger,), Amount(requests=1))
    if was_sent:
        work.charge(5, None)
    work.over("first")
    work.over("first")  # the gates and the attempt may both have heard of its end
    assert (ledger.reserved, ledger.spent) == (Amount(), Amount(5, requests=1) if was_sent else Amount())


def test_no_attempt_begins_for_a_call_that_is_settled() -> None:
    _, ledger, work = given_up_work()
    work.over("first")
    assert not work.begin("second")
    work.over("second")
    assert ledger.reserved == Amount()


class SlowToGo:
    """A model that answers nobody, and holds on to what is given up until it is told to `let_go`."""

    def __init__(self) -> None:
        self.arrived: Reply[asyncio.AbstractEventLoop] = Reply()
        self.gone = asyncio.Event()

    async def __call__(self, request: LMRequest) -> LMResponse:
        self.arrived.set(asyncio.get_running_loop())
        while not self.gone.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.gone.wait()
        raise asyncio.CancelledError

    def let_go(self) -> None:
        self.arrived.get(PATIENCE).call_soon_threadsafe(self.gone.set)


def test_no_more_is_sent_in_the_place_of_a_request_that_is_being_given_up() -> None:
    model = SlowToGo()
    with runtime(ScriptedProvider(model), budgets={"": Budget(requests=1)}) as rt:
        program = rt.start(Predict("question -> answer"))
        ask(rt, model).cancel()
        with pytest.raises(BudgetExceeded):
            program(question="2")
        model.let_go()
        wait_until(lambda: requests(rt) == {"bound": 1, "spent": 1, "reserved": 0})


def test_nothing_stays_set_aside_for_what_a_dead_worker_does_not_let_go() -> None:
    model = SlowToGo()
    with runtime(ScriptedProvider(model), budgets={"": Budget(requests=2)}) as rt:
        ask(rt, model).cancel()
        worker(rt).fence()
        wait_until(lambda: requests(rt)["reserved"] == 0)
        model.let_go()


def ask(rt: Runtime, model: SlowToGo) -> Reply[Any]:
    """A call that the model has."""
    assert rt._layer is not None
    lm = rt.settings.lm
    assert lm is not None
    call = rt._layer.client.submit(lm, LMRequest("m", (Message.of("user", "hello"),), {}), Envelope(new_call_id(), ()))
    model.arrived.get(PATIENCE)
    return call


def requests(rt: Runtime) -> dict[str, int]:
    """What is spent and set aside of nobody's requests."""
    budgets: Any = rt.health()["budgets"]
    return dict(budgets["tenant (none)"]["requests"])


def test_a_budget_can_be_raised_while_calls_are_made() -> None:
    with runtime(ScriptedProvider(answer), budgets={"": Budget(requests=0)}) as rt:
        program = Predict("question -> answer")
        with pytest.raises(DspyActorsError):
            program(question="1")
        rt.set_budget(Budget(requests=1), tenant="")

        assert program(question="2").answer == "yes"


def test_health_shows_what_is_spent() -> None:
    with runtime(ScriptedProvider(answer), budgets={"": Budget(requests=3)}) as rt:
        Predict("question -> answer")(question="q")

        budgets = rt.health()["budgets"]
    assert budgets["tenant (none)"]["requests"] == {"bound": 3, "spent": 1, "reserved": 0}  # type: ignore[index]


@pytest.mark.parametrize(
    ("budget", "names", "what"),
    [
        (3, {"tenant": ""}, "budget=3.*a Budget"),
        (Budget(), {}, "name a tenant or a session"),
        (Budget(), {"tenant": "t", "session": "s"}, "one of the two"),
        (Budget(), {"tenant": 5}, "tenant=5.*a name"),
        (Budget(), {"session": 5}, "session=5.*a name"),
    ],
)
def test_a_budget_that_cannot_be_set_is_refused_and_breaks_nothing(budget: Any, names: Any, what: str) -> None:
    with runtime(ScriptedProvider(answer)) as rt:
        with pytest.raises(LMConfigurationError, match=what):
            rt.set_budget(budget, **names)
        assert (Predict("question -> answer")(question="q").answer, rt.health()["budgets"]) == ("yes", {})


@pytest.mark.parametrize("prices", [{}, {"scripted/typo": PRICE}], ids=["none", "another"])
@pytest.mark.parametrize("kind", ["budgets", "session_budgets"])
def test_money_without_a_price_is_refused_before_anything_is_sent(kind: str, prices: dict[str, Price]) -> None:
    provider = ScriptedProvider(answer)
    rt = runtime(provider, prices=prices, tenant="t", **{kind: {"t": Budget(money=Decimal(1))}})
    with rt, rt.using(session="t"), pytest.raises(LMConfigurationError, match="scripted/m has no price"):
        Predict("question -> answer")(question="q")
    assert provider.requests == []


def test_money_without_the_price_of_a_fallback_is_refused_before_anything_is_sent() -> None:
    provider = ScriptedProvider(answer)
    with runtime(provider, prices={"scripted/m": PRICE}, budgets={"": Budget(money=Decimal(1))}) as rt:
        lm = LM("scripted/m", cache=False, fallbacks=["scripted/second"])
        with rt.using(lm=lm), pytest.raises(LMConfigurationError, match="scripted/second has no price"):
            Predict("question -> answer")(question="q")
    assert provider.requests == []


def test_money_is_bounded_where_the_model_has_a_price() -> None:
    provider = ScriptedProvider(answer)
    rt = runtime(provider, prices={"scripted/m": PRICE}, budgets={"": Budget(money=Decimal("0.000001"))})
    with rt, pytest.raises(BudgetExceeded, match="money left"):
        Predict("question -> answer")(question="q")
    assert provider.requests == []


@pytest.mark.parametrize(
    ("bound", "wanted", "left", "take"),
    [
        ("0.000049", "0.00012345678", "0.000049", "0.000123457"),
        ("0.5", "12345678.25", "0.5", "12345678.25"),
        ("1.10", "20", "1.1", "20"),
        ("0", "100000000", "0", "100000000"),
    ],
)
def test_money_is_written_as_people_do(bound: str, wanted: str, left: str, take: str) -> None:
    """It said `4.9e-05 money left`."""
    book = BudgetBook({"a": Budget(money=Decimal(bound))}, {})
    with pytest.raises(BudgetExceeded) as refused:
        book.reserve(book.ledgers("a", ""), Amount(money=Decimal(wanted)))
    assert f"has {left} money left, " in refused.value.message
    assert f": it may take {take}; " in refused.value.message


def test_what_is_free_by_its_price_is_asked_under_a_budget_of_money() -> None:
    with runtime(ScriptedProvider(answer), prices={"scripted/m": Price(0, 0)}, budgets={"": Budget(money=Decimal(0))}):
        assert Predict("question -> answer")(question="q").answer == "yes"
