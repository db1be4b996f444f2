"""A stream goes on to another model as long as nothing of it has come, and never after."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest

from dspy_actors.errors import (
    CallCancelled,
    DeadlineExceeded,
    LMAuthError,
    LMInvalidRequestError,
    LMServerError,
    LMTransportError,
)
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.runtime import Runtime
from supervisors.actor import Actor
from tests.dspy_actors.over_http import KILLED, worker
from tests.dspy_actors.programs import PATIENCE, SOON
from tests.dspy_actors.tapping import Taps, over, rest, some, tapped

DOWN = LMServerError("down", status=500)


def in_turn(*refusals: Any, **options: Any) -> AbstractContextManager[tuple[Runtime, Taps]]:
    """Streams of the model `m`, of its fallback `second` and of that one's successor `third`."""
    fallbacks = [LM(f"scripted/{name}", num_retries=0) for name in ("second", "third")]
    return tapped(*refusals, lm={"fallbacks": fallbacks}, **options)


def models(taps: Taps) -> list[str]:
    return [tap.request.model for tap in taps.all]


def test_a_stream_that_was_refused_comes_from_the_fallback() -> None:
    with in_turn(DOWN) as (rt, taps):
        stream = rt.stream("hello")
        assert taps.next().request.model == "m"
        tap = taps.next()
        tap.say("a", "b")
        tap.end()
        assert rest(stream) == "ab"
        answer = stream.answer
        assert (answer.model, answer.attempts, answer.response.texts) == ("scripted/second", 2, ("ab",))
        assert (rt.numbers().fallbacks, rt.numbers().streams, rt.numbers().open_streams) == (1, 1, 0)


def test_a_stream_that_broke_before_its_first_piece_comes_from_the_fallback() -> None:
    with in_turn() as (rt, taps):
        stream = rt.stream("hello")
        taps.next().fail(LMTransportError("cut"))
        tap = taps.next()
        tap.say("a")
        tap.end()
        assert rest(stream) == "a"
        assert models(taps) == ["m", "second"]


def test_a_stream_that_broke_after_its_first_piece_ends_there() -> None:
    with in_turn() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        tap.fail(LMTransportError("cut"))
        with pytest.raises(LMTransportError) as caught:
            rest(stream)
        assert (caught.value.partial, models(taps), rt.numbers().fallbacks) == ("a", ["m"], 0)


def test_a_request_that_is_itself_at_fault_goes_no_further() -> None:
    with in_turn(LMInvalidRequestError("bad")) as (rt, taps):
        with pytest.raises(LMInvalidRequestError):
            rest(rt.stream("hello"))
        assert models(taps) == ["m"]


def test_where_all_fail_the_reader_gets_the_last_error_and_the_others_as_its_causes() -> None:
    with in_turn(DOWN, LMAuthError("wrong key"), LMTransportError("refused")) as (rt, taps):
        stream = rt.stream("hello")
        with pytest.raises(LMTransportError, match="refused") as caught:
            rest(stream)
        assert isinstance(caught.value.__cause__, LMAuthError)
        assert caught.value.attempts == 3
        assert repr(over(stream)) == repr(caught.value)
        assert models(taps) == ["m", "second", "third"]


def test_a_worker_that_dies_twice_before_the_first_piece_leaves_it_to_the_fallback() -> None:
    with in_turn() as (rt, taps):
        stream = rt.stream("hello")
        for _ in range(2):
            taps.next()
            worker(rt).exit(KILLED)
        tap = taps.next()
        tap.say("a")
        tap.end()
        assert rest(stream) == "a"
        assert models(taps) == ["m", "m", "second"]


def test_a_reader_who_leaves_gives_up_the_fallback_s_request() -> None:
    with in_turn(DOWN) as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        tap = taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        stream.close()
        assert tap.closed.wait(PATIENCE)
        assert isinstance(over(stream), CallCancelled)
        assert models(taps) == ["m", "second"]


def test_a_fallback_s_stream_ends_at_the_deadline_of_the_call() -> None:
    with in_turn(DOWN, deadline=SOON) as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        tap = taps.next()
        with pytest.raises(DeadlineExceeded):
            rest(stream)
        assert tap.closed.wait(PATIENCE)
        assert models(taps) == ["m", "second"]


class Reader(Actor):
    """Opens a stream and holds it."""

    def init(self, rt: Runtime) -> None:
        self.stream = rt.stream("hello")

    def held(self) -> LMStream:
        return self.stream


def test_a_fallback_s_stream_ends_with_the_actor_that_opened_it() -> None:
    with in_turn(DOWN) as (rt, taps):
        reader = rt.system.kernel.spawn(Reader, rt)
        stream = reader.call(Reader.held)
        taps.next()
        tap = taps.next()
        reader.exit(KILLED)
        assert tap.closed.wait(PATIENCE)
        assert isinstance(over(stream), CallCancelled)


def test_an_answer_that_the_fallback_has_given_before_is_replayed() -> None:
    with in_turn(DOWN, None, DOWN) as (rt, taps):
        first = rt.stream("hello")
        taps.next()
        tap = taps.next()
        tap.say("a")
        tap.end()
        assert rest(first) == "a"
        again = rt.stream("hello")
        assert rest(again) == "a"
        assert (again.answer.source, again.answer.model) == ("cache", "scripted/second")
        assert models(taps) == ["m", "second", "m"]
