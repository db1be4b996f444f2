"""Which file the cache is kept in: a damaged one is set aside, another version's left alone, and both are told of."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from dspy_actors.cache.cache_file import CacheFile
from dspy_actors.lm.outages import CACHE_LEFT_ALONE, CACHE_SET_ASIDE
from tests.dspy_actors.test_cache_disk import answering, ask, asked, disk_of, flushed

DAMAGED = b"SQLite format 3\x00" + b"rubbish" * 500
LINES = {CACHE_LEFT_ALONE, CACHE_SET_ASIDE}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sqlite"


def become_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if not each.name.endswith(("-wal", "-shm")))


def kept_by(file: CacheFile, more: bytes) -> set[bytes]:
    """What a process that opens the file finds, which then keeps `more`."""
    reader = file.open_reader()
    assert reader is not None
    found = {key for (key,) in reader.execute("SELECT key FROM answers")}
    reader.close()
    writer = file.connect()
    writer.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (more, b"", 4e9))
    writer.commit()
    writer.close()
    return found


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_versions_side_by_side_rename_nothing_and_each_finds_its_own(path: Path, order: tuple[int, int]) -> None:
    """Each took the name from the other at every start, and began with nothing."""
    found = [kept_by(CacheFile(path, version=version), b"%d" % version) for _ in range(3) for version in order]

    assert found == [set(), set(), *[{b"%d" % version} for _ in range(2) for version in order]]
    assert names(path) == ["a.sqlite", f"a.sqlite.v{order[1]}"]


def test_two_versions_that_run_at_once_find_the_same_files_again(path: Path) -> None:
    both = [CacheFile(path, version=version) for version in (1, 2)]
    for _ in range(3):
        for file in both:
            kept_by(file, b"key")

    assert [file.path.name for file in both] == ["a.sqlite", "a.sqlite.v2"]
    assert names(path) == ["a.sqlite", "a.sqlite.v2"]


def test_a_file_that_another_process_has_replaced_is_not_set_aside_once_more(path: Path) -> None:
    path.write_bytes(DAMAGED)
    late = CacheFile(path)
    seen = late.identity()
    kept_by(CacheFile(path), b"key")  # sets it aside, and makes a new one
    late.put_aside("file is not a database", seen)

    assert kept_by(late, b"more") == {b"key"}
    assert late.set_aside == 0


def test_a_file_of_another_version_in_both_places_is_left_alone(path: Path) -> None:
    for each in (path, path.with_name("a.sqlite.v1")):
        kept_by(CacheFile(each), b"key")
        become_version(each, 3)
    told: list[Path] = []
    file = CacheFile(path, told=lambda path, aside, reason, renamed: told.append(path))

    assert [file.open_reader(), file.open_reader()] == [None, None]
    assert told == [path, path.with_name("a.sqlite.v1")]
    assert names(path) == ["a.sqlite", "a.sqlite.v1"]


def test_what_is_no_cache_beside_another_version_s_is_left_alone(path: Path) -> None:
    kept_by(CacheFile(path), b"key")
    become_version(path, 3)
    path.with_name("a.sqlite.v1").write_text("notes\n")

    told: list[str] = []
    file = CacheFile(path, told=lambda path, aside, reason, renamed: told.append(reason))

    assert file.open_reader() is None
    assert path.with_name("a.sqlite.v1").read_text() == "notes\n"
    wrong = f"{path}.v1, which is to be used beside it, is no cache: it is some other file"
    assert [wrong in said for said in (file.trouble or "", *told)] == [True, True]


def test_a_file_of_another_version_is_told_of_and_its_answers_outlive_the_change(path: Path) -> None:
    with asked(path, answering()):
        ask("q")
    become_version(path, 2)
    structlog.configure()
    with capture_logs() as logs, asked(path, answering()) as rt:
        assert not ask("q").cached
        reading = flushed(rt)
    become_version(path, 1)  # the release is taken back
    with asked(path, answering()) as rt:
        assert ask("q").cached
        assert disk_of(rt)["trouble"] is None

    why = "it is of version 2, this release writes 1"
    assert (reading["path"], reading["usable"], reading["set_aside"]) == (f"{path}.v1", True, 0)
    assert reading["trouble"] == why
    assert [each for each in logs if each["event"] in LINES] == [
        {
            "log_level": "warning",
            "event": CACHE_LEFT_ALONE,
            "name": str(path),
            "reason": f"another version of dspy-actors made it: {why}",
            "used_instead": f"{path}.v1",
        }
    ]


def test_a_damaged_file_is_told_of_by_both_names(path: Path) -> None:
    path.write_bytes(DAMAGED)
    structlog.configure()
    with capture_logs() as logs, asked(path, answering()) as rt:
        reading = disk_of(rt)
    (aside,) = path.parent.glob("a.sqlite.broken-*")

    assert (reading["set_aside"], reading["usable"], reading["path"]) == (1, True, str(path))
    (line,) = (each for each in logs if each["event"] in LINES)
    assert (line["event"], line["log_level"]) == (CACHE_SET_ASIDE, "warning")
    assert (line["name"], line["renamed_to"]) == (str(path), str(aside))
    assert line["reason"] == "it cannot be read: file is not a database"
