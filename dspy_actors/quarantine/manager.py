"""`QuarantineManager`: the actor that announces, sweeps and files. Calls decide without it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass

from dspy_actors.errors import QuarantineError
from dspy_actors.quarantine.file import Filing, QuarantineFile, Row
from dspy_actors.quarantine.state import Change, Quarantine, instant
from supervisors.actor import Actor
from supervisors.errors import SupervisorsError
from supervisors.exits import Exit
from supervisors.registry import Registry
from supervisors.reports import logger
from supervisors.telemetry import Telemetry

QUARANTINE = "quarantine"
"""The manager's name in the registry, and the first word of its events.

`("quarantine", step)`, step being `entered`, `renewed`, `probation` or `released`: measurements `faults`, `times`,
metadata `entry` (an `Entry`) and `why`. `("quarantine", "file")`: a file that could not be used: metadata `path`,
`reason`, and `aside`, its new name, where it was broken.
"""

POLL_SECONDS = 2.0
"""How often the file is looked at: within this time a release by another process or the command line is noticed."""

SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class QuarantinePlan:
    """What the manager is started from. Everything published lives in here."""

    quarantine: Quarantine
    telemetry: Telemetry
    file: QuarantineFile | None = None

    @property
    def manager(self) -> type[QuarantineManager]:
        """The actor's class: one that writes a file has a thread of its own."""
        return QuarantineManager if self.file is None else FilingManager


class QuarantineManager(Actor):
    """Announces what has changed and forgets what is old.

    Messages: `look()`: announce what has changed; `sweep()`: forget what no longer counts.
    """

    def init(self, plan: QuarantinePlan) -> None:
        self.plan = plan
        self.quarantine = plan.quarantine
        self.look()
        self.send_after(SWEEP_SECONDS, QuarantineManager.sweep)

    def look(self) -> None:
        """Announce the changes since the last time, in the order in which they happened."""
        for change in self.quarantine.take_changes():
            self.keep(change)
            announce(change, self.plan.telemetry)

    def sweep(self) -> None:
        """Forget faults that no longer count and entries that nobody asks for, and come back in a minute."""
        self.quarantine.sweep()
        self.send_after(SWEEP_SECONDS, QuarantineManager.sweep)

    def keep(self, change: Change) -> None:
        """Note what is to be filed of a change: nothing, where there is no file."""


class FilingManager(QuarantineManager):
    """Also keeps the file: writes what has changed here, and takes over what others wrote, every two seconds.

    A file that is locked or full is tried again; one that is broken is set aside. Calls never wait for it.
    """

    dispatcher = "thread"

    def init(self, plan: QuarantinePlan) -> None:
        assert plan.file is not None
        self.file = plan.file
        self.connection: sqlite3.Connection | None = None
        self.opened: tuple[int, int] | None = None
        self.revision = 0
        self.trouble: str | None = None
        super().init(plan)
        self.exchange()
        self.send_after(POLL_SECONDS, FilingManager.poll)

    def look(self) -> None:
        super().look()
        if self.file.pending:
            self.exchange()

    def keep(self, change: Change) -> None:
        if change.step != "probation":
            filing = Filing(change.entry, held=change.step != "released", renewed=change.step == "renewed")
            self.file.pending[change.entry.id] = filing

    def poll(self) -> None:
        """Look whether somebody else has written, and come back in two seconds."""
        self.exchange()
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
            self.trouble = None
            self.quarantine.unfiled = len(self.file.pending)
        except sqlite3.DatabaseError as error:
            self.quarantine.unfiled = len(self.file.pending)
            self._failed(error)

    def terminate(self, exit: Exit) -> None:
        self.look()
        self._disconnect()

    def _exchange(self) -> None:
        if self.connection is not None and self.file.identity() != self.opened:
            self._disconnect()
        if self.connection is None:
            self.connection = self.file.connect()
            self.opened = self.file.identity()
            self._reconcile(self.connection)
        filings = list(self.file.pending.values())
        rows, self.revision = self.file.exchange(self.connection, filings, self.revision)
        for each in filings:
            if self.file.pending.get(each.entry.id) is each:
                del self.file.pending[each.entry.id]
        self._take_over(rows)

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
        about = {"path": str(self.file.path), "reason": str(error)}
        if not isinstance(error, sqlite3.OperationalError):  # it is broken, not just locked, full or gone
            about["aside"] = str(self.file.set_aside())
        if self.trouble != about["reason"]:  # told once, not every two seconds
            self.trouble = about["reason"]
            self.plan.telemetry.execute((QUARANTINE, "file"), {}, about)
            _warn(self.plan.telemetry, "quarantine.file", about)

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def announce(change: Change, telemetry: Telemetry) -> None:
    """One event a change, and one warning in the log for an input that is set aside for the first time."""
    entry = change.entry
    telemetry.execute(
        (QUARANTINE, change.step),
        {"faults": entry.faults, "times": entry.times},
        {"entry": entry, "why": change.why},
    )
    if change.step == "entered":
        about = {
            "entry": entry.id,
            "tenant": entry.tenant,
            "program": entry.program,
            "version": entry.version[:12],
            "reason": entry.reason,
            "error": entry.error,
            "faults": entry.faults,
            "until": instant(entry.until),
            "input": ", ".join(map(str, entry.preview)),
        }
        _warn(telemetry, "quarantine.entered", about)


def waker(registry: Registry) -> Callable[[], object]:
    """What tells the manager that something has changed: a message, from whatever thread, in nobody's name."""

    def wake() -> None:
        manager = registry.whereis(QUARANTINE)
        if manager is None:  # it is being restarted, and looks when it comes
            return
        try:
            Context().run(manager.cast, QuarantineManager.look)
        except SupervisorsError:  # the system has ended
            return

    return wake


def _warn(telemetry: Telemetry, event: str, fields: Mapping[str, object]) -> None:
    try:
        logger("dspy_actors").warning(event, **fields)
    except Exception as error:  # the log's processors are the application's code
        telemetry.execute((QUARANTINE, "report", "failure"), {}, {"event": event, "error": error, "fields": fields})
