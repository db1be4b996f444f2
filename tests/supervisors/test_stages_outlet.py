"""The producing side of a stage: asked, owed, kept, sent; whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.registry import Registry
from supervisors.stages.buffer import Buffer
from supervisors.stages.dispatchers import BroadcastDispatcher, Deliver, DemandDispatcher, Dispatcher, Inform
from supervisors.stages.outlet import Action, Discarded, Need, Outlet
from supervisors.stages.partition_dispatcher import PartitionDispatcher
from supervisors.stages.subscription import Subscription, To

NOBODY = Registry().via("nobody")


def outlet(dispatcher: Dispatcher | None = None, size: int | None = 100, **options: Any) -> Outlet:
    return Outlet(dispatcher or DemandDispatcher(), Buffer(size), **options)


def subscriber(side: Outlet, name: Any, **options: Any) -> Subscription:
    subscription = Subscription(name, NOBODY, To(NOBODY, **options))
    side.dispatcher.subscribe(subscription)
    return subscription


def said(actions: list[Any]) -> list[Any]:
    """Deliveries as (consumer, events), everything else as it is."""
    return [(each.subscription.consumer, each.events) if isinstance(each, Deliver) else each for each in actions]


def test_what_is_asked_for_is_asked_of_the_stage() -> None:
    side = outlet()
    assert side.ask(subscriber(side, "a"), 5) == [Need(5)]


def test_what_was_kept_goes_first_and_only_the_rest_is_asked_for() -> None:
    side = outlet()
    side.emit([1, 2, 3])

    assert said(side.ask(subscriber(side, "a"), 5)) == [("a", [1, 2, 3]), Need(2)]


def test_what_the_stage_owes_already_is_not_asked_for_again() -> None:
    side = outlet()
    gone = subscriber(side, "a")
    side.ask(gone, 5)
    side.dispatcher.cancel(gone)
    next_one = subscriber(side, "b")

    assert (side.ask(next_one, 3), side.ask(next_one, 4), said(side.emit([1]))) == ([], [Need(2)], [("b", [1])])


def test_what_was_made_for_one_who_went_goes_to_the_next_in_order() -> None:
    """GenStage would count the first one's demand against the second's, and let newer events overtake."""
    side = outlet()
    gone = subscriber(side, "a")
    side.ask(gone, 3)
    side.dispatcher.cancel(gone)
    side.emit([1, 2, 3])

    assert said(side.ask(subscriber(side, "b"), 2)) == [("b", [1, 2])]


def test_when_the_slowest_goes_what_the_others_want_is_asked_for() -> None:
    side = outlet(BroadcastDispatcher())
    a, b = subscriber(side, "a"), subscriber(side, "b")
    asked = side.ask(a, 10), side.ask(b, 4)
    side.emit([0] * 4)
    side.dispatcher.cancel(b)

    assert (asked, side.settle()) == (([], [Need(4)]), [Need(6)])


def test_what_is_made_in_between_goes_behind_what_waits() -> None:
    side = outlet(BroadcastDispatcher())
    side.ask(subscriber(side, "a"), 9)
    slow = subscriber(side, "b")
    side.emit([1, 2])
    side.dispatcher.cancel(slow)

    assert (said(side.emit([3])), said(side.settle())) == ([], [("a", [1, 2, 3])])


def test_what_was_dropped_is_missing() -> None:
    side = outlet(PartitionDispatcher(1, lambda event: None))
    side.ask(subscriber(side, "a", partition=0), 3)
    side.emit([1, 2])

    assert (side.missing(), side.settle()) == (2, [Need(2)])


def test_demand_is_kept_until_it_may_be_forwarded() -> None:
    side = outlet(accumulate=True)
    a = subscriber(side, "a")
    held = [side.ask(a, 3), side.ask(a, 2)]

    assert (held, side.forward(), side.forward(), side.ask(a, 1)) == ([[], []], [Need(3), Need(2)], [], [Need(1)])


def test_what_overflows_is_counted() -> None:
    side = outlet(size=2)
    assert (side.emit([1, 2, 3]), side.emit([4]), side.discarded) == ([Discarded(1)], [Discarded(1)], 2)


def test_a_message_waits_for_what_is_kept() -> None:
    side = outlet()
    side.emit([1])
    before = side.info("end")

    assert (before, said(side.ask(subscriber(side, "a"), 2))) == ([], [("a", [1]), Inform("end"), Need(1)])


# --- whatever happens ----------------------------------------------------------------------------------------------


class World:
    """One outlet, its subscribers, and a stage that makes the numbers 0, 1, 2 ... when it likes."""

    def __init__(self, dispatcher: Dispatcher, size: int | None) -> None:
        self.side = outlet(dispatcher, size)
        self.asked: dict[Subscription, int] = {}
        self.got: dict[Subscription, list[int]] = {}
        self.here: list[Subscription] = []
        self.made = self.needed = 0
        self.sent: list[int] = []

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Deliver):
                assert action.subscription in self.here
                self.got[action.subscription] += action.events
                self.sent += action.events
                assert len(self.got[action.subscription]) <= self.asked[action.subscription]
            elif isinstance(action, Need):
                self.needed += action.events

    def join(self, **options: Any) -> None:
        subscription = subscriber(self.side, object(), **options)
        self.asked[subscription], self.got[subscription] = 0, []
        self.here.append(subscription)
        self.do(self.side.settle())

    def ask(self, who: int, events: int) -> None:
        if self.here:
            subscription = self.here[who % len(self.here)]
            self.asked[subscription] += events
            self.do(self.side.ask(subscription, events))

    def leave(self, who: int) -> None:
        if self.here:
            subscription = self.here[who % len(self.here)]
            self.do([*self.side.dispatcher.cancel(subscription)])
            self.here.remove(subscription)
            self.do(self.side.settle())

    def make(self, events: int) -> None:
        self.do(self.side.emit(range(self.made, self.made + events)))
        self.made += events
        self.do(self.side.settle())

    def run(self, steps: list[tuple[str, int, int]]) -> None:
        for what, who, events in steps:
            if what == "join":
                self.join()
            elif what == "ask":
                self.ask(who, events)
            elif what == "leave":
                self.leave(who)
            else:
                self.make(events)
            assert self.side.missing() <= 0


a_step = st.tuples(
    st.sampled_from(["join", "ask", "ask", "leave", "make", "make"]), st.integers(0, 3), st.integers(1, 9)
)


@given(st.lists(a_step, max_size=40), st.one_of(st.none(), st.integers(0, 8)))
def test_nothing_is_lost_without_being_counted(steps: list[tuple[str, int, int]], size: int | None) -> None:
    world = World(DemandDispatcher(), size)
    world.run(steps)

    assert len(world.sent) + len(world.side.buffer) + world.side.discarded == world.made


@given(st.lists(a_step, max_size=40), st.one_of(st.none(), st.integers(0, 8)))
def test_events_keep_their_order(steps: list[tuple[str, int, int]], size: int | None) -> None:
    world = World(DemandDispatcher(), size)
    world.run(steps)

    assert world.sent == sorted(set(world.sent))


@given(st.lists(a_step, max_size=40))
def test_everybody_gets_the_same_from_its_first_event_on(steps: list[tuple[str, int, int]]) -> None:
    world = World(BroadcastDispatcher(), None)
    world.run(steps)
    for got in world.got.values():
        assert got == list(range(got[0], got[0] + len(got))) if got else True


@given(st.lists(a_step, max_size=40), st.integers(1, 4))
def test_a_partition_gets_its_events_and_no_others_in_order(steps: list[tuple[str, int, int]], number: int) -> None:
    world = World(PartitionDispatcher(number, lambda event: (event, event % number)), None)
    for partition in range(number):
        world.join(partition=partition)
    world.run([step for step in steps if step[0] in ("ask", "make")])
    for partition, got in enumerate(world.got.values()):
        assert got == list(range(partition, world.made, number))[: len(got)]


@given(st.lists(a_step, max_size=40))
def test_who_asked_and_stays_is_served_as_soon_as_there_is_something(steps: list[tuple[str, int, int]]) -> None:
    world = World(DemandDispatcher(), None)
    world.run(steps)
    hungry = sum(world.asked[each] - len(world.got[each]) for each in world.here)

    assert hungry == 0 or (len(world.side.buffer) == 0 and world.side.owed >= hungry)


@pytest.mark.parametrize("dispatcher", [DemandDispatcher, BroadcastDispatcher])
@given(steps=st.lists(a_step, max_size=40))
def test_the_stage_is_not_asked_for_more_than_its_consumers_asked_for(
    dispatcher: type[Dispatcher], steps: list[tuple[str, int, int]]
) -> None:
    world = World(dispatcher(), None)
    world.run(steps)

    assert world.needed <= sum(world.asked.values())
