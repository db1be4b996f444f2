"""The order of those who wait for a limit: shares by weight, nobody without end, first come first within a tenant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakSet

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_actors.envelope import Priority
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.fair_queue import SWEEP_AT, FairQueue
from dspy_actors.lm.fairness import Fairness

WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.25}
CLASSES: dict[Priority, float] = {"interactive": 16.0, "batch": 4.0, "optimizer": 1.0}
MOST = 100
"""The most that one place costs in these tests."""


class Place:
    """One who waits."""

    def __init__(self, number: int, priority: Priority, tenant: str, cost: float = 1.0) -> None:
        self.number, self.priority, self.tenant, self.cost = number, priority, tenant, cost
        self.here = True


class Crowd:
    """A queue, and everybody who waits in it."""

    def __init__(self, **fairness: Any) -> None:
        self.queue: FairQueue[Place] = FairQueue(Fairness(**fairness), lambda place: not place.here)
        self.numbers = itertools.count()
        self.waiting: list[Place] = []
        self.served: list[Place] = []

    def come(self, priority: Priority = "interactive", tenant: str = "a", cost: float = 1.0) -> Place:
        place = Place(next(self.numbers), priority, tenant, cost)
        self.waiting.append(place)
        self.queue.push(place, priority, tenant)
        return place

    def leave(self, place: Place) -> None:
        place.here = False
        self.waiting.remove(place)
        self.queue.left(len(self.waiting))

    def serve(self) -> Place | None:
        place = self.queue.first()
        if place is not None:
            self.queue.take(place.cost)
            place.here = False
            self.waiting.remove(place)
            self.served.append(place)
        return place

    def order(self) -> Iterator[Place]:
        while (place := self.serve()) is not None:
            yield place


class Step(NamedTuple):
    """What happens next: somebody comes, leaves, or is served."""

    what: str
    priority: Priority
    tenant: str
    cost: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["come", "come", "come", "leave", "serve", "serve"]),
        st.sampled_from(sorted(CLASSES)),
        st.sampled_from(sorted(WEIGHTS)),
        st.integers(1, MOST),
    ),
    max_size=150,
)


def played(steps: list[Step]) -> Iterator[Crowd]:
    """The crowd after each step; at the start, nobody."""
    crowd = Crowd(weights=WEIGHTS)
    for step in steps:
        if step.what == "come":
            crowd.come(step.priority, step.tenant, step.cost)
        elif step.what == "leave":
            mine = [p for p in crowd.waiting if (p.priority, p.tenant) == (step.priority, step.tenant)]
            if mine:
                crowd.leave(mine[step.cost % len(mine)])
        else:
            crowd.serve()
        yield crowd


@given(STEPS)
def test_somebody_is_served_as_long_as_anybody_waits(steps: list[Step]) -> None:
    for crowd in played(steps):
        assert (crowd.queue.first() is None) == (not crowd.waiting)


@given(STEPS)
def test_within_a_tenant_and_class_those_who_came_first_go_first(steps: list[Step]) -> None:
    for crowd in played(steps):
        first = crowd.queue.first()
        rivals = [p.number for p in crowd.waiting if first and (p.priority, p.tenant) == (first.priority, first.tenant)]
        assert first is None or first.number == min(rivals)


def within_one_call(steps: list[Step], name: Any, weights: dict[Any, float], group: Any = lambda place: None) -> None:
    """While two of one group wait, what they had, over their weights, differs by at most one call of each."""
    had: dict[Any, float] = {}
    counted = 0
    since: dict[Any, tuple[float, float]] = {}
    for crowd in played(steps):
        for place in crowd.served[counted:]:
            key = (group(place), name(place))
            had[key] = had.get(key, 0.0) + place.cost
        counted = len(crowd.served)
        waiting = {(group(place), name(place)) for place in crowd.waiting}
        since = {pair: begin for pair, begin in since.items() if set(pair) <= waiting}
        for one, other in itertools.combinations(sorted(waiting, key=str), 2):
            if one[0] != other[0]:
                continue
            w, v = weights[one[1]], weights[other[1]]
            now = (had.get(one, 0.0), had.get(other, 0.0))
            begin = since.setdefault((one, other), now)
            assert abs((now[0] - begin[0]) / w - (now[1] - begin[1]) / v) <= MOST / w + MOST / v + 1e-6


@given(STEPS)
def test_tenants_of_a_class_get_shares_by_their_weights(steps: list[Step]) -> None:
    within_one_call(steps, lambda p: p.tenant, WEIGHTS, lambda p: p.priority)


@given(STEPS)
def test_classes_get_shares_by_their_weights(steps: list[Step]) -> None:
    within_one_call(steps, lambda p: p.priority, dict(CLASSES))


@given(st.sampled_from(sorted(CLASSES)), st.sampled_from(sorted(WEIGHTS)), st.lists(st.integers(1, MOST), min_size=9))
@settings(max_examples=50)
def test_nobody_waits_without_end_for_a_flood_of_the_others(own: Priority, tenant: str, costs: list[int]) -> None:
    crowd = Crowd(weights=WEIGHTS)
    cost = itertools.cycle(costs)
    for priority, name in itertools.product(CLASSES, WEIGHTS):
        for _ in range(3):
            crowd.come(priority, name, next(cost))
    for _ in range(50):  # under way for a while already
        gone = crowd.serve()
        assert gone is not None
        crowd.come(gone.priority, gone.tenant, next(cost))
    for mine in [p for p in crowd.waiting if (p.priority, p.tenant) == (own, tenant)]:
        crowd.leave(mine)
    place = crowd.come(own, tenant, MOST)
    peers = sum(MOST * (1 + weight / WEIGHTS[tenant]) for weight in WEIGHTS.values())
    others = sum(weight / CLASSES[own] * (peers + MOST) + MOST for name, weight in CLASSES.items() if name != own)
    before = 0.0
    while (served := crowd.serve()) is not place:
        assert served is not None
        before += served.cost
        assert before <= peers + others
        crowd.come(served.priority, served.tenant, next(cost))


def shares(crowd: Crowd, calls: int, name: Any) -> dict[Any, int]:
    """How many of `calls` turns each got, while nobody runs out."""
    counts: dict[Any, int] = {}
    for place in itertools.islice(crowd.order(), calls):
        counts[name(place)] = counts.get(name(place), 0) + 1
    return counts


def test_a_tenant_of_twice_the_weight_gets_twice_as_much() -> None:
    crowd = Crowd(weights={"a": 2.0})
    for tenant in ("a", "b", "c"):
        for _ in range(100):
            crowd.come("batch", tenant)
    assert shares(crowd, 80, lambda p: p.tenant) == {"a": 40, "b": 20, "c": 20}


def test_classes_share_by_their_weights() -> None:
    crowd = Crowd(class_weights={"batch": 3.0})
    for priority in CLASSES:
        for _ in range(100):
            crowd.come(priority)
    assert shares(crowd, 100, lambda p: p.priority) == {"interactive": 80, "batch": 15, "optimizer": 5}


def test_what_counts_is_what_calls_take_and_not_how_many_they_are() -> None:
    crowd = Crowd()
    for tenant, cost in (("long", 100.0), ("short", 10.0)):
        for _ in range(100):
            crowd.come("batch", tenant, cost)
    assert shares(crowd, 55, lambda p: p.tenant) == {"long": 5, "short": 50}


def test_an_urgent_one_goes_before_a_flood_that_came_first() -> None:
    crowd = Crowd()
    for _ in range(1000):
        crowd.come("optimizer", "flood")
    for _ in range(10):
        crowd.serve()
        crowd.come("interactive", "quiet")
        served = crowd.serve()
        assert served is not None
        assert served.priority == "interactive"


def test_whoever_stayed_away_has_saved_up_nothing() -> None:
    crowd = Crowd()
    for _ in range(200):
        crowd.come("batch", "a")
    for _ in range(100):
        crowd.serve()
    for _ in range(100):
        crowd.come("batch", "b")
    assert shares(crowd, 20, lambda p: p.tenant) == {"a": 10, "b": 10}


def test_a_class_that_stayed_away_has_saved_up_nothing() -> None:
    crowd = Crowd(class_weights={"interactive": 1.0, "batch": 1.0})
    for _ in range(200):
        crowd.come("interactive")
    for _ in range(100):
        crowd.serve()
    for _ in range(100):
        crowd.come("batch")
    assert shares(crowd, 20, lambda p: p.priority) == {"interactive": 10, "batch": 10}


def test_whoever_left_has_paid_nothing() -> None:
    crowd = Crowd()
    for place in [crowd.come("batch", "a", MOST) for _ in range(50)]:
        crowd.leave(place)
    for tenant in ("a", "b"):
        for _ in range(10):
            crowd.come("batch", tenant)
    assert shares(crowd, 10, lambda p: p.tenant) == {"a": 5, "b": 5}


def test_a_turn_that_is_given_back_has_cost_nothing() -> None:
    crowd = Crowd()
    gone = crowd.come("batch", "a", MOST)
    for tenant in ("a", "b"):
        for _ in range(10):
            crowd.come("batch", tenant)
    assert crowd.serve() is gone
    crowd.queue.give_back(gone.cost, gone.priority, gone.tenant)
    assert shares(crowd, 10, lambda p: p.tenant) == {"a": 5, "b": 5}


def test_those_who_left_are_not_kept() -> None:
    crowd = Crowd()
    stays = crowd.come("batch", "a")
    kept = WeakSet[Place]()
    for number in range(1000):
        gone = crowd.come("batch", f"t{number % 7}")
        kept.add(gone)
        crowd.leave(gone)
    assert len(kept) <= SWEEP_AT + 3
    assert list(crowd.order()) == [stays]


def test_tenants_that_come_once_are_not_kept() -> None:
    crowd = Crowd()
    crowd.come("batch", "waits", MOST)
    for number in range(1000):
        crowd.come("interactive", f"t{number}")
        crowd.serve()
    assert len(crowd.queue._interactive.tenants) <= SWEEP_AT + 2


def test_tenants_that_left_are_not_kept_while_others_wait() -> None:
    crowd = Crowd()
    crowd.come(tenant="stays")
    for number in range(50 * SWEEP_AT):
        crowd.leave(crowd.come(tenant=str(number)))
    own = crowd.queue._interactive
    assert max(len(own.tenants), len(own.order)) <= 3 * SWEEP_AT


def test_a_sweep_changes_nobody_s_turn() -> None:
    crowd = Crowd()
    stay = [crowd.come(tenant=tenant) for tenant in "cabbac"]
    for number in range(50 * SWEEP_AT):
        crowd.leave(crowd.come(tenant=str(number)))
    assert [crowd.serve() for _ in stay] == [stay[n] for n in (0, 1, 2, 5, 4, 3)]


def test_only_a_class_that_was_left_less_than_its_share_may_use_the_reserve() -> None:
    crowd = Crowd()
    waits = crowd.come("optimizer")
    assert (crowd.queue.first(), crowd.queue.may_use_reserve) == (waits, False)
    urgent = crowd.come("interactive")
    assert (crowd.queue.first(), crowd.queue.may_use_reserve) == (urgent, True)
    crowd.serve()
    assert (crowd.queue.first(), crowd.queue.may_use_reserve) == (waits, True)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        ({"weights": {"a": 0}}, "weights={'a': 0}"),
        ({"weights": {"a": -1.0}}, "weights={'a': -1.0}"),
        ({"weights": {"a": math.nan}}, "weights={'a': nan}"),
        ({"weights": {"a": math.inf}}, "weights={'a': inf}"),
        ({"weights": {"a": True}}, "weights={'a': True}"),
        ({"weights": {"a": "2"}}, "weights={'a': '2'}"),
        ({"weights": ["a"]}, "weights=['a']"),
        ({"weights": {3: 1.0}}, "weights={3: 1.0}"),
        ({"weights": {None: 1.0}}, "weights={None: 1.0}"),
        ({"class_weights": {"batch": 0.0}}, "class_weights={'batch': 0.0}"),
        ({"class_weights": {"urgent": 1.0}}, "interactive, batch, optimizer"),
        ({"interactive_reserve": 1.0}, "interactive_reserve=1.0"),
        ({"interactive_reserve": -0.1}, "interactive_reserve=-0.1"),
        ({"interactive_reserve": math.nan}, "interactive_reserve=nan"),
        ({"reserve_seconds": -1}, "reserve_seconds=-1"),
        ({"reserve_seconds": math.inf}, "reserve_seconds=inf"),
    ],
)
def test_shares_that_make_no_sense_are_refused(made: dict[str, Any], word: str) -> None:
    with pytest.raises(LMConfigurationError) as caught:
        Fairness(**made)
    assert word in str(caught.value)
