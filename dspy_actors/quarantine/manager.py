"""`QuarantineManager`: the actor that announces and sweeps. Calls decide without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspy_actors.alerts import write_log
from dspy_actors.quarantine.change import Change, instant
from dspy_actors.quarantine.state import Quarantine
from supervisors.actor import Actor
from supervisors.telemetry import Event, Telemetry

if TYPE_CHECKING:  # SQLite is loaded with the first runtime that names a file
    from dspy_actors.quarantine.file import QuarantineFile

QUARANTINE = "quarantine"
"""The manager's name in the registry, and the first word of its events.

`("quarantine", step)`, step being `entered`, `renewed`, `probation`, `returned` or `released`: measurements `faults`,
`times`, metadata `entry` (an `Entry`) and `why`.
"""

FILE_UNUSABLE: Event = (QUARANTINE, "file")
"""Event of a file that could not be used: metadata `path`, `reason`, and `aside`, its new name, where it was broken."""

ALERT_FAILED: Event = (QUARANTINE, "report", "failure")
"""Event of a line that the log did not take: measurements {}, metadata `event`, `error`, `fields`."""

SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class QuarantinePlan:
    """What the manager is started from. Everything published lives in here."""

    quarantine: Quarantine
    telemetry: Telemetry
    file: QuarantineFile | None = None


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
        warn(telemetry, "quarantine.entered", about)


def warn(telemetry: Telemetry, event: str, fields: Mapping[str, object]) -> None:
    """One warning in the log; a log that fails is told of by the event `ALERT_FAILED`."""
    write_log(telemetry, ALERT_FAILED, "warning", event, fields)
