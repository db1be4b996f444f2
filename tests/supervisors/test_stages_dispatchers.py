"""The three ways to deal out events, without any actor."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.errors import SpecError
from supervisors.hashing import stable_hash
from supervisors.registry import Registry
from supervisors.stages.dispatchers import BroadcastDispatcher, Deliver, DemandDispatcher, Inform, Send, Warn
from supervisors.stages.partition_dispatcher import PartitionDispatcher
from supervisors.stages.subscription import Subscription, To


def subscriber(dispatcher: Any, name: Any, ask: int = 0, **options: Any) -> Subscription:
    """One that has subscribed, and asked for so many; its name stands for its consumer."""
    nobody = Registry().via("nobody")
    subscription = Subscription(name, nobody, To(nobody, **options))
    dispatcher.subscribe(subscription)
    if ask:
        dispatcher.ask(subscription, ask)
    return subscription


def sent(sends: list[Send]) -> list[Any]:
    """Deliveries as (consumer, events), messages as they are."""
    return [(each.subscription.consumer, each.events) if isinstance(each, Deliver) else each for each in sends]


# --- demand -----------------------------------------------------------------------------------------------------------


def test_the_highest_demand_is_served_first() -> None:
    dispatcher = DemandDispatcher()
    subscriber(dispatcher, "a", 2)
    subscriber(dispatcher, "b", 2)
    dispatcher.ask(subscriber(dispatcher, "c"), 2)
    first = dispatcher.dispatch([1])

    assert sent(first) == [("a", [1])]
    assert sent(dispatcher.dispatch([2, 3, 4])) == [("b", [2, 3]), ("c", [4])]


def test_ties_go_to_the_first_in_line() -> None:
    dispatcher = DemandDispatcher()
    for name in "ab":
        subscriber(dispatcher, name, 3)

    assert [sent(dispatcher.dispatch([n])) for n in range(4)] == [
        [("a", [0])],
        [("b", [1])],
        [("a", [2])],
        [("b", [3])],
    ]


def test_as_many_are_wanted_as_were_asked_for() -> None:
    dispatcher = DemandDispatcher()
    a = subscriber(dispatcher, "a", 3)
    subscriber(dispatcher, "b", 2)
    dispatcher.dispatch([1])
    wanted = dispatcher.wanted()
    dispatcher.cancel(a)

    assert (wanted, dispatcher.wanted()) == (4, 2)


def test_asking_for_more_than_the_first_one_did_gives_a_warning() -> None:
    dispatcher = DemandDispatcher()
    subscriber(dispatcher, "a", 10)
    (warning,) = dispatcher.ask(subscriber(dispatcher, "b"), 11)

    assert isinstance(warning, Warn)
    assert "b asks for 11 events where others ask for at most 10" in warning.text


def test_the_expected_demand_can_be_given() -> None:
    dispatcher = DemandDispatcher(max_demand=20)
    assert dispatcher.ask(subscriber(dispatcher, "a"), 20) == []
    with pytest.raises(SpecError):
        DemandDispatcher(max_demand=0)


def test_a_message_needs_not_wait_where_nothing_is_kept() -> None:
    assert [dispatcher.info("end") for dispatcher in (DemandDispatcher(), BroadcastDispatcher())] == [[("end",)]] * 2


# --- broadcast --------------------------------------------------------------------------------------------------------


def test_everybody_gets_everything_as_fast_as_the_slowest() -> None:
    dispatcher = BroadcastDispatcher()
    subscriber(dispatcher, "a", 3)
    b = subscriber(dispatcher, "b", 1)
    before = dispatcher.wanted()
    deliveries = sent(dispatcher.dispatch([1]))
    after = dispatcher.wanted()
    dispatcher.ask(b, 5)

    assert (before, deliveries, after, dispatcher.wanted()) == (1, [("a", [1]), ("b", [1])], 0, 2)


def test_one_who_comes_later_holds_the_others_up_until_it_asks() -> None:
    dispatcher = BroadcastDispatcher()
    subscriber(dispatcher, "a", 3)
    late = subscriber(dispatcher, "b")
    before = dispatcher.wanted()
    dispatcher.ask(late, 2)

    assert (before, dispatcher.wanted()) == (0, 2)


def test_when_the_slowest_goes_the_others_go_on() -> None:
    dispatcher = BroadcastDispatcher()
    subscriber(dispatcher, "a", 3)
    slow = subscriber(dispatcher, "b")
    dispatcher.cancel(slow)

    assert dispatcher.wanted() == 3


def test_what_a_selector_does_not_select_was_not_asked_for() -> None:
    dispatcher = BroadcastDispatcher()
    subscriber(dispatcher, "a", 3, selector=lambda event: event % 2)

    assert (sent(dispatcher.dispatch([1, 2, 3])), dispatcher.wanted()) == ([("a", [1, 3])], 1)


def test_a_consumer_cannot_be_told_everything_twice() -> None:
    dispatcher = BroadcastDispatcher()
    subscriber(dispatcher, "a")
    with pytest.raises(SpecError):
        subscriber(dispatcher, "a")


# --- partition --------------------------------------------------------------------------------------------------------


def parity() -> PartitionDispatcher:
    return PartitionDispatcher(["even", "odd"], lambda event: (event, "odd" if event % 2 else "even"))


def test_each_event_goes_to_its_partition() -> None:
    dispatcher = parity()
    subscriber(dispatcher, "a", 3, partition="odd")
    subscriber(dispatcher, "b", 3, partition="even")

    assert sent(dispatcher.dispatch([1, 2, 3, 4])) == [("a", [1, 3]), ("b", [2, 4])]


def test_events_wait_for_a_partition_that_has_not_asked() -> None:
    dispatcher = parity()
    a = subscriber(dispatcher, "a", 2, partition="odd")
    b = subscriber(dispatcher, "b", partition="even")
    deliveries = sent(dispatcher.dispatch([2, 4]))
    wanted = dispatcher.wanted()
    later = sent(dispatcher.ask(b, 1)), sent(dispatcher.ask(a, 1)), sent(dispatcher.ask(b, 1))

    assert (deliveries, wanted, later) == ([], 0, ([("b", [2])], [], [("b", [4])]))


def test_a_partition_leaves_its_queue_to_the_next_subscriber() -> None:
    dispatcher = parity()
    subscriber(dispatcher, "a", 4, partition="odd")
    b = subscriber(dispatcher, "b", 1, partition="even")
    dispatcher.dispatch([2, 4])
    dispatcher.cancel(b)
    c = subscriber(dispatcher, "c", partition="even")

    assert sent(dispatcher.ask(c, 3)) == [("c", [4])]


def test_the_hash_may_change_an_event_or_drop_it() -> None:
    dispatcher = PartitionDispatcher(1, lambda event: (event * 10, 0) if event % 2 else None)
    subscriber(dispatcher, "a", 2, partition=0)

    assert (sent(dispatcher.dispatch([1, 2])), dispatcher.dropped, dispatcher.wanted()) == ([("a", [10])], 1, 1)


def test_the_hash_is_stable_where_none_is_given() -> None:
    dispatcher = PartitionDispatcher(3)
    events = ["a", "b", "c", ("d", 1)]
    for number in range(3):
        subscriber(dispatcher, number, 4, partition=number)

    deliveries: Any = sent(dispatcher.dispatch(events))
    assert {event: number for number, batch in deliveries for event in batch} == {
        event: stable_hash(event) % 3 for event in events
    }


@pytest.mark.parametrize("partition", [None, "none of them"])
def test_a_partition_that_is_not_there_is_refused(partition: Any) -> None:
    with pytest.raises(SpecError):
        subscriber(parity(), "a", partition=partition)


def test_a_partition_has_one_subscriber() -> None:
    dispatcher = parity()
    subscriber(dispatcher, "a", partition="odd")
    with pytest.raises(SpecError):
        subscriber(dispatcher, "b", partition="odd")


def test_an_event_of_an_unknown_partition_is_an_error() -> None:
    dispatcher = PartitionDispatcher(2, lambda event: (event, event))
    subscriber(dispatcher, "a", 1, partition=0)
    with pytest.raises(SpecError):
        dispatcher.dispatch([7])


@pytest.mark.parametrize("partitions", [0, -1, [], ["a", "a"], ["a", "b"]])
def test_partitions_without_sense_are_refused(partitions: Any) -> None:
    with pytest.raises(SpecError):
        PartitionDispatcher(partitions)


def test_a_message_waits_for_all_queues_that_are_behind() -> None:
    dispatcher = PartitionDispatcher(3, lambda event: (event, event % 3))
    a, b, c = (subscriber(dispatcher, name, partition=number) for number, name in enumerate("abc"))
    dispatcher.ask(c, 9)
    dispatcher.dispatch([0, 1])
    waits = dispatcher.info("end")
    dispatcher.dispatch([3])

    assert (waits, sent(dispatcher.ask(b, 1)), sent(dispatcher.ask(a, 1)), sent(dispatcher.ask(a, 1))) == (
        [],
        [("b", [1])],
        [("a", [0]), Inform("end")],
        [("a", [3])],
    )
