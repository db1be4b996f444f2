"""The persistent tier: what it keeps, and what becomes of calls when its file is locked, full, old or broken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspy_actors import LM, Predict, Runtime
from dspy_actors.cache.codec import UnreadableEntry, decode, encode
from dspy_actors.cache.disk import DiskCache
from dspy_actors.errors import LMConfigurationError
from dspy_actors.messages import LMResponse, ToolCall, Usage
from dspy_actors.testing.providers import ScriptedProvider

RESPONSE = LMResponse(
    ("one", "zwei ö"), "m", Usage(1, 2, 3, 4, True), ("stop", "stop"), "id", ((ToolCall("c", "f", "{}"),), ())
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "answers.sqlite")
    yield cache
    cache.close()


def written(cache: DiskCache, key: bytes, response: LMResponse) -> None:
    connection = cache.connect()
    cache.write(connection, [(key, response)])
    connection.close()


@pytest.mark.parametrize("response", [RESPONSE, LMResponse(("x" * 10_000,), "m"), LMResponse((), "m")])
def test_an_answer_comes_back_as_it_went(response: LMResponse) -> None:
    assert decode(encode(response)) == response


def test_a_long_answer_is_compressed() -> None:
    assert len(encode(LMResponse(("word " * 4000,), "m"))) < 2000


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01junk", b"\x00\xc1", encode(RESPONSE)[:-3]])
def test_an_entry_that_cannot_be_read_says_so(data: bytes) -> None:
    with pytest.raises(UnreadableEntry):
        decode(data)


def test_what_was_written_is_found(disk: DiskCache) -> None:
    written(disk, b"key", RESPONSE)

    assert disk.get(b"key") == RESPONSE
    assert disk.get(b"other") is None


def test_an_expired_answer_is_a_miss_and_swept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "a.sqlite", seconds=1e-9)
    written(cache, b"key", RESPONSE)
    connection = cache.connect()

    assert cache.get(b"key") is None
    assert cache.sweep(connection) == 1
    connection.close()
    cache.close()


def test_a_corrupt_file_is_set_aside_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 500)
    cache = DiskCache(path)
    written(cache, b"key", RESPONSE)

    assert cache.get(b"key") == RESPONSE
    assert [p.read_bytes()[16:23] for p in tmp_path.glob("a.sqlite.broken-*")] == [b"rubbish"]
    cache.close()


def test_a_file_that_never_was_a_cache_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(LMConfigurationError, match="is no cache"):
        DiskCache(path)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_file_of_another_version_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    cache = DiskCache(path)

    assert cache.usable
    assert list(tmp_path.glob("a.sqlite.broken-*"))
    cache.close()


def test_a_locked_file_is_a_miss_at_once(disk: DiskCache) -> None:
    written(disk, b"key", RESPONSE)
    other = sqlite3.connect(disk.path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("DELETE FROM answers")

    found = disk.get(b"key")

    other.execute("ROLLBACK")
    other.close()
    assert found in (None, RESPONSE)  # WAL readers may go on beside a writer; none of them waits or raises


def test_a_directory_that_is_not_there_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(LMConfigurationError, match="its directory does not exist"):
        DiskCache(tmp_path / "nowhere" / "a.sqlite")


def asked(path: Path, provider: ScriptedProvider) -> Runtime:
    return Runtime(LM("scripted/m"), cache_path=path, open_provider=lambda config: provider)


def answering() -> ScriptedProvider:
    return ScriptedProvider(lambda request: "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]")


def test_an_answer_outlives_its_runtime(tmp_path: Path) -> None:
    first, second = answering(), answering()
    with asked(tmp_path / "a.sqlite", first):
        Predict("question -> answer")(question="q")
    with asked(tmp_path / "a.sqlite", second):
        again = Predict("question -> answer")(question="q")

    assert (again.answer, again.cached) == ("yes", True)
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_calls_go_on_when_the_file_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    provider = answering()
    with asked(path, provider) as rt:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        for number in range(3):
            assert Predict("question -> answer")(question=f"q{number}").answer == "yes"
        health = rt.health()
        holder.execute("ROLLBACK")
        holder.close()

    assert len(provider.requests) == 3
    assert health["disk_cache"] is not None


def test_the_cache_file_holds_no_key(tmp_path: Path, stub: object) -> None:
    path = tmp_path / "a.sqlite"
    lm = LM("openai/stub", base_url=stub.base_url, api_key="sk-marker-12345678")  # type: ignore[attr-defined]
    with Runtime(lm, cache_path=path):
        Predict("question -> answer")(question="q")

    assert not any(b"sk-marker" in part.read_bytes() for part in tmp_path.iterdir())
