"""Section W: producers and consumers that exchange events by demand, as GenStage's do."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from supervisors.errors import SpecError, StartFailed
from supervisors.exits import Crash
from supervisors.kernel import Kernel
from supervisors.stages.calls import (
    ask,
    cancel,
    estimate_buffered_count,
    sync_subscribe,
)
from supervisors.stages.dispatchers import BroadcastDispatcher, DemandDispatcher
from supervisors.stages.partition_dispatcher import PartitionDispatcher
from supervisors.stages.producing import Producing
from supervisors.stages.subscription import To
from supervisors.testing import Log
from tests.conformance.stages import Counting, Sink, Source, feed, of, quiet, sink, source
from tests.conformance.words import down


@pytest.fixture
def log() -> Log:
    return Log()


# --- demand -----------------------------------------------------------------------------------------------------------


def asks(kernel: Kernel, log: Log, events: int, **options: Any) -> list[list[int]]:
    """What the consumer asks for: at once, and after each of so many events that come one by one."""
    p = source(kernel, log)
    c = sink(kernel, log, "c", To(p, **options))
    seen = []
    for number in range(events + 1):
        quiet(p, c)
        seen.append(of(log, "p", "asked"))
        log.clear()
        feed(p, number)
    return seen


def test_w01_it_asks_for_the_most_and_then_for_each_batch(kernel: Kernel, log: Log) -> None:
    assert asks(kernel, log, 6, max_demand=10, min_demand=8) == [[10], [], [2], [], [2], [], [2]]


def test_w01_events_come_in_batches_of_the_difference(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    c = sink(kernel, log, "c", To(p, max_demand=10, min_demand=8))
    feed(p, *range(5))
    quiet(p, c)

    assert (of(log, "c", "got"), of(log, "p", "asked")) == ([[0, 1], [2, 3], [4]], [10, 2, 2])


def test_w02_it_does_not_ask_before_the_least_is_reached(kernel: Kernel, log: Log) -> None:
    assert asks(kernel, log, 8, max_demand=10, min_demand=2) == [[10], *[[]] * 7, [8]]


def test_w03_without_options_it_is_a_thousand_and_half_of_it(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    c = sink(kernel, log, "c", To(p))
    feed(p, *range(499))
    quiet(p, c)
    before = of(log, "p", "asked")
    feed(p, 499)
    quiet(p, c)

    assert (before, of(log, "p", "asked")) == ([1000], [1000, 500])


@pytest.mark.parametrize("consumers", [1, 3])
def test_w04_no_consumer_gets_more_than_it_asked_for(kernel: Kernel, log: Log, consumers: int) -> None:
    p = source(kernel, log)
    cs = [sink(kernel, log, f"c{n}", To(p, max_demand=4, min_demand=n), mode="manual") for n in range(consumers)]
    quiet(p, *cs)
    feed(p, *range(20))
    quiet(p, *cs)
    unasked = [of(log, f"c{n}", "got") for n in range(consumers)]

    assert (unasked, estimate_buffered_count(p)) == ([[]] * consumers, 20)


def test_w04_all_events_come_once_and_in_order(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    cs = [sink(kernel, log, f"c{n}", To(p, max_demand=3 + n, min_demand=n)) for n in range(3)]
    feed(p, *range(100))
    quiet(p, *cs)
    got = [[event for batch in of(log, f"c{n}", "got") for event in batch] for n in range(3)]

    assert [each == sorted(each) for each in got] == [True] * 3
    assert sorted(event for each in got for event in each) == list(range(100))


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("max_demand", {"max_demand": 0}),
        ("max_demand", {"max_demand": 1.5}),
        ("min_demand", {"max_demand": 5, "min_demand": 5}),
        ("min_demand", {"min_demand": -1}),
        ("cancel", {"cancel": "sometimes"}),
        ("selector", {"selector": 3}),
    ],
)
def test_w05_an_option_without_sense_is_refused(kernel: Kernel, log: Log, field: str, options: dict[str, Any]) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    with pytest.raises(SpecError) as caught:
        sync_subscribe(c, p, **options)
    quiet(p, c)

    assert (caught.value.field, log.events, c.is_alive()) == (field, [], True)


def test_w05_options_come_with_the_address_or_beside_it(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    with pytest.raises(SpecError):
        sync_subscribe(c, To(p), max_demand=5)
    assert sync_subscribe(c, p, max_demand=5).to == To(p, max_demand=5)


# --- the buffer -------------------------------------------------------------------------------------------------------


def test_w06_events_that_nobody_asked_for_wait(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    feed(p, 1, 2, 3)
    waiting = estimate_buffered_count(p)
    c = sink(kernel, log, "c", To(p, max_demand=5, min_demand=0))
    quiet(p, c)

    # each on its own thread: the producer sends what it has kept, then asks itself for the rest
    assert (waiting, sorted(log.events)) == (3, [("c", "got", [1, 2, 3]), ("p", "asked", 2)])


def test_w06_what_waits_goes_before_what_is_made(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    feed(p, "a", "b")
    c = sink(kernel, log, "c", To(p, max_demand=3, min_demand=0), mode="manual")
    ask(c.call(Sink.subscribe, To(p)), 3)
    quiet(p, c)

    assert [event for batch in of(log, "c", "got") for event in batch] == ["a", "b", 0]


@pytest.mark.parametrize(("keep", "kept"), [("last", [3, 4, 5]), ("first", [1, 2, 3])])
def test_w07_a_full_buffer_throws_away_and_says_so(
    kernel: Kernel, log: Log, keep: str, kept: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    p = source(kernel, log, buffer_size=3, buffer_keep=keep)
    feed(p, 1, 2)
    with caplog.at_level(logging.WARNING, "supervisors"):
        feed(p, 3, 4, 5)
    c = sink(kernel, log, "c", To(p, max_demand=9, min_demand=0))
    quiet(p, c)

    assert of(log, "c", "got") == [kept]
    assert [record.getMessage() for record in caplog.records] == [f"{p} has discarded 2 events from its buffer"]


def test_w07_what_was_thrown_away_is_counted(kernel: Kernel, log: Log) -> None:
    told: list[Any] = []
    kernel.telemetry.attach("test", ("stage", "buffer", "discarded"), lambda _, numbers, __: told.append(numbers))
    p = source(kernel, log, Discreet, buffer_size=1)
    feed(p, 1, 2, 3)
    feed(p, 4)

    assert (p.call(Producing.count_discarded), told) == (3, [{"events": 2}, {"events": 1}])


class Discreet(Source):
    """Says nothing of events that were thrown away."""

    def format_discarded(self, discarded: int) -> bool:
        self.log.add(self.label, "discarded", discarded)
        return False


def test_w07_the_log_may_be_kept_silent(kernel: Kernel, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    p = source(kernel, log, Discreet, buffer_size=0)
    feed(p, 1, 2, 3)

    assert (of(log, "p", "discarded"), caplog.records) == ([3], [])


@pytest.mark.parametrize("options", [{"buffer_size": -1}, {"buffer_keep": "some"}, {"demand": "never"}])
def test_w07_an_option_without_sense_is_refused(kernel: Kernel, log: Log, options: dict[str, Any]) -> None:
    with pytest.raises(StartFailed) as caught:
        source(kernel, log, **options)

    assert isinstance(caught.value.cause, SpecError)
    assert caught.value.cause.field in options


# --- dispatchers ------------------------------------------------------------------------------------------------------


def test_w08_the_one_who_wants_most_is_served_first(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    a, b = (sink(kernel, log, name, To(p, max_demand=10)) for name in "ab")
    quiet(p, a, b)
    log.clear()
    feed(p, *range(14))
    quiet(p, a, b)

    assert (of(log, "a"), of(log, "b")) == (
        [("got", [0, 1, 2, 3, 4]), ("got", [5, 6, 7, 8, 9])],
        [("got", [10, 11, 12, 13])],
    )
    assert of(log, "p", "asked") == [5, 5]


def test_w09_the_expected_demand_may_be_set(kernel: Kernel, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    p = source(kernel, log, dispatcher=DemandDispatcher(max_demand=20))
    c = sink(kernel, log, "c", To(p, max_demand=20))
    quiet(p, c)

    assert caplog.records == []


def test_w09_asking_for_more_than_others_gives_a_warning(
    kernel: Kernel, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    p = source(kernel, log)
    with caplog.at_level(logging.WARNING, "supervisors"):
        cs = [sink(kernel, log, name, To(p, max_demand=most)) for name, most in (("a", 10), ("b", 20))]
        quiet(p, *cs)

    (record,) = caplog.records
    assert f"{cs[1]} asks for 20 events where others ask for at most 10" in record.getMessage()


def test_w10_everybody_gets_everything_at_the_pace_of_the_slowest(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=BroadcastDispatcher())
    a, b = (sink(kernel, log, name, mode="manual") for name in "ab")
    from_a, from_b = (sync_subscribe(each, p) for each in (a, b))
    ask(from_a, 5)
    ask(from_b, 2)
    feed(p, 1, 2, 3)
    quiet(p, a, b)
    first = of(log, "p"), of(log, "a"), of(log, "b")
    ask(from_b, 2)
    quiet(p, a, b)

    assert first == ([("asked", 2)], [("got", [1, 2])], [("got", [1, 2])])
    assert (of(log, "p"), of(log, "b")) == ([("asked", 2), ("asked", 1)], [("got", [1, 2]), ("got", [3])])


def test_w10_a_new_one_gets_what_comes_from_then_on(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=BroadcastDispatcher())
    a = sink(kernel, log, "a", To(p, max_demand=10, min_demand=0))
    quiet(p, a)
    feed(p, 1)
    b = sink(kernel, log, "b", To(p, max_demand=10, min_demand=0))
    quiet(p, a, b)
    feed(p, 2)
    quiet(p, a, b)

    assert (of(log, "a", "got"), of(log, "b", "got")) == ([[1], [2]], [[2]])


def test_w10_a_selector_chooses_and_others_are_asked_for_instead(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting, dispatcher=BroadcastDispatcher())
    c = sink(kernel, log, "c", mode="manual")
    ask(sync_subscribe(c, p, selector=lambda event: event % 3 == 0), 3)
    quiet(p, c)

    assert [event for batch in of(log, "c", "got") for event in batch] == [0, 3, 6]
    assert of(log, "p", "asked") == [3, 2, 1, 1]


def test_w10_a_consumer_cannot_subscribe_twice(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=BroadcastDispatcher())
    c = sink(kernel, log, "c", To(p))
    sync_subscribe(c, p, cancel="temporary")
    quiet(p, c)

    assert of(log, "c") == [("cancel", "crash")]


def test_w11_when_the_slowest_goes_the_others_go_on(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=BroadcastDispatcher())
    a, b = (sink(kernel, log, name, mode="manual") for name in "ab")
    from_a, from_b = (sync_subscribe(each, p, cancel="temporary") for each in (a, b))
    ask(from_a, 10)
    ask(from_b, 4)
    quiet(p, a, b)
    cancel(from_b)
    quiet(p, a, b)

    assert of(log, "p") == [("asked", 4), ("cancel", "normal"), ("asked", 6)]


def parity() -> PartitionDispatcher:
    return PartitionDispatcher(["even", "odd"], lambda event: (event, "odd" if event % 2 else "even"))


def test_w12_every_partition_gets_its_own(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=parity())
    cs = [sink(kernel, log, name, To(p, partition=name)) for name in ("odd", "even")]
    feed(p, *range(6))
    quiet(p, *cs)

    assert (of(log, "odd", "got"), of(log, "even", "got")) == ([[1, 3, 5]], [[0, 2, 4]])


def test_w12_events_before_the_subscription_wait(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=parity())
    feed(p, *range(4))
    odd = sink(kernel, log, "odd", To(p, partition="odd"))
    quiet(p, odd)
    even = sink(kernel, log, "even", To(p, partition="even"))
    quiet(p, odd, even)

    assert (of(log, "odd", "got"), of(log, "even", "got")) == ([[1, 3]], [[0, 2]])


def test_w12_the_hash_may_drop_events_which_are_then_made_up_for(kernel: Kernel, log: Log) -> None:
    dispatcher = PartitionDispatcher(1, lambda event: (event, 0) if event % 2 else None)
    p = source(kernel, log, Counting, dispatcher=dispatcher)
    c = sink(kernel, log, "c", mode="manual")
    ask(sync_subscribe(c, p, partition=0), 2)
    quiet(p, c)

    assert ([event for batch in of(log, "c", "got") for event in batch], dispatcher.dropped) == ([1, 3], 2)


@pytest.mark.parametrize("partition", [None, "none of them", "taken"])
def test_w12_a_bad_partition_is_refused_and_the_producer_lives(kernel: Kernel, log: Log, partition: Any) -> None:
    p = source(kernel, log, dispatcher=PartitionDispatcher(["taken"], lambda event: (event, "taken")))
    first = sink(kernel, log, "first", To(p, partition="taken"))
    quiet(p, first)
    second = sink(kernel, log, "second", To(p, partition=partition))
    ended = second.down().get(5)

    assert isinstance(ended, Crash)
    assert (type(ended.error), p.is_alive(), first.is_alive()) == (SpecError, True, True)


def test_w12_an_event_of_an_unknown_partition_ends_the_producer(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=PartitionDispatcher(2, lambda event: (event, event)))
    c = sink(kernel, log, "c", To(p, partition=0, cancel="temporary"))
    quiet(p, c)
    p.cast(Source.feed, [7])

    assert (down(p), c.is_alive()) == ("crash", True)
