"""Deaths under a stream: worker, io loop, guards. It goes on, or ends in a typed error with what had come."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dspy_actors.envelope import Envelope, Scope
from dspy_actors.errors import CallCancelled, DspyActorsError, LMTransportError
from dspy_actors.lm.flow import Flow, Right
from dspy_actors.lm.gates import Passing
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.limiter import Need
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.streamed import Streamed
from dspy_actors.lm.work import Work
from dspy_actors.messages import LMRequest, Message
from dspy_actors.pieces import TextPiece
from dspy_actors.runner import FRAME, Frame
from dspy_actors.runtime import Runtime
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import KILLED, of_class, worker
from tests.dspy_actors.programs import PATIENCE
from tests.dspy_actors.tapping import Taps, over, rest, some, tapped

ENDS = ["exit", "fence"]


def end(ref: Any, how: str) -> None:
    if how == "exit":
        ref.exit(KILLED)
    else:
        ref.fence()


@pytest.mark.parametrize("how", ENDS)
def test_a_worker_that_dies_before_the_first_piece_is_replaced_and_the_stream_goes_on(how: str) -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        end(worker(rt), how)
        tap = taps.next()
        tap.say("a")
        tap.end()
        assert rest(stream) == "a"
        assert (rt.numbers().resubmits, rt.numbers().sent) == (1, 2)


def test_a_worker_that_dies_twice_before_the_first_piece_ends_the_stream() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        for _ in range(2):
            taps.next()
            worker(rt).exit(KILLED)
        assert isinstance(over(stream), LMTransportError)
        assert len(taps.all) == 2


@pytest.mark.parametrize("how", ENDS)
def test_a_worker_that_dies_between_pieces_ends_the_stream_with_what_had_come(how: str) -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        some(stream)
        end(worker(rt), how)
        with pytest.raises(LMTransportError) as caught:
            rest(stream)
        assert caught.value.partial == stream.partial == "ab"
        assert tap.closed.wait(PATIENCE)
        assert len(taps.all) == 1


def test_pieces_that_waited_when_the_worker_died_can_be_read() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next().say("a", "b")
        wait_until(lambda: stream.channel.waiting == 2)
        worker(rt).fence()
        assert isinstance(over(stream), LMTransportError)
        assert some(stream) == ["a", "b"]


@pytest.mark.parametrize("how", ENDS)
def test_the_io_loop_s_death_ends_all_streams_within_a_second(how: str) -> None:
    with tapped(lm={"cache": False}) as (rt, taps):
        streams = [rt.stream("hello") for _ in range(50)]
        for _ in streams:
            taps.next().say("a")
        assert [some(stream) for stream in streams] == [["a"]] * 50
        began = time.monotonic()
        end(of_class(rt, IOLoop), how)
        errors = [over(stream) for stream in streams]
        assert time.monotonic() - began < 1.0
        assert {type(error) for error in errors} == {LMTransportError}
        assert all(tap.closed.wait(PATIENCE) for tap in taps.all)
        assert whole(rt, taps) == "again"


def whole(rt: Runtime, taps: Taps) -> str:
    stream = rt.stream("hello")
    tap = taps.next()
    tap.say("again")
    tap.end()
    return rest(stream)


def test_a_stream_dropped_after_its_io_loop_died_harms_nobody() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next().say("a")
        some(stream)
        of_class(rt, IOLoop).fence()
        assert isinstance(over(stream), DspyActorsError)
        del stream
        assert whole(rt, taps) == "again"


# -- whose turn it is --------------------------------------------------------------------------------------------------


def test_a_right_whose_first_piece_was_written_cannot_be_taken_away() -> None:
    right = Right()
    assert (right.begin(), right.begun, right.revoke(), right.revoke()) == (True, True, False, False)


def test_a_right_that_was_taken_away_stays_so() -> None:
    right = Right()
    assert (right.revoke(), right.begin(), right.begun, right.revoke()) == (True, False, False, True)


def test_a_buried_worker_writes_nothing_more() -> None:
    """It was declared dead when its first piece was in its hands, and another has been asked."""

    async def late() -> list[Any]:
        flow = Flow(StreamSettings())
        turn = flow.next_turn()
        taps = Taps()
        request = LMRequest("m", (Message.of("user", "hello"),))
        lm = LM("scripted/m")
        exchange = Streamed(taps, lm.config, turn, StreamSettings(), ManualClock())
        work = Work(lm, request, Envelope("c"))
        passing = Passing(1, Need(), "interactive", "", None, None, 0.0)
        asking = asyncio.ensure_future(exchange.ask(work, Attempt("c.1"), passing))
        await asyncio.sleep(0)
        assert flow.may_begin_anew()
        taps.all[0].say("late")
        await asyncio.wait([asking], timeout=PATIENCE)
        assert asking.cancelled()
        flow.next_turn().right.begin()
        flow.channel.put([TextPiece("from the successor")])
        return flow.channel.take().get(0) or []

    assert asyncio.run(late()) == [TextPiece("from the successor")]


# -- inside of a call --------------------------------------------------------------------------------------------------


def test_a_stream_begun_in_a_call_ends_with_it_and_bills_it() -> None:
    with tapped(lm={"cache": False}) as (rt, taps):
        scope = Scope()
        host = rt._running()
        token = FRAME.set(Frame(host, rt.settings, Envelope("call", path=("outer",), deadline=None), scope))
        try:
            first = rt.stream("hello")
            tap = (
                taps.next()
            )  # before the other is begun: of two at once, which wait for the worker, either may be first
            second = rt.stream("hello")
        finally:
            FRAME.reset(token)
        tap.say("a")
        tap.end()
        other = taps.next()
        rest(first)
        assert (scope.lm_calls, scope.attempts) == (1, 1)
        scope.cancel()
        assert other.closed.wait(PATIENCE)
        assert isinstance(over(second), CallCancelled)
        assert scope.waiting() == ()
