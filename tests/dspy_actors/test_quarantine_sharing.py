"""One file, several processes: one of them sends the probe, and none waits for ever for one that died."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.errors import LMRateLimitError, QuarantinedInput
from dspy_actors.messages import LMRequest
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.file import Filing, QuarantineFile, Row
from dspy_actors.quarantine.filing import POLL_SECONDS, FilingManager
from dspy_actors.quarantine.held import LEASE_SECONDS
from dspy_actors.quarantine.manager import QuarantinePlan
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import ASK_AGAIN, Quarantine
from dspy_actors.testing.providers import Scripted
from supervisors.actor import Ref
from supervisors.clock import ManualClock
from supervisors.exits import Killed
from supervisors.reply import Reply
from supervisors.system import System
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Gate, asked, begin, qa
from tests.dspy_actors.quarantining import Sick, filtered, kinds
from tests.dspy_actors.quarantining import ended as ended_as
from tests.dspy_actors.test_quarantine_file import file_says, polled, rows, write
from tests.dspy_actors.test_quarantine_state import BAD, SCOPE, Ward
from tests.dspy_actors.test_quarantine_words import an_entry

HOUR = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quarantine.sqlite"


class Wall:
    """A clock on the wall, put forward by hand."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


class Sharer:
    """One of those who share a file."""

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self.file = QuarantineFile(path, wall=wall)
        self.connection = self.file.connect(30.0)

    def lease(self, entry: Entry, seconds: float = 60.0) -> float:
        return self.file.lease(self.connection, entry, seconds)

    def write(self, entry: Entry, *, held: bool) -> None:
        self.file.exchange(self.connection, [Filing(entry, held=held)], 0)

    def give_back(self, entry: Entry) -> None:
        self.file.give_back(self.connection, [entry.id])


@pytest.fixture
def one(path: Path, wall: Wall) -> Iterator[Sharer]:
    sharer = Sharer(path, wall)
    with closing(sharer.connection):
        yield sharer


@pytest.fixture
def two(path: Path, wall: Wall) -> Iterator[Sharer]:
    sharer = Sharer(path, wall)
    with closing(sharer.connection):
        yield sharer


# -- leases in the file -------------------------------------------------------------------------------------------


def test_whoever_comes_second_is_told_how_long_the_lease_lasts(one: Sharer, two: Sharer, wall: Wall) -> None:
    entry = an_entry()
    one.write(entry, held=True)
    assert one.lease(entry, 60.0) == 0.0
    wall.at += 20.0
    assert two.lease(entry) == 40.0
    assert two.lease(an_entry(id="e2")) == 0.0


def test_a_lease_ends_by_itself(one: Sharer, two: Sharer, wall: Wall) -> None:
    one.lease(an_entry(), 60.0)
    wall.at += 60.0
    assert two.lease(an_entry()) == 0.0
    assert one.lease(an_entry()) == 60.0


@pytest.fixture
def ahead(path: Path, wall: Wall) -> Iterator[Sharer]:
    """One whose clock is an hour ahead of everybody's."""
    sharer = Sharer(path, lambda: wall() + HOUR)
    with closing(sharer.connection):
        yield sharer


def test_a_lease_of_a_clock_that_is_ahead_lasts_as_long_as_it_was_taken_for(
    ahead: Sharer, two: Sharer, wall: Wall
) -> None:
    ahead.lease(an_entry(), 61.0)
    assert two.lease(an_entry()) == 61.0
    wall.at += 60.0
    assert two.lease(an_entry()) == 1.0
    wall.at += 1.0
    assert two.lease(an_entry()) == 0.0


def test_a_lease_that_such_a_clock_takes_anew_counts_anew(ahead: Sharer, two: Sharer, wall: Wall) -> None:
    ahead.lease(an_entry(), 61.0)
    two.lease(an_entry())
    wall.at += 60.0
    ahead.lease(an_entry(), 30.0)
    assert two.lease(an_entry()) == 30.0


def test_a_clock_that_is_put_back_waits_no_longer_than_the_lease_was_taken_for(
    ahead: Sharer, one: Sharer, two: Sharer, wall: Wall
) -> None:
    one.lease(an_entry(id="e2"), 60.0)
    ahead.lease(an_entry(), 60.0)
    two.lease(an_entry())
    wall.at -= HOUR
    assert two.lease(an_entry(id="e2")) == 60.0
    assert two.lease(an_entry()) == 60.0
    wall.at += 60.0
    assert two.lease(an_entry(id="e2")) == 0.0
    assert two.lease(an_entry()) == 0.0


def test_a_clock_that_is_ahead_by_less_than_the_lease_makes_no_difference(path: Path, two: Sharer, wall: Wall) -> None:
    ahead = Sharer(path, lambda: wall() + 30.0)
    with closing(ahead.connection):
        ahead.lease(an_entry(), 60.0)
    assert two.lease(an_entry()) == 60.0
    wall.at += 59.0
    assert two.lease(an_entry()) == 1.0


def test_when_a_lease_was_met_is_forgotten_once_the_lease_is_gone(ahead: Sharer, two: Sharer) -> None:
    for name in ("e1", "e2"):
        ahead.lease(an_entry(id=name))
        two.lease(an_entry(id=name))
    ahead.give_back(an_entry(id="e2"))
    two.file.purge(two.connection, HOUR)
    assert list(two.file._seen) == ["e1"]


def test_who_has_it_may_take_it_again(one: Sharer, two: Sharer, wall: Wall) -> None:
    one.lease(an_entry(), 60.0)
    wall.at += 30.0
    assert one.lease(an_entry(), 60.0) == 0.0
    assert two.lease(an_entry()) == 60.0


def test_a_lease_can_be_given_back_by_its_holder_only(one: Sharer, two: Sharer) -> None:
    one.lease(an_entry())
    two.give_back(an_entry())
    assert two.lease(an_entry()) == 60.0
    one.give_back(an_entry())
    assert two.lease(an_entry()) == 0.0


@pytest.mark.parametrize("held", [True, False])
def test_what_comes_of_the_probe_ends_the_lease(one: Sharer, two: Sharer, held: bool) -> None:
    one.lease(an_entry())
    one.write(an_entry(until=5.0), held=held)
    other = an_entry(until=5.0 + held)
    two.write(other, held=True)
    assert two.lease(other) == 0.0
    assert one.lease(other) == 60.0


def test_who_sets_an_input_aside_without_knowing_of_the_probe_does_not_end_its_lease(one: Sharer, two: Sharer) -> None:
    one.lease(an_entry())
    two.write(an_entry(), held=True)
    assert two.lease(an_entry()) == 60.0
    two.write(an_entry(), held=False)
    assert one.connection.execute("SELECT * FROM probes").fetchall() == []


@pytest.mark.parametrize("news", [Filing(an_entry(), held=False), Filing(an_entry(until=9e9), held=True)])
def test_nothing_is_taken_where_the_file_knows_better(one: Sharer, two: Sharer, news: Filing) -> None:
    one.write(an_entry(), held=True)
    two.write(news.entry, held=news.held)
    assert one.lease(an_entry()) == 0.0
    assert one.connection.execute("SELECT count(*) FROM probes").fetchone() == (0,)


def test_a_purge_deletes_leases_that_have_ended(one: Sharer, wall: Wall) -> None:
    one.lease(an_entry(), 60.0)
    one.lease(an_entry(id="e2"), 120.0)
    wall.at += 60.0
    one.file.purge(one.connection, 3600.0)
    assert one.connection.execute("SELECT id FROM probes").fetchall() == [("e2",)]


def test_a_file_of_the_release_before_learns_to_lease(path: Path, one: Sharer) -> None:
    one.connection.execute("DROP TABLE probes")
    one.connection.commit()
    with closing(QuarantineFile(path).connect()) as connection:
        assert connection.execute("SELECT * FROM probes").fetchall() == []


def test_of_many_processes_exactly_one_gets_each_lease(path: Path) -> None:
    code = """
import json, sys
from dspy_actors.quarantine.entry import entry_of
from dspy_actors.quarantine.file import QuarantineFile
data = json.loads(sys.argv[2])
file = QuarantineFile(sys.argv[1])
connection = file.connect(30.0)
print("ready", flush=True)
sys.stdin.readline()
print(sum(file.lease(connection, entry_of({**data, "id": str(number)}), 600.0) == 0.0 for number in range(50)))
connection.close()
"""
    QuarantineFile(path).connect().close()
    data = json.dumps(an_entry().as_data())
    sharers = [talking(code, str(path), data) for _ in range(4)]
    for each in sharers:
        assert heard(each) == "ready"
    for each in sharers:
        say(each)
    taken = [int(heard(each)) for each in sharers]
    assert [ended(each) for each in sharers] == [0] * 4
    assert sum(taken) == 50


# -- what a process makes of the answer ---------------------------------------------------------------------------


class SharedWard(Ward):
    """A quarantine that asks, and is answered by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Entry, float]] = []
        self.answer: Reply[float] | None = None
        self.quarantine._ask = self._asks

    def _asks(self, entry: Entry, seconds: float) -> Reply[float] | None:
        self.asked.append((entry, seconds))
        return self.answer

    def probe(self, wait: float = 0.0) -> bool:
        """Whether a call is let through as the probe, the others answering `wait`."""
        lease = self.lets_through(until=self.clock.now() + 9.0)
        if not lease:
            return lease is not None
        self.quarantine.claim(SCOPE, BAD, lease)
        try:
            self.quarantine.granted(SCOPE, BAD, lease, wait)
        except QuarantinedInput:
            return False
        return True


@pytest.fixture
def ward() -> SharedWard:
    ward = SharedWard()
    ward.fail(3)
    ward.clock.advance(HOUR)
    ward.steps()
    return ward


def test_a_probe_is_asked_for_until_a_second_after_its_end_and_announced_once_it_is_granted(ward: SharedWard) -> None:
    lease = ward.lets_through(until=ward.clock.now() + 9.0)
    assert lease
    assert ward.steps() == []
    ward.quarantine.claim(SCOPE, BAD, lease)
    assert [seconds for _, seconds in ward.asked] == [10.0]
    ward.quarantine.granted(SCOPE, BAD, lease)
    assert ward.steps() == [("probation", "")]


def test_while_it_is_asked_for_no_other_call_is_let_through(ward: SharedWard) -> None:
    assert ward.lets_through()
    assert ward.lets_through() is None


def test_where_another_has_it_it_is_asked_again_after_two_seconds(ward: SharedWard) -> None:
    assert not ward.probe(wait=60.0)
    ward.clock.advance(ASK_AGAIN - 0.1)
    assert not ward.probe()
    assert len(ward.asked) == 1
    ward.clock.advance(0.1)
    assert ward.probe()
    assert len(ward.asked) == 2
    assert ward.quarantine.stats().probes == 1


def test_where_anothers_ends_sooner_it_is_asked_again_then(ward: SharedWard) -> None:
    assert not ward.probe(wait=0.5)
    ward.clock.advance(0.5)
    assert ward.probe()


def test_the_refusal_says_how_long_anothers_probe_may_take(ward: SharedWard) -> None:
    lease = ward.lets_through()
    assert lease
    with pytest.raises(QuarantinedInput) as caught:
        ward.quarantine.granted(SCOPE, BAD, lease, 42.0)
    assert caught.value.retry_after == 42.0


def test_a_probe_whose_input_is_released_while_it_is_asked_for_is_an_ordinary_call(ward: SharedWard) -> None:
    lease = ward.lets_through()
    assert lease
    (entry,) = ward.quarantine.entries()
    ward.quarantine.release(entry.id, "elsewhere")
    assert ward.quarantine.claim(SCOPE, BAD, lease) is None
    ward.quarantine.granted(SCOPE, BAD, lease, 0.0)
    assert ward.quarantine.stats().probes == 0


def test_a_probe_whose_input_is_set_aside_anew_meanwhile_is_refused(ward: SharedWard) -> None:
    other = Ward()
    other.clock.advance(HOUR)
    other.fail(3)
    lease = ward.lets_through()
    assert lease
    ward.quarantine.adopt(other.quarantine.entries()[0])
    with pytest.raises(QuarantinedInput):
        ward.quarantine.granted(SCOPE, BAD, lease)
    assert ward.quarantine.stats().probes == 0


def test_a_probe_that_came_to_nothing_is_told_to_the_others(ward: SharedWard) -> None:
    assert ward.probe()
    held = ward.quarantine.held.get(SCOPE, BAD)
    assert held is not None
    ward.quarantine.undecided(SCOPE, BAD, held.lease)
    assert ward.steps() == [("probation", ""), ("returned", "")]
    assert ward.probe()


# -- runtimes -----------------------------------------------------------------------------------------------------


class Slow(Sick):
    """A model that holds back what it says of `bad` once `gate` is there."""

    gate: Gate | None = None

    async def _answer(self, request: LMRequest) -> Scripted:  # type: ignore[override]
        if self.gate is not None and asked(request) == "bad":
            await self.gate(request)
        return super()._answer(request)


@contextmanager
def shared(path: Path, *, seconds: float = HOUR) -> Iterator[Any]:
    """Two runtimes with clocks of their own on one file in which `bad` is due; each with its model."""
    models, clocks = (Slow(bad=filtered()), Slow(bad=filtered())), (ManualClock(), ManualClock())
    with (
        models[0].runtime(clocks[0], path=path, seconds=seconds) as one,
        models[1].runtime(clocks[1], path=path, seconds=seconds) as two,
    ):
        first, second = one.start(qa(), name="qa"), two.start(qa(), name="qa")
        kinds(first, "bad", 3)
        file_says(path, ("content_filter", True))
        polled(two)
        assert kinds(second, "bad") == ["quarantined"]
        for clock in clocks:
            clock.advance(seconds)
        yield (one, first, models[0], clocks[0]), (two, second, models[1], clocks[1])


def test_while_one_probes_the_other_does_not_and_a_success_frees_both(path: Path) -> None:
    with shared(path) as ((_, first, model, _), (two, second, other, clock)):
        gate = model.gate = Gate()
        model.poison.clear()
        probe = begin(kinds, first, "bad")
        gate.wait_for()
        assert kinds(second, "bad", 2) == ["quarantined"] * 2
        clock.advance(ASK_AGAIN)
        assert kinds(second, "bad") == ["quarantined"]
        assert other.sent == 0
        gate.open()
        assert probe.get(PATIENCE) == ["ok"]
        file_says(path, ("content_filter", False))
        polled(two)
        other.poison.clear()
        assert kinds(second, "bad") == ["ok"]
        assert two.quarantine.stats().probes == 0


def test_an_awaited_call_asks_too(path: Path) -> None:
    with shared(path) as ((_, first, model, _), (_, second, other, _)):
        gate = model.gate = Gate()
        probe = begin(asyncio.run, first.asafe_call(question="bad"))
        gate.wait_for()
        outcome = asyncio.run(second.asafe_call(question="bad"))
        assert isinstance(outcome.error, QuarantinedInput)
        assert other.sent == 0
        gate.open()
        assert ended_as(probe.get(PATIENCE)) == "content_filter"


def test_a_probe_that_fails_sets_the_input_aside_for_both(path: Path) -> None:
    with shared(path) as ((_, first, _, _), (two, second, other, _)):
        assert kinds(first, "bad", 2) == ["content_filter", "quarantined"]
        wait_until(lambda: [row.entry.times for row in rows(path)] == [2])
        assert kinds(second, "bad") == ["quarantined"]  # it hears of it as it asks
        assert other.sent == 0
        assert [entry.times for entry in two.quarantine.list()] == [2]


def test_a_probe_that_comes_to_nothing_leaves_it_to_the_other(path: Path) -> None:
    with shared(path) as ((one, first, model, _), (_, second, other, _)):
        model.down = lambda: LMRateLimitError("too fast", provider="scripted", model="m")
        assert kinds(first, "bad") == ["lm_rate_limit"]
        polled(one)
        other.poison.clear()
        assert kinds(second, "bad") == ["ok"]


def test_a_release_that_nobody_has_noticed_yet_is_noticed_before_a_probe(path: Path) -> None:
    with shared(path) as ((one, first, model, _), _):
        write(path, Filing(rows(path)[0].entry, held=False))
        model.poison.clear()
        assert kinds(first, "bad") == ["ok"]
        assert one.quarantine.stats().probes == 0


def test_the_lease_of_one_that_died_holds_nobody_up_for_ever(path: Path) -> None:
    with shared(path) as (_, (_, second, other, clock)):
        entry = rows(path)[0].entry
        dead = QuarantineFile(path)
        with closing(dead.connect()) as connection:
            dead.lease(connection, entry, 3600.0)
            assert kinds(second, "bad") == ["quarantined"]
            connection.execute("UPDATE probes SET until = until - 3600.0")
            connection.commit()
        clock.advance(ASK_AGAIN)
        other.poison.clear()
        assert kinds(second, "bad") == ["ok"]


def test_a_probe_is_sent_though_the_file_is_locked(path: Path) -> None:
    with shared(path) as ((_, first, model, _), _):
        model.poison.clear()
        with closing(QuarantineFile(path).connect()) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert kinds(first, "bad") == ["ok"]
            holder.rollback()


# -- a manager whose file is locked --------------------------------------------------------------------------------


class Process:
    """A quarantine with its manager on a file, as a process has one; all on one clock here."""

    def __init__(
        self, system: System, path: Path, clock: ManualClock, kind: type[QuarantineFile] = QuarantineFile
    ) -> None:
        file = self.file = kind(path, wall=clock.now)
        settings = QuarantineSettings(threshold=1, seconds=2.0, path=path)
        self.quarantine = Quarantine(settings, clock, ask=self._asks, wall=clock.now)
        plan = QuarantinePlan(self.quarantine, system.kernel.telemetry, file)
        ref = system.spawn(FilingManager, plan)
        assert isinstance(ref, Ref)
        self.manager: Ref[FilingManager] = ref

    def _asks(self, entry: Entry, seconds: float) -> Reply[float]:
        return self.manager.send_request(FilingManager.claim, entry, seconds)

    def fault(self) -> Fault:
        return Fault(self.quarantine._clock.now(), "parse", "E", tuple)

    def call(self, until: float) -> int:
        """Begin a call: 0 for an ordinary one, else its lease. Raises `QuarantinedInput`."""
        lease = self.quarantine.check(SCOPE, BAD, until)
        if lease:
            answer = self.quarantine.claim(SCOPE, BAD, lease)
            self.quarantine.granted(SCOPE, BAD, lease, 0.0 if answer is None else answer.get(1e9))
        return lease


class Watched(QuarantineFile):
    """Notes each use of the file, and for how long a lock is waited for in it."""

    def __init__(self, path: str | Path, *, wall: Callable[[], float] = time.time) -> None:
        super().__init__(path, wall=wall)
        self.uses: list[tuple[str, float]] = []

    def connect(self, timeout: float = 1.0) -> sqlite3.Connection:
        self.uses.append(("connect", timeout))
        return super().connect(timeout)

    def exchange(self, connection: sqlite3.Connection, filings: Sequence[Filing], after: int) -> tuple[list[Row], int]:
        self._note("exchange", connection)
        return super().exchange(connection, filings, after)

    def lease(self, connection: sqlite3.Connection, entry: Entry, seconds: float) -> float:
        self._note("lease", connection)
        return super().lease(connection, entry, seconds)

    def _note(self, what: str, connection: sqlite3.Connection) -> None:
        (milliseconds,) = connection.execute("PRAGMA busy_timeout").fetchone()
        self.uses.append((what, milliseconds / 1000))


@pytest.fixture
def managed(path: Path) -> Iterator[tuple[Process, Watched]]:
    clock = ManualClock(1_000.0)
    with System(clock=clock) as system:
        process = Process(system, path, clock, Watched)
        process.manager.call(FilingManager.look)
        file = process.file
        assert isinstance(file, Watched)
        yield process, file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(QuarantineFile(path).connect()) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.rollback()


def test_a_probe_waits_for_a_lock_for_a_tenth_of_a_second_and_looks_once_before(
    managed: tuple[Process, Watched],
) -> None:
    process, file = managed
    assert {seconds for _, seconds in file.uses} == {1.0}  # as it opens
    file.uses.clear()
    process.quarantine.failed(SCOPE, BAD, process.fault())  # something to be written first
    assert process.manager.call(FilingManager.claim, an_entry(), 60.0) == 0.0
    assert file.uses == [("exchange", 0.1), ("lease", 0.1), ("exchange", 0.1)]


def test_of_probes_that_queue_before_a_locked_file_one_waits_for_it(
    managed: tuple[Process, Watched], path: Path, two: Sharer
) -> None:
    process, file = managed
    with locked(path):
        file.uses.clear()
        for number in range(8):
            assert process.manager.call(FilingManager.claim, an_entry(id=str(number)), 60.0) == 0.0
        assert file.uses == [("exchange", 0.1), ("lease", 0.1)]
    assert two.lease(an_entry(id="0")) == 0.0


def test_what_comes_of_probes_is_not_written_to_a_locked_file_before_the_next_poll(
    managed: tuple[Process, Watched], path: Path
) -> None:
    process, file = managed
    with locked(path):
        process.manager.call(FilingManager.claim, an_entry(), 60.0)
        file.uses.clear()
        process.quarantine.failed(SCOPE, BAD, process.fault())
        process.manager.call(FilingManager.look)
        assert (file.uses, process.quarantine.stats().unfiled) == ([], 1)
        process.manager.call(FilingManager.poll)
        assert file.uses[0] == ("connect", 0.1)
        assert process.quarantine.stats().unfiled == 1
    process.manager.call(FilingManager.poll)
    assert process.quarantine.stats().unfiled == 0
    assert len(rows(path)) == 1


def test_a_file_that_is_free_again_is_asked_again_after_a_poll(managed: tuple[Process, Watched], path: Path) -> None:
    process, file = managed
    with locked(path):
        process.manager.call(FilingManager.claim, an_entry(), 60.0)
    process.manager.call(FilingManager.poll)
    process.manager.call(FilingManager.claim, an_entry(), 60.0)
    sharer = Sharer(path, Wall())
    with closing(sharer.connection):
        assert [holder for (holder,) in sharer.connection.execute("SELECT holder FROM probes")] == [file.holder]


# -- a manager whose probe is out ---------------------------------------------------------------------------------


class Prober:
    """A process whose probe is out until `seconds` from now, and one that asks for it beside."""

    def __init__(self, system: System, path: Path, clock: ManualClock, seconds: float) -> None:
        self.clock = clock
        self.process = Process(system, path, clock)
        self.process.quarantine.failed(SCOPE, BAD, self.process.fault())
        self.process.manager.call(FilingManager.look)
        clock.advance(POLL_SECONDS)
        assert self.process.call(clock.now() + seconds)
        (self.entry,) = self.process.quarantine.entries()
        self.other = Sharer(path, clock.now)

    def polls(self, seconds: float) -> None:
        """Let time pass, with each poll that falls into it."""
        for _ in range(int(seconds / POLL_SECONDS)):
            self.clock.advance(POLL_SECONDS)
            self.process.manager.call(FilingManager.look)

    def others_wait(self) -> float:
        return self.other.lease(self.entry)


@contextmanager
def probing(path: Path, seconds: float) -> Iterator[Prober]:
    clock = ManualClock(1_000.0)
    with System(clock=clock) as system:
        prober = Prober(system, path, clock, seconds)
        with closing(prober.other.connection):
            yield prober


def test_a_lease_is_renewed_while_its_probe_is_out(path: Path) -> None:
    with probing(path, 599.0) as prober:
        assert prober.others_wait() == LEASE_SECONDS
        prober.polls(200.0)
        assert prober.others_wait() == LEASE_SECONDS


def test_a_lease_is_not_renewed_beyond_the_end_of_its_probe(path: Path) -> None:
    with probing(path, 99.0) as prober:
        prober.polls(98.0)
        assert prober.others_wait() == 2.0
        prober.polls(2.0)
        assert prober.others_wait() == 0.0


def test_a_process_that_dies_keeps_the_others_waiting_for_a_minute_whatever_its_probes_deadline(path: Path) -> None:
    with probing(path, 599.0) as prober:
        prober.polls(100.0)
        manager = prober.process.manager
        down = manager.down()
        manager.exit(Killed())
        down.get(PATIENCE)
        prober.clock.advance(LEASE_SECONDS - 1.0)
        assert prober.others_wait() == 1.0
        prober.clock.advance(1.0)
        assert prober.others_wait() == 0.0


def test_a_lease_that_another_has_taken_meanwhile_is_not_renewed(one: Sharer, two: Sharer, wall: Wall) -> None:
    one.lease(an_entry(), 60.0)
    wall.at += 60.0
    two.lease(an_entry(), 60.0)
    one.file.renew(one.connection, [(an_entry().id, 60.0)])
    assert two.lease(an_entry(), 60.0) == 0.0
    assert one.lease(an_entry()) == 60.0


# -- processes ----------------------------------------------------------------------------------------------------

PROBER = """
import sys
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.programs import asked, qa, says
from tests.dspy_actors.quarantining import Sick, filtered, kinds

class Told(Sick):
    "A model that tells when it is asked, and answers once it is told to."
    def _answer(self, request):
        print("asked", flush=True)
        sys.stdin.readline()
        return says(answer="fine")

with Told().runtime(path=sys.argv[1]) as rt:
    program = rt.start(qa(), name="qa")
    print("ready", flush=True)
    sys.stdin.readline()
    print(*kinds(program, "bad"), flush=True)
"""


def talking(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.fixture
def due(path: Path) -> Path:
    """A file in which `bad` is due."""
    sick = Sick(bad=filtered())
    with sick.runtime(path=path, seconds=0.001) as rt:
        kinds(rt.start(qa(), name="qa"), "bad", 3)
    return path


@pytest.mark.parametrize("dies", [False, True])
def test_of_two_processes_exactly_one_sends_the_probe(due: Path, dies: bool) -> None:
    processes = [talking(PROBER, str(due)) for _ in range(2)]
    assert [heard(each) for each in processes] == ["ready"] * 2
    for each in processes:
        say(each)
    said = [heard(each) for each in processes]
    assert Counter(said) == {"asked": 1, "quarantined": 1}
    prober = processes[said.index("asked")]
    assert ended(processes[said.index("quarantined")]) == 0
    if dies:
        prober.kill()
        assert ended(prober) == -9
        later = QuarantineFile(due, wall=lambda: time.time() + LEASE_SECONDS)
        with closing(later.connect()) as connection:
            assert later.lease(connection, rows(due)[0].entry, 1.0) == 0.0
        return
    say(prober)
    assert heard(prober) == "ok"
    assert ended(prober) == 0
    assert [row.held for row in rows(due)] == [False]


# -- fuzz ---------------------------------------------------------------------------------------------------------


class Unhurried(QuarantineFile):
    """A file that is waited for as long as it takes, however busy the machine is."""

    def connect(self, timeout: float = 1.0) -> sqlite3.Connection:
        return super().connect(60.0)

    def exchange(self, connection: sqlite3.Connection, filings: Sequence[Filing], after: int) -> tuple[list[Row], int]:
        connection.execute("PRAGMA busy_timeout=60000")
        return super().exchange(connection, filings, after)


class Overtaken(QuarantineFile):
    """A file in which somebody releases the entry between the look and the lease."""

    def lease(self, connection: sqlite3.Connection, entry: Entry, seconds: float) -> float:
        write(self.path, Filing(entry, held=False))
        return super().lease(connection, entry, seconds)


def test_a_release_between_the_look_and_the_lease_makes_it_an_ordinary_call(path: Path) -> None:
    clock = ManualClock(1_000.0)
    with System(clock=clock) as system:
        process = Process(system, path, clock, Overtaken)
        process.quarantine.failed(SCOPE, BAD, process.fault())
        process.manager.call(FilingManager.look)
        clock.advance(2.0)
        assert process.call(clock.now() + 9.0) > 0
        assert (process.quarantine.stats().probes, process.quarantine.entries()) == (0, [])


ENDS = ("refused", "failed", "undecided", "succeeded")


def test_processes_in_random_order_never_probe_twice_at_once(path: Path) -> None:
    """One sets the input aside and all hear of it; then all call while time goes on, and probes end at random."""
    seed = random.randrange(1_000_000)
    clock = ManualClock(1_000.0)
    lock = threading.Lock()
    out: list[int] = []
    complaints: list[str] = []
    ends: Counter[str] = Counter()

    def calls(process: Process, rng: random.Random, number: int) -> None:
        for _ in range(12):
            with lock:
                clock.advance(rng.choice([0.0, 0.0, 0.5, 1.0]))
            try:
                lease = process.call(clock.now() + 1e6)
            except QuarantinedInput:
                ends["refused"] += 1
                continue
            held = process.quarantine.held.get(SCOPE, BAD)
            if held is None or not lease:  # released meanwhile
                continue
            with lock:
                out.append(number)
                if len(out) > 1:
                    complaints.append(f"probes of {out} at once")
            process.manager.within(None).call(FilingManager.look)  # a while, in which others come by
            with lock:
                out.remove(number)
            end = rng.choice(["failed", "failed", "undecided", "undecided", "succeeded"])
            ends[end] += 1
            if end == "failed":
                process.quarantine.failed(SCOPE, BAD, process.fault(), lease)
            elif end == "succeeded":
                process.quarantine.succeeded(SCOPE, BAD, lease)
            else:
                process.quarantine.undecided(SCOPE, BAD, lease)

    with System(clock=clock) as system:
        processes = [Process(system, path, clock, Unhurried) for _ in range(3)]
        for turn in range(200):
            if turn >= 10 and all(ends[end] for end in ENDS):
                break
            if not processes[0].quarantine.held.scopes:
                processes[0].quarantine.failed(SCOPE, BAD, processes[0].fault())
            for process in processes:
                process.manager.within(None).call(FilingManager.look)
                process.manager.within(None).call(FilingManager.exchange)
            seeds = [random.Random(f"{seed} {turn} {number}") for number in range(6)]
            threads = [threading.Thread(target=calls, args=(processes[n % 3], seeds[n], n)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert complaints == [], f"seed {seed}"
    assert all(ends[end] for end in ENDS), f"seed {seed}: {ends}"
