"""`FilingManager`: the quarantine's actor where there is a file; it writes it and takes over what others wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextvars import Context

from dspy_actors.errors import QuarantineError
from dspy_actors.quarantine.change import Change
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.file import Filing, Row
from dspy_actors.quarantine.held import LEASE_SECONDS
from dspy_actors.quarantine.manager import FILE_UNUSABLE, QUARANTINE, QuarantineManager, QuarantinePlan, announce, warn
from dspy_actors.sqlite_file import OtherVersion
from supervisors.errors import SupervisorsError
from supervisors.exits import Exit
from supervisors.registry import Registry
from supervisors.reply import Reply

POLL_SECONDS = 2.0
"""How often the file is looked at: within this time a release by another process or the command line is noticed."""

OPENING_SECONDS = 1.0
"""How long a locked file is waited for as the manager starts and ends."""

LOCK_SECONDS = 0.1
"""How long it is in between, where calls may wait for what comes of it."""


class FilingManager(QuarantineManager):
    """Also keeps the file: writes what has changed here, and takes over what others wrote, every two seconds.

    A file that is locked or full is tried again; one that is broken is set aside. No call waits for the file but a
    probe, which asks for its lease: it waits for what the manager does before, and in each step `LOCK_SECONDS` at most
    for a lock (`OPENING_SECONDS` as the manager starts). Once a step has failed, the file is left alone until the next
    poll and probes are sent without asking: of any number of probes that find it locked, all wait for one lock.
    """

    dispatcher = "thread"

    def init(self, plan: QuarantinePlan) -> None:
        assert plan.file is not None
        self.file = plan.file
        self.connection: sqlite3.Connection | None = None
        self.opened: tuple[int, int] | None = None
        self.revision = 0
        self.trouble: str | None = None
        self.patience = OPENING_SECONDS
        self.rests = True  # not before it is opened
        super().init(plan)
        self.exchange()
        self._be_patient(LOCK_SECONDS)
        self.send_after(POLL_SECONDS, FilingManager.poll)

    def look(self) -> None:
        super().look()
        if self.rests:
            self.quarantine.unfiled = len(self.file.pending)
        elif self.file.pending or self.file.returned:
            self.exchange()

    def keep(self, change: Change) -> None:
        if change.step == "returned":
            self.file.returned.add(change.entry.id)
        elif change.step != "probation":
            filing = Filing(change.entry, held=change.step != "released", renewed=change.step == "renewed")
            self.file.pending[change.entry.id] = filing

    def poll(self) -> None:
        """Look whether somebody else has written, renew leases, and come back in two seconds.

        A file that failed is tried once more.
        """
        self.exchange()
        self._renew()
        self.send_after(POLL_SECONDS, FilingManager.poll)

    def sweep(self) -> None:
        super().sweep()
        if self.connection is not None:
            try:
                self.file.purge(self.connection, self.quarantine.settings.seconds)
            except sqlite3.DatabaseError as error:
                self._failed(error)

    def exchange(self) -> None:
        """Write what is pending and take over what is new. What cannot be written stays pending."""
        try:
            self._exchange()
        except sqlite3.DatabaseError as error:
            self._failed(error)

    def claim(self, entry: Entry, seconds: float) -> float:
        """Take the right to send the probe of `entry`, for `seconds`; 0.0, or for how long another process has it yet.

        It is taken for `LEASE_SECONDS` at most and renewed with each poll while the probe is out, so that a process
        that is killed keeps the others waiting no longer than that. (One that stands still, or cannot use the file, for
        as long loses it: then another probe may be sent beside its own.)
        A file that cannot be used says nothing: the probe is sent. One that could not be since the last poll is not
        even tried.
        """
        if self.rests:
            self.look()
            return 0.0
        super().look()  # what it brings is written with the first exchange
        wait = 0.0
        try:
            self._exchange()
            assert self.connection is not None
            wait = self.file.lease(self.connection, entry, min(seconds, LEASE_SECONDS))
            self._exchange()  # where somebody has released it or set it aside anew
        except sqlite3.DatabaseError as error:
            self._failed(error)
        return wait

    def terminate(self, exit: Exit) -> None:
        super().look()
        self._be_patient(OPENING_SECONDS)
        if self.file.pending or self.file.returned:
            self.exchange()
        self._disconnect()

    def _renew(self) -> None:
        out = [(each, min(left, LEASE_SECONDS)) for each, left in self.quarantine.probing()]
        if not out or self.connection is None:
            return
        try:
            self.file.renew(self.connection, out)
        except sqlite3.DatabaseError as error:
            self._failed(error)

    def _be_patient(self, seconds: float) -> None:
        """Wait up to `seconds` for a lock from now on."""
        self.patience = seconds
        if self.connection is not None:
            self.connection.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")

    def _exchange(self) -> None:
        if self.connection is not None and self.file.identity() != self.opened:
            self._disconnect()
        if self.connection is None:
            self.connection = self.file.connect(self.patience)
            self.opened = self.file.identity()
            self._reconcile(self.connection)
        if self.file.returned:
            returned = list(self.file.returned)
            self.file.give_back(self.connection, returned)
            self.file.returned.difference_update(returned)
        filings = list(self.file.pending.values())
        rows, self.revision = self.file.exchange(self.connection, filings, self.revision)
        for each in filings:
            if self.file.pending.get(each.entry.id) is each:
                del self.file.pending[each.entry.id]
        self._take_over(rows)
        self.trouble, self.rests = None, False
        self.quarantine.unfiled = len(self.file.pending)

    def _reconcile(self, connection: sqlite3.Connection) -> None:
        """After opening: others' entries are taken over, and what the file lacks is filed again.

        A row counts as a release of what is held here if it was written after that was set aside.
        """
        rows, self.revision = self.file.exchange(connection, (), 0)
        held = {entry.id: entry for entry in self.quarantine.entries()}
        pending = self.file.pending
        known = {row.entry.id for row in rows}
        for entry in held.values():
            if entry.id not in known:
                pending.setdefault(entry.id, Filing(entry, held=True))
        self._take_over(
            [
                row
                for row in rows
                if row.entry.id not in pending
                and (row.held or (row.entry.id in held and row.changed >= held[row.entry.id].last_at))
            ]
        )

    def _take_over(self, rows: list[Row]) -> None:
        for row in rows:
            if row.held:
                self.quarantine.adopt(row.entry)
                continue
            try:
                self.quarantine.release(row.entry.id, "elsewhere")
            except QuarantineError:  # it is not held here
                continue
        for change in self.quarantine.take_changes():
            if change.why != "elsewhere":  # that is in the file already
                self.keep(change)
            announce(change, self.plan.telemetry)

    def _failed(self, error: sqlite3.DatabaseError) -> None:
        self._disconnect()
        self.rests = True
        self.quarantine.unfiled = len(self.file.pending)
        about = {"path": str(self.file.path), "reason": str(error)}
        is_ours_no_more = isinstance(error, OtherVersion) and self.opened is not None
        is_broken = not isinstance(error, sqlite3.OperationalError)  # and not just locked, full or gone
        if is_broken and not is_ours_no_more:
            try:
                about["aside"] = str(self.file.set_aside())
            except OSError as refusal:  # not ours to rename, or renamed by another process this very moment
                about["reason"] += f"; it cannot be renamed: {refusal.strerror}"
        if self.trouble != about["reason"]:  # told once, not every two seconds
            self.trouble = about["reason"]
            self.plan.telemetry.execute(FILE_UNUSABLE, {}, about)
            warn(self.plan.telemetry, "quarantine.file", about)

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def asker(registry: Registry) -> Callable[[Entry, float], Reply[float] | None]:
    """What asks the manager for the probe of an entry, from whatever thread, in nobody's name; see `Quarantine`."""

    def ask(entry: Entry, seconds: float) -> Reply[float] | None:
        manager = registry.whereis(QUARANTINE)
        if manager is None:  # it is being restarted: nobody can be asked
            return None
        try:
            return Context().run(manager.send_request, FilingManager.claim, entry, seconds)
        except SupervisorsError:  # the system has ended
            return None

    return ask
