"""The clocks of a stream, and what is tried again: by a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import (
    CircuitOpen,
    DeadlineExceeded,
    LMAuthError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
)
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.stream_settings import StreamSettings
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, begin
from tests.dspy_actors.tapping import Tap, over, rest, some, tapped

SETTINGS = StreamSettings(first_token=60.0, idle=30.0, buffer_events=1)


def waits_for(stream: LMStream, phase: str, rt: Any) -> None:
    """Return once the call waits for `phase`."""
    wait_until(lambda: rt._layer.client.phase_of(stream._reply) == phase)


def error_of(stream: LMStream) -> Any:
    with pytest.raises(Exception) as caught:
        rest(stream)
    return caught.value


# -- first token -------------------------------------------------------------------------------------------------------


def test_a_first_piece_that_does_not_come_is_a_timeout(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        wait_until(lambda: tap.reads == 1)
        clock.advance(59.0)
        assert not stream.over
        clock.advance(1.5)
        error = over(stream)
        assert isinstance(error, LMTimeoutError)
        assert (error.phase, error.provider, error.model, tap.closed.is_set()) == ("first_token", "scripted", "m", True)


def test_after_the_first_piece_the_first_clock_stands_still(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        clock.advance(300.0)
        tap.end()
        assert rest(stream) == ""


def test_a_request_that_is_sent_to_its_end_after_the_first_piece_does_not_start_the_first_clock_anew(
    clock: ManualClock,
) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        tap.attempt.observer.sent()
        clock.advance(300.0)
        tap.say("b")
        tap.end()
        assert rest(stream) == "b"


def test_a_local_server_has_more_time_for_its_first_piece(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0) as (rt, taps):
        stream = rt.stream("hello", "local/m")
        tap = taps.next()
        wait_until(lambda: tap.reads == 1)
        clock.advance(299.0)
        tap.say("late")
        assert some(stream) == ["late"]
        stream.close()


def test_the_wait_begins_anew_when_the_server_has_loaded_its_model(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        wait_until(lambda: tap.reads == 1)
        clock.advance(59.0)
        tap.attempt.observer.ready()
        clock.advance(59.0)
        tap.say("late")
        assert some(stream) == ["late"]
        stream.close()


def test_the_provider_is_told_how_long_a_silence_may_be(clock: ManualClock) -> None:
    with tapped(clock=clock, streaming=StreamSettings(idle=7.0)) as (rt, taps):
        stream = rt.stream("hello")
        assert taps.next().attempt.idle == 7.0
        stream.close()


# -- the deadline ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "phase", "partial"), [((), "first_token", None), (("a",), "stream", "a")])
def test_the_deadline_says_what_was_waited_for(clock: ManualClock, said: Any, phase: str, partial: Any) -> None:
    with tapped(clock=clock, deadline=20.0) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say(*said)
        waits_for(stream, phase, rt)
        clock.advance(20.0)
        error = over(stream)
        assert isinstance(error, DeadlineExceeded)
        assert (error.phase, error.partial) == (phase, partial)
        assert tap.closed.wait(PATIENCE)


def test_the_deadline_passes_for_a_reader_that_never_reads(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=100.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        waits_for(stream, "consumer", rt)
        clock.advance(99.0)
        assert not stream.over
        clock.advance(1.0)
        error = over(stream)
        assert isinstance(error, DeadlineExceeded)
        assert (error.phase, tap.closed.wait(PATIENCE)) == ("consumer", True)


def test_what_waits_can_still_be_read_after_the_deadline(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=100.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        taps.next().say("a")
        waits_for(stream, "consumer", rt)
        clock.advance(100.0)
        assert some(stream) == ["a"]
        assert isinstance(error_of(stream), DeadlineExceeded)


class Sleeper(ManualClock):
    """A clock whose sleepers do not wake: what waits for something else is told the time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


def test_the_deadline_can_pass_in_the_backoff() -> None:
    clock = Sleeper()
    with tapped(LMServerError("down", retry_after=10.0), clock=clock, deadline=20.0, lm={"num_retries": 3}) as (
        rt,
        taps,
    ):
        stream = rt.stream("hello")
        taps.next()
        waits_for(stream, "backoff", rt)
        clock.advance(20.0)
        error = error_of(stream)
        assert isinstance(error, DeadlineExceeded)
        assert (error.phase, len(taps.all)) == ("backoff", 1)


def test_whoever_leaves_in_the_backoff_sends_nothing_more() -> None:
    clock = Sleeper()
    with tapped(LMServerError("down", retry_after=10.0), clock=clock, deadline=600.0, lm={"num_retries": 3}) as (
        rt,
        taps,
    ):
        stream = rt.stream("hello")
        taps.next()
        waits_for(stream, "backoff", rt)
        stream.close()
        wait_until(lambda: rt.numbers().open == 0)
        assert (len(taps.all), rt.usage().attempts) == (1, 1)


def test_a_reader_slower_than_the_longest_silence_is_no_silence(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        for text in "abc":
            tap.say(text)
            waits_for(stream, "consumer", rt)
            clock.advance(100.0)
            assert some(stream) == [text]
        tap.end()
        assert rest(stream) == ""


def test_nothing_is_left_of_the_clock_when_the_stream_is_over(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()  # from here on its worker's pool has a timer too
        before = live(clock)
        tap.end()
        rest(stream)
        assert over(stream) is None
        assert live(clock) <= before - 1


def live(clock: ManualClock) -> int:
    return len(clock._timers.waiting())


# -- trying again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        LMServerError("down", status=503, retry_after=1.0),
        LMRateLimitError("too fast", status=429, retry_after=1.0),
        LMTransportError("reset", provider_code="reset"),
        LMTimeoutError("silence", phase="idle"),
    ],
)
def test_what_fails_before_the_first_piece_is_tried_again(clock: ManualClock, refusal: LMError) -> None:
    with tapped(refusal, clock=clock, deadline=600.0, lm={"num_retries": 1}) as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        second = soon(clock, taps.next)
        second.say("a")
        second.end()
        assert rest(stream) == "a"
        assert (stream.answer.attempts, second.attempt.number, rt.numbers().retries) == (2, 2, 1)


def soon(clock: ManualClock, then: Callable[[], Tap]) -> Tap:
    """Let the backoff pass, whatever it is."""
    coming = begin(then)
    wait_until(lambda: (clock.advance(1.0), coming.done())[1])
    tap: Tap = coming.get(PATIENCE)
    return tap


def test_headers_alone_are_no_piece(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, lm={"num_retries": 1}) as (rt, taps):
        stream = rt.stream("hello")
        first = taps.next()
        first.fail(LMTransportError("cut", provider_code="cut"))
        second = soon(clock, taps.next)
        second.say("a")
        second.end()
        assert rest(stream) == "a"
        assert (first.closed.is_set(), rt.usage().attempts) == (True, 2)


def test_a_stream_that_ends_before_it_began_is_tried_again(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, lm={"num_retries": 1}) as (rt, taps):
        stream = rt.stream("hello")
        taps.next().fail(LMStreamAssemblyError("no end"))
        second = soon(clock, taps.next)
        second.end()
        assert rest(stream) == ""


def test_a_first_piece_too_late_is_tried_once_more(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, streaming=SETTINGS, lm={"num_retries": 3}) as (rt, taps):
        stream = rt.stream("hello")
        for tap in (taps.next(), None):
            tap = tap or soon(clock, taps.next)
            wait_until(lambda tap=tap: tap.reads == 1)
            clock.advance(61.0)
        assert isinstance(error_of(stream), LMTimeoutError)
        assert len(taps.all) == 2


@pytest.mark.parametrize(
    "failure",
    [
        LMTransportError("cut", provider_code="cut"),
        LMServerError("overloaded", status=529),
        LMTimeoutError("silence", phase="idle"),
        LMStreamAssemblyError("no end"),
    ],
)
def test_nothing_is_tried_again_after_a_piece(clock: ManualClock, failure: LMError) -> None:
    with tapped(clock=clock, deadline=600.0, lm={"num_retries": 3}) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        tap.fail(failure)
        error = error_of(stream)
        assert type(error) is type(failure)
        assert (error.partial, error.attempts, len(taps.all)) == ("a", 1, 1)


def test_a_refused_key_is_not_tried_again(clock: ManualClock) -> None:
    with tapped(LMAuthError("no", status=401), clock=clock, lm={"num_retries": 3}) as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        assert isinstance(error_of(stream), LMAuthError)


# -- the breaker -------------------------------------------------------------------------------------------------------

QUICK = Guarding(breaker=BreakerSettings(minimum=1, slow_seconds=10.0, patience_seconds=10.0))


def state(rt: Any) -> str:
    readings: Any = rt.health()["breakers"]
    return str(readings["scripted/m"]["state"])


def is_open(rt: Any) -> bool:
    with pytest.raises(CircuitOpen):
        rest(rt.stream("another"))
    return True


@pytest.mark.parametrize(
    "failure",
    [
        LMTransportError("cut", provider_code="cut"),
        LMTimeoutError("silence", phase="idle"),
        LMStreamAssemblyError("no end"),
    ],
)
def test_a_stream_that_breaks_is_a_failure(clock: ManualClock, failure: LMError) -> None:
    with tapped(clock=clock, deadline=600.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        tap.fail(failure)
        over(stream)
        assert is_open(rt)


def test_a_first_piece_that_comes_late_is_slow(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        wait_until(lambda: tap.reads == 1)
        clock.advance(11.0)
        tap.say("a")
        some(stream)
        tap.end()
        rest(stream)
        assert is_open(rt)


def test_a_long_answer_that_began_in_time_is_not_slow(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=600.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        clock.advance(100.0)
        tap.end()
        rest(stream)
        assert state(rt) == "closed"


@pytest.mark.parametrize("said", [(), ("a",)])
def test_a_reader_that_leaves_says_nothing_of_the_provider(clock: ManualClock, said: Any) -> None:
    with tapped(clock=clock, deadline=600.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say(*said)
        wait_until(lambda: tap.reads == 1 + len(said))
        clock.advance(50.0)
        stream.close()
        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: rt.numbers().open == 0)
        assert state(rt) == "closed"


def test_a_deadline_in_the_middle_of_a_stream_says_nothing_of_the_provider(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=50.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        clock.advance(50.0)
        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: rt.numbers().open == 0)
        assert state(rt) == "closed"


def test_a_deadline_without_a_piece_counts_where_the_provider_had_patience_enough(clock: ManualClock) -> None:
    with tapped(clock=clock, deadline=50.0, guarding=QUICK) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        waits_for(stream, "first_token", rt)
        clock.advance(50.0)
        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: rt.numbers().open == 0)
        assert is_open(rt)
