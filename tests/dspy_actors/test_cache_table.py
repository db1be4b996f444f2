"""The memory cache's bounds, ages and counts."""

from __future__ import annotations

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.cache.table import Table, is_cacheable, size_of
from dspy_actors.messages import LMResponse
from supervisors.clock import ManualClock


def table(**bounds: int) -> Table[str, str]:
    return Table(ManualClock(), ttl=None, **bounds)


def test_what_was_put_is_found() -> None:
    cache = table()
    cache.put("a", "A", 1)
    assert (cache.get("a"), cache.get("b")) == ("A", None)


def test_the_least_recently_used_goes_first() -> None:
    cache = table(max_entries=2)
    cache.put("a", "A", 1)
    cache.put("b", "B", 1)
    cache.get("a")
    cache.put("c", "C", 1)
    assert [cache.get(name) for name in "abc"] == ["A", None, "C"]


def test_bytes_are_bounded_too() -> None:
    cache = table(max_bytes=100)
    for name in "abcdef":
        cache.put(name, name, 25)
    assert (cache.stats().bytes, cache.stats().evictions) == (100, 2)


def test_a_value_too_large_is_refused_and_drives_nothing_out() -> None:
    cache = table(max_bytes=100)
    cache.put("a", "A", 20)
    assert not cache.put("b", "B", 26)
    assert (cache.get("a"), cache.stats().refused) == ("A", 1)


def test_putting_again_replaces_value_and_weight() -> None:
    cache = table()
    cache.put("a", "A", 10)
    cache.put("a", "B", 4)
    assert (cache.get("a"), cache.stats().bytes, len(cache)) == ("B", 4, 1)


def test_an_entry_dies_at_its_age(clock: ManualClock) -> None:
    cache: Table[str, str] = Table(clock, ttl=10.0)
    cache.put("a", "A", 1)
    clock.advance(9.9)
    assert cache.get("a") == "A"
    clock.advance(0.1)
    assert cache.get("a") is None
    assert (cache.stats().expired, cache.stats().bytes) == (1, 0)


def test_one_entry_may_have_an_age_of_its_own(clock: ManualClock) -> None:
    cache: Table[str, str] = Table(clock, ttl=10.0)
    cache.put("a", "A", 1, ttl=1.0)
    clock.advance(1.0)
    assert cache.get("a") is None


def test_a_sweep_drops_what_is_old(clock: ManualClock) -> None:
    cache: Table[str, str] = Table(clock, ttl=10.0)
    cache.put("a", "A", 1)
    clock.advance(5.0)
    cache.put("b", "B", 1)
    clock.advance(5.0)
    assert (cache.sweep(), len(cache)) == (1, 1)


def test_delete_and_clear_forget() -> None:
    cache = table()
    cache.put("a", "A", 1)
    cache.put("b", "B", 1)
    assert (cache.delete("a"), cache.delete("a")) == (True, False)
    cache.clear()
    assert (len(cache), cache.stats().bytes) == (0, 0)


def test_hits_misses_and_uncacheable_requests_are_counted() -> None:
    cache = table()
    cache.put("a", "A", 1)
    cache.get("a")
    cache.get("b")
    cache.note_uncacheable()
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.puts, stats.uncacheable) == (1, 1, 1, 1)


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"max_bytes": 0}, {"ttl": 0.0}, {"ttl": -1.0}])
def test_a_table_without_room_or_time_is_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="room and time"):
        Table(ManualClock(), **bounds)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), st.booleans())))
def test_the_bounds_hold_after_every_step(steps: list[tuple[str, int, bool]]) -> None:
    cache = table(max_entries=3, max_bytes=100)
    sizes: dict[str, int] = {}
    for name, size, reads in steps:
        if reads:
            cache.get(name)
        elif cache.put(name, name, size):
            sizes[name] = size
        stats = cache.stats()
        assert stats.entries <= 3
        assert stats.bytes <= 100
    held = [name for name in sizes if cache.get(name) is not None]
    assert sum(sizes[name] for name in held) == cache.stats().bytes


def test_threads_may_read_and_write_at_once() -> None:
    cache = table(max_entries=50)

    def work(seed: int) -> None:
        for number in range(300):
            cache.put(str((number * seed) % 100), "x", 1)
            cache.get(str(number % 100))

    threads = [Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert (stats.puts, stats.hits + stats.misses, stats.bytes) == (1200, 1200, stats.entries)


@pytest.mark.parametrize(("reason", "kept"), [("stop", True), ("", True), ("length", False), ("content_filter", False)])
def test_only_a_whole_answer_is_kept(reason: str, kept: bool) -> None:
    assert is_cacheable(LMResponse(("a", "b"), "m", finish_reasons=("stop", reason))) is kept


def test_a_response_weighs_its_text() -> None:
    light, heavy, wide = (size_of(LMResponse((text,), "m")) for text in ("", "a" * 1000, "ж" * 1000))
    assert (heavy - light, wide - light) == (1000, 4000)
