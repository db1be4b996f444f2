"""The feed of rows: nothing taken twice, nothing forgotten, nobody left asleep."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from dspy_actors.evaluation.feed import Feed


async def asleep(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has run as far as it gets."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_rows_are_taken_in_their_order() -> None:
    async def main() -> list[int | None]:
        feed = Feed([1, 2])
        taken = [await feed.take(), await feed.take()]
        feed.settle()
        feed.settle()
        return [*taken, await feed.take()]

    assert asyncio.run(main()) == [1, 2, None]


def test_a_row_that_is_offered_wakes_somebody() -> None:
    async def main() -> object:
        feed: Feed[int] = Feed(closed=False)
        waiting = await asleep(feed.take())
        feed.offer(1)
        return await waiting

    assert asyncio.run(main()) == 1


def test_a_feed_does_not_end_before_what_was_taken_is_settled() -> None:
    async def main() -> object:
        feed = Feed([1])
        await feed.take()
        waiting = await asleep(feed.take())
        feed.settle()
        return await waiting

    assert asyncio.run(main()) is None


def test_a_row_that_is_put_back_is_taken_by_somebody_who_waits() -> None:
    async def main() -> object:
        feed = Feed([1])
        await feed.take()
        waiting = await asleep(feed.take())
        feed.put_back(1)
        return await waiting

    assert asyncio.run(main()) == 1


def test_a_row_wakes_somebody_who_still_waits_and_not_somebody_who_left() -> None:
    async def main() -> object:
        feed: Feed[int] = Feed(closed=False)
        gone, waiting = await asleep(feed.take()), await asleep(feed.take())
        gone.cancel()
        await asyncio.wait((gone,))
        feed.offer(1)
        return await asyncio.wait_for(waiting, 1.0)

    assert asyncio.run(main()) == 1


def test_who_is_cancelled_on_the_way_to_a_row_wakes_the_next() -> None:
    async def main() -> object:
        feed: Feed[int] = Feed(closed=False)
        gone, waiting = await asleep(feed.take()), await asleep(feed.take())
        feed.offer(1)
        gone.cancel()
        return await asyncio.wait_for(waiting, 1.0)

    assert asyncio.run(main()) == 1


def test_an_abandoned_feed_ends_when_what_was_taken_is_settled() -> None:
    async def main() -> object:
        feed = Feed([1, 2, 3])
        await feed.take()
        feed.abandon()
        waiting = await asleep(feed.take())
        feed.settle()
        return await waiting

    assert asyncio.run(main()) is None


def test_an_abandoned_feed_takes_nothing_back() -> None:
    async def main() -> object:
        feed = Feed([1, 2])
        await feed.take()
        feed.abandon()
        feed.put_back(1)
        return await feed.take()

    assert asyncio.run(main()) is None
