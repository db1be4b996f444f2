"""A consumer's books: when it asks, and never for too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.stages.demand import ByHand, Demand


def asks(demand: Demand, events: int) -> list[int]:
    """What it asks for after each of so many events that come one by one."""
    return [demand.consumed(demand.receive([None]).batches[0].counted) for _ in range(events)]


def test_it_asks_for_the_most_at_first() -> None:
    assert Demand(10, 8).first() == 10


@pytest.mark.parametrize(
    ("most", "least", "expected"),
    [(10, 8, [0, 2] * 4), (10, 2, [0] * 7 + [8]), (4, 0, [0, 0, 0, 4]), (1, 0, [1, 1]), (4, 3, [1, 1, 1])],
)
def test_it_asks_again_when_no_more_than_the_least_are_left(most: int, least: int, expected: list[int]) -> None:
    demand = Demand(most, least)
    demand.first()

    assert asks(demand, len(expected)) == expected


def test_what_comes_is_cut_into_batches() -> None:
    demand = Demand(10, 6)
    demand.first()

    assert demand.receive(list(range(10))) == ([([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8, 9], 2)], 0)


def test_what_was_not_asked_for_is_not_counted() -> None:
    demand = Demand(4, 2)
    demand.first()
    batches, excess = demand.receive(list(range(6)))

    assert ([batch.counted for batch in batches], excess) == ([2, 2, 0], 2)
    assert [demand.consumed(batch.counted) for batch in batches] == [2, 2, 0]


def test_who_asks_by_hand_has_no_books() -> None:
    books = ByHand()
    assert (books.first(), books.receive([1, 2, 3]), books.consumed(3)) == (0, ([([1, 2, 3], 0)], 0), 0)


@given(st.integers(1, 12), st.data())
def test_what_is_on_its_way_is_never_more_than_the_most(most: int, data: st.DataObject) -> None:
    """A producer delivers in pieces of any size, and batches are handled at any time."""
    demand = Demand(most, data.draw(st.integers(0, most - 1)))
    asked, received, waiting = demand.first(), 0, list[int]()
    for _ in range(data.draw(st.integers(0, 20))):
        piece = data.draw(st.integers(0, asked - received))
        if piece:
            waiting += [batch.counted for batch in demand.receive([None] * piece).batches]
            received += piece
        elif waiting:
            asked += demand.consumed(waiting.pop(0))
        assert 0 <= asked - received <= demand.pending <= most


@given(st.integers(1, 12), st.data())
def test_who_is_served_never_starves(most: int, data: st.DataObject) -> None:
    demand = Demand(most, data.draw(st.integers(0, most - 1)))
    open_demand = demand.first()
    for _ in range(20):
        piece = data.draw(st.integers(1, open_demand))
        batches = demand.receive([None] * piece).batches
        open_demand += sum(demand.consumed(batch.counted) for batch in batches) - piece
        assert open_demand > 0
