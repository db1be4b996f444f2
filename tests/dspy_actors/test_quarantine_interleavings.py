"""Decisions of the quarantine that another thread tries to cut in two, at the place where it would do most harm.

What is handed in to reckon with time is where the other thread comes: it begins there, and has a moment to get
through. Behind the lock it does not, and the decision ends as if the two had come one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dspy_actors.errors import QuarantinedInput
from dspy_actors.quarantine.change import Fault
from dspy_actors.quarantine.names import Scope
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.quarantine.state import Quarantine
from supervisors.clock import ManualClock

SCOPE: Scope = ("t", "p", b"v")
NAME = b"name"
MOMENT = 0.3


class Meanwhile:
    """Something that another thread does, once, in the middle of what this one does."""

    def __init__(self) -> None:
        self._next: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None

    def do(self, what: Callable[[], object]) -> None:
        self._next = what

    def here(self) -> None:
        """The place where the other thread comes."""
        what, self._next = self._next, None
        if what is not None:
            self._thread = threading.Thread(target=what)
            self._thread.start()
            self._thread.join(MOMENT)

    def over(self) -> None:
        assert self._thread is not None, "nobody came by the place"
        self._thread.join(10.0)


class Until(float):
    """An instant at which the other thread comes by, as somebody reckons with it."""

    meanwhile: Meanwhile

    def __add__(self, other: float) -> float:
        self.meanwhile.here()
        return float(self) + other


def fault() -> Fault:
    return Fault(0.0, "parse", "E", tuple)


def test_two_that_come_as_the_input_is_due_get_one_probe() -> None:
    """A lease is given in two steps, its number and its end: nobody may look in between."""
    meanwhile, clock = Meanwhile(), ManualClock()
    until = Until(100.0)
    until.meanwhile = meanwhile
    quarantine = Quarantine(QuarantineSettings(threshold=1, seconds=1.0), clock)
    quarantine.failed(SCOPE, NAME, fault())
    clock.advance(1.0)
    found: list[int | None] = []

    def check() -> None:
        try:
            found.append(quarantine.check(SCOPE, NAME, until))
        except QuarantinedInput:
            found.append(None)

    meanwhile.do(check)
    check()
    meanwhile.over()
    assert sorted(map(bool, found)) == [False, True]


def test_two_faults_at_once_are_both_counted() -> None:
    meanwhile = Meanwhile()

    def wall() -> float:
        meanwhile.here()
        return 0.0

    quarantine = Quarantine(QuarantineSettings(threshold=2), ManualClock(), wall=wall)
    meanwhile.do(lambda: quarantine.failed(SCOPE, NAME, fault()))
    quarantine.failed(SCOPE, NAME, fault())
    meanwhile.over()
    assert quarantine.stats().held == 1
