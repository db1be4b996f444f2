"""The feed of rows: nothing taken twice, nothing forgotten, nobody left asleep."""

from __future__ import annotations

from dspy_actors.evaluation.feed import Feed


class Taker:
    """Counts how often it is woken, and may be gone."""

    def __init__(self, gone: bool = False) -> None:
        self.woken = 0
        self.gone = gone

    def wake(self) -> bool:
        self.woken += 1
        return not self.gone


def test_rows_are_taken_in_their_order() -> None:
    feed, taker = Feed([1, 2]), Taker()
    assert [feed.take(taker), feed.take(taker), feed.take(taker)] == [1, 2, None]


def test_a_row_that_is_offered_wakes_one_who_found_none() -> None:
    feed: Feed[int] = Feed(closed=False)
    first, second = Taker(), Taker()
    feed.take(first)
    feed.take(second)
    feed.offer(1)
    assert (first.woken, second.woken, feed.take(first)) == (1, 0, 1)


def test_who_was_woken_is_woken_again_only_if_it_found_none_again() -> None:
    feed: Feed[int] = Feed(closed=False)
    taker = Taker()
    feed.take(taker)
    feed.offer(1)
    feed.offer(2)
    assert taker.woken == 1


def test_a_row_that_was_found_wakes_nobody() -> None:
    feed, taker = Feed([1], closed=False), Taker()
    feed.take(taker)
    feed.offer(2)
    assert taker.woken == 0


def test_a_feed_does_not_end_before_what_was_taken_is_settled() -> None:
    feed, taker = Feed([1]), Taker()
    feed.take(taker)
    feed.take(taker)
    before = feed.ended, taker.woken
    feed.settle()
    assert (before, feed.ended, taker.woken) == ((False, 0), True, 1)


def test_a_feed_that_is_open_does_not_end() -> None:
    feed, taker = Feed([1], closed=False), Taker()
    feed.take(taker)
    feed.take(taker)
    feed.settle()
    before = feed.ended, taker.woken
    feed.close()
    assert (before, feed.ended, taker.woken) == ((False, 0), True, 1)


def test_a_row_that_is_put_back_wakes_somebody_who_takes_it() -> None:
    feed, taker = Feed([1]), Taker()
    feed.take(taker)
    feed.take(taker)
    feed.put_back(1)
    assert (taker.woken, feed.ended, feed.take(taker)) == (1, False, 1)


def test_a_row_wakes_the_next_where_somebody_is_gone() -> None:
    feed: Feed[int] = Feed(closed=False)
    gone, there = Taker(gone=True), Taker()
    feed.take(gone)
    feed.take(there)
    feed.offer(1)
    assert there.woken == 1


def test_who_found_none_many_times_is_told_of_the_end_once() -> None:
    feed, first, second = Feed([1]), Taker(), Taker()
    for taker in (first, first, second, first, second):
        feed.take(taker)
    feed.settle()
    assert (first.woken, second.woken) == (1, 1)


def test_who_finds_none_after_the_end_is_not_woken_any_more() -> None:
    feed, taker = Feed([1]), Taker()
    feed.take(taker)
    feed.settle()
    found = feed.take(taker)
    feed.close()
    assert (found, taker.woken) == (None, 0)


def test_an_abandoned_feed_ends_when_what_was_taken_is_settled() -> None:
    feed, taker = Feed([1, 2, 3]), Taker()
    feed.take(taker)
    feed.abandon()
    before = feed.take(taker), feed.ended
    feed.settle()
    assert (before, feed.ended, taker.woken) == ((None, False), True, 1)


def test_an_abandoned_feed_takes_nothing_back() -> None:
    feed, taker = Feed([1, 2]), Taker()
    feed.take(taker)
    feed.abandon()
    feed.put_back(1)
    assert (feed.take(taker), feed.ended) == (None, True)
