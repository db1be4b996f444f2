"""A stream that is a breaker's probe has told what it is to tell with its first piece: nobody waits for its reader."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from dspy_actors.errors import CircuitOpen, LMError, LMServerError, LMTransportError
from dspy_actors.lm.breaker import Breaker, Permit, State, Verdict
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.endpoint_breaker import EndpointBreaker
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.runtime import Runtime
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import breaker
from tests.dspy_actors.tapping import Tap, Taps, over, rest, some, tapped

DOWN = LMServerError("down", status=503)
CUT = LMTransportError("cut", provider_code="cut")
SETTINGS = BreakerSettings(minimum=2, jitter=0.0, open_seconds=5.0)


class Probing:
    """A runtime whose breaker, or whose endpoint's too, is half open, and its first probe, which has begun."""

    def __init__(self, rt: Runtime, taps: Taps, clock: ManualClock) -> None:
        self.rt, self.taps = rt, taps
        for number in range(2):
            failed = rt.stream(f"hello {number}")
            taps.next()
            with pytest.raises(LMError):
                rest(failed)
        clock.advance(5.0)
        self.stream, self.tap = self.begun("probe")

    def begun(self, question: str) -> tuple[LMStream, Tap]:
        """A stream of which one piece was read."""
        stream = self.rt.stream(question)
        tap = self.taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        return stream, tap


def probing(clock: ManualClock, refusal: LMError = CUT) -> AbstractContextManager[tuple[Runtime, Taps]]:
    guarding = Guarding(breaker=SETTINGS, provider_breaker=SETTINGS)
    return tapped(refusal, refusal, clock=clock, guarding=guarding)


@pytest.mark.parametrize("refusal", [CUT, DOWN], ids=["both breakers", "the model's"])
def test_others_go_ahead_while_somebody_reads_the_probe(refusal: LMError) -> None:
    """Whoever read it slowly, or not at all, kept all others from a provider that was well again."""
    clock = ManualClock()
    with probing(clock, refusal) as (rt, taps):
        probe = Probing(rt, taps, clock)
        second = probe.begun("second")[0]
        assert breaker(rt)["state"] == "closed"
        third, tap = probe.begun("third")
        tap.end()
        assert rest(third) == ""
        assert not second.over


def test_a_probe_that_breaks_off_opens_the_breaker_again() -> None:
    clock = ManualClock()
    with probing(clock) as (rt, taps):
        probe = Probing(rt, taps, clock)
        assert breaker(rt)["state"] == "half_open"
        probe.tap.fail(CUT)
        over(probe.stream)
        wait_until(lambda: breaker(rt)["state"] == "open")
        with pytest.raises(CircuitOpen):
            rest(rt.stream("refused"))


def test_a_probe_that_its_reader_leaves_has_been_a_success() -> None:
    clock = ManualClock()
    with probing(clock) as (rt, taps):
        probe = Probing(rt, taps, clock)
        probe.stream.close()
        over(probe.stream)
        probe.begun("second")
        assert breaker(rt)["state"] == "closed"


# -- the breaker alone -------------------------------------------------------------------------------------------------


def half_open() -> tuple[Breaker, Permit]:
    """With its probe under way since second 5."""
    found = Breaker("m", SETTINGS)
    for _ in range(2):
        found.report(found.permit(0.0), Verdict.FAILURE, 0.0)
    return found, found.permit(5.0, 600.0)


def test_a_probe_that_began_late_opens_it_again() -> None:
    found, probe = half_open()
    found.begun(probe, 121.0, 126.0)
    assert found.state is State.OPEN


def test_a_probe_is_one_success_however_often_it_tells_of_it() -> None:
    found, probe = half_open()
    begun = found.begun(probe, 1.0, 6.0)
    for _ in range(3):
        found.answered(begun, 1.0, 7.0)
    assert found.state is State.HALF_OPEN


def test_a_probe_that_has_lost_its_lease_tells_nothing_as_it_begins() -> None:
    found, lost = half_open()
    found.permit(601.0, 1000.0)
    assert found.begun(lost, 1.0, 602.0) == lost
    with pytest.raises(CircuitOpen):
        found.permit(602.0)


def test_a_stream_that_broke_off_after_the_breaker_was_closed_is_one_failure_of_many() -> None:
    found, probe = half_open()
    found.begun(probe, 1.0, 6.0)
    last = found.begun(found.permit(6.0, 600.0), 1.0, 7.0)
    found.report(last, Verdict.FAILURE, 8.0)
    assert (found.state, found.reading(8.0).failures) == (State.CLOSED, 1)


def test_a_stream_of_no_probe_counts_at_its_end() -> None:
    found = EndpointBreaker("e", SETTINGS)
    permit = found.permit(0.0)
    assert found.begun_by("m", permit, 1.0, 1.0) is found.begun(permit, 1.0, 1.0) is permit
    assert found.reading(1.0).calls == 0
