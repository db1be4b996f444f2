"""The persistent tier: what it keeps, and what becomes of calls when its file is locked, full, old or broken."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_actors import LM, Predict, Prediction, Runtime
from dspy_actors.cache.cache_file import SET_ASIDE
from dspy_actors.cache.codec import UnreadableEntry, decode, encode
from dspy_actors.cache.disk import DiskCache, DiskWriter, Entry
from dspy_actors.cache.tiers import DISK_WRITER
from dspy_actors.errors import LMConfigurationError
from dspy_actors.messages import LMResponse, ToolCall, Usage
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.exits import Shutdown
from supervisors.ref import Ref
from supervisors.system import System
from supervisors.testing import wait_until

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
    cache.write(connection, [Entry(key, response)])
    connection.close()


HALF = LMResponse(("an emoji cut in two: \ud83d",), "m", tool_calls=((ToolCall("c", "f", '{"a": "\udc00"}'),),))


@pytest.mark.parametrize("response", [RESPONSE, LMResponse(("x" * 10_000,), "m"), LMResponse((), "m"), HALF])
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


@pytest.mark.parametrize("wrong", [LMResponse(("ok",), "m", Usage(2**70)), LMResponse((object(),), "m")])  # type: ignore[arg-type]
def test_an_answer_that_cannot_be_written_down_costs_only_itself(disk: DiskCache, wrong: LMResponse) -> None:
    """It took the writer down, its guards after four of them, and with those every call under way."""
    connection = disk.connect()
    disk.write(connection, [Entry(b"wrong", wrong), Entry(b"key", RESPONSE)])
    connection.close()

    assert (disk.get(b"wrong"), disk.get(b"key")) == (None, RESPONSE)
    assert (disk.stats().written, disk.stats().dropped) == (1, 1)


@pytest.mark.parametrize("row", [(b"x", "soon"), (b"x", None), (5, 4e9), ("text", 4e9), (None, 4e9)])
def test_a_row_that_holds_what_none_of_ours_does_is_a_miss(disk: DiskCache, row: tuple[object, object]) -> None:
    connection = disk.connect()
    connection.execute("INSERT INTO answers VALUES (?, ?, ?)", (b"key", *row))
    connection.commit()
    connection.close()

    assert disk.get(b"key") is None


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


@pytest.mark.parametrize("name", [":memory:", "a" * 300])
def test_what_can_be_no_file_is_refused_at_construction(name: str) -> None:
    """In memory, each connection has a cache of its own: what was written was never found."""
    with pytest.raises(LMConfigurationError, match="is no cache"):
        DiskCache(name)


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


def ask(question: str) -> Prediction:
    return Predict("question -> answer")(question=question)


def disk_of(rt: Runtime) -> dict[str, Any]:
    found: Any = rt.health()["disk_cache"]
    return dict(found)


def flushed(rt: Runtime) -> dict[str, Any]:
    """The counts, once everything that waited has been written or given up."""
    writer = rt.registry.whereis(DISK_WRITER)
    assert writer is not None
    writer.call(DiskWriter.flush)
    return disk_of(rt)


def overwrite(path: Path) -> None:
    for part in path.parent.glob(path.name + "*"):
        part.write_bytes(b"rubbish" * (part.stat().st_size // 7))


def test_a_file_that_breaks_while_it_is_used_is_set_aside_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    told: list[dict[str, Any]] = []
    with asked(path, answering()) as rt:
        rt.system.kernel.telemetry.attach("test", SET_ASIDE, lambda event, measured, said: told.append(dict(said)))
        ask("before")
        flushed(rt)
        overwrite(path)
        for number in range(200):  # until somebody needs a page that he does not have in memory
            ask(f"after {number}")
            flushed(rt)
            if told:
                break
        ask("now")
        flushed(rt)
    with asked(path, answering()):
        assert ask("now").cached
    assert [said["reason"] for said in told] == ["file is not a database"]
    assert Path(told[0]["aside"]).exists()


def test_a_file_that_is_deleted_while_it_is_used_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with asked(path, answering()) as rt:
        ask("before")
        flushed(rt)
        for part in tmp_path.iterdir():
            part.unlink()
        ask("after")
        flushed(rt)
    with asked(path, answering()):
        assert (ask("before").cached, ask("after").cached) == (False, True)


def put_by_another_release(path: Path) -> None:
    """As where somebody takes the file away and another release is the first to make a new one."""
    for part in path.parent.glob(f"{path.name}*"):
        part.rename(part.with_name(part.name.replace(path.name, "older")))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.execute("CREATE TABLE other (key)")
    connection.close()


def test_a_file_that_another_release_has_put_in_its_place_is_left_alone(tmp_path: Path) -> None:
    """Each set the other's file aside with every write, for ever."""
    path = tmp_path / "a.sqlite"
    told: list[dict[str, Any]] = []
    with asked(path, answering()) as rt:
        rt.system.kernel.telemetry.attach("test", SET_ASIDE, lambda event, measured, said: told.append(dict(said)))
        ask("before")
        flushed(rt)
        put_by_another_release(path)
        ask("one")
        flushed(rt)
        ask("two")
        reading = flushed(rt)
    assert [said["reason"] for said in told] == ["it is of version 99, this release writes 1"]
    assert (reading["written"], reading["dropped"], reading["path"]) == (3, 0, f"{path}.v1")
    assert not list(tmp_path.glob("*.broken-*"))


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_file_that_is_locked_at_the_start_is_used_once_it_is_free(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "a.sqlite"
    with asked(path, answering()):
        ask("before")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE" if lock == "EXCLUSIVE" else "PRAGMA journal_mode=WAL")
    holder.execute(f"BEGIN {lock}")
    with asked(path, answering()) as rt:
        assert not ask("under the lock").cached
        assert flushed(rt)["dropped"] == 1
        holder.execute("ROLLBACK")
        holder.close()
        ask("after")
        flushed(rt)
        assert ask("before").cached


FULL = """
import resource, sys
from tests.dspy_actors.test_cache_disk import answering, ask, asked, flushed
with asked(sys.argv[1], answering()) as rt:
    ask("before")
    flushed(rt)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # no file may grow: a disk that is full
    kept = [ask(f"full {n}").answer for n in range(3)]
    full = flushed(rt)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ask("after")
    print(kept, full["dropped"], flushed(rt)["written"])
"""


def test_a_disk_that_is_full_costs_the_entries_and_no_call(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "a.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("['yes', 'yes', 'yes'] 3 2", 0), done.stderr


def test_the_file_and_the_writes_that_wait_are_a_line_of_health(tmp_path: Path) -> None:
    with asked(tmp_path / "a.sqlite", answering()) as rt:
        ask("q")
        reading = flushed(rt)
    assert (reading["written"], reading["usable"], reading["backlog"]) == (1, True, 0)


def test_another_program_s_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()

    with pytest.raises(LMConfigurationError, match="some other SQLite file"):
        DiskCache(path)
    assert path.read_bytes() == before


def test_two_files_set_aside_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for _ in range(2):
        path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 500)
        DiskCache(path).close()
        path.unlink()

    assert len(list(tmp_path.glob("a.sqlite.broken-*"))) == 2


def test_the_cache_file_holds_no_key(tmp_path: Path, stub: object) -> None:
    path = tmp_path / "a.sqlite"
    lm = LM("openai/stub", base_url=stub.base_url, api_key="sk-marker-12345678")  # type: ignore[attr-defined]
    with Runtime(lm, cache_path=path):
        Predict("question -> answer")(question="q")

    assert not any(b"sk-marker" in part.read_bytes() for part in tmp_path.iterdir())


class Busy(DiskWriter):
    """A writer that is busy until it is let go."""

    def wait_for(self, began: threading.Event, go: threading.Event) -> None:
        began.set()
        go.wait(5.0)
        self._disconnect()  # one that is fenced leaves it to the collector, of which Python 3.13 warns


def busy_until(go: threading.Event, system: System, disk: DiskCache) -> Ref[Any]:
    """A writer of `disk` that is busy until `go` is set."""
    began, writer = threading.Event(), system.spawn(Busy, disk)
    writer.cast(Busy.wait_for, began, go)
    assert began.wait(5.0)
    return writer


def test_answers_that_its_writer_has_not_heard_of_yet_are_written_at_its_end(system: System, tmp_path: Path) -> None:
    disk, go = DiskCache(tmp_path / "answers.sqlite"), threading.Event()
    writer = busy_until(go, system, disk)
    for key in (b"one", b"two", b"three"):
        disk.file(writer, key, LMResponse(("yes",), "m"))
    writer.exit(Shutdown())
    go.set()
    assert writer.down().get(5.0) == Shutdown()
    assert (disk.stats().written, disk.backlog, disk.get(b"two")) == (3, 0, LMResponse(("yes",), "m"))
    disk.close()


def test_what_a_writer_has_left_is_written_by_its_successor(system: System, tmp_path: Path) -> None:
    disk, go = DiskCache(tmp_path / "answers.sqlite"), threading.Event()
    writer = busy_until(go, system, disk)
    disk.file(writer, b"one", LMResponse(("yes",), "m"))
    writer.fence()
    go.set()
    writer.down().get(5.0)
    assert disk.backlog == 1
    system.spawn(DiskWriter, disk)
    wait_until(lambda: disk.stats().written == 1)
    assert (disk.backlog, disk.get(b"one")) == (0, LMResponse(("yes",), "m"))
    disk.close()
