"""Section W, continued: the end of a subscription, messages, manual demand, stages in the middle."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, SpecError, StartFailed
from supervisors.exits import Crash, Exit, NoProc, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from supervisors.stages.calls import (
    ask,
    async_info,
    async_subscribe,
    cancel,
    demand,
    estimate_buffered_count,
    sync_info,
    sync_subscribe,
)
from supervisors.stages.errors import DuplicatedSubscription, NotAConsumer, NotAProducer, UnknownSubscription
from supervisors.stages.partition_dispatcher import PartitionDispatcher
from supervisors.stages.stage import Stage
from supervisors.stages.subscription import Subscription, To
from supervisors.testing import Log
from tests.conformance.stages import Counting, Sink, feed, of, quiet, sink, source, times
from tests.conformance.words import CRASH, EXITS, down


@pytest.fixture
def log() -> Log:
    return Log()


def parity() -> PartitionDispatcher:
    return PartitionDispatcher(["even", "odd"], lambda event: (event, "odd" if event % 2 else "even"))


# --- the end of a subscription ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "shutdown", "crash"])
@pytest.mark.parametrize(
    ("mode", "ends"),
    [("permanent", {"normal", "shutdown", "crash"}), ("transient", {"crash"}), ("temporary", set())],
)
def test_w13_what_the_end_of_a_producer_does(kernel: Kernel, log: Log, mode: Any, ends: set[str], reason: str) -> None:
    p = source(kernel, log)
    c = sink(kernel, log, "c", To(p, cancel=mode))
    quiet(p, c)
    p.exit(EXITS[reason])
    p.down().get(5)
    if reason in ends:
        assert down(c) == reason
        assert of(log, "c") == [("down", reason), ("end", reason)]
    else:
        quiet(c)
        assert (of(log, "c"), c.is_alive()) == ([("down", reason)], True)


def test_w14_a_cancel_goes_to_the_producer_and_back(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    c = sink(kernel, log)
    cancel(sync_subscribe(c, p, max_demand=5), Shutdown("done"))

    assert down(c) == "shutdown done"
    quiet(p)  # it confirms before it hears of the cancel itself, so that may be last
    assert of(log, "p") == [("asked", 5), ("cancel", "shutdown done")]
    assert of(log, "c") == [("cancel", "shutdown done"), ("end", "shutdown done")]


def test_w14_a_temporary_consumer_lives_on(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    cancel(sync_subscribe(c, p, max_demand=5, cancel="temporary"), CRASH)
    quiet(p, c)

    assert (of(log, "c"), c.is_alive()) == ([("cancel", "crash")], True)


def test_w14_after_a_cancel_nothing_more_comes(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    subscription = sync_subscribe(c, p, cancel="temporary")
    cancel(subscription)
    cancel(subscription)
    feed(p, 1)
    quiet(p, c)

    assert (of(log, "c", "got"), estimate_buffered_count(p)) == ([], 1)


def test_w14_a_subscription_that_is_over_leaves_nothing_behind(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    before = len(p.mailbox.watchers), len(c.mailbox.watchers)
    subscription = sync_subscribe(c, p, cancel="temporary")
    quiet(p, c)
    between = len(p.mailbox.watchers), len(c.mailbox.watchers)
    cancel(subscription)
    quiet(p, c)

    assert between == (before[0] + 2, before[1] + 2)  # each watches the other, and gives that up at its own end
    assert (len(p.mailbox.watchers), len(c.mailbox.watchers)) == before


def test_w15_a_consumer_that_crashes_takes_nobody_along(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    a, b = (sink(kernel, log, name, To(p, max_demand=2, min_demand=0)) for name in "ab")
    quiet(p, a, b)
    a.exit(CRASH)
    a.down().get(5)
    feed(p, 1, 2, 3)
    quiet(p, b)

    assert of(log, "p") == [("asked", 2), ("asked", 2), ("down", "crash")]
    assert of(log, "b", "got") == [[1, 2], [3]]


def test_w15_what_was_on_its_way_to_it_is_lost(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    c = kernel.spawn(Stuck, log, "c", [To(p, max_demand=4, min_demand=0)])
    feed(p, 1, 2)
    Stuck.began.wait(5)
    c.fence()
    d = sink(kernel, log, "d", To(p, max_demand=4, min_demand=0))
    quiet(p, d)
    feed(p, 3)
    quiet(p, d)

    assert of(log, "d", "got") == [[3]]
    Stuck.let_go.set()


class Stuck(Sink):
    """Does not come back from its first events."""

    began = threading.Event()
    let_go = threading.Event()

    def handle_events(self, events: list[Any], from_: Subscription) -> None:
        self.began.set()
        self.let_go.wait(10)


@pytest.mark.parametrize(("mode", "ends"), [("permanent", True), ("transient", True), ("temporary", False)])
def test_w16_a_producer_that_is_dead_is_noproc(kernel: Kernel, log: Log, mode: Any, ends: bool) -> None:
    p = source(kernel, log)
    p.exit(Normal())
    p.down().get(5)
    c = sink(kernel, log, "c", To(p, cancel=mode))
    if ends:
        assert down(c) == "noproc"
    else:
        quiet(c)
    assert of(log, "c")[0] == ("down", "noproc")


@pytest.mark.parametrize("mode", ["permanent", "transient"])
def test_w16_a_name_that_nobody_holds_ends_the_consumer(kernel: Kernel, log: Log, mode: Any) -> None:
    c = sink(kernel, log)
    async_subscribe(c, Registry().via("p"), cancel=mode)

    assert down(c) == "noproc"


def test_w16_a_name_that_nobody_holds_fails_the_start(kernel: Kernel, log: Log) -> None:
    with pytest.raises(StartFailed) as caught:
        sink(kernel, log, "c", To(Registry().via("p")))

    assert isinstance(caught.value.cause, ActorDied)
    assert caught.value.cause.exit == NoProc()


def test_w16_a_temporary_consumer_does_not_mind(kernel: Kernel, log: Log) -> None:
    c = sink(kernel, log)
    cancel(sync_subscribe(c, Registry().via("p"), cancel="temporary"))
    quiet(c)

    assert (log.events, c.is_alive()) == ([], True)


def test_w17_a_producer_cannot_subscribe(kernel: Kernel, log: Log) -> None:
    p, other = source(kernel, log), source(kernel, log, label="other")
    with pytest.raises(NotAConsumer):
        sync_subscribe(p, other)
    with pytest.raises(NotAConsumer):
        sync_subscribe(kernel.spawn(Actor), other)


def test_w17_a_consumer_cannot_be_subscribed_to(kernel: Kernel, log: Log) -> None:
    c, other = sink(kernel, log), sink(kernel, log, "other")
    with pytest.raises(NotAProducer):
        sync_subscribe(c, other)
    with pytest.raises(NotAProducer):
        demand(c, "forward")
    quiet(c, other)

    assert log == []


# --- messages, modes, hands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tell", [sync_info, async_info])
def test_w18_a_message_comes_after_the_events_before_it(kernel: Kernel, log: Log, tell: Any) -> None:
    p = source(kernel, log)
    feed(p, 1, 2)
    tell(p, "end of stream")
    feed(p, 3)
    quiet(p)
    before = of(log, "p", "info")
    c = sink(kernel, log, "c", mode="manual")
    subscription = sync_subscribe(c, p)
    ask(subscription, 1)
    quiet(p, c)
    between = of(log, "p", "info")
    ask(subscription, 1)
    quiet(p, c)

    assert (before, between, of(log, "p", "info"), of(log, "c", "got")) == ([], [], ["end of stream"], [[1], [2]])


def test_w18_a_message_comes_at_once_where_nothing_waits(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    for each in (p, c):
        async_info(each, "now")
    quiet(p, c)

    assert (of(log, "p"), of(log, "c")) == ([("info", "now")], [("info", "now")])


def test_w18_a_message_waits_in_the_middle_too(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    pc = times(kernel, log, To(p))
    feed(p, 1)
    quiet(p, pc)
    sync_info(pc, "end")
    quiet(p, pc)
    before = of(log, "pc", "info")
    c = sink(kernel, log, "c", To(pc))
    quiet(p, pc, c)

    assert (before, of(log, "pc")) == ([], [("got", [1]), ("info", "end")])


def test_w18_a_message_waits_for_the_queues_of_partitions(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, dispatcher=parity())
    odd = sink(kernel, log, "odd", To(p, partition="odd"))
    quiet(p, odd)
    feed(p, 0, 1)
    sync_info(p, "end")
    quiet(p, odd)
    before = of(log, "p", "info")
    even = sink(kernel, log, "even", To(p, partition="even"))
    quiet(p, odd, even)

    assert (before, of(log, "p", "info")) == ([], ["end"])


def test_w19_demand_is_kept_until_it_is_to_be_forwarded(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting, demand="accumulate")
    a, b = (sink(kernel, log, name, To(p, max_demand=most, min_demand=0)) for name, most in (("a", 2), ("b", 1)))
    quiet(p, a, b)
    before = log.events
    demand(p, "forward")
    log.wait_for(("p", "asked", 1))
    demand(p, "accumulate")
    quiet(p, a, b)

    assert (before, of(log, "p", "asked")[:2]) == ([], [2, 1])


def test_w19_the_mode_is_one_of_two(kernel: Kernel, log: Log) -> None:
    mode: Any = "backward"
    with pytest.raises(SpecError):
        demand(source(kernel, log), mode)


def test_w19_what_is_between_always_forwards(kernel: Kernel, log: Log) -> None:
    pc = times(kernel, log)
    demand(pc, "forward")
    with pytest.raises(NotAProducer):
        demand(pc, "accumulate")


def test_w20_who_asks_by_hand_gets_exactly_that(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log, Counting), sink(kernel, log, mode="manual")
    subscription = sync_subscribe(c, p, max_demand=2)
    quiet(p, c)
    before = log.events
    for events in (5, 0, 1):
        ask(subscription, events)
    quiet(p, c)

    assert before == []
    assert (of(log, "p", "asked"), of(log, "c", "got")) == ([5, 1], [[0, 1, 2, 3, 4], [5]])


def test_w20_a_rate_can_be_limited(still: Kernel, clock: ManualClock, log: Log) -> None:
    p = source(still, log, Counting)
    limited = still.spawn(Limited, log, "c", [To(p)])
    for _ in range(2):
        quiet(p, limited)
        clock.advance(1)
    quiet(p, limited)

    assert of(log, "c", "got") == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


class Limited(Sink):
    """Asks for three events a second."""

    def handle_subscribe(self, kind: Any, from_: Subscription) -> Any:
        self.ask_again(from_)
        return "manual"

    def ask_again(self, subscription: Subscription) -> None:
        ask(subscription, 3)
        self.send_after(1, Limited.ask_again, subscription)


@pytest.mark.parametrize("events", [-1, 1.5, True])
def test_w20_an_ask_without_sense_is_refused(kernel: Kernel, log: Log, events: Any) -> None:
    subscription = sync_subscribe(sink(kernel, log, mode="manual"), source(kernel, log))
    with pytest.raises(SpecError):
        ask(subscription, events)


def test_w22_a_subscription_that_comes_twice_is_cancelled(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    subscription = sync_subscribe(c, p)
    p.cast(Stage.consumer_subscribed, subscription)
    ended = c.down().get(5)

    assert isinstance(ended, Crash)
    assert (type(ended.error), p.is_alive()) == (DuplicatedSubscription, True)


class Watching(Sink):
    """Logs why a producer ended a subscription, known or not."""

    def producer_cancelled(self, subscription: Subscription, reason: Exit) -> Any:
        assert isinstance(reason, Crash)
        self.log.add(self.label, "told", type(reason.error))
        return super().producer_cancelled(subscription, reason)


def test_w22_asking_without_a_subscription_is_answered_with_its_end(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), kernel.spawn(Watching, log)
    ask(Subscription(c, p, To(p)), 5)
    quiet(p, c)

    assert log == [("c", "told", UnknownSubscription)]


def test_w22_events_without_a_subscription_are_ignored(kernel: Kernel, log: Log) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    c.call(Stage.producer_sent, Subscription(c, p, To(p)), [1])
    quiet(p, c)

    assert log == []


def test_w22_messages_for_the_other_kind_are_ignored(
    kernel: Kernel, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    p, c = source(kernel, log), sink(kernel, log)
    stranger = Subscription(c, p, To(p))
    p.call(Stage.producer_sent, stranger, [1])
    p.call(Stage.producer_cancelled, stranger, Normal())
    c.call(Stage.consumer_subscribed, stranger)
    c.call(Stage.consumer_asked, stranger, 1)
    c.call(Stage.consumer_cancelled, stranger, Normal())

    assert (log.events, len(caplog.records)) == ([], 5)


# --- in the middle ----------------------------------------------------------------------------------------------------


def test_w23_it_asks_for_no_more_when_nobody_asks_it(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    pc = times(kernel, log, To(p, max_demand=4, min_demand=2))
    quiet(p, pc)
    before = log.events
    c = sink(kernel, log, "c", mode="manual")
    ask(sync_subscribe(c, pc), 2)
    quiet(p, pc, c)

    assert before == [("p", "asked", 4)]
    assert (of(log, "p"), of(log, "pc")) == ([("asked", 4), ("asked", 2)], [("got", [0, 1])])


def test_w23_events_may_become_many(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    pc = times(kernel, log, To(p, max_demand=2, min_demand=1), times=3)
    c = sink(kernel, log, "c", mode="manual")
    subscription = sync_subscribe(c, pc)
    ask(subscription, 4)
    quiet(p, pc, c)
    got = of(log, "pc", "got")
    ask(subscription, 3)
    quiet(p, pc, c)

    assert (got, of(log, "pc", "got")) == ([[0], [1]], [[0], [1], [2]])
    assert [event for batch in of(log, "c", "got") for event in batch] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("reason", ["normal", "crash"])
def test_w23_what_waits_is_kept_when_the_producer_is_lost(kernel: Kernel, log: Log, reason: str) -> None:
    p = source(kernel, log)
    pc = times(kernel, log, To(p, cancel="temporary"))
    feed(p, 1, 2, 3)
    quiet(p, pc)
    p.exit(EXITS[reason])
    p.down().get(5)
    c = sink(kernel, log, "c", To(pc))
    quiet(pc, c)

    assert of(log, "pc") == [("got", [1, 2, 3]), ("down", reason)]
    assert of(log, "c", "got") == [[1, 2, 3]]


def test_w23_an_end_waits_for_nobody_where_nothing_waits(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    pc = times(kernel, log, To(p))
    quiet(p, pc)
    p.exit(CRASH)

    assert down(pc) == "crash"


def test_w23_it_ends_with_its_producer_when_all_was_sent_on(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    pc = times(kernel, log, To(p), times=3)
    feed(p, 1, 2)
    quiet(p, pc)
    p.exit(Normal())
    p.down().get(5)
    c = sink(kernel, log, "c", To(pc, max_demand=2, min_demand=0))

    assert (down(pc), down(c)) == ("normal", "normal")
    assert [event for batch in of(log, "c", "got") for event in batch] == [1, 1, 1, 2, 2, 2]


def test_w23_a_crashed_producer_is_told_after_what_it_sent(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    pc = times(kernel, log, To(p))
    c = sink(kernel, log, "c", To(pc))
    feed(p, 1)
    quiet(p, pc, c)
    p.exit(CRASH)

    assert (down(pc), down(c)) == ("crash", "crash")
    assert of(log, "pc") == [("got", [1]), ("down", "crash"), ("end", "crash")]
