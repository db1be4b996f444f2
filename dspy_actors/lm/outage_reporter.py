"""`OutageReporter`: the actor that writes the log of a provider's bad day. No call waits for it."""

from __future__ import annotations

from dspy_actors.alerts import write_log
from dspy_actors.lm.outages import Outages
from supervisors.actor import Actor
from supervisors.exits import Exit
from supervisors.telemetry import Event, Telemetry

OUTAGES = "outages"
"""The reporter's name in the registry."""

REPORT_FAILED: Event = ("outages", "report", "failure")
"""Event of a line that the log did not take: measurements {}, metadata `event`, `error`, `fields`."""


class OutageReporter(Actor):
    """Writes what `Outages` has. If this actor dies, what is not written yet is still there.

    Messages: `look()`: write what there is.
    """

    def init(self, outages: Outages, telemetry: Telemetry) -> None:
        self.outages = outages
        self.telemetry = telemetry
        self.look()

    def look(self) -> None:
        """Write every line that waits, in the order in which they came."""
        while (line := self.outages.take()) is not None:
            write_log(self.telemetry, REPORT_FAILED, line.level, line.event, line.fields)

    def terminate(self, exit: Exit) -> None:
        """What came last is written too."""
        self.look()
