"""The gates before an attempt: what they hold, whom they blame, and that everything is given back."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_actors.envelope import Priority
from dspy_actors.errors import (
    CircuitOpen,
    DeadlineExceeded,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
)
from dspy_actors.lm.breaker import Permit, State, Verdict
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.estimate import Estimator, prompt_tokens
from dspy_actors.lm.gatehouse import KEPT, STATE_CHANGED, Gatehouse
from dspy_actors.lm.gates import WAITED, Gates, Passing
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings, Need, Reservation
from dspy_actors.lm.line import Ending
from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.retry_budget import RetryBudgetSettings
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.secret import Secret
from supervisors.clock import ManualClock
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry
from supervisors.testing import Log

REQUEST = LMRequest("m", (Message.of("user", "x" * 400),), {"max_tokens": 50})
ANSWER = LMResponse(("yes",), "m", Usage(100, 10))
CONFIG = LMConfig("openai", "m")
QUICK = BreakerSettings(minimum=2, jitter=0.0)


def begin(
    gates: Gates,
    now: float,
    deadline: float | None = None,
    *,
    timeout: float | None = None,
    priority: Priority = "interactive",
    tenant: str = "",
) -> Passing:
    """An attempt at `REQUEST` that has not passed the gates yet."""
    prompt = prompt_tokens(REQUEST)
    return Passing(prompt, gates.estimator.need(REQUEST, prompt), priority, tenant, deadline, timeout, now)


class House:
    """A gatehouse on a clock of the test's, and the gates of one worker."""

    def __init__(self, clock: ManualClock | None = None, **guarding: Any) -> None:
        self.clock = clock or ManualClock()
        self.telemetry = Telemetry()
        self.gatehouse = Gatehouse(
            Guarding(**{"breaker": QUICK, "provider_breaker": BreakerSettings(), **guarding}),
            self.clock,
            self.telemetry,
        )
        self.gates = self.gatehouse.gates(CONFIG)
        self.log = Log()
        for event in (WAITED, STATE_CHANGED):
            self.telemetry.attach(event[0], event, lambda name, numbers, about: self.log.add(name, numbers, about))

    @property
    def model(self) -> Any:
        return self.gatehouse.breakers["openai/m"]

    @property
    def endpoint(self) -> Any:
        return self.gatehouse.breakers["openai"]

    @property
    def limits(self) -> dict[str, Any]:
        return self.gates.line.reading(self.clock.now())

    def begin(self, deadline: float | None = None, **about: Any) -> Passing:
        return begin(self.gates, self.clock.now(), deadline, **about)

    def passing(self, deadline: float | None = None, **about: Any) -> Passing:
        """An attempt that has passed the gates and is on the wire."""
        made = self.begin(deadline, **about)
        run(entered(self.gates, made))
        made.was_sent = True
        return made

    def fails(self, error: LMError, times: int = 1) -> None:
        for _ in range(times):
            self.gates.leave(self.passing(), None, error)


def passed(gates: Gates) -> Passing:
    """An attempt of another model's that has passed its gates and is on the wire."""
    made = begin(gates, 0.0)
    run(entered(gates, made))
    made.was_sent = True
    return made


async def entered(gates: Gates, passing: Passing) -> None:
    """Through the gates, whether it must wait or not."""
    waits = gates.enter(passing)
    if waits is not None:
        await waits


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


# -- the way through ---------------------------------------------------------------------------------------------------


def test_an_attempt_passes_and_leaves_nothing_behind() -> None:
    house = House()
    house.gates.leave(house.passing(), ANSWER, None)
    assert (house.limits["in_flight"], house.model.reading(0.0).calls) == (0, 1)


def test_a_refused_attempt_takes_no_rate() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=5))
    house.fails(LMServerError("down", status=500), 2)
    with pytest.raises(CircuitOpen):
        house.passing()
    assert house.limits["requests_left"] == 3.0


def test_the_model_s_probe_waits_for_nobody_when_the_endpoint_s_breaker_refuses() -> None:
    house = House()
    house.fails(LMServerError("down", status=500), 2)
    house.gatehouse.breakers["openai"].force_open()
    house.clock.advance(5.0)
    with pytest.raises(CircuitOpen, match="openai is not asked"):
        house.passing()
    assert house.model.state is State.OPEN


def test_a_probe_of_the_endpoint_s_is_given_back_when_the_model_s_breaker_refuses() -> None:
    house = House(provider_breaker=QUICK)
    house.fails(LMTransportError("refused"), 2)
    house.clock.advance(5.0)
    waiting = house.begin()
    for breaker in house.gates.breakers:
        breaker.check(5.0)  # both are due; then somebody opens the model's by hand
    house.model.force_open()
    with pytest.raises(CircuitOpen):
        run(entered(house.gates, waiting))
    assert house.gatehouse.breakers["openai"].reading(5.0).retry_after == 0.0


def test_an_outage_of_the_endpoint_stops_its_other_models_too() -> None:
    house = House(provider_breaker=QUICK)
    house.fails(LMTransportError("refused"), 2)
    other = house.gatehouse.gates(LMConfig("openai", "other"))
    with pytest.raises(CircuitOpen):
        run(entered(other, begin(other, house.clock.now())))


def other_of(house: House) -> Gates:
    """The gates of another model at the same endpoint."""
    return house.gatehouse.gates(LMConfig("openai", "other"))


@pytest.mark.parametrize(
    "error",
    [
        LMServerError("down", status=500),
        LMTimeoutError("a gateway's", status=504, phase="total"),
        LMTimeoutError("silent in the middle", phase="body"),
        LMUnexpectedError("no JSON"),
    ],
)
def test_what_the_server_answered_for_one_model_stops_no_other_one(error: LMError) -> None:
    house = House(breaker=BreakerSettings(), provider_breaker=QUICK)
    for _ in range(9):
        made = house.passing()
        made.headers = {"content-type": "text/plain"}
        house.gates.leave(made, None, error)
    other = other_of(house)
    other.leave(passed(other), ANSWER, None)
    readings = house.gatehouse.readings()
    assert [(readings[name].failures, readings[name].calls) for name in ("openai", "openai/m")] == [(0, 1), (9, 9)]


@pytest.mark.parametrize(
    "error",
    [
        LMTransportError("refused"),
        LMTimeoutError("no connection", phase="connect"),
        LMTimeoutError("not a byte", phase="first_byte"),
    ],
)
def test_a_request_without_an_answer_counts_against_the_endpoint_whichever_model_it_was_for(error: LMError) -> None:
    house = House(breaker=BreakerSettings(), provider_breaker=QUICK)
    house.fails(error, 2)
    assert house.endpoint.state is State.OPEN


def test_a_connection_that_breaks_in_the_middle_of_an_answer_counts_against_the_endpoint() -> None:
    house = House(breaker=BreakerSettings(), provider_breaker=QUICK)
    for _ in range(2):
        made = house.passing()
        made.headers = {"content-type": "text/plain"}
        house.gates.leave(made, None, LMTransportError("reset"))
    assert house.endpoint.state is State.OPEN


def test_two_models_that_the_server_fails_are_an_outage_of_the_endpoint() -> None:
    house = House(breaker=BreakerSettings(), provider_breaker=QUICK)
    other, down = other_of(house), LMServerError("down", status=500)
    house.gates.leave(house.passing(), None, down)
    for _ in range(2):
        other.leave(passed(other), None, down)
    assert house.endpoint.state is State.OPEN


def test_another_endpoint_of_the_same_provider_is_not_concerned() -> None:
    house = House(provider_breaker=QUICK)
    house.fails(LMTransportError("refused"), 2)
    other = house.gatehouse.gates(LMConfig("openai", "m", "http://elsewhere/v1"))
    run(entered(other, begin(other, house.clock.now())))
    assert other.line.reading(house.clock.now())["in_flight"] == 1


def test_a_probe_is_taken_after_the_wait_for_the_limiter_and_not_before() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=2))
    house.fails(LMServerError("down", status=500), 2)
    house.clock.advance(5.0)

    async def wait_then_probe() -> None:
        waiting = asyncio.create_task(entered(house.gates, house.begin()))
        await asyncio.sleep(0)
        assert house.model.state is State.OPEN
        house.clock.advance(60.0)
        await waiting

    run(wait_then_probe())
    assert house.model.state is State.HALF_OPEN


def test_a_wait_for_the_limiter_is_told_of() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=60, max_in_flight=1))
    held = house.passing()

    async def wait() -> None:
        waiting = asyncio.create_task(entered(house.gates, house.begin(priority="batch", tenant="t")))
        await asyncio.sleep(0)
        house.clock.advance(2.0)
        house.gates.leave(held, ANSWER, None)
        await waiting

    run(wait())
    assert house.log.events == [(WAITED, {"seconds": 2.0}, {"name": "openai/m", "tenant": "t", "priority": "batch"})]


def test_a_deadline_in_the_line_names_the_limiter() -> None:
    house = House(limiter=LimiterSettings(max_in_flight=1))
    house.passing()

    async def wait() -> None:
        waiting = asyncio.create_task(entered(house.gates, house.begin(deadline=1.0)))
        await asyncio.sleep(0)
        house.clock.advance(1.0)
        await waiting

    with pytest.raises(DeadlineExceeded) as caught:
        run(wait())
    assert (caught.value.phase, house.limits["in_flight"], house.limits["waiting"]) == ("limiter", 1, 0)


def test_a_cancelled_wait_leaves_the_line() -> None:
    house = House(limiter=LimiterSettings(max_in_flight=1))
    house.passing()

    async def wait() -> None:
        waiting = asyncio.create_task(entered(house.gates, house.begin()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))

    run(wait())
    assert (house.limits["in_flight"], house.limits["waiting"]) == (1, 0)


def test_a_wait_cancelled_in_the_moment_that_its_turn_comes_gives_the_room_back() -> None:
    house = House(limiter=LimiterSettings(max_in_flight=1))
    held = house.passing()

    async def wait() -> None:
        waiting = asyncio.create_task(entered(house.gates, house.begin()))
        await asyncio.sleep(0)
        house.gates.leave(held, ANSWER, None)
        waiting.cancel()
        await asyncio.wait((waiting,))

    run(wait())
    assert (house.limits["in_flight"], house.limits["waiting"]) == (0, 0)


def test_a_dead_worker_s_attempts_are_given_back_to_its_successor() -> None:
    house = House(limiter=LimiterSettings(max_in_flight=2, requests_per_minute=60))
    lost = [house.passing(), house.passing()]
    successor = house.gatehouse.gates(CONFIG)
    assert house.limits["in_flight"] == 0
    house.gates.leave(lost[0], ANSWER, None)  # the old loop comes round after all
    run(entered(successor, begin(successor, house.clock.now())))
    assert house.limits["in_flight"] == 1


def test_those_who_waited_for_a_dead_worker_take_nothing_from_its_successor() -> None:
    house = House(limiter=LimiterSettings(max_in_flight=1))
    house.passing()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(entered(house.gates, house.begin()))
    loop.run_until_complete(asyncio.sleep(0))
    successor = house.gatehouse.gates(CONFIG)
    assert (house.limits["in_flight"], house.limits["waiting"]) == (0, 0)
    run(entered(successor, begin(successor, house.clock.now())))
    waiting.cancel()
    loop.run_until_complete(asyncio.wait((waiting,)))
    loop.close()


class Torn(Passing):
    """An attempt whose worker is given up, on another thread, as it gets room or a place in the line."""

    __slots__ = ("gates",)
    gates: Gates | None

    @property
    def reservation(self) -> Reservation | None:
        return Passing.reservation.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @reservation.setter
    def reservation(self, found: Reservation | None) -> None:
        self._give_up(found)
        Passing.reservation.__set__(self, found)  # type: ignore[attr-defined]

    @property
    def turn(self) -> Reply[Reservation] | None:
        return Passing.turn.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @turn.setter
    def turn(self, found: Reply[Reservation] | None) -> None:
        self._give_up(found)
        Passing.turn.__set__(self, found)  # type: ignore[attr-defined]

    def _give_up(self, found: object) -> None:
        if found is not None and self.gates is not None:
            gates, self.gates = self.gates, None
            gates.abandon()


@pytest.mark.parametrize("waits", [False, True])
def test_an_attempt_whose_worker_is_given_up_as_it_gets_room_keeps_none(waits: bool) -> None:
    async def main() -> None:
        other = house.gates.line.enter(Need()) if waits else None
        torn = Torn.__new__(Torn)
        torn.gates = None
        torn.__init__(1, Need(), "interactive", "", None, None, 0.0)  # type: ignore[misc]
        torn.gates = house.gates
        entering = asyncio.create_task(entered(house.gates, torn))
        await asyncio.sleep(0)
        if isinstance(other, Reservation):
            house.gates.line.settle(other, Ending(answered=True))
        await asyncio.wait((entering,))
        house.gates.leave(torn, ANSWER, None)

    house = House(limiter=LimiterSettings(max_in_flight=1))
    run(main())
    assert (house.limits["in_flight"], house.limits["waiting"]) == (0, 0)


class TornPermits(list[Permit]):
    """The permits of an attempt to which something happens, on another thread, as it gets its probe."""

    happens: Callable[[], object]

    def append(self, permit: Permit) -> None:
        if permit.probe:
            self.happens()
        super().append(permit)


def torn_in(house: House, happens: Callable[[], object]) -> Passing:
    """An attempt that is to be a probe, for as long as calls may take by default."""
    house.fails(LMTransportError("refused"), 2)
    house.clock.advance(QUICK.open_seconds)
    made = house.begin(deadline=house.clock.now() + 600.0)
    made.permits = permits = TornPermits()
    permits.happens = happens
    return made


@pytest.mark.parametrize("open_breakers", [1, 2])
def test_an_attempt_whose_worker_is_given_up_as_it_gets_a_probe_keeps_none(open_breakers: int) -> None:
    house = House(provider_breaker=QUICK if open_breakers == 2 else BreakerSettings())
    torn = torn_in(house, house.gates.abandon)
    run(entered(house.gates, torn))
    house.gates.leave(torn, None, None)  # its task ends, where its loop still runs
    assert [permit.probe for permit in house.passing().permits if permit.probe] == [2] * open_breakers


def test_an_attempt_that_is_refused_as_its_worker_is_given_up_keeps_no_probe() -> None:
    def given_up_as_the_model_is_shut() -> None:
        house.gates.abandon()
        house.model.force_open()

    house = House(breaker=BreakerSettings(), provider_breaker=QUICK)
    with pytest.raises(CircuitOpen):
        run(entered(house.gates, torn_in(house, given_up_as_the_model_is_shut)))
    assert house.gatehouse.breakers["openai"].permit(house.clock.now()).probe == 2


def test_an_attempt_is_settled_once() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=60))
    made = house.passing()
    house.gates.leave(made, ANSWER, None)
    house.gates.leave(made, None, LMServerError("late", status=500))
    assert (house.model.reading(0.0).failures, house.limits["in_flight"]) == (0, 0)


# -- what is settled ---------------------------------------------------------------------------------------------------


def test_tokens_are_reserved_as_the_provider_reserves_them_and_settled_as_it_counts() -> None:
    house = House(limiter=LimiterSettings(tokens_per_minute=1000))
    made = house.passing()
    assert house.limits["tokens_left"] == pytest.approx(1000 - 100 - 50, abs=3)
    house.gates.leave(made, ANSWER, None)
    assert house.limits["tokens_left"] == 1000 - 110


def test_an_attempt_cancelled_before_it_was_sent_gives_all_of_its_rate_back() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=10, tokens_per_minute=1000))
    made = house.passing()
    made.was_sent = False
    house.gates.leave(made, None, None)
    assert (house.limits["requests_left"], house.limits["tokens_left"]) == (10.0, 1000.0)


def test_an_attempt_cancelled_after_it_was_sent_has_cost_what_was_reserved() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=10, tokens_per_minute=1000))
    house.gates.leave(house.passing(), None, None)
    assert house.limits["requests_left"] == 9.0
    assert house.limits["tokens_left"] < 860.0


def test_headers_of_a_refusal_teach_the_limiter_too() -> None:
    house = House()
    made = house.passing()
    made.headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    house.gates.leave(made, None, LMRateLimitError("slow", status=429, retry_after=0.5))
    assert (house.limits["requests_per_minute"], house.limits["requests_left"]) == (60.0, 0.0)


def test_a_rate_limit_pauses_the_limiter_and_leaves_the_breaker_alone() -> None:
    house = House()
    house.gates.leave(house.passing(), None, LMRateLimitError("slow", status=429, retry_after=20.0))
    assert house.limits["paused_seconds"] >= 20.0
    assert house.model.reading(0.0).calls == 0


def test_equal_workers_share_a_limiter_and_other_keys_have_their_own() -> None:
    house = House()
    lines = [
        house.gatehouse.gates(LMConfig("openai", "m", api_key=Secret(key)), worker).line
        for key, worker in (("sk-one-0123456789", 1), ("sk-one-0123456789", 2), ("sk-two-0123456789", 1))
    ]
    assert lines[0] is lines[1]
    assert lines[0] is not lines[2]


def test_a_model_s_own_limits_come_before_its_provider_s_and_everybody_s() -> None:
    guarding = Guarding(
        limiter=LimiterSettings(requests_per_minute=1),
        limiters={
            "openai": LimiterSettings(requests_per_minute=2),
            "openai/m": LimiterSettings(requests_per_minute=3),
        },
    )
    names = (("openai", "m"), ("openai", "n"), ("anthropic", "m"))
    assert [guarding.limits_of(*name).requests_per_minute for name in names] == [3, 2, 1]


def test_only_local_servers_have_their_latency_followed_unasked() -> None:
    house = House()
    lines = {name: house.gatehouse.gates(LMConfig(name, "m")).line for name in ("local", "openai")}
    assert {name: line.reading(0.0)["in_flight_limit"] for name, line in lines.items()} == {"local": 8, "openai": None}


# -- whom a breaker blames ---------------------------------------------------------------------------------------------


def left(house: House, error: LMError | None, seconds: float, deadline: float | None = None, **about: Any) -> Any:
    """The breaker's reading after an attempt that ended so after `seconds`."""
    made = house.passing(deadline, **about)
    house.clock.advance(seconds)
    house.gates.leave(made, None, error)
    reading = house.model.reading(house.clock.now())
    return reading.calls, reading.failures


TOTAL = LMTimeoutError("late", phase="total")


@pytest.mark.parametrize(
    ("error", "seconds", "deadline", "counted"),
    [
        (LMServerError("down", status=503), 0.1, None, (1, 1)),
        (LMTransportError("reset"), 0.1, None, (1, 1)),
        (LMTimeoutError("no first byte", phase="first_byte"), 0.1, None, (1, 1)),
        (LMTimeoutError("the server says 408", phase="total", status=408), 0.1, 1.0, (1, 1)),
        (LMServerError("loading", status=503, provider_code="not_ready"), 0.1, None, (0, 0)),
        (LMInvalidRequestError("bad", status=400), 0.1, None, (0, 0)),
        (LMRateLimitError("fast", status=429), 0.1, None, (0, 0)),
        (TOTAL, 0.05, 0.05, (0, 0)),
        (TOTAL, 31.0, 31.0, (1, 1)),
        (None, 0.1, None, (0, 0)),
        (None, 31.0, 60.0, (0, 0)),
        (None, 31.0, 31.0, (1, 1)),
    ],
)
def test_only_what_the_provider_did_counts(
    error: LMError | None, seconds: float, deadline: float | None, counted: tuple[int, int]
) -> None:
    assert left(House(), error, seconds, deadline) == counted


def test_a_timeout_that_the_owner_set_for_every_attempt_counts_however_short_it_is() -> None:
    assert left(House(), TOTAL, 2.0, 600.0, timeout=2.0) == (1, 1)


def test_a_slow_answer_counts_as_slow() -> None:
    house = House()
    made = house.passing()
    house.clock.advance(121.0)
    house.gates.leave(made, ANSWER, None)
    assert house.model.reading(121.0).slow == 1


def test_a_change_of_state_is_an_event() -> None:
    house = House()
    house.fails(LMServerError("down", status=500), 2)
    assert house.log.events == [(STATE_CHANGED, {}, {"name": "openai/m", "before": "closed", "after": "open"})]


# -- trying again ------------------------------------------------------------------------------------------------------


def test_trying_again_is_paid_for_by_the_provider_s_budget() -> None:
    house = House(retry_budget=RetryBudgetSettings(capacity=10.0))
    down = LMServerError("down", status=500)
    assert [house.gates.may_retry(down) for _ in range(3)] == [True, True, False]


def test_all_models_of_an_endpoint_share_its_retry_budget() -> None:
    house = House(retry_budget=RetryBudgetSettings(capacity=5.0))
    other = house.gatehouse.gates(LMConfig("openai", "other"))
    assert house.gates.may_retry(LMServerError("down", status=500))
    assert not other.may_retry(LMServerError("down", status=500))


def test_being_too_fast_costs_no_retry_budget() -> None:
    house = House(retry_budget=RetryBudgetSettings(capacity=0.0))
    assert house.gates.may_retry(LMRateLimitError("fast", status=429))


def test_an_answer_gives_retry_budget_back() -> None:
    house = House()
    house.gates.may_retry(LMServerError("down", status=500))
    house.gates.leave(house.passing(), ANSWER, None)
    assert house.gates.retries.left == 96.0


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_estimates_move_towards_what_answers_have_told() -> None:
    estimator = Estimator()
    open_ended = LMRequest("m", REQUEST.messages)
    prompt = prompt_tokens(open_ended)
    first = estimator.need(open_ended, prompt)
    for _ in range(100):
        estimator.learn(prompt, Usage(200, 20))
    later = estimator.need(open_ended, prompt)
    assert (first.prompt, first.answer) == (102, 256)
    assert later.prompt == pytest.approx(200, abs=5)
    assert later.answer == pytest.approx(20, abs=2)


def test_usage_that_was_itself_estimated_teaches_nothing() -> None:
    estimator = Estimator()
    before = estimator.need(REQUEST, 10)
    estimator.learn(10, Usage(9000, 9000, estimated=True))
    assert estimator.need(REQUEST, 10) == before


# -- a property --------------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(["ok", "500", "429", "400", "cancelled", "not sent", "worker died"])


@given(st.lists(st.tuples(ENDS, st.floats(0, 3), st.integers(0, 9)), max_size=60))
@settings(max_examples=100, deadline=None)
def test_however_attempts_end_nothing_is_held_when_all_have_ended(steps: list[tuple[str, float, int]]) -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=6000, max_in_flight=8))
    out: list[tuple[Gates, Passing]] = []
    for end, seconds, number in steps:
        house.clock.advance(seconds)
        made = house.begin(house.clock.now() + 60.0)
        if run(passes(house.gates, made)):
            out.append((house.gates, made))
        if out and number < 7:
            finish(house, *out.pop(number % len(out)), end)
    for gates, passing in out:
        gates.leave(passing, None, None)
    assert (house.limits["in_flight"], house.limits["waiting"]) == (0, 0)
    now = house.clock.now()
    assert all(reading.retry_after <= 72.0 for reading in house.gatehouse.readings().values())
    house.clock.advance(700.0)
    house.gates.leave(house.passing(now + 700.0), ANSWER, None)


async def passes(gates: Gates, passing: Passing) -> bool:
    """Whether the attempt gets through at once; it waits for nothing."""
    entering = asyncio.create_task(entered(gates, passing))
    for _ in range(3):
        await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait((entering,))
    return not entering.cancelled() and entering.exception() is None


def finish(house: House, gates: Gates, passing: Passing, end: str) -> None:
    errors: dict[str, LMError] = {
        "500": LMServerError("down", status=500),
        "429": LMRateLimitError("fast", status=429, retry_after=0.5),
        "400": LMInvalidRequestError("bad", status=400),
    }
    if end == "worker died":
        house.gates = house.gatehouse.gates(CONFIG)
    passing.was_sent = end != "not sent"
    gates.leave(passing, ANSWER if end == "ok" else None, errors.get(end))


# -- what is forgotten with a worker ------------------------------------------------------------------------------


def ended(house: House) -> None:
    """The worker has ended for good, and a sweep comes at that very moment."""
    house.gatehouse.dismiss(CONFIG)
    house.gatehouse.sweep()


def through(house: House) -> int:
    """How many requests get through before one has to wait; all are answered at once."""
    count = 0
    while True:
        found = house.gates.line.enter(Need(1))
        if isinstance(found, Reply):
            found.cancel()
            return count
        house.gates.line.sent(found)
        house.gates.line.settle(found, Ending(answered=True))
        count += 1


def test_workers_that_end_one_after_the_other_get_no_more_through_than_one_that_stays() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=10))
    counts = []
    for _ in range(4):
        counts.append(through(house))
        ended(house)
        house.gates = house.gatehouse.gates(CONFIG)
    assert counts == [10, 0, 0, 0]
    ended(house)
    house.clock.advance(60.0)
    house.gatehouse.sweep()
    assert house.gatehouse.limiters == {}


def test_what_retries_have_cost_is_not_forgotten_with_the_worker() -> None:
    house = House(retry_budget=RetryBudgetSettings(capacity=10.0, cost=5.0, refund=5.0))
    budget = house.gates.retries
    assert budget.spend()
    ended(house)
    assert house.gatehouse.gates(CONFIG).retries is budget
    budget.answered()
    ended(house)
    assert house.gatehouse.retry_budgets == {}


def test_what_retries_have_cost_at_endpoints_that_nobody_asks_any_more_is_kept_for_the_last_of_them() -> None:
    """Only answers fill a budget, so those of endpoints that are never asked again would stay for good."""
    house = House(retry_budget=RetryBudgetSettings(capacity=10.0, cost=5.0))
    places = [replace(CONFIG, base_url=f"http://127.0.0.1:{port}/v1") for port in range(1, KEPT + 11)]
    for place in places:
        assert house.gatehouse.gates(place).retries.spend()
        if place is not places[0]:
            house.gatehouse.dismiss(place)
            house.gatehouse.sweep()
    kept = list(house.gatehouse.retry_budgets)
    assert (len(kept), kept[2]) == (KEPT + 2, "openai at http://127.0.0.1:11/v1")  # two have workers
    house.gatehouse.dismiss(places[0])
    house.gatehouse.sweep()
    assert len(house.gatehouse.retry_budgets) == KEPT + 1


def test_failures_are_not_forgotten_with_the_worker_before_they_leave_the_window() -> None:
    house = House()
    breaker = house.model
    breaker.report(breaker.permit(0.0), Verdict.FAILURE, 0.0)
    ended(house)
    assert house.gatehouse.gates(CONFIG).breakers[1] is breaker
    house.clock.advance(QUICK.window_seconds)
    ended(house)
    assert house.gatehouse.breakers == {}


def test_a_callable_key_lives_as_long_as_the_limiter_that_is_named_after_it() -> None:
    house = House(limiter=LimiterSettings(requests_per_minute=10))

    def made() -> tuple[LMConfig, weakref.ref[Any]]:
        def key() -> str:
            return "key"

        return LMConfig("openai", "m", api_key=key), weakref.ref(key)

    config, gone = made()
    gates = house.gatehouse.gates(config)
    room = gates.line.enter(Need(1))
    assert isinstance(room, Reservation)
    gates.line.settle(room, Ending(answered=True))
    house.gatehouse.dismiss(config)
    house.gatehouse.sweep()
    del config, gates, room
    gc.collect()
    assert gone() is not None
    house.clock.advance(6.0)
    house.gatehouse.sweep()
    gc.collect()
    assert gone() is None
