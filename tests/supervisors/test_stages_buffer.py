"""A producer's buffer: bounded, in order, and honest about what it throws away."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.errors import SpecError
from supervisors.stages.buffer import Buffer, Keep


def test_events_come_out_in_their_order() -> None:
    buffer = Buffer()
    buffer.store([1, 2])
    buffer.store([3])

    assert [buffer.take(2), buffer.take(5), len(buffer)] == [([1, 2], []), ([3], []), 0]


@pytest.mark.parametrize(("keep", "kept"), [("last", [3, 4, 5]), ("first", [1, 2, 3])])
def test_a_full_buffer_throws_the_oldest_or_the_newest_away(keep: Keep, kept: list[int]) -> None:
    buffer = Buffer(3, keep)
    buffer.store([1, 2])
    stored = buffer.store([3, 4, 5])

    assert (stored.discarded, buffer.take(9).events) == (2, kept)


@pytest.mark.parametrize("keep", ["last", "first"])
def test_more_than_the_whole_buffer_may_come_at_once(keep: Keep) -> None:
    buffer = Buffer(2, keep)
    buffer.store([0])

    assert buffer.store([1, 2, 3, 4]).discarded == 3


def test_without_a_size_nothing_is_thrown_away() -> None:
    buffer = Buffer(None)
    assert (buffer.store(range(20_000)).discarded, len(buffer)) == (0, 20_000)


def test_a_message_is_due_when_the_events_before_it_are_taken() -> None:
    buffer = Buffer()
    buffer.store([1, 2])
    kept = buffer.info("end")
    buffer.store([3])

    assert (kept, buffer.take(1), buffer.take(9), buffer.take(9)) == (True, ([1], []), ([2], ["end"]), ([3], []))


def test_a_message_is_due_at_once_when_nothing_is_before_it() -> None:
    assert Buffer().info("end") is False


def test_a_message_is_due_when_the_events_before_it_are_thrown_away() -> None:
    buffer = Buffer(2)
    buffer.store([1])
    buffer.info("end")

    assert buffer.store([2, 3]) == (1, ["end"])


@pytest.mark.parametrize(("size", "keep"), [(-1, "last"), (1.5, "last"), (True, "last"), (1, "middle")])
def test_an_option_without_sense_is_refused(size: Any, keep: Any) -> None:
    with pytest.raises(SpecError):
        Buffer(size, keep)


steps = st.lists(st.one_of(st.integers(1, 6), st.integers(-6, -1), st.just(0)), max_size=30)


@given(st.one_of(st.none(), st.integers(0, 5)), st.sampled_from(["first", "last"]), steps)
def test_it_behaves_like_a_list_that_is_cut(size: int | None, keep: str, steps: list[int]) -> None:
    """A step above 0 stores so many events, one below 0 takes so many, 0 leaves a message."""
    buffer, model, discarded, number = Buffer(size, cast("Keep", keep)), list[Any](), 0, 0
    for step in steps:
        if step > 0:
            events = list(range(number, number + step))
            number += step
            due = buffer.store(events)
            discarded += due.discarded
            model += events
            expected_due = _cut(model, size, keep)
            assert due.due == expected_due
        elif step < 0:
            assert tuple(buffer.take(-step)) == _take(model, -step)
        elif buffer.info("i"):
            model.append("i")
    left = [entry for entry in model if entry != "i"]
    assert (len(buffer), number) == (len(left), number)


def _due(model: list[Any]) -> list[Any]:
    due = []
    while model and model[0] == "i":
        due.append(model.pop(0))
    return due


def _cut(model: list[Any], size: int | None, keep: str) -> list[Any]:
    due: list[Any] = []
    while size is not None and sum(entry != "i" for entry in model) > size:
        if keep == "first":
            del model[max(index for index, entry in enumerate(model) if entry != "i")]
        else:
            due += _due(model)
            model.pop(0)
    return due + _due(model)


def _take(model: list[Any], most: int) -> tuple[list[Any], list[Any]]:
    taken: list[Any] = []
    while model and model[0] != "i" and len(taken) < most:
        taken.append(model.pop(0))
    return taken, _due(model)
