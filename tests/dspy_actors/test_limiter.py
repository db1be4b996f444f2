"""The limiter: buckets, what it learns, pauses and what follows them. Time is a number."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.bucket import Bucket
from dspy_actors.lm.in_flight import InFlight
from dspy_actors.lm.limiter import LONGEST_PAUSE, LimiterSettings, Need, RateLimiter, Reservation
from dspy_actors.lm.rate_headers import Quota, RateReading


class Steady(Random):
    """No jitter."""

    def random(self) -> float:
        return 0.0


def limiter(follow: bool = False, **limits: Any) -> RateLimiter:
    return RateLimiter(LimiterSettings(**limits), 0.0, follow_latency=follow, rng=Steady())


def take(found: RateLimiter, now: float = 0.0, tokens: int = 0) -> Reservation:
    made = found.reserve(Need(tokens), now)
    assert isinstance(made, Reservation), f"there is no room for {made} s"
    return made


def takes(found: RateLimiter, now: float, most: int = 10_000) -> list[Reservation]:
    """As many as there is room for at this instant."""
    made: list[Reservation] = []
    while len(made) < most and isinstance(one := found.reserve(Need(), now), Reservation):
        made.append(one)
    return made


def wait(found: RateLimiter, now: float = 0.0, tokens: int = 0) -> float:
    waits = found.reserve(Need(tokens), now)
    assert not isinstance(waits, Reservation), "there is room"
    return waits


def told(limit: int | None, remaining: int | None = None, reset: float | None = None) -> RateReading:
    return RateReading(requests=Quota(limit, remaining, reset))


# -- limits known beforehand -------------------------------------------------------------------------------------------


def test_without_limits_everything_is_let_through() -> None:
    assert len(takes(limiter(), 0.0)) == 10_000


def test_a_minute_s_worth_of_requests_is_let_through_at_once_and_no_more() -> None:
    found = limiter(requests_per_minute=60)
    assert len(takes(found, 0.0)) == 60
    assert wait(found) == pytest.approx(1.0)


def test_requests_come_back_one_by_one() -> None:
    found = limiter(requests_per_minute=60)
    takes(found, 0.0)
    assert [len(takes(found, second)) for second in (0.5, 1.0, 3.0)] == [0, 1, 2]


def test_the_first_minute_may_see_almost_twice_the_limit_and_each_busy_one_after_it_the_limit() -> None:
    """As a token bucket does; the README and `LimiterSettings` say so."""
    found = limiter(requests_per_minute=60)
    minutes = [sum(len(takes(found, 60.0 * minute + second)) for second in range(60)) for minute in range(3)]
    assert minutes == [119, 60, 60]


def test_tokens_are_reserved_before_and_settled_after() -> None:
    found = limiter(tokens_per_minute=6000)
    made = take(found, tokens=5000)
    assert wait(found, tokens=2000) == pytest.approx(10.0)
    found.settle(made, Need(1000), 0.0, sent=True)
    assert take(found, tokens=5000)


def test_an_answer_that_took_more_than_was_reserved_leaves_a_debt() -> None:
    found = limiter(tokens_per_minute=6000)
    found.settle(take(found, tokens=1000), Need(7000), 0.0, sent=True)
    assert wait(found, tokens=1000) == pytest.approx(20.0)


def test_an_answer_that_nobody_counted_takes_what_was_reserved() -> None:
    found = limiter(tokens_per_minute=6000)
    found.settle(take(found, tokens=6000), None, 0.0, sent=True)
    assert wait(found, tokens=100) == pytest.approx(1.0)


def test_what_was_never_sent_gives_everything_back() -> None:
    found = limiter(requests_per_minute=1, tokens_per_minute=600)
    found.settle(take(found, tokens=600), None, 0.0, sent=False)
    assert take(found, tokens=600)
    assert found.in_flight.now == 1


def test_a_second_settlement_changes_nothing() -> None:
    found = limiter(requests_per_minute=1)
    made = take(found)
    found.settle(made, None, 0.0, sent=False)
    found.settle(made, None, 0.0, sent=False)
    assert (len(takes(found, 0.0)), found.in_flight.now) == (1, 1)


def test_a_request_above_the_whole_minute_s_tokens_waits_for_a_full_bucket_only() -> None:
    found = limiter(tokens_per_minute=600)
    take(found, tokens=60)
    assert wait(found, tokens=9000) == pytest.approx(6.0)
    assert take(found, 6.0, tokens=9000)


def test_a_bound_on_requests_in_flight_lets_the_next_one_in_when_one_ends() -> None:
    found = limiter(max_in_flight=2)
    first, _ = takes(found, 0.0)
    assert wait(found) == math.inf
    found.settle(first, None, 0.0, sent=True)
    assert take(found)


@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute", "max_in_flight"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "9", True])
def test_settings_that_make_no_sense_are_refused_with_field_and_bound(field: str, value: float) -> None:
    with pytest.raises(LMConfigurationError, match=rf"LimiterSettings\({field}=.*\): more than 0"):
        LimiterSettings(**{field: value})  # type: ignore[arg-type]


# -- limits learned ----------------------------------------------------------------------------------------------------


def test_limits_are_learned_from_the_first_answer() -> None:
    found = limiter()
    made = take(found)
    found.learn(made, told(300, 10), 1.0)
    assert len(takes(found, 1.0)) == 10
    assert wait(found, 1.0) == pytest.approx(0.2)


def test_requests_sent_after_the_one_that_was_answered_are_not_forgotten() -> None:
    found = limiter()
    first, *_ = [take(found) for _ in range(8)]
    found.learn(first, told(60, 10), 0.0)
    assert len(takes(found, 0.0)) == 3


def test_at_the_limit_late_answers_do_not_make_it_any_slower() -> None:
    """A server at 5 a second, answers that take 3 s and tell what was left when their request came."""
    found, now, sent, server = limiter(), 0.0, list[float](), 5.0
    under_way: list[tuple[float, Reservation, RateReading]] = []
    for step in range(600):
        now = step / 10
        server = min(5.0, server + 0.5)
        for entry in [entry for entry in under_way if entry[0] <= now]:
            under_way.remove(entry)
            found.learn(entry[1], entry[2], now)
            found.settle(entry[1], None, now, sent=True)
        for made in takes(found, now, most=3):
            sent.append(now)
            server -= 1
            left = max(0, int(server))
            under_way.append((now + 3.0, made, told(5, left, (5 - left) / 5)))
    assert 245 <= len([at for at in sent if at >= 10.0]) <= 255


def test_an_older_answer_does_not_overwrite_a_newer_one() -> None:
    found = limiter()
    old, new = take(found, 0.0), take(found, 1.0)
    found.learn(new, told(60, 50), 2.0)
    found.learn(old, told(60, 5), 3.0)
    assert found.reading(3.0)["requests_left"] == pytest.approx(51.0)


def test_requests_that_got_room_first_and_were_sent_later_are_not_forgotten() -> None:
    found = limiter()
    first = take(found)
    found.sent(first, 0.0)
    found.learn(first, told(60, 40), 0.0)
    early = [take(found) for _ in range(10)]
    late = take(found)
    found.sent(late, 0.0)
    for each in early:
        found.sent(each, 0.0)
    found.learn(late, told(60, 39), 0.0)
    assert len(takes(found, 0.0)) == 29


def test_a_late_answer_does_not_refill_a_bucket_that_was_full() -> None:
    found = limiter()
    for number in (1, 2):  # two readings tell that the limit is one a second
        first = take(found)
        found.sent(first, 0.0)
        found.learn(first, told(40, 40 - number, 0.025 * number), 0.0)
    slow = take(found)
    found.sent(slow, 0.0)
    assert len(takes(found, 0.0)) == 37
    found.learn(slow, told(40, 39, 0.025), 0.5)
    assert len(takes(found, 0.5)) == 3


def test_a_request_that_got_room_and_was_never_sent_is_no_longer_waited_for() -> None:
    found = limiter()
    first = take(found)
    found.sent(first, 0.0)
    found.learn(first, told(60, 40), 0.0)
    given_up, sent = take(found), take(found)
    found.settle(given_up, None, 0.0, sent=False)
    found.sent(sent, 0.0)
    found.learn(sent, told(60, 39), 0.0)
    assert len(takes(found, 0.0)) == 39


def test_a_limit_given_by_the_user_holds_even_where_the_provider_allows_more() -> None:
    found = limiter(requests_per_minute=10)
    found.learn(take(found), told(5000, 4999, 0.012), 0.0)
    assert len(takes(found, 1.0)) == 9


def test_a_tighter_limit_of_the_provider_s_holds_over_the_user_s() -> None:
    found = limiter(requests_per_minute=100)
    found.learn(take(found), told(5, 4), 0.0)
    assert len(takes(found, 0.0)) == 4


def test_anthropic_s_output_tokens_have_a_bucket_of_their_own() -> None:
    found = limiter()
    made = take(found)
    found.learn(made, RateReading(input_tokens=Quota(60_000, 60_000), output_tokens=Quota(600, 300)), 0.0)
    assert isinstance(found.reserve(Need(1000, 300), 0.0), Reservation)
    assert found.reserve(Need(1000, 10), 0.0) == pytest.approx(1.0)


def test_nobody_waits_longer_than_until_the_provider_says_it_is_full() -> None:
    found = limiter()
    found.learn(take(found), told(60, 0, 0.4), 0.0)
    assert wait(found) == pytest.approx(0.4)
    assert len(takes(found, 0.4)) == 60


@pytest.mark.parametrize(
    ("limit", "used", "reset", "period"),
    [(5, 2, 0.4, 1.0), (300, 100, 20.0, 60.0), (1000, 10, 36.0, 3600.0), (10_000, 3, 25.92, 86_400.0)],
)
def test_two_readings_that_agree_tell_the_period_of_a_limit(limit: int, used: int, reset: float, period: float) -> None:
    bucket = Bucket(None, 0.0)
    for _ in range(2):
        bucket.learn(Quota(limit, limit - used, reset), 0.0, 0.0, 0.0)
    assert bucket.period == period


def test_a_reset_further_away_than_the_period_puts_the_period_right() -> None:
    bucket = Bucket(None, 0.0)
    for _ in range(2):
        bucket.learn(Quota(100, 0, 1.0), 0.0, 0.0, 0.0)
    assert bucket.period == 1.0
    bucket.learn(Quota(100, 99, 59.0), 0.0, 0.0, 0.0)
    assert bucket.period == 60.0


def test_a_reading_shows_limits_levels_and_pauses() -> None:
    found = limiter(requests_per_minute=60)
    take(found)
    assert found.reading(0.0) == {
        "requests_per_minute": 60.0,
        "requests_left": 59.0,
        "tokens_per_minute": None,
        "tokens_left": None,
        "in_flight": 1,
        "in_flight_limit": None,
        "paused_seconds": 0.0,
    }


# -- pauses ------------------------------------------------------------------------------------------------------------


def paused(after: float | None = 1.0) -> RateLimiter:
    found = limiter()
    found.refused(made := take(found), after, 0.0)
    found.settle(made, None, 0.0, sent=True)
    return found


def test_nobody_is_let_through_before_the_provider_says_so() -> None:
    found = paused(1.0)
    assert wait(found) == pytest.approx(1.0)
    assert not takes(found, 0.99)


def test_after_a_pause_one_goes_ahead() -> None:
    assert len(takes(paused(1.0), 1.0)) == 1


def test_an_answer_to_the_one_that_went_ahead_lets_more_and_more_follow() -> None:
    found, waves = paused(1.0), []
    for _ in range(5):
        wave = takes(found, 1.1)
        waves.append(len(wave))
        for made in wave:
            found.answered(made, 0.1)
            found.settle(made, None, 1.1, sent=True)
    assert waves[:4] == [1, 2, 8, 8]  # the bound on requests in flight that the refusal taught is 8


def test_where_the_one_that_went_ahead_takes_long_the_number_doubles_each_second() -> None:
    found = paused(1.0)
    assert [len(takes(found, 1.0 + second)) for second in (0.0, 0.9, 1.0, 2.0, 3.0)] == [1, 0, 1, 2, 4]


def test_after_a_pause_that_is_ended_by_hand_one_goes_ahead_too() -> None:
    found = paused(600.0)
    found.resume(5.0)
    assert (len(takes(found, 5.0)), len(takes(found, 6.0))) == (1, 1)


def test_after_a_pause_that_is_ended_by_hand_the_next_one_is_as_short_as_the_first() -> None:
    found = paused(None)
    found.resume(0.0)
    found.refused(take(found), None, 0.0)
    assert wait(found) == 1.0


def test_where_there_is_no_pause_none_is_ended() -> None:
    found = paused(1.0)
    found.resume(9.0)
    assert found.paused_until == 1.0


def test_one_refused_again_starts_over() -> None:
    found = paused(1.0)
    (scout,) = takes(found, 1.0)
    found.refused(scout, 1.0, 1.1)
    found.settle(scout, None, 1.1, sent=True)
    assert wait(found, 1.2) == pytest.approx(0.9)
    assert len(takes(found, 2.1)) == 1


def test_a_scout_that_never_was_sent_makes_room_for_the_next() -> None:
    found = paused(1.0)
    (scout,) = takes(found, 1.0)
    found.settle(scout, None, 1.0, sent=False)
    assert len(takes(found, 1.0)) == 1


def test_an_answer_from_before_the_pause_does_not_end_it() -> None:
    found = limiter()
    early, refused = take(found), take(found)
    found.refused(refused, 1.0, 0.0)
    found.answered(early, 0.5)
    assert len(takes(found, 1.0)) == 1


def test_pauses_without_a_word_grow_until_somebody_is_answered() -> None:
    found, now, waits = limiter(), 0.0, []
    for _ in range(7):
        found.refused(made := take(found, now), None, now)
        found.settle(made, None, now, sent=True)
        waits.append(wait(found, now))
        now = found.paused_until
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])


def test_those_refused_together_count_as_one() -> None:
    found = limiter()
    for made in [take(found) for _ in range(50)]:
        found.refused(made, None, 0.0)
        found.settle(made, None, 0.0, sent=True)
    assert wait(found) == pytest.approx(1.0)


def test_a_provider_that_wants_a_day_s_patience_is_asked_again_after_ten_minutes() -> None:
    assert wait(paused(86_400.0)) == pytest.approx(600.0)


def test_the_longest_pause_too_is_up_to_a_tenth_longer_by_chance() -> None:
    """Those who share a key must not come back together after it either."""
    pauses = set()
    for seed in range(50):
        found = RateLimiter(LimiterSettings(), 0.0, rng=Random(seed))
        found.refused(take(found), 86_400.0, 0.0)
        pauses.add(found.paused_until)
    assert 600.0 <= min(pauses) < 610.0
    assert 650.0 < max(pauses) <= 660.0


def test_a_pause_is_up_to_a_tenth_longer_by_chance() -> None:
    found = RateLimiter(LimiterSettings(), 0.0, rng=Random(7))
    found.refused(take(found), 10.0, 0.0)
    assert 10.0 < found.paused_until < 11.0


# -- requests in flight, found out -------------------------------------------------------------------------------------


def test_a_refusal_without_known_limits_bounds_what_is_in_flight() -> None:
    found = limiter()
    made = [take(found) for _ in range(100)]
    found.refused(made[0], 0.5, 0.0)
    assert found.reading(0.0)["in_flight_limit"] == 70


def test_a_refusal_of_one_of_few_bounds_nothing_tightly() -> None:
    found = limiter()
    found.refused(take(found), 0.5, 0.0)
    assert found.reading(0.0)["in_flight_limit"] == 8


def rounds(bound: InFlight, places: float, count: int) -> list[int]:
    """Full rounds of requests to a server with so many places; beyond them each takes as long as it has to wait."""
    seen = []
    for _ in range(count):
        bound.now = bound.limit or 0
        seen.append(bound.now)
        for _ in range(bound.now):
            bound.is_full()
            bound.answered(max(1.0, seen[-1] / places))
    return seen


def test_answers_put_back_a_little_of_what_a_refusal_took() -> None:
    bound = InFlight(None, follow_latency=False)
    bound.now = 100
    bound.refused()
    assert rounds(bound, math.inf, 5) == [70, 73, 77, 80, 84]


def test_nobody_presses_a_bound_that_is_not_reached() -> None:
    bound = InFlight(None, follow_latency=False)
    bound.now = 100
    bound.refused()
    bound.now = 10
    for _ in range(1000):
        bound.answered(1.0)
    assert bound.limit == 70


def test_a_server_that_sends_rate_headers_is_believed_instead() -> None:
    found = limiter(follow=True)
    found.learn(take(found), told(1000, 999), 0.0)
    assert found.reading(0.0)["in_flight_limit"] is None


def test_the_bound_that_follows_latency_doubles_while_answers_stay_quick() -> None:
    assert rounds(InFlight(None, follow_latency=True), math.inf, 5) == [8, 16, 32, 64, 128]


def test_the_bound_that_follows_latency_stays_where_the_queue_begins() -> None:
    seen = rounds(InFlight(None, follow_latency=True), 16, 2000)[50:]
    assert 16 <= sum(seen) / len(seen) <= 32
    assert max(seen) <= 40


def test_answers_that_became_longer_are_not_taken_for_a_queue_for_ever() -> None:
    bound = InFlight(None, follow_latency=True)
    rounds(bound, 16, 100)
    for _ in range(300):
        bound.now = bound.limit or 0
        for _ in range(bound.now):
            bound.is_full()
            bound.answered(5.0)
    assert bound.limit is not None
    assert bound.limit > 40


def test_the_user_s_bound_on_requests_in_flight_is_never_passed() -> None:
    bound = InFlight(10, follow_latency=True)
    assert max(rounds(bound, math.inf, 10)) == 10


# -- properties --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.lists(st.tuples(st.floats(0, 7), st.integers(0, 50), st.booleans()), max_size=60))
@settings(max_examples=150, deadline=None)
def test_in_no_stretch_of_time_are_more_let_through_than_the_limit_and_one_burst(
    per_minute: int, steps: list[tuple[float, int, bool]]
) -> None:
    found, now, admitted = limiter(requests_per_minute=per_minute), 0.0, list[float]()
    for pause, asked, sent in steps:
        now += pause
        for made in takes(found, now, asked):
            found.settle(made, None, now, sent=sent)
            admitted += [now] * sent
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= per_minute + per_minute * (admitted[last] - begin) / 60 + 1e-6


@given(st.lists(st.tuples(st.sampled_from("rsulpx"), st.integers(0, 5000), st.floats(0, 2)), max_size=150))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_books_balance_when_all_have_ended(steps: list[tuple[str, int, float]]) -> None:
    found, now, out = limiter(requests_per_minute=6000, tokens_per_minute=600_000), 0.0, list[Reservation]()
    used_requests = used_tokens = 0
    for step, number, pause in steps:
        now += pause
        if step == "r":
            made = found.reserve(Need(number, number // 2), now)
            out += [made] if isinstance(made, Reservation) else []
        elif out:
            made = out.pop(number % len(out))
            used_requests += step != "u"
            if step == "p":
                found.refused(made, number / 1000, now)
            if step == "l":
                found.learn(made, told(6000, number), now)
            used = Need(number) if step in "sl" else None
            used_tokens += number if used else 0 if step == "u" else made.need.tokens
            found.settle(made, used, now, sent=step != "u")
    for made in out:
        found.settle(made, None, now, sent=False)
    assert (found.in_flight.now, found.requests.taken, found.tokens.taken) == (0, used_requests, used_tokens)


# -- rest ---------------------------------------------------------------------------------------------------------


def test_a_limiter_is_at_rest_when_all_that_was_taken_has_come_back() -> None:
    found = limiter(requests_per_minute=60, tokens_per_minute=600)
    assert found.is_at_rest(0.0)
    one = take(found, tokens=100)
    assert not found.is_at_rest(60.0)  # it is under way
    found.settle(one, None, 60.0, sent=True)
    two = take(found, 60.0, tokens=100)
    found.settle(two, None, 60.0, sent=True)
    assert not found.is_at_rest(69.9)
    assert found.is_at_rest(70.0)


def test_a_limiter_with_a_debt_is_not_at_rest_before_that_is_paid() -> None:
    found = limiter(tokens_per_minute=600)
    found.settle(take(found, tokens=10), Need(1200), 0.0, sent=True)
    assert not found.is_at_rest(119.0)
    assert found.is_at_rest(120.0)


def test_a_limiter_is_not_at_rest_while_the_ramp_after_a_pause_holds_requests_back() -> None:
    found = limiter()
    one = take(found)
    found.refused(one, 10.0, 0.0)
    found.settle(one, None, 0.0, sent=True)
    first = take(found, 10.0)
    found.answered(first, 0.0)
    found.settle(first, None, 10.0, sent=True)
    assert not found.is_at_rest(16.9)  # two for the answer, doubled six times
    assert found.is_at_rest(17.0)


def test_a_limiter_that_was_refused_and_never_answered_is_at_rest_long_after_the_pause() -> None:
    """The next pause is to be twice as long; but nobody who is refused for good is kept for good."""
    found = limiter()
    one = take(found)
    found.refused(one, None, 0.0)
    found.settle(one, None, 0.0, sent=True)
    assert not found.is_at_rest(LONGEST_PAUSE + 0.9)
    assert found.is_at_rest(LONGEST_PAUSE + 1.0)
