"""The channel between a stream's writer and its reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.channel import Channel
from dspy_actors.errors import LMStreamAssemblyError
from dspy_actors.lm.outbox import Outbox


def taken(channel: Channel[int]) -> list[int] | None:
    return channel.take().get(0)


def test_what_was_put_is_taken_at_once_and_in_order() -> None:
    channel: Channel[int] = Channel()
    channel.put([1, 2])
    channel.put([3])
    assert taken(channel) == [1, 2, 3]


def test_a_reader_who_came_first_gets_what_comes() -> None:
    channel: Channel[int] = Channel()
    waiting = channel.take()
    channel.put([1])
    assert waiting.get(0) == [1]


def test_the_end_comes_after_what_was_put_and_stays() -> None:
    channel: Channel[int] = Channel()
    channel.put([1])
    channel.finish()
    assert [taken(channel), taken(channel), taken(channel)] == [[1], None, None]


def test_a_failure_comes_after_what_was_put() -> None:
    channel: Channel[int] = Channel()
    channel.put([1])
    channel.fail(LMStreamAssemblyError("cut", partial="1"))
    assert taken(channel) == [1]
    with pytest.raises(LMStreamAssemblyError, match="cut"):
        taken(channel)


def test_only_the_first_end_counts() -> None:
    channel: Channel[int] = Channel()
    ends = [channel.finish(), channel.fail(LMStreamAssemblyError("late")), channel.close()]
    assert (ends, taken(channel)) == ([True, False, False], None)


def test_nothing_can_be_put_after_the_end() -> None:
    channel: Channel[int] = Channel()
    channel.finish()
    channel.put([1])
    assert taken(channel) is None


@pytest.mark.parametrize("bounds", [{"max_items": 2}, {"max_size": 20}])
def test_a_full_buffer_says_so(bounds: dict[str, int]) -> None:
    channel: Channel[int] = Channel(**bounds)
    assert [channel.put([1], 10), channel.put([2], 10)] == [True, False]


def test_there_is_room_again_when_the_reader_has_taken() -> None:
    channel: Channel[int] = Channel(max_items=1)
    channel.put([1])
    room = channel.room()
    before = room.done()
    taken(channel)
    assert (before, room.done()) == (False, True)


def test_a_reader_who_waits_on_an_empty_buffer_asks_for_no_room_twice() -> None:
    channel: Channel[int] = Channel(max_items=1)
    waiting = channel.take()
    assert (channel.put([1]), channel.room().done(), waiting.get(0)) == (True, True, [1])


@pytest.mark.parametrize("end", [Channel.finish, Channel.close], ids=["finished", "closed"])
def test_a_writer_who_waits_for_room_is_let_go_at_the_end(end: Callable[[Channel[int]], bool]) -> None:
    channel: Channel[int] = Channel(max_items=1)
    channel.put([1])
    room = channel.room()
    end(channel)
    assert room.done()


def test_a_reader_who_leaves_is_told_of_once() -> None:
    channel: Channel[int] = Channel()
    told: list[str] = []
    channel.on_close(lambda: told.append("before"))
    channel.close()
    channel.close()
    channel.on_close(lambda: told.append("after"))
    assert (told, channel.closed) == (["before", "after"], True)


def test_a_reader_who_leaves_after_the_end_is_not_told_of() -> None:
    channel: Channel[int] = Channel()
    told: list[str] = []
    channel.on_close(lambda: told.append("left"))
    channel.finish()
    channel.close()
    assert (told, channel.closed) == ([], False)


def test_a_reader_who_waits_hears_of_its_own_leaving() -> None:
    channel: Channel[int] = Channel()
    waiting = channel.take()
    channel.close()
    assert waiting.get(0) is None


def test_a_wait_that_was_given_up_loses_nothing() -> None:
    channel: Channel[int] = Channel()
    channel.take().cancel()
    channel.put([1])
    channel.put([2])
    assert taken(channel) == [1, 2]


def test_a_wait_given_up_as_the_item_came_leaves_it_to_the_next() -> None:
    channel: Channel[int] = Channel()
    first = channel.take()
    second = channel.take()
    first.cancel()
    channel.put([1])
    assert second.get(0) == [1]


def test_a_reader_of_whom_somebody_is_told_gets_all_at_the_delivery() -> None:
    channel: Channel[int] = Channel()
    told: list[Channel[int]] = []
    waiting = channel.take()
    room = [channel.put([1], 1, told.append), channel.put([2], 1, told.append)]
    assert (told, room, waiting.done()) == ([channel], [True, True], False)
    channel.deliver()
    assert waiting.get(0) == [1, 2]


def test_nobody_is_told_where_no_reader_waits() -> None:
    channel: Channel[int] = Channel()
    told: list[Channel[int]] = []
    channel.put([1], 1, told.append)
    channel.deliver()
    assert (told, taken(channel)) == ([], [1])


def test_what_is_not_delivered_counts_for_the_bound_until_it_is() -> None:
    channel: Channel[int] = Channel(max_items=2)
    waiting = channel.take()
    assert not channel.put([1, 2], 2, lambda _: None)
    room = channel.room()
    assert not room.done()
    channel.deliver()
    assert (room.done(), waiting.get(0)) == (True, [1, 2])


@pytest.mark.parametrize("error", [None, LMStreamAssemblyError("cut")])
def test_an_end_before_the_delivery_comes_after_the_items(error: LMStreamAssemblyError | None) -> None:
    channel: Channel[int] = Channel()
    waiting = channel.take()
    channel.put([1], 1, lambda _: None)
    assert channel.finish() if error is None else channel.fail(error)
    channel.deliver()
    assert waiting.get(0) == [1]
    if error is None:
        assert taken(channel) is None
    else:
        with pytest.raises(LMStreamAssemblyError, match="cut"):
            taken(channel)


@pytest.mark.parametrize("end", [False, True])
def test_a_wait_given_up_before_the_delivery_loses_nothing(end: bool) -> None:
    channel: Channel[int] = Channel()
    waiting = channel.take()
    channel.put([1, 2], 2, lambda _: None)
    waiting.cancel()
    if end:
        channel.finish()
    channel.deliver()
    channel.put([3], 1)
    assert taken(channel) == ([1, 2] if end else [1, 2, 3])


def test_a_second_take_before_the_delivery_has_the_items_and_the_first_is_cancelled() -> None:
    channel: Channel[int] = Channel()
    first = channel.take()
    channel.put([1], 1, lambda _: None)
    assert taken(channel) == [1]
    channel.deliver()
    assert first.cancelled()


def test_a_reader_who_left_before_the_delivery_gets_nothing() -> None:
    channel: Channel[int] = Channel()
    waiting = channel.take()
    channel.put([1], 1, lambda _: None)
    channel.close()
    channel.deliver()
    assert (waiting.get(0), channel.waiting) == (None, 0)


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=30), st.integers(1, 8), st.integers(0, 4))
def test_everything_arrives_in_order_and_the_bound_holds_between_threads(
    batches: list[list[int]], most: int, seldom: int
) -> None:
    """`seldom`: after how many batches the reader is woken, 0 for at once."""
    channel: Channel[int] = Channel(max_items=most)
    seen: list[int] = []
    held: list[int] = []
    told: list[Channel[int]] = []

    def write() -> None:
        for number, batch in enumerate(batches):
            room = channel.room()
            if told and (not room.done() or number % seldom == 0):
                told.pop().deliver()
            room.get(10)
            channel.put(batch, 0, told.append if seldom else None)
            held.append(channel.waiting)
        channel.finish()

    writer = Thread(target=write)
    writer.start()
    while (batch := channel.take().get(10)) is not None:
        seen.extend(batch)
    writer.join(10)
    assert seen == [item for batch in batches for item in batch]
    assert max(held, default=0) < most + 5


def test_an_outbox_delivers_when_the_turn_is_over() -> None:
    async def once() -> list[bool]:
        outbox = Outbox(asyncio.get_running_loop())
        channels: list[Channel[int]] = [Channel(), Channel()]
        waiting = [channel.take() for channel in channels]
        for channel in channels * 2:
            channel.put([1], 1, outbox.add)
        before = any(reply.done() for reply in waiting)
        await asyncio.sleep(0)
        return [before, *(reply.take() == [1, 1] for reply in waiting)]

    assert asyncio.run(once()) == [False, True, True]
