"""Stages on every dispatcher, with plain and with coroutine callbacks; what crashes them and what does not."""

from __future__ import annotations

import asyncio
import doctest
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisors import stages
from supervisors.exits import Crash, Normal
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.stages.calls import ask, sync_subscribe
from supervisors.stages.consuming import Consumer
from supervisors.stages.producer_consumer import ProducerConsumer
from supervisors.stages.producing import Producer
from supervisors.stages.stage import Events
from supervisors.stages.stream import stream
from supervisors.stages.subscription import Cancelled, Subscription, To
from supervisors.testing import Log


class Numbers(Producer):
    """The numbers below `end`, then its own end."""

    def init(self, end: int) -> None:
        self.produces(buffer_size=None)
        self.next, self.end = 0, end

    def handle_demand(self, demand: int) -> Events:
        first, self.next = self.next, min(self.end, self.next + demand)
        if self.next == self.end:
            self.info("end")
        return range(first, self.next)

    def on_info(self, message: object) -> None:
        self.stop()


class Plain(ProducerConsumer):
    def init(self, producer: Ref[Any], **options: Any) -> None:
        self.subscribe(To(producer, **options))

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        return [event + 1 for event in events]


class OnThread(Plain):
    dispatcher = "thread"


class OnLoop(Plain):
    dispatcher = "loop"


class Coroutine(Plain):
    dispatcher = "loop"

    async def handle_events(self, events: list[Any], from_: Subscription) -> Any:
        await asyncio.sleep(0)
        return [event + 1 for event in events]


class Farewell(Coroutine):
    async def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Any:
        await asyncio.sleep(0)
        return ["end"] if cancelled.reason == Normal() else None


class AsyncNumbers(Numbers):
    dispatcher = "loop"

    async def handle_demand(self, demand: int) -> Any:
        await asyncio.sleep(0)
        return super().handle_demand(demand)


KINDS = [Plain, OnThread, OnLoop, Coroutine]


@pytest.mark.parametrize("numbers", [Numbers, AsyncNumbers])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_runs_on_every_dispatcher(kernel: Kernel, kind: type[Plain], numbers: type[Numbers]) -> None:
    stage = kernel.spawn(kind, kernel.spawn(numbers, 100), max_demand=7)
    events = list(stream([To(stage, max_demand=5, cancel="transient")]))

    assert events == list(range(1, 101))


def test_a_callback_at_the_end_may_send_events_too(kernel: Kernel) -> None:
    stage = kernel.spawn(Farewell, kernel.spawn(Numbers, 2))
    assert list(stream([To(stage, cancel="transient")])) == [1, 2, "end"]


@given(st.integers(1, 60), st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9)), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_chain_of_stages_loses_nothing_and_keeps_the_order(
    kernel: Kernel, events: int, chain: list[tuple[type[Plain], int]]
) -> None:
    stage: Ref[Any] = kernel.spawn(Numbers, events)
    for kind, most in chain:
        stage = kernel.spawn(kind, stage, max_demand=most)

    assert list(stream([To(stage, max_demand=3, cancel="transient")])) == list(range(len(chain), len(chain) + events))


class Sink(Consumer):
    """Logs what it gets; does what it is told at an event."""

    def init(self, log: Log) -> None:
        self.log = log

    def handle_events(self, events: list[Any], from_: Subscription) -> Any:
        self.log.add(events)
        if "crash" in events:
            raise ValueError("boom")
        if "stop" in events:
            self.stop()
        return [1] if "answer" in events else None


class Feed(Producer):
    """Sends what it is fed."""

    def handle_demand(self, demand: int) -> Events:
        return None

    def feed(self, *events: Any) -> None:
        self.emit(events)


def test_what_leaves_a_callback_ends_the_stage(kernel: Kernel) -> None:
    p, c = kernel.spawn(Feed), kernel.spawn(Sink, Log())
    sync_subscribe(c, p)
    p.cast(Feed.feed, "crash")
    ended = c.down().get(5)

    assert isinstance(ended, Crash)
    assert (str(ended.error), p.is_alive()) == ("boom", True)


def test_a_stop_is_heeded_between_two_batches(kernel: Kernel) -> None:
    log = Log()
    p, c = kernel.spawn(Feed), kernel.spawn(Sink, log)
    sync_subscribe(c, p, max_demand=4, min_demand=3)
    p.cast(Feed.feed, 1, "stop", 2, 3)
    c.down().get(5)

    assert log == [[1], ["stop"]]


def test_what_a_consumer_gives_is_not_sent_anywhere(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    p, c = kernel.spawn(Feed), kernel.spawn(Sink, Log())
    subscription = sync_subscribe(c, p)
    with caplog.at_level(logging.ERROR, "supervisors"):
        c.call(Sink.producer_sent, subscription, ["answer"])

    (record,) = caplog.records
    assert "cannot send events on" in record.getMessage()


def test_events_that_were_not_asked_for_are_handled_and_told(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    p, c = kernel.spawn(Feed), kernel.spawn(Sink, log)
    subscription = sync_subscribe(c, p, max_demand=2, min_demand=0)
    c.call(Sink.producer_sent, subscription, [1, 2, 3])

    assert log == [[1, 2], [3]]
    assert "got 1 events that it had not asked for" in caplog.text


def test_a_mailbox_cannot_be_bounded_as_well() -> None:
    with pytest.raises(TypeError, match="demand bounds"):
        type("Bounded", (Consumer,), {"mailbox": 10})


def test_what_is_produced_is_said_before_the_start_is_over(kernel: Kernel) -> None:
    class Late(Feed):
        def change(self) -> Any:
            with pytest.raises(RuntimeError) as caught:
                self.produces(buffer_size=1)
            return str(caught.value)

    assert "call produces(...) in init" in kernel.spawn(Late).call(Late.change)


def test_the_example_of_the_package_runs() -> None:
    failed, tried = doctest.testmod(stages)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize("cls", [Producer, Consumer, ProducerConsumer])
def test_a_stage_without_its_callback_says_which_it_needs(kernel: Kernel, cls: type[Any]) -> None:
    stage = kernel.spawn(cls)
    if cls is Producer:
        stage.cast(cls.consumer_subscribed, ghost := Subscription(kernel.spawn(Sink, Log()), stage, To(stage)))
    else:
        ghost = stage.call(cls.subscribe, kernel.spawn(Feed))
        if cls is ProducerConsumer:
            sync_subscribe(kernel.spawn(Sink, Log()), stage)
        stage.cast(cls.producer_sent, ghost, [1])
    ask(ghost, 1)
    ended = stage.down().get(5)

    assert isinstance(ended, Crash)
    assert "needs handle_" in str(ended.error)
