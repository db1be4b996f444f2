"""A model's answer read while it is written: who may read it, how it ends, and who gives it up."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from dspy_actors.errors import (
    BlockingCall,
    CallCancelled,
    InputError,
    LMConfigurationError,
    LMNotConfiguredError,
    LMTransportError,
    ShuttingDown,
    StreamError,
)
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.pieces import TextPiece
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import scripted_response
from supervisors.actor import Actor
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import KILLED
from tests.dspy_actors.programs import PATIENCE, begin
from tests.dspy_actors.tapping import Taps, over, rest, some, tapped

# -- reading -----------------------------------------------------------------------------------------------------------


def test_pieces_are_there_before_the_answer_is_whole() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        assert some(stream) == ["a"]
        tap.end()
        assert rest(stream) == ""


def test_a_for_loop_reads_to_the_end() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        tap.end()
        assert list(stream) == [TextPiece("a"), TextPiece("b")]


def test_an_async_for_loop_reads_to_the_end() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        tap.end()

        async def read() -> list[Any]:
            return [piece async for piece in stream]

        assert asyncio.run(read()) == [TextPiece("a"), TextPiece("b")]


def test_after_the_end_there_is_the_whole_answer() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        tap.end(usage=Usage(3, 2))
        rest(stream)
        answer = stream.answer
        assert (answer.response.texts, answer.source, answer.attempts, stream.usage) == (
            ("ab",),
            "model",
            1,
            Usage(3, 2),
        )


def test_before_the_end_there_is_no_answer() -> None:
    with tapped() as (rt, _):
        stream = rt.stream("hello")
        with pytest.raises(StreamError, match="not over"):
            _ = stream.answer
        stream.close()


def test_partial_is_what_has_come_so_far() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        some(stream)
        assert stream.partial == "ab"
        tap.end()
        rest(stream)
        assert stream.partial == "ab"


def test_a_stream_is_iterated_once() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next().end()
        list(stream)
        with pytest.raises(StreamError, match="once"):
            iter(stream)


def test_a_second_reader_is_refused_while_the_first_reads() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        iterator = iter(stream)
        with pytest.raises(StreamError):
            stream.take()
        with pytest.raises(StreamError):
            stream.__aiter__()
        taps.next().end()
        assert list(iterator) == []


def test_a_second_take_cancels_the_first_so_that_nobody_waits_for_ever() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        first, second = stream.take(), stream.take()
        assert first.cancelled()
        taps.next().end()
        assert second.get(PATIENCE) is None


def test_a_for_loop_on_a_running_loop_is_refused_and_names_the_other() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")

        async def read() -> None:
            with pytest.raises(BlockingCall, match="async for"):
                iter(stream)

        asyncio.run(read())
        taps.next().end()
        assert list(stream) == []


def test_an_error_comes_after_the_pieces_before_it_and_carries_them() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        wait_until(lambda: stream.channel.waiting == 2)
        tap.fail(LMTransportError("cut", provider_code="cut"))
        assert some(stream) == ["a", "b"]
        with pytest.raises(LMTransportError) as caught:
            rest(stream)
        assert caught.value.partial == "ab"


def test_what_the_guards_refuse_is_raised_to_the_reader() -> None:
    with Runtime("nobody/m") as rt:
        stream = rt.stream("hello")
        with pytest.raises(LMConfigurationError):
            list(stream)


def test_a_conversation_is_sent_as_it_is() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream([{"role": "system", "content": "Be short."}, Message.of("user", "Hello?")], temperature=0.5)
        tap = taps.next()
        tap.end()
        rest(stream)
        assert [(turn.role, turn.text) for turn in tap.request.messages] == [
            ("system", "Be short."),
            ("user", "Hello?"),
        ]
        assert tap.request.options == {"temperature": 0.5}


@pytest.mark.parametrize("bad", [[], [{"role": "judge", "content": "x"}], [{"role": "user"}], [7]])
def test_what_is_no_conversation_is_refused(bad: Any) -> None:
    with tapped() as (rt, _), pytest.raises(InputError):
        rt.stream(bad)


def test_without_a_model_there_is_nothing_to_stream() -> None:
    with Runtime() as rt, pytest.raises(LMNotConfiguredError):
        rt.stream("hello")


@pytest.mark.parametrize("name", ["first_token", "local_first_token", "idle", "buffer_events", "buffer_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "9"])
def test_settings_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(LMConfigurationError, match=name):
        StreamSettings(**{name: value})


# -- pushing back ------------------------------------------------------------------------------------------------------


def test_nothing_more_is_read_while_the_buffer_is_full() -> None:
    with tapped(streaming=StreamSettings(buffer_events=2)) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        wait_until(lambda: stream.channel.waiting == 2)
        tap.say("c")
        wait_until(lambda: stream.flow.text == "ab")
        reads = tap.reads
        assert some(stream) == ["a", "b"]
        assert some(stream) == ["c"]
        assert reads == 1
        tap.end()
        assert rest(stream) == ""


def test_characters_count_against_the_buffer_too() -> None:
    with tapped(streaming=StreamSettings(buffer_bytes=10)) as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("x" * 10)
        wait_until(lambda: stream.channel.waiting == 1)
        tap.say("y")
        assert tap.reads == 1
        assert some(stream) == ["x" * 10]
        tap.end()
        assert rest(stream) == "y"


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_closing_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
        assert stream.close()
        assert tap.closed.wait(PATIENCE)
        assert isinstance(over(stream), CallCancelled)
        assert stream.take().get(0) is None


def test_closing_twice_is_fine() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        assert (stream.close(), stream.close()) == (True, False)


def test_leaving_the_for_loop_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")
        for _ in stream:
            break
        assert tap.closed.wait(PATIENCE)
        assert isinstance(over(stream), CallCancelled)


def test_leaving_the_async_for_loop_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a", "b")

        async def read() -> None:
            async for _ in stream:
                break
            await asyncio.to_thread(over, stream)

        asyncio.run(read())
        assert tap.closed.wait(PATIENCE)


def test_a_cancelled_reader_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()

        async def read() -> None:
            task = asyncio.create_task(_drain(stream))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(over, stream)

        asyncio.run(read())
        assert tap.closed.wait(PATIENCE)


async def _drain(stream: LMStream) -> None:
    async for _ in stream:
        pass


def test_the_end_of_a_with_block_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        with rt.stream("hello"):
            tap = taps.next()
        assert tap.closed.wait(PATIENCE)


def test_dropping_the_stream_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        del stream
        assert tap.closed.wait(PATIENCE)


def test_a_dropped_stream_in_a_ring_is_given_up_when_the_garbage_is_collected() -> None:
    with tapped() as (rt, taps):
        ring: list[Any] = [rt.stream("hello")]
        ring.append(ring)
        tap = taps.next()
        del ring
        gc.collect()
        assert tap.closed.wait(PATIENCE)


def test_dropping_takes_no_lock_for_a_finalizer_may_run_in_the_middle_of_anything() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()

        def finalized() -> None:
            with stream.channel._lock:
                stream.drop()

        begin(finalized).get(PATIENCE)
        assert tap.closed.wait(PATIENCE)


@pytest.mark.parametrize("way", ["close", "drop"])
def test_whoever_leaves_before_a_worker_stands_sends_nothing(way: str) -> None:
    taps, entered, go_on = Taps(), threading.Event(), threading.Event()

    def opened(config: object) -> Taps:
        entered.set()
        assert go_on.wait(PATIENCE)
        return taps

    with Runtime("scripted/m", open_provider=opened) as rt:
        stream = rt.stream("hello")
        assert entered.wait(PATIENCE)
        if way == "close":
            stream.close()
        del stream
        go_on.set()
        other = rt.stream("hello")
        taps.next().end()
        rest(other)
        assert len(taps.all) == rt.numbers().sent == 1


def test_the_death_of_the_actor_that_opened_it_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        reader = rt.system.kernel.spawn(Reader, rt)
        tap = taps.next()
        reader.exit(KILLED)
        assert tap.closed.wait(PATIENCE)
        wait_until(lambda: rt.numbers().open_streams == 0)


class Reader(Actor):
    """Opens a stream and holds it."""

    def init(self, rt: Runtime) -> None:
        self.stream = rt.stream("hello")
        KEPT.append(self.stream)


KEPT: list[LMStream] = []
"""So that it is not the garbage collector who ends the stream."""


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    KEPT.clear()


def test_a_stream_that_is_over_does_not_watch_its_actor_any_more() -> None:
    with tapped() as (rt, taps):
        reader = rt.system.kernel.spawn(Reader, rt)
        taps.next().end()
        assert over(KEPT[0]) is None
        assert KEPT[0].flow not in reader.mailbox.watchers


def test_closing_in_the_callback_of_a_piece_gives_the_request_up() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        stream.take().add_done_callback(lambda reply: stream.close())
        tap = taps.next()
        tap.say("a")
        assert tap.closed.wait(PATIENCE)
        assert isinstance(over(stream), CallCancelled)


def test_closing_from_another_thread_ends_a_blocked_reader() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        taps.next()
        reading = begin(lambda: list(stream))
        stream.close()
        assert reading.get(PATIENCE) == []
        assert isinstance(over(stream), CallCancelled)


def test_closing_as_the_last_piece_comes_ends_in_the_answer_or_in_the_cancellation() -> None:
    with tapped(lm={"cache": False}) as (rt, taps):
        for _ in range(100):
            stream = rt.stream("hello")
            tap = taps.next()
            tap.say("a")
            some(stream)
            both = threading.Barrier(2)

            def end(tap: Any = tap, both: threading.Barrier = both) -> None:
                both.wait(PATIENCE)
                tap.end()

            ending = begin(end)
            both.wait(PATIENCE)
            stream.close()
            ending.get(PATIENCE)
            error = over(stream)
            assert error is None or isinstance(error, CallCancelled)
        wait_until(lambda: (rt.numbers().open, rt.numbers().open_streams) == (0, 0))
        assert rt.usage().attempts == 100


def test_the_end_of_the_runtime_ends_its_streams() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        tap.say("a")
        some(stream)
    with pytest.raises(ShuttingDown):
        stream.take().get(PATIENCE)
    assert (stream.partial, tap.closed.is_set()) == ("a", True)


def test_a_runtime_that_has_ended_streams_nothing() -> None:
    with tapped() as (rt, _):
        pass
    with pytest.raises(ShuttingDown):
        rt.stream("hello")


def test_draining_waits_for_streams() -> None:
    with tapped() as (rt, taps):
        stream = rt.stream("hello")
        tap = taps.next()
        draining = begin(rt.drain, PATIENCE)
        tap.end()
        rest(stream)
        assert draining.get(PATIENCE) is True


class WholeProvider:
    """What a user may write who does not think of streams."""

    name = "whole"
    endpoint = "whole:"

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        return scripted_response(request, "all of it")

    async def aclose(self) -> None:
        pass


def test_a_provider_that_knows_no_streams_answers_in_one_piece() -> None:
    with Runtime("whole/m", open_provider=lambda config: WholeProvider()) as rt, rt.stream("What?") as stream:
        assert list(stream) == [TextPiece("all of it")]
