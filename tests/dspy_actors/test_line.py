"""The line in front of a limiter: who goes first, who waits how long, who leaves. The clock is the test's."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest

from dspy_actors.errors import DeadlineExceeded, LMRateLimitError
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.limiter import LimiterSettings, Need, RateLimiter, Reservation
from dspy_actors.lm.line import Ending, Line
from dspy_actors.lm.rate_headers import Quota, RateReading
from supervisors.clock import ManualClock, SystemClock
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE
from tests.dspy_actors.test_limiter import Steady

ONE = Need()
GIVEN_UP = Ending(sent=False)


def line(clock: ManualClock, fairness: Fairness | None = None, **limits: Any) -> Line:
    return Line("m", RateLimiter(LimiterSettings(**limits), clock.now(), rng=Steady()), clock, fairness)


def room(found: Line, **about: Any) -> Reservation:
    made = found.enter(ONE, **about)
    assert isinstance(made, Reservation), "there is no room"
    return made


def waits(found: Line, need: Need = ONE, **about: Any) -> Reply[Reservation]:
    turn = found.enter(need, **about)
    assert isinstance(turn, Reply), "there is room"
    return turn


def up(turn: Reply[Reservation]) -> bool:
    """Whether a place in the line came up."""
    return turn.done() and not turn.cancelled() and turn.exception() is None


def busy(clock: ManualClock) -> tuple[Line, Reservation]:
    """A line before a limiter that is full with one request."""
    found = line(clock, max_in_flight=1)
    return found, room(found)


def test_whoever_comes_when_there_is_room_does_not_wait(clock: ManualClock) -> None:
    assert room(line(clock))


def test_whoever_waits_gets_what_somebody_else_gives_back(clock: ManualClock) -> None:
    found, held = busy(clock)
    turn = waits(found)
    found.settle(held, Ending())
    assert up(turn)


def test_whoever_waits_gets_what_time_brings_back(clock: ManualClock) -> None:
    found = line(clock, requests_per_minute=1)
    room(found)
    turn = waits(found)
    clock.advance(59.0)
    assert not turn.done()
    clock.advance(1.0)
    assert up(turn)


def test_those_who_came_first_go_first(clock: ManualClock) -> None:
    found = line(clock, requests_per_minute=60)
    for _ in range(60):
        room(found)
    turns = [waits(found) for _ in range(5)]
    clock.advance(3.0)
    assert [up(turn) for turn in turns] == [True, True, True, False, False]


def test_urgent_ones_go_before_those_who_came_first(clock: ManualClock) -> None:
    found, held = busy(clock)
    turns = {priority: waits(found, priority=priority) for priority in ("optimizer", "batch", "interactive")}
    order = []
    for _ in range(3):
        found.settle(held, Ending())
        (served,) = [name for name, turn in turns.items() if up(turn)]
        order.append(served)
        held = turns.pop(served).take()
    assert order == ["interactive", "batch", "optimizer"]


def test_a_flood_of_one_tenant_does_not_bury_another(clock: ManualClock) -> None:
    found, held = busy(clock)
    flood = [waits(found, tenant="flood") for _ in range(1000)]
    turn = waits(found, tenant="quiet")
    for place in flood[:1]:
        found.settle(held, Ending())
        held = place.take()
    found.settle(held, Ending())
    assert up(turn)


def test_a_tenant_is_charged_for_its_tokens(clock: ManualClock) -> None:
    found, held = busy(clock)
    long = [waits(found, Need(1000), tenant="long") for _ in range(3)]
    short = [waits(found, Need(10), tenant="short") for _ in range(30)]
    for _ in range(32):
        found.settle(held, Ending())
        held = next(
            turn for turn in [*long, *short] if up(turn) and turn.take() is not held and not turn.take().settled
        ).take()
    assert (sum(map(up, long)), sum(map(up, short))) == (2, 30)


def test_nobody_is_let_past_the_first_in_line(clock: ManualClock) -> None:
    found = line(clock, tokens_per_minute=600)
    found.enter(Need(600))
    turn = waits(found, Need(500))
    clock.advance(10.0)
    assert not waits(found, Need(1)).done()
    clock.advance(40.0)
    assert up(turn)


# -- the reserve -------------------------------------------------------------------------------------------------------


def up_at_once(found: Line, need: Need = ONE, **about: Any) -> bool:
    made = found.enter(need, **about)
    return isinstance(made, Reservation) or up(made)


def taken(found: Line, **about: Any) -> int:
    """How many find room at once."""
    count = 0
    while up_at_once(found, **about):
        count += 1
    return count


@pytest.mark.parametrize("limit", ["requests_per_minute", "max_in_flight"])
def test_others_leave_a_fifth_of_a_limit_to_interactive_calls(clock: ManualClock, limit: str) -> None:
    found = line(clock, **{limit: 100})
    room(found)
    assert taken(found, priority="optimizer") == 79
    assert taken(found) == 19  # the twentieth goes to the one that now waits: else it might wait for ever


def test_who_finds_room_though_others_wait_does_not_wait(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=10)
    room(found)
    assert taken(found, priority="batch") == 7
    assert found.reading(clock.now())["waiting"] == 1
    assert room(found, priority="interactive")


def test_others_leave_a_fifth_of_the_tokens_too(clock: ManualClock) -> None:
    found = line(clock, tokens_per_minute=1000)
    found.enter(Need(100))
    assert isinstance(found.enter(Need(700), priority="batch"), Reservation)
    waits(found, Need(1), priority="batch")
    assert up_at_once(found, Need(200))


def test_without_interactive_calls_others_have_all_of_a_limit(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=10)
    assert taken(found, priority="batch") == 10


@pytest.mark.parametrize("seconds", [60.0, 5.0])
def test_the_reserve_is_kept_after_the_last_interactive_call_as_long_as_the_settings_say(
    clock: ManualClock, seconds: float
) -> None:
    found = line(clock, Fairness(reserve_seconds=seconds), max_in_flight=2)
    found.settle(room(found), Ending())
    room(found, priority="batch")
    turn = waits(found, priority="batch")
    clock.advance(seconds - 1.0)
    assert not turn.done()
    clock.advance(1.0)
    assert up(turn)


def test_who_becomes_interactive_has_the_reserve_kept_from_then_on(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=2)
    held = [room(found, priority="batch") for _ in range(2)]
    turn = waits(found, priority="batch")
    found.hurry(turn, "interactive")
    found.settle(held[0], Ending())
    found.settle(turn.take(), Ending())
    waits(found, priority="batch")


def test_others_wait_until_the_reserve_is_full_again(clock: ManualClock) -> None:
    found = line(clock, Fairness(interactive_reserve=0.5), requests_per_minute=60)
    for _ in range(40):
        room(found)
    turn = waits(found, priority="batch")
    clock.advance(10.0)
    assert not turn.done()
    clock.advance(1.0)
    assert up(turn)


def test_one_that_waits_for_the_reserve_alone_is_not_refused_for_its_deadline(clock: ManualClock) -> None:
    found = line(clock, Fairness(interactive_reserve=0.5), requests_per_minute=60)
    for _ in range(40):
        room(found)
    assert not waits(found, priority="batch", deadline=5.0).done()


@pytest.mark.parametrize(("priority", "share"), [("batch", 4), ("optimizer", 16)])
def test_interactive_calls_that_never_wait_do_not_starve_others(clock: ManualClock, priority: Any, share: int) -> None:
    found = line(clock, requests_per_minute=960)
    for _ in range(900):
        room(found)
    turns = [waits(found, priority=priority) for _ in range(5)]
    passed, served = 0, []
    while not up(turns[-1]):
        clock.advance(1 / 16)
        assert up_at_once(found)
        passed += 1
        if sum(map(up, turns)) > len(served):
            served.append(passed)
    assert max(later - sooner for sooner, later in pairwise(served)) == share


def test_a_limit_of_one_is_not_kept_from_others(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=1)
    found.settle(room(found), Ending())
    assert room(found, priority="optimizer")


def queue_waits(clock: ManualClock, flood: int) -> list[float]:
    """Seconds that an interactive call a second waits at ten requests a second, a minute and a half long."""
    found = line(clock, requests_per_minute=600)
    room(found)
    for number in range(flood):
        found.enter(Need(10), priority="optimizer", tenant="sweep", deadline=None if number % 2 else 1e6)
    times = []
    for _ in range(90):
        began = clock.now()
        made = found.enter(Need(10), tenant="service")
        while isinstance(made, Reply) and not up(made):
            clock.advance(0.05)
        times.append(clock.now() - began)
        clock.advance(1.0 - times[-1])
    return times


def test_a_flood_of_an_optimizer_does_not_make_interactive_calls_wait(clock: ManualClock) -> None:
    idle, flooded = queue_waits(clock, 0), queue_waits(clock, 10_000)
    assert max(flooded) <= 2 * max(idle) == 0.0


def test_the_flood_goes_on_meanwhile_at_the_rest_of_the_limit(clock: ManualClock) -> None:
    found = line(clock, requests_per_minute=600)
    room(found)
    flood = [found.enter(ONE, priority="optimizer", tenant="sweep") for _ in range(2000)]
    before = sum(isinstance(each, Reservation) or up(each) for each in flood)
    for _ in range(60):
        room_or_turn = found.enter(ONE, tenant="service")
        assert isinstance(room_or_turn, Reservation) or up(room_or_turn)
        clock.advance(1.0)
    served = sum(isinstance(each, Reservation) or up(each) for each in flood) - before
    assert served == 600 - 60


# -- others who wait for the same --------------------------------------------------------------------------------------


def test_who_becomes_more_urgent_goes_before_those_who_are_not(clock: ManualClock) -> None:
    found, held = busy(clock)
    flood = [waits(found, priority="optimizer") for _ in range(100)]
    turn = waits(found, priority="optimizer")
    found.hurry(turn, "interactive")
    reading = found.reading(clock.now())
    assert (reading["waiting"], reading["waiting_interactive"], reading["waiting_optimizer"]) == (101, 1, 100)
    found.settle(held, Ending())
    assert up(turn)
    found.settle(turn.take(), Ending())
    assert (up(flood[0]), found.reading(clock.now())["in_flight"]) == (True, 1)
    assert found.reading(clock.now())["waiting_interactive"] == 0


def test_who_becomes_interactive_may_have_what_is_kept_for_those(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=10)
    room(found)
    assert taken(found, priority="batch") == 7
    turn = waits(found, priority="batch")
    found.hurry(turn, "interactive")
    assert up(turn)


@pytest.mark.parametrize("priority", ["interactive", "batch", "optimizer"])
def test_nobody_becomes_less_urgent(clock: ManualClock, priority: Any) -> None:
    found, held = busy(clock)
    turn = waits(found, priority="interactive")
    found.hurry(turn, priority)
    assert found.reading(clock.now())["waiting_interactive"] == 1
    found.settle(held, Ending())
    assert up(turn)
    found.hurry(turn, "interactive")
    assert found.reading(clock.now())["waiting"] == 0


def test_a_deadline_that_has_moved_is_waited_for(clock: ManualClock) -> None:
    found, _ = busy(clock)
    ends = 2.0
    turn = found.enter(ONE, deadline=ends, until=lambda: ends)
    assert isinstance(turn, Reply)
    ends = 5.0
    clock.advance(4.0)
    assert not turn.done()
    clock.advance(1.0)
    assert isinstance(turn.exception(), DeadlineExceeded)


def test_a_pause_dismisses_by_the_deadline_that_holds_now(clock: ManualClock) -> None:
    found, held = busy(clock)
    ends = 2.0
    turn = found.enter(ONE, deadline=ends, until=lambda: ends)
    assert isinstance(turn, Reply)
    ends = 50.0
    found.settle(held, Ending(refused=True, retry_after=10.0))
    assert not turn.done()


# -- leaving -----------------------------------------------------------------------------------------------------------


class LeavesAsItsTurnComes(RateLimiter):
    """Cancels `victim` in the moment that room was made for it."""

    victim: Reply[Reservation] | None = None

    def reserve(self, need: Need, now: float, kept: float = 0.0) -> Reservation | float:
        found = super().reserve(need, now, kept)
        if self.victim is not None and isinstance(found, Reservation):
            threading.Thread(target=self.victim.cancel).start()
            wait_until(self.victim.cancelled)
        return found


def test_a_turn_that_nobody_takes_goes_to_the_next(clock: ManualClock) -> None:
    limiter = LeavesAsItsTurnComes(LimiterSettings(max_in_flight=1), clock.now())
    found = Line("m", limiter, clock)
    held = room(found)
    limiter.victim, turn = waits(found), waits(found)
    found.settle(held, Ending())
    assert up(turn)
    assert found.reading(clock.now())["in_flight"] == 1


def test_a_wait_ends_at_the_deadline(clock: ManualClock) -> None:
    found, _ = busy(clock)
    turn = waits(found, deadline=2.0)
    clock.advance(2.0)
    assert isinstance(turn.exception(), DeadlineExceeded)
    assert turn.exception().phase == "limiter"  # type: ignore[union-attr]
    assert found.waiting == 0


def test_a_wait_that_is_sure_to_last_too_long_is_refused_at_once(clock: ManualClock) -> None:
    found = line(clock, requests_per_minute=1)
    room(found)
    with pytest.raises(LMRateLimitError, match="within the call's deadline") as caught:
        waits(found, deadline=30.0).get(0)
    assert (caught.value.retry_after, caught.value.phase) == (60.0, "limiter")


def test_who_waits_for_the_end_of_a_pause_goes_on_when_it_is_ended_by_hand(clock: ManualClock) -> None:
    found = line(clock)
    found.settle(room(found), Ending(refused=True, retry_after=600.0))
    first, second = waits(found), waits(found)
    found.resume()
    assert (up(first), up(second), found.paused(clock.now())) == (True, False, 0.0)
    found.settle(first.take(), Ending(answered=True))
    assert up(second)


def test_a_pause_dismisses_those_who_cannot_outwait_it(clock: ManualClock) -> None:
    found = line(clock, max_in_flight=1)
    held = room(found)
    short, long = waits(found, deadline=5.0), waits(found, deadline=50.0)
    found.settle(held, Ending(refused=True, retry_after=10.0))
    assert isinstance(short.exception(), LMRateLimitError)
    assert not long.done()


def test_after_a_pause_the_first_in_line_goes_ahead_alone(clock: ManualClock) -> None:
    found = line(clock)
    found.settle(room(found), Ending(refused=True, retry_after=1.0))
    turns = [waits(found) for _ in range(50)]
    clock.advance(1.0)
    assert [up(turn) for turn in turns] == [True] + [False] * 49


def test_everybody_follows_within_the_ramp(clock: ManualClock) -> None:
    found = line(clock)
    found.settle(room(found), Ending(refused=True, retry_after=1.0))
    turns = [waits(found) for _ in range(50)]
    clock.advance(1.0)
    ended: set[int] = set()
    while not all(map(up, turns)):
        clock.advance(0.2)
        for number, turn in enumerate(turns):
            if up(turn) and number not in ended:
                ended.add(number)
                found.settle(turn.take(), Ending(answered=True, seconds=0.2))
    assert clock.now() < 3.0


def test_whoever_leaves_the_line_is_skipped(clock: ManualClock) -> None:
    found, held = busy(clock)
    gone, turn = waits(found), waits(found)
    gone.cancel()
    assert found.waiting == 1
    found.settle(held, Ending())
    assert up(turn)


def test_an_answer_s_headers_count_before_the_next_is_let_through(clock: ManualClock) -> None:
    found, held = busy(clock)
    turn = waits(found)
    found.settle(held, Ending(answered=True, limits=RateReading(requests=Quota(60, 0))))
    assert not turn.done()
    clock.advance(1.0)
    assert up(turn)


def test_a_request_that_was_never_sent_leaves_no_trace(clock: ManualClock) -> None:
    found = line(clock, requests_per_minute=1)
    found.settle(room(found), GIVEN_UP)
    assert found.reading(clock.now())["requests_left"] == 1.0


def test_a_second_settlement_is_ignored(clock: ManualClock) -> None:
    found, held = busy(clock)
    found.settle(held, Ending())
    found.settle(held, Ending(refused=True, retry_after=100.0))
    assert room(found)


def test_a_reading_tells_how_many_wait(clock: ManualClock) -> None:
    found, _ = busy(clock)
    waits(found)
    assert found.reading(clock.now())["waiting"] == 1


def test_many_threads_get_each_room_once_and_all_are_served() -> None:
    clock = SystemClock()
    found = Line("m", RateLimiter(LimiterSettings(max_in_flight=3), clock.now()), clock)
    inside, most, served = 0, 0, 0
    lock = threading.Lock()

    def one() -> None:
        nonlocal inside, most, served
        for _ in range(200):
            entered = found.enter(ONE, deadline=clock.now() + PATIENCE)
            held = entered.get(PATIENCE) if isinstance(entered, Reply) else entered
            with lock:
                inside, served = inside + 1, served + 1
                most = max(most, inside)
            with lock:
                inside -= 1
            found.settle(held, Ending())

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    clock.close()
    assert (served, most <= 3, found.waiting) == (1600, True, 0)
