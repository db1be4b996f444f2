"""`Held`: one input that is set aside, with the lease of the probe that finds out about it. Pure; not locked."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from dspy_actors.quarantine.entry import Entry

LEASE_SECONDS = 60.0
"""How long a probe without a deadline keeps the others waiting; one with a deadline does until a second after it.

A file has leases of no more, which are renewed while their probes are out."""


@dataclass(slots=True)
class Held:
    """An input that is set aside until an instant of the runtime's clock. `lease` is the number of the probe out.

    `since` is when it was, in this process; never where another has set it aside. `others` is the instant until which a
    probe of another process is taken to be out.
    """

    entry: Entry
    since: float
    until: float
    lease: int = 0
    lease_until: float = 0.0
    others: float = -inf

    def lend(self, lease: int, now: float, until: float | None) -> None:
        """A call has the probe under that number, and ends by `until`."""
        self.lease = lease
        self.lease_until = now + LEASE_SECONDS if until is None else until + 1.0

    def wait(self, now: float) -> float:
        """How long it is until somebody may be the probe; 0.0 or less: now."""
        return max(self.until - now, self.lease_until - now if self.lease else 0.0, self.others - now)

    def out(self, now: float) -> float:
        """For how many seconds its probe may yet be out; 0.0 where none is."""
        return max(0.0, self.lease_until - now) if self.lease else 0.0

    def is_over(self, now: float, seconds: float) -> bool:
        """Whether nobody has asked for it in the `seconds` since it was due, and no probe is out."""
        return now >= max(self.until + seconds, self.lease_until)
