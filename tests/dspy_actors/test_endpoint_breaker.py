"""The breaker of an endpoint: one bad model there does not open it, two do, and silence does whoever met it."""

from __future__ import annotations

from dspy_actors.lm.breaker import Breaker, State, Verdict
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.endpoint_breaker import EndpointBreaker

SETTINGS = BreakerSettings(minimum=4, slow_seconds=10.0, jitter=0.0, probes_to_close=1)


class Endpoint:
    """Calls to the models of one endpoint, each over at once."""

    def __init__(self) -> None:
        self.breaker = EndpointBreaker("openai", SETTINGS)
        self.now = 0.0

    def fails(self, model: str, times: int = 1) -> None:
        for _ in range(times):
            permit = self.breaker.permit(self.now)
            self.breaker.failed_by(model, permit, Verdict.FAILURE, self.now, f"{model} is down")

    def answers(self, model: str, times: int = 1, seconds: float = 1.0) -> None:
        for _ in range(times):
            self.breaker.answered_by(model, self.breaker.permit(self.now), seconds, self.now)

    def is_silent(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.report(self.breaker.permit(self.now), Verdict.FAILURE, self.now, "nobody answers")

    @property
    def numbers(self) -> tuple[State, int, int, int]:
        found = self.breaker.reading(self.now)
        return found.state, found.calls, found.failures, found.slow


def test_one_failing_model_says_nothing_of_its_endpoint() -> None:
    endpoint = Endpoint()
    endpoint.fails("bad", 100)
    assert endpoint.numbers == (State.CLOSED, 0, 0, 0)
    assert endpoint.breaker.reading(0.0).last_failure is None


def test_a_second_model_that_fails_too_opens_it() -> None:
    endpoint = Endpoint()
    endpoint.fails("bad")
    endpoint.fails("worse", 4)
    assert endpoint.numbers[0] is State.OPEN
    assert endpoint.breaker.reading(0.0).last_failure == "worse is down"


def test_a_model_that_was_answered_since_accuses_the_endpoint_no_more() -> None:
    endpoint = Endpoint()
    endpoint.fails("shaky")
    endpoint.answers("shaky")
    endpoint.fails("bad", 9)
    assert endpoint.numbers == (State.CLOSED, 1, 0, 0)


def test_a_failure_that_has_left_the_window_accuses_the_endpoint_no_more() -> None:
    endpoint = Endpoint()
    endpoint.fails("shaky")
    endpoint.now = SETTINGS.window_seconds
    endpoint.fails("bad", 9)
    assert endpoint.numbers[0] is State.CLOSED


def test_two_bad_models_among_many_good_ones_do_not_open_it() -> None:
    endpoint = Endpoint()
    endpoint.answers("good", 9)
    endpoint.fails("bad", 4)
    endpoint.fails("worse", 4)
    assert endpoint.numbers == (State.CLOSED, 13, 4, 0)


def test_one_slow_model_says_nothing_of_its_endpoint() -> None:
    endpoint = Endpoint()
    endpoint.answers("slow", 9, seconds=11.0)
    assert endpoint.numbers == (State.CLOSED, 0, 0, 0)


def test_a_slow_answer_is_one_in_its_reading() -> None:
    endpoint = Endpoint()
    endpoint.answers("slow", seconds=60.0)
    assert endpoint.breaker.reading(5.0).since_answer == 5.0


def test_two_slow_models_open_it() -> None:
    endpoint = Endpoint()
    endpoint.answers("slow", seconds=11.0)
    endpoint.answers("slower", 4, seconds=12.0)
    assert endpoint.numbers[0] is State.OPEN


def test_a_probe_that_only_shows_a_bad_model_gives_its_lease_to_the_next_one() -> None:
    endpoint = Endpoint()
    endpoint.is_silent(4)
    endpoint.now = SETTINGS.open_seconds
    endpoint.fails("bad")
    assert endpoint.numbers[0] is State.HALF_OPEN
    endpoint.answers("good")
    assert endpoint.numbers[0] is State.CLOSED


def test_a_probe_of_two_bad_models_opens_it_again() -> None:
    endpoint = Endpoint()
    endpoint.fails("bad")
    endpoint.fails("worse", 4)
    endpoint.now = SETTINGS.open_seconds
    endpoint.fails("bad")
    assert endpoint.numbers[0] is State.OPEN


def test_a_reset_forgets_the_models_that_failed() -> None:
    endpoint = Endpoint()
    endpoint.fails("bad")
    endpoint.breaker.reset()
    endpoint.fails("worse", 9)
    assert endpoint.numbers[0] is State.CLOSED


def test_it_is_at_rest_when_no_model_that_failed_is_remembered() -> None:
    endpoint = Endpoint()
    endpoint.fails("bad")
    assert not endpoint.breaker.is_at_rest(SETTINGS.window_seconds - 1.0)
    assert endpoint.breaker.is_at_rest(SETTINGS.window_seconds)


def test_models_that_failed_long_ago_are_not_kept() -> None:
    endpoint = Endpoint()
    for number in range(200):
        endpoint.now = float(number)
        endpoint.fails(f"m{number}")
        endpoint.breaker.reset() if endpoint.breaker.state is not State.CLOSED else None
    assert len(endpoint.breaker._failing) <= SETTINGS.window_seconds


def test_it_is_a_breaker_in_everything_else() -> None:
    endpoint = Endpoint()
    assert isinstance(endpoint.breaker, Breaker)
    endpoint.is_silent(4)
    assert endpoint.numbers[0] is State.OPEN
