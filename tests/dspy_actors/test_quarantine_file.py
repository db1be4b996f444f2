"""The actor and its file: one alert an entry, nothing lost by a crash, restarts and other processes, bad files."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dspy_actors.cache.disk import DiskCache
from dspy_actors.errors import LMError, QuarantineError
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.file import MARK, Filing, QuarantineFile, Row
from dspy_actors.quarantine.filing import POLL_SECONDS
from dspy_actors.quarantine.manager import QUARANTINE, SWEEP_SECONDS, QuarantineManager
from dspy_actors.runtime import Runtime
from supervisors.clock import ManualClock
from supervisors.exits import Crash
from supervisors.testing import Log, wait_until
from tests.dspy_actors.programs import qa
from tests.dspy_actors.quarantining import Sick, filtered, kinds
from tests.dspy_actors.test_quarantine_words import an_entry

HOUR = 3600.0
STEPS = ("entered", "renewed", "probation", "released")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quarantine.sqlite"


@pytest.fixture
def sick() -> Sick:
    return Sick(bad=filtered(), worse=filtered())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def rows(path: Path) -> list[Row]:
    """What stands in the file, read as another process does."""
    file = QuarantineFile(path)
    connection = file.connect()
    try:
        return file.exchange(connection, (), 0)[0]
    finally:
        connection.close()


def file_says(path: Path, *expected: tuple[str, bool]) -> None:
    """Wait until the file has these entries by their reasons, held or released."""
    wait_until(lambda: sorted((row.entry.reason, row.held) for row in rows(path)) == sorted(expected))


def write(path: Path, *filings: Filing) -> None:
    file = QuarantineFile(path)
    connection = file.connect()
    try:
        file.exchange(connection, filings, 0)
    finally:
        connection.close()


def polled(rt: Runtime) -> None:
    """Let the manager look into its file."""
    clock: Any = rt.system.clock
    clock.advance(POLL_SECONDS)
    manager = rt.registry.whereis(QUARANTINE)
    assert manager is not None
    manager.call(QuarantineManager.look)


def listening(rt: Runtime) -> Log:
    log = Log()

    def heard(event: tuple[str, ...], measurements: Any, metadata: Any) -> None:
        log.add(event[1], metadata.get("why", ""))

    rt.system.kernel.telemetry.attach("test", [(QUARANTINE, step) for step in (*STEPS, "file")], heard)
    return log


# -- alerts -------------------------------------------------------------------------------------------------------


def test_an_entry_is_announced_once_however_often_it_is_asked_for(sick: Sick, clock: ManualClock) -> None:
    structlog.configure()
    with capture_logs() as logs, sick.runtime(clock) as rt:
        log = listening(rt)
        program = rt.start(qa(), name="qa")
        kinds(program, "bad", 20)
        clock.advance(HOUR)
        kinds(program, "bad", 2)
        log.wait_for(("renewed", ""))
        assert log.events == [("entered", ""), ("probation", ""), ("renewed", "")]
        clock.advance(HOUR)
        sick.poison.clear()
        kinds(program, "bad", 2)
        log.wait_for(("released", "success"))
    (alert,) = [each for each in logs if each["event"].startswith("quarantine")]
    assert (alert["event"], alert["log_level"], alert["program"], alert["reason"], alert["faults"]) == (
        "quarantine.entered",
        "warning",
        "qa",
        "content_filter",
        3,
    )
    assert alert["input"] == "question: str[3] 'bad'"


def test_a_log_that_raises_takes_nobody_down(sick: Sick, clock: ManualClock) -> None:
    def broken(*args: Any) -> Any:
        raise ValueError

    structlog.configure(processors=[broken])
    with sick.runtime(clock) as rt:
        failures = Log()
        rt.system.kernel.telemetry.attach(
            "test", (QUARANTINE, "report", "failure"), lambda *event: failures.add(event[0])
        )
        kinds(rt.start(qa()), "bad", 3)
        failures.wait_for((QUARANTINE, "report", "failure"))
        assert kinds(rt.start(qa()), "good") == ["ok"]


def test_the_manager_sweeps(sick: Sick, clock: ManualClock) -> None:
    with sick.runtime(clock) as rt:
        program = rt.start(qa())
        kinds(program, "bad", 3)
        kinds(program, "worse", 1)
        assert rt.quarantine.stats().watched > 0
        log = listening(rt)
        clock.advance(86_400.0 + 2 * SWEEP_SECONDS)
        log.wait_for(("released", "forgotten"))
        wait_until(lambda: rt.quarantine.stats().watched == 0)


# -- crashes ------------------------------------------------------------------------------------------------------


def crash(rt: Runtime) -> None:
    """Bring the manager down, and return once its successor stands."""
    manager = rt.registry.whereis(QUARANTINE)
    assert manager is not None
    down = manager.down()
    manager.cast(QuarantineManager.init, None)  # type: ignore[arg-type]
    assert isinstance(down.get(10), Crash)
    wait_until(lambda: rt.registry.whereis(QUARANTINE) not in (None, manager))


@pytest.mark.parametrize("has_file", [False, True])
def test_a_crash_of_the_manager_loses_nothing(sick: Sick, clock: ManualClock, path: Path, has_file: bool) -> None:
    with sick.runtime(clock, path=path if has_file else None) as rt:
        program = rt.start(qa())
        kinds(program, "bad", 3)
        kinds(program, "worse", 2)
        crash(rt)
        assert kinds(program, "bad") == ["quarantined"]
        assert kinds(program, "worse", 2) == ["content_filter", "quarantined"]
        if has_file:
            file_says(path, ("content_filter", True), ("content_filter", True))


def test_what_happens_while_the_manager_is_away_is_announced_by_its_successor(sick: Sick, clock: ManualClock) -> None:
    with sick.runtime(clock) as rt:
        log = listening(rt)
        program = rt.start(qa())
        guards = rt.registry.whereis(QUARANTINE)
        assert guards is not None
        from supervisors import sys as manners

        manners.suspend(guards)
        kinds(program, "bad", 3)
        assert log.events == []
        manners.resume(guards)
        log.wait_for(("entered", ""))
        assert log.events == [("entered", "")]


# -- the file -----------------------------------------------------------------------------------------------------


def test_an_entry_survives_a_restart(sick: Sick, path: Path) -> None:
    with sick.runtime(path=path) as rt:
        assert kinds(rt.start(qa(), name="qa"), "bad", 3) == ["content_filter"] * 3
    with sick.runtime(path=path) as rt:
        assert kinds(rt.start(qa(), name="qa"), "bad") == ["quarantined"]
        assert kinds(rt.start(qa(), name="another"), "bad") == ["content_filter"]


def test_what_has_come_due_between_two_runs_is_probed(sick: Sick, path: Path) -> None:
    with sick.runtime(path=path, seconds=0.05) as rt:
        kinds(rt.start(qa(), name="qa"), "bad", 3)
        (entry,) = rt.quarantine.list()
    wait_until(lambda: time.time() > entry.until)
    sick.poison.clear()
    with sick.runtime(path=path) as rt:
        assert kinds(rt.start(qa(), name="qa"), "bad", 2) == ["ok", "ok"]
    assert [row.held for row in rows(path)] == [False]


def test_a_release_survives_a_restart(sick: Sick, path: Path) -> None:
    with sick.runtime(path=path) as rt:
        kinds(rt.start(qa(), name="qa"), "bad", 3)
        rt.quarantine.release(rt.quarantine.list()[0].id)
    with sick.runtime(path=path) as rt:
        assert rt.quarantine.list() == []


def test_a_release_by_somebody_else_is_noticed_at_the_next_look(sick: Sick, clock: ManualClock, path: Path) -> None:
    with sick.runtime(clock, path=path) as rt:
        log = listening(rt)
        program = rt.start(qa())
        kinds(program, "bad", 3)
        file_says(path, ("content_filter", True))
        (entry,) = rt.quarantine.list()
        write(path, Filing(entry, held=False))
        (before,) = rows(path)
        polled(rt)
        polled(rt)
        assert rows(path) == [before]  # it is not written once more
        assert kinds(program, "bad") == ["content_filter"]
        assert log.events[-1] == ("released", "elsewhere")


def test_a_release_by_a_person_is_stronger_than_a_probe_that_failed_meanwhile(
    sick: Sick, clock: ManualClock, path: Path
) -> None:
    with sick.runtime(clock, path=path) as rt:
        program = rt.start(qa())
        kinds(program, "bad", 3)
        file_says(path, ("content_filter", True))
        (entry,) = rt.quarantine.list()
        clock.advance(HOUR)

        def released_meanwhile() -> LMError:
            write(path, Filing(entry, held=False))
            return filtered()

        sick.down = released_meanwhile
        assert kinds(program, "bad") == ["content_filter"]
        assert rt.quarantine.stats().probes == 1
        wait_until(lambda: rt.quarantine.list() == [])
        file_says(path, ("content_filter", False))


def test_two_processes_share_what_they_set_aside_and_release(sick: Sick, clock: ManualClock, path: Path) -> None:
    """Two runtimes on one file, which know of each other by the file alone."""
    other_clock = ManualClock()
    with sick.runtime(clock, path=path) as one, sick.runtime(other_clock, path=path) as two:
        log = listening(two)
        first, second = one.start(qa(), name="qa"), two.start(qa(), name="qa")
        kinds(first, "bad", 3)
        file_says(path, ("content_filter", True))
        polled(two)
        assert kinds(second, "bad") == ["quarantined"]
        assert log.events == []
        two.quarantine.release(two.quarantine.list()[0].id)
        file_says(path, ("content_filter", False))
        polled(one)
        assert kinds(first, "bad") == ["content_filter"]


def test_many_processes_write_at_once_and_no_entry_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite"
    code = """
import sys
from dspy_actors.quarantine.file import Filing, QuarantineFile
from dspy_actors.quarantine.entry import entry_of
import json
data = json.loads(sys.argv[2])
file = QuarantineFile(sys.argv[1])
connection = file.connect(30.0)
after = 0
for number in range(25):
    _, after = file.exchange(connection, [Filing(entry_of({**data, "id": f"{sys.argv[3]}-{number}"}), True)], after)
connection.close()
"""
    QuarantineFile(path).connect().close()
    data = json.dumps(an_entry().as_data())
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), data, str(n)]) for n in range(4)]
    assert [each.wait(60) for each in writers] == [0] * 4
    found = rows(path)
    assert len({row.entry.id for row in found}) == 100
    assert len({row.revision for row in found}) == 100


def test_a_locked_file_holds_no_call_up_and_is_written_when_it_is_free(
    sick: Sick, clock: ManualClock, path: Path
) -> None:
    with sick.runtime(clock, path=path) as rt:
        log = listening(rt)
        program = rt.start(qa())
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        assert kinds(program, "bad", 4)[-1] == "quarantined"
        log.wait_for(("file", ""))
        assert rt.quarantine.stats().unfiled == 1
        holder.execute("ROLLBACK")
        holder.close()
        polled(rt)
        file_says(path, ("content_filter", True))
        wait_until(lambda: rt.quarantine.stats().unfiled == 0)


def test_a_file_that_is_locked_as_the_runtime_starts_is_read_later(sick: Sick, clock: ManualClock, path: Path) -> None:
    with sick.runtime(path=path) as rt:
        kinds(rt.start(qa(), name="qa"), "bad", 3)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    with sick.runtime(clock, path=path) as rt:
        program = rt.start(qa(), name="qa")
        assert kinds(program, "bad") == ["content_filter"]
        holder.execute("ROLLBACK")
        holder.close()
        polled(rt)
        assert kinds(program, "bad") == ["quarantined"]


def broken_file(path: Path) -> None:
    head = bytearray(b"SQLite format 3\x00" + b"rubbish" * 500)
    head[68:72] = MARK.to_bytes(4, "big")
    path.write_bytes(head)


def test_a_broken_file_is_set_aside_and_begun_anew(sick: Sick, clock: ManualClock, path: Path) -> None:
    broken_file(path)
    with sick.runtime(clock, path=path) as rt:
        polled(rt)
        kinds(rt.start(qa()), "bad", 3)
        file_says(path, ("content_filter", True))
    assert [each.name.startswith("quarantine.sqlite.broken-") for each in path.parent.glob("*.broken-*")] == [True]


def test_a_broken_file_that_cannot_be_renamed_is_told_of_and_the_runtime_runs_without_it(
    sick: Sick, clock: ManualClock, tmp_path: Path
) -> None:
    path = tmp_path / ("q" * 240)  # what it would be called is too long for a name
    broken_file(path)
    with capture_logs() as logs, sick.runtime(clock, path=path) as rt:
        for _ in range(5):
            polled(rt)
        program = rt.start(qa())
        kinds(program, "bad", 3)
        assert kinds(program, "bad") == ["quarantined"]
    (line,) = [line for line in logs if line["event"] == "quarantine.file"]
    assert "it cannot be renamed: File name too long" in line["reason"]


def test_a_file_that_breaks_in_use_is_set_aside_and_what_is_held_is_filed_again(
    sick: Sick, clock: ManualClock, path: Path
) -> None:
    with sick.runtime(clock, path=path) as rt:
        program = rt.start(qa())
        kinds(program, "bad", 3)
        file_says(path, ("content_filter", True))
        other = sqlite3.connect(path)
        other.execute("PRAGMA writable_schema=ON")
        other.execute("UPDATE sqlite_master SET sql = 'rubbish' WHERE name = 'entries'")
        other.execute("PRAGMA schema_version=99")
        other.commit()
        other.close()
        kinds(program, "worse", 3)
        for _ in range(3):
            polled(rt)
        assert kinds(program, "bad") == ["quarantined"]
        file_says(path, ("content_filter", True), ("content_filter", True))
    assert len(list(path.parent.glob("*.broken-*[0-9]"))) == 1


def test_a_table_that_is_dropped_in_use_is_made_anew(sick: Sick, clock: ManualClock, path: Path) -> None:
    with sick.runtime(clock, path=path) as rt:
        kinds(rt.start(qa()), "bad", 3)
        file_says(path, ("content_filter", True))
        other = sqlite3.connect(path)
        other.execute("DROP TABLE entries")
        other.close()
        polled(rt)
        polled(rt)
        file_says(path, ("content_filter", True))


def test_a_file_that_is_deleted_in_use_is_written_anew(sick: Sick, clock: ManualClock, path: Path) -> None:
    with sick.runtime(clock, path=path) as rt:
        kinds(rt.start(qa()), "bad", 3)
        file_says(path, ("content_filter", True))
        for each in path.parent.glob("quarantine.sqlite*"):
            each.unlink()
        polled(rt)
        file_says(path, ("content_filter", True))


def test_a_file_that_another_release_has_put_in_its_place_is_left_alone(
    sick: Sick, clock: ManualClock, path: Path
) -> None:
    """Each set the other's file aside with every look, for ever."""
    with sick.runtime(clock, path=path) as rt:
        program = rt.start(qa())
        kinds(program, "bad", 3)
        file_says(path, ("content_filter", True))
        for each in path.parent.glob("quarantine.sqlite*"):
            each.rename(each.with_name(each.name.replace("quarantine", "older")))
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version=99")
        other.execute("CREATE TABLE other (id)")
        other.close()
        kinds(program, "worse", 3)
        for _ in range(3):
            polled(rt)
        assert kinds(program, "bad") == kinds(program, "worse") == ["quarantined"]
        assert not list(path.parent.glob("*.broken-*"))
        path.unlink()
        polled(rt)
        file_says(path, ("content_filter", True), ("content_filter", True))


def test_a_file_that_is_replaced_in_use_is_read_and_written(
    sick: Sick, clock: ManualClock, path: Path, tmp_path: Path
) -> None:
    """As a backup that is restored: what it holds is taken over, what it lacks is filed."""
    restored = tmp_path / "restored.sqlite"
    write(restored, Filing(an_entry(until=4e9), held=True))
    with sick.runtime(clock, path=path) as rt:
        kinds(rt.start(qa()), "bad", 3)
        file_says(path, ("content_filter", True))
        for each in path.parent.glob("quarantine.sqlite*"):
            each.unlink()
        restored.rename(path)
        polled(rt)
        file_says(path, ("content_filter", True), ("parse", True))
        wait_until(lambda: sorted(entry.reason for entry in rt.quarantine.list()) == ["content_filter", "parse"])


def test_a_file_of_another_version_is_set_aside(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id={MARK}")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="of version 99"):
        QuarantineFile(path).connect()


@pytest.mark.parametrize("what", ["text", "cache", "database", "directory", "nowhere"])
def test_a_path_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    if what == "text":
        path.write_text("question\nq\n")
    if what == "cache":
        DiskCache(path).close()
    if what == "database":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE mine (x)")
        connection.close()
    if what == "directory":
        path.mkdir()
    if what == "nowhere":
        path = tmp_path / "no" / "file"
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(QuarantineError, match=r"is no quarantine: it.*name another path"):
        QuarantineFile(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_runtime_whose_file_is_something_else_does_not_start(sick: Sick, path: Path) -> None:
    path.write_text("question\nq\n")
    with pytest.raises(Exception, match="is no quarantine"), sick.runtime(path=path):
        pass
    assert path.read_text() == "question\nq\n"


def test_the_file_is_known_as_ours_though_its_writer_was_killed(path: Path) -> None:
    """Nothing but the first page is in the file itself then; the rest is in the log beside it."""
    code = f"""
import os
from dspy_actors.quarantine.file import QuarantineFile
QuarantineFile({str(path)!r}).connect()
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 9
    assert rows(path) == []


def test_an_entry_of_another_release_is_passed_over(path: Path) -> None:
    write(path, Filing(an_entry(), held=True))
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO entries (id, held, changed, until, record) VALUES ('x', 1, 0, 0, x'80')")
    connection.execute("INSERT INTO entries (id, held, changed, until, record) VALUES ('y', 1, 0, 0, x'c1')")
    connection.commit()
    connection.close()
    assert [row.entry for row in rows(path)] == [an_entry()]


def test_a_look_reads_only_what_is_new(path: Path) -> None:
    file = QuarantineFile(path)
    connection = file.connect()
    other = file.connect()
    _, after = file.exchange(connection, [Filing(an_entry(), held=True)], 0)
    file.exchange(other, [Filing(an_entry(id="e2"), held=True)], 0)
    found, last = file.exchange(connection, (), after)
    assert [row.entry.id for row in found] == ["e2"]
    assert file.exchange(connection, (), last) == ([], last)
    file.exchange(other, [Filing(an_entry(), held=False)], 0)
    (again,), _ = file.exchange(connection, (), last)
    assert (again.entry.id, again.held) == ("e1", False)
    connection.close()
    other.close()


def entry_due(id: str, until: float) -> Entry:
    return an_entry(id=id, until=until)


def test_a_purge_deletes_what_nobody_needs(path: Path) -> None:
    file = QuarantineFile(path)
    connection = file.connect()
    now = time.time()
    due = [entry_due("held", now + 10), entry_due("due", now - 10), entry_due("old", now - 100)]
    file.exchange(connection, [*(Filing(each, held=True) for each in due), Filing(an_entry(id="gone"), held=False)], 0)
    file.purge(connection, 50.0)
    assert [row.entry.id for row in file.exchange(connection, (), 0)[0]] == ["held", "due", "gone"]
    connection.close()


def test_the_file_holds_no_input_and_no_key(path: Path, clock: ManualClock) -> None:
    text = "sk-marker-0123456789 " + "and a customer's long story, told at length " * 20
    sick = Sick(**{text.strip(): filtered()})
    with sick.runtime(clock, path=path) as rt:
        kinds(rt.start(qa()), text.strip(), 3)
        file_says(path, ("content_filter", True))
        held = b"".join(part.read_bytes() for part in path.parent.iterdir())
    assert b"marker" not in held
    assert b"story" not in held
    assert b"question" in held
