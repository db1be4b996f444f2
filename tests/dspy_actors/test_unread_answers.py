"""An answer that cannot be read is no answer to the next call: the cache forgets it, in memory and on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.cache.disk import DiskCache, DiskWriter, Entry
from dspy_actors.cache.tiers import DISK_WRITER
from dspy_actors.errors import AdapterParseError, LMServerError
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMResponse
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Scripted, ScriptedProvider
from supervisors.testing import wait_until
from tests.dspy_actors.programs import Gate, begin, qa, says

TEAPOT = "I am a teapot."
YES = says(answer="yes")
DOWN = LMServerError("down", status=503)


def scripted(*said: Scripted, **options: Any) -> tuple[ScriptedProvider, Runtime]:
    provider = ScriptedProvider(list(said))
    lm = options.pop("lm", LM("scripted/m", num_retries=0))
    return provider, Runtime(lm=lm, open_provider=lambda config: provider, **options)


def kinds(program: Program, calls: int) -> list[str]:
    """How each of so many equal calls ended."""
    found = [program.safe_call(question="x") for _ in range(calls)]
    return [type(each.error).__name__ if each.error is not None else each.unwrap().answer for each in found]


@pytest.mark.parametrize("bad", [TEAPOT, ""], ids=["rubbish", "empty"])
@pytest.mark.parametrize("retries", [0, 1, 2])
def test_after_answers_that_cannot_be_read_the_next_call_asks_the_model(bad: str, retries: int) -> None:
    provider, rt = scripted(*[bad] * (retries + 1), YES, parse_retries=retries)
    with rt:
        ends = kinds(rt.start(qa()), 3)
    assert (ends, len(provider.requests)) == (["AdapterParseError", "yes", "yes"], retries + 2)


def test_the_correction_s_answer_is_forgotten_too() -> None:
    provider, rt = scripted(*[TEAPOT] * 3, YES)
    with rt:
        ends = kinds(rt.start(qa()), 2)
    assert (ends, len(provider.requests)) == (["AdapterParseError", "yes"], 4)


def test_a_correction_that_was_read_is_found_again_without_a_request() -> None:
    provider, rt = scripted(TEAPOT, YES)
    with rt:
        ends = kinds(rt.start(qa()), 2)
    assert (ends, len(provider.requests)) == (["yes", "yes"], 2)


def test_an_answer_is_forgotten_where_its_correction_failed() -> None:
    provider, rt = scripted(TEAPOT, DOWN, YES)
    with rt:
        ends = kinds(rt.start(qa()), 2)
    assert (ends, len(provider.requests)) == (["LMServerError", "yes"], 3)


def test_a_fallback_s_answer_is_forgotten() -> None:
    said = [DOWN, TEAPOT, DOWN, YES]
    provider, rt = scripted(*said, lm=LM("scripted/a", num_retries=0, fallbacks=["scripted/b"]), parse_retries=0)
    with rt:
        ends = kinds(rt.start(qa()), 2)
    assert (ends, [each.model for each in provider.requests]) == (["AdapterParseError", "yes"], ["a", "b", "a", "b"])


def test_without_a_cache_there_is_nothing_to_forget() -> None:
    provider, rt = scripted(TEAPOT, YES, lm=LM("scripted/m", cache=False), parse_retries=0)
    with rt:
        ends = kinds(rt.start(qa()), 2)
    assert (ends, len(provider.requests)) == (["AdapterParseError", "yes"], 2)


def test_a_stream_s_answer_is_forgotten() -> None:
    provider, rt = scripted(TEAPOT, YES, parse_retries=0)
    with rt:
        program = rt.start(qa())
        with pytest.raises(AdapterParseError):
            list(program.stream(question="x"))
        ends = kinds(program, 1)
    assert (ends, len(provider.requests)) == (["yes"], 2)


def test_an_awaited_call_s_answer_is_forgotten() -> None:
    provider, rt = scripted(TEAPOT, YES, parse_retries=0)
    with rt:
        program = rt.start(qa())
        first = asyncio.run(program.asafe_call(question="x"))
        ends = kinds(program, 1)
    assert (type(first.error), ends, len(provider.requests)) == (AdapterParseError, ["yes"], 2)


def test_equal_calls_share_one_answer_that_cannot_be_read_and_the_next_asks() -> None:
    gate, said = Gate(), [TEAPOT, YES]

    async def held(request: Any) -> str:
        await gate(request)
        return said.pop(0)

    provider = ScriptedProvider(held)
    with Runtime(lm="scripted/m", open_provider=lambda config: provider, parse_retries=0) as rt:
        program = rt.start(qa())
        calls = [begin(kinds, program, 1)]
        gate.wait_for()
        calls.extend(begin(kinds, program, 1) for _ in range(2))
        wait_until(lambda: rt.numbers().coalesced == 2)
        gate.open()
        ends = [call.get(10) for call in calls]
        last = kinds(program, 1)
    assert (ends, last, len(provider.requests)) == ([["AdapterParseError"]] * 3, ["yes"], 2)


def test_a_later_answer_to_the_same_question_stays() -> None:
    _, rt = scripted()
    with rt:
        cache, bad, good = rt._layer.cache, LMResponse((TEAPOT,), "m"), LMResponse((YES,), "m")
        cache.keep(b"key", good)
        cache.forget(b"key", bad)
        assert cache.get(b"key") == good


# -- on disk -------------------------------------------------------------------------------------------------------


def settled(rt: Runtime) -> None:
    """The writer has opened the file and written what waited: who reads meanwhile may find it busy, which is a miss."""
    writer = rt.registry.whereis(DISK_WRITER)
    assert writer is not None
    writer.call(DiskWriter.sweep)
    writer.call(DiskWriter.flush)


def test_a_resumed_job_asks_again_for_what_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    first, night = scripted(TEAPOT, TEAPOT, cache_path=path)
    with night:
        assert kinds(night.start(qa()), 1) == ["AdapterParseError"]
    second, morning = scripted(YES, cache_path=path)
    with morning:
        ends = kinds(morning.start(qa()), 1)
    assert (ends, len(first.requests), len(second.requests)) == (["yes"], 2, 1)


def test_what_an_earlier_release_has_left_on_disk_is_forgotten_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    _, night = scripted(TEAPOT, cache_path=path)
    with night:
        for _ in night.stream(ChatAdapter().format(qa().signature, (), {"question": "x"})):  # read by no adapter
            pass
    provider, morning = scripted(YES, cache_path=path, parse_retries=0)
    with morning:
        settled(morning)
        ends = kinds(morning.start(qa()), 2)
    assert (ends, len(provider.requests)) == (["AdapterParseError", "yes"], 1)


def test_the_answer_after_the_one_that_was_forgotten_is_kept_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    _, night = scripted(TEAPOT, YES, cache_path=path, parse_retries=0)
    with night:
        assert kinds(night.start(qa()), 2) == ["AdapterParseError", "yes"]
    provider, morning = scripted(cache_path=path)
    with morning:
        settled(morning)
        ends = kinds(morning.start(qa()), 1)
    assert (ends, len(provider.requests)) == (["yes"], 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "answers.sqlite")
    yield cache
    cache.close()


ROW = LMResponse((TEAPOT,), "m")
OTHER = LMResponse((YES,), "m")


def write(disk: DiskCache, *entries: Entry) -> None:
    connection = disk.connect()
    disk.write(connection, entries)
    connection.close()


def rows(disk: DiskCache) -> int:
    """How many answers are in the file."""
    connection = disk.connect()
    (found,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    connection.close()
    return int(found)


def test_what_is_forgotten_is_not_read_though_no_writer_has_come_to_it(disk: DiskCache) -> None:
    write(disk, Entry(b"key", ROW))
    disk.forget(None, b"key")
    assert disk.get(b"key") is None


def test_a_later_answer_is_read_where_nobody_deleted_the_one_before_it(disk: DiskCache) -> None:
    write(disk, Entry(b"key", ROW))
    disk.forget(None, b"key")
    write(disk, Entry(b"key", OTHER, mark=1))
    assert disk.get(b"key") == OTHER


def test_a_write_from_before_does_not_bring_back_what_is_forgotten(disk: DiskCache) -> None:
    disk.forget(None, b"key")
    write(disk, Entry(b"key", ROW))
    assert disk.get(b"key") is None


def test_what_is_forgotten_twice_is_not_read_after_the_first_deletion(disk: DiskCache) -> None:
    disk.forget(None, b"key")
    disk.forget(None, b"key")
    write(disk, Entry(b"key", None, mark=1))
    write(disk, Entry(b"key", ROW))
    assert disk.get(b"key") is None


def test_the_last_word_on_a_key_holds_in_one_commit(disk: DiskCache) -> None:
    disk.forget(None, b"key")
    write(disk, Entry(b"key", ROW), Entry(b"key", None, mark=1))
    assert disk.get(b"key") is None
    assert rows(disk) == 0


def test_an_answer_that_was_sent_to_the_writer_beside_a_deletion_and_comes_after_it_is_read(disk: DiskCache) -> None:
    disk.forget(None, b"key")
    write(disk, Entry(b"key", None, mark=1), Entry(b"key", OTHER))
    assert disk.get(b"key") == OTHER


def test_a_row_is_gone_from_the_file_when_the_writer_has_come_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    _, night = scripted(TEAPOT, cache_path=path)
    with night:
        for _ in night.stream(ChatAdapter().format(qa().signature, (), {"question": "x"})):  # read by no adapter
            pass
    _, morning = scripted(cache_path=path, parse_retries=0)
    with morning:
        disk = morning._layer.cache.disk
        assert disk is not None
        settled(morning)
        before = rows(disk)
        ends = kinds(morning.start(qa()), 1)
        settled(morning)
        after = rows(disk)
    assert (before, ends, after) == (1, ["AdapterParseError"], 0)
