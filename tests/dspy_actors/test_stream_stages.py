"""Streams as stages: demand reaches the model, and whoever ends gives the request up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.channel import Channel
from dspy_actors.errors import LMTransportError
from dspy_actors.messages import LMRequest
from dspy_actors.modules.stream_response import StreamResponse
from dspy_actors.pieces import TextPiece
from dspy_actors.runtime import Runtime
from dspy_actors.stream_reader import StreamReader
from dspy_actors.streaming.stream_consumer import StreamConsumer
from dspy_actors.streaming.stream_producer import StreamProducer
from dspy_actors.testing.providers import Scripted
from supervisors.actor import Ref
from supervisors.exits import Crash, Exit, Killed, Normal
from supervisors.stages import Consumer, To, ask, estimate_buffered_count, stream
from supervisors.system import System
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, asked, qa, says
from tests.dspy_actors.tapping import Tap, tapped
from tests.dspy_actors.test_program_stream import HEADER, UNHURRIED, Sorted, scripted, sorting


def spawn(rt: Runtime, kind: Any, *args: Any, **options: Any) -> Ref[Any]:
    ref = rt.system.spawn(kind, *args, **options)
    assert isinstance(ref, Ref)
    return ref


def exit_of(ref: Ref[Any]) -> Exit:
    """How an actor ended, once it has."""
    return ref.down().get(PATIENCE)


class ByHand(Consumer):
    """Asks when it is told to."""

    def init(self, producer: Ref[Any], got: list[Any] | None = None) -> None:
        self.got: list[Any] = [] if got is None else got
        self.subscription = self.subscribe(To(producer))

    def handle_subscribe(self, kind: Any, from_: Any) -> Any:
        return "manual"

    def handle_events(self, events: list[Any], from_: Any) -> None:
        self.got += events

    def want(self, events: int) -> None:
        ask(self.subscription, events)

    def so_far(self) -> list[Any]:
        return list(self.got)


def heard() -> tuple[list[tuple[str, str]], Callable[[str, Any], None]]:
    """What a callback was called with."""
    calls: list[tuple[str, str]] = []
    return calls, lambda accumulated, chunk: calls.append(
        (accumulated, getattr(chunk, "text", getattr(chunk, "chunk", "")))
    )


# -- demand ------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_anybody_asks_and_one_request_after() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        consumer = spawn(rt, ByHand, producer)
        consumer.call(ByHand.so_far)
        assert taps.all == []

        for _ in range(3):
            consumer.call(ByHand.want, 1)
        tap = taps.next()
        tap.say("one", "two", "three", "four")
        wait_until(lambda: len(consumer.call(ByHand.so_far)) == 3, PATIENCE)

        assert len(taps.all) == 1
        assert consumer.call(ByHand.so_far) == [TextPiece("one"), TextPiece("two"), TextPiece("three")]


def test_what_is_not_asked_for_is_not_read() -> None:
    with scripted([["word "] * 10_000, "yes"], lm="scripted/m") as (rt, provider):
        opened: list[Any] = []

        def begin() -> Any:
            opened.append(rt.stream("why?"))
            return opened[0]

        consumer = spawn(rt, ByHand, spawn(rt, StreamProducer, begin))
        consumer.call(ByHand.want, 2)
        wait_until(lambda: len(consumer.call(ByHand.so_far)) == 2, PATIENCE)
        wait_until(lambda: opened[0].channel.waiting >= opened[0].channel.max_items, PATIENCE)
        list(rt.stream("another"))  # the io loop has the time to read on, if it would

        assert provider.streams[0].taken <= 4 * opened[0].channel.max_items
        assert len(consumer.call(ByHand.so_far)) == 2


def test_a_stream_that_is_over_ends_its_stage_when_everything_was_sent() -> None:
    with scripted([["one ", "two ", "three"]]) as (rt, _):
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        consumer = spawn(rt, ByHand, producer)
        consumer.call(ByHand.want, 1)
        wait_until(lambda: len(consumer.call(ByHand.so_far)) == 1, PATIENCE)
        assert producer.is_alive()
        down = consumer.down()
        consumer.call(ByHand.want, 5)

        assert exit_of(producer) == Normal()
        assert down.get(PATIENCE) == Normal()


def test_what_a_consumer_that_left_had_asked_for_is_sent_to_the_next() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        got: list[Any] = []
        first, second = spawn(rt, ByHand, producer), spawn(rt, ByHand, producer, got)
        first.call(ByHand.want, 5)
        tap = taps.next()
        first.exit(Normal())
        exit_of(first)
        tap.say("one", "two")
        tap.end()
        wait_until(lambda: estimate_buffered_count(producer) == 2, PATIENCE)
        wait_until(lambda: tap.closed.is_set(), PATIENCE)
        assert producer.is_alive()
        second.call(ByHand.want, 2)

        assert exit_of(second) == Normal()
        assert got == [TextPiece("one"), TextPiece("two")]


def test_stages_of_a_stream_can_be_iterated() -> None:
    with scripted(sorting) as (rt, _):
        producer = spawn(rt, StreamProducer, lambda: rt.start(Sorted()).stream(["label"], question="why?"))
        chunks = list(stream([To(producer, max_demand=2, cancel="transient")]))

        assert "".join(chunk.chunk for chunk in chunks) == "order"
        assert chunks[-1].is_last_chunk


def test_an_error_ends_the_stage_behind_what_had_come() -> None:
    with scripted([["one", "two", LMTransportError("cut")]]) as (rt, _):
        calls, callback = heard()
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        consumer = spawn(rt, StreamConsumer, producer, callback)
        ended = exit_of(consumer)

        assert calls == [("one", "one"), ("onetwo", "two")]
        assert isinstance(ended, Crash)
        assert isinstance(ended.error, LMTransportError)
        assert ended.error.partial == "onetwo"


# -- who leaves --------------------------------------------------------------------------------------------------


def under_way(rt: Runtime, taps: Any, callback: Callable[[str, Any], object]) -> tuple[Ref[Any], Ref[Any], Tap]:
    """A producer and a consumer that has been told something."""
    told = threading.Event()

    def tell(accumulated: str, chunk: Any) -> None:
        told.set()
        callback(accumulated, chunk)

    program = rt.start(qa())
    producer = spawn(rt, StreamProducer, lambda: program.stream(question="why?"))
    consumer = spawn(rt, StreamConsumer, producer, tell)
    tap = taps.next()
    tap.say(HEADER, "one")
    assert told.wait(PATIENCE)
    return producer, consumer, tap


@pytest.mark.parametrize("exit", [Normal(), Crash(RuntimeError("boom")), Killed()])
def test_a_consumer_that_ends_closes_the_connection(exit: Exit) -> None:
    """Drill 22."""
    with tapped(deadline=UNHURRIED) as (rt, taps):
        producer, consumer, tap = under_way(rt, taps, lambda accumulated, chunk: None)
        consumer.exit(exit)

        assert tap.closed.wait(PATIENCE)
        assert exit_of(producer) == Normal()


@pytest.mark.parametrize("exit", [Normal(), Crash(RuntimeError("boom")), Killed()])
def test_a_producer_that_ends_closes_the_connection(exit: Exit) -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        producer, consumer, tap = under_way(rt, taps, lambda accumulated, chunk: None)
        producer.exit(exit)

        assert tap.closed.wait(PATIENCE)
        assert exit_of(consumer) is not None


def test_one_consumer_of_two_may_leave() -> None:
    with tapped(deadline=UNHURRIED) as (rt, taps):
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        first, second = spawn(rt, ByHand, producer), spawn(rt, ByHand, producer)
        first.call(ByHand.want, 1)
        tap = taps.next()
        first.exit(Normal())
        exit_of(first)
        second.call(ByHand.want, 2)
        tap.say("one", "two")
        wait_until(lambda: len(second.call(ByHand.so_far)) == 2, PATIENCE)

        assert not tap.closed.is_set()
        assert producer.is_alive()


# -- callbacks ---------------------------------------------------------------------------------------------------


def test_a_callback_gets_what_has_come_and_the_chunk() -> None:
    with scripted([["one ", "two ", "three"]]) as (rt, _):
        calls, callback = heard()
        producer = spawn(rt, StreamProducer, lambda: rt.stream("why?"))
        assert exit_of(spawn(rt, StreamConsumer, producer, callback)) == Normal()

        assert calls == [("one ", "one "), ("one two ", "two "), ("one two three", "three")]


def test_outputs_accumulate_each_for_itself() -> None:
    with scripted(sorting) as (rt, _):
        ends: dict[str, str] = {}

        def callback(accumulated: str, chunk: StreamResponse) -> None:
            if chunk.is_last_chunk:
                ends[chunk.signature_field_name] = accumulated

        program = rt.start(Sorted())
        producer = spawn(rt, StreamProducer, lambda: program.stream(question="why?"))
        exit_of(spawn(rt, StreamConsumer, producer, callback))

        assert ends == {"label": "order", "reasoning": "It says so.", "answer": "yes"}


class Written(StreamReader[Any]):
    """A stream that is there as a whole."""

    def __init__(self, pieces: list[Any]) -> None:
        super().__init__(Channel())
        self.channel.put(pieces)
        self.channel.finish()

    def close(self) -> bool:
        return self.channel.close()

    def drop(self) -> None:
        self.channel.close()


def test_outputs_that_are_written_side_by_side_do_not_mix() -> None:
    pieces = [
        ("left", "a", False),
        ("right", "x", False),
        ("left", "b", False),
        ("right", "y", True),
        ("left", "", True),
    ]
    calls: list[tuple[str, str]] = []
    with System() as system:
        written = [StreamResponse(name, "answer", chunk, is_last) for name, chunk, is_last in pieces]
        producer = system.spawn(StreamProducer, lambda: Written(written))
        tell = lambda accumulated, chunk: calls.append((chunk.predict_name, accumulated))  # noqa: E731
        consumer = system.spawn(StreamConsumer, producer, tell)
        assert isinstance(consumer, Ref)
        exit_of(consumer)

    assert calls == [("left", "a"), ("right", "x"), ("left", "ab"), ("right", "xy"), ("left", "ab")]


def test_a_long_answer_accumulates_in_linear_time() -> None:
    """Copied at every chunk these 4 MB would be 160 GB."""
    lengths = [0, 0]

    def callback(accumulated: str, chunk: TextPiece) -> None:
        lengths[0] += 1
        lengths[1] = len(accumulated)

    with System() as system:
        producer = system.spawn(StreamProducer, lambda: Written([TextPiece("x" * 50)] * 80_000))
        consumer = system.spawn(StreamConsumer, producer, callback, max_demand=1000)
        assert isinstance(consumer, Ref)
        assert exit_of(consumer) == Normal()

    assert lengths == [80_000, 4_000_000]


def test_a_callback_that_raises_ends_its_own_stream_only() -> None:
    def raises(accumulated: str, chunk: Any) -> None:
        raise LookupError(accumulated)

    with tapped(deadline=UNHURRIED) as (rt, taps):
        _, consumer, tap = under_way(rt, taps, raises)
        other, heard_other = heard()
        second = spawn(rt, StreamProducer, lambda: rt.stream("another"))
        beside = spawn(rt, StreamConsumer, second, heard_other)
        assert tap.closed.wait(PATIENCE)
        assert isinstance(exit_of(consumer), Crash)
        later = taps.next()
        later.say("still here")
        later.end()

        assert exit_of(beside) == Normal()
        assert other == [("still here", "still here")]


def test_a_callback_that_blocks_holds_up_nobody_else() -> None:
    """Drill 28: while it blocks, other streams and calls come to their end, on the same loops and in the same pool."""
    go_on, blocked = threading.Event(), threading.Semaphore(0)

    def blocks(accumulated: str, chunk: Any) -> None:
        blocked.release()
        assert go_on.wait(PATIENCE)

    def answer(request: LMRequest) -> Scripted:
        return [HEADER, *["word "] * 10_000] if asked(request) == "long" else says(answer="x")

    with scripted(answer) as (rt, provider):
        program = rt.start(qa())
        many = 16  # more than the pool begins with
        producers = [spawn(rt, StreamProducer, lambda: program.stream(question="long")) for _ in range(many)]
        consumers = [spawn(rt, StreamConsumer, producer, blocks, max_demand=1) for producer in producers]
        for _ in consumers:
            assert blocked.acquire(timeout=PATIENCE)

        for number in range(20):
            assert program(question=f"q{number}").answer == "x"
            assert "".join(chunk.chunk for chunk in program.stream(question=f"s{number}")) == "x"  # type: ignore[union-attr]
        for consumer in consumers:
            consumer.exit(Killed())
        go_on.set()
        for producer in producers:
            assert exit_of(producer) == Normal()
        wait_until(lambda: provider.open == 0, PATIENCE)
