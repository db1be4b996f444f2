"""`Streaks`: which inputs of a program have failed since one succeeded. It tells a bad input from a bad day of all.

Where different inputs fail one after the other and none succeeds, it is the model, the server or the program that
fails: an answer of nonsense comes to everybody alike. Then no fault says anything of its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dspy_actors.quarantine.names import Scope

GENERAL = 3
"""How many different inputs must fail, with no success between them, for the failure to count as everybody's."""


@dataclass(slots=True)
class _Streak:
    """When it began, and the inputs that failed last, at most `GENERAL`, with the instant of each one's last fault."""

    began: float
    names: dict[bytes, float] = field(default_factory=dict)


class Streaks:
    """The streaks of one quarantine, at most `room`; the one without a fault for longest goes first.

    Whoever changes it holds a lock of its owner's; looking whether a scope is in `scopes` needs none. Faults older than
    `seconds` do not count.
    """

    __slots__ = ("_room", "_seconds", "scopes")

    def __init__(self, room: int, seconds: float) -> None:
        self._room = room
        self._seconds = seconds
        self.scopes: dict[Scope, _Streak] = {}

    def fail(self, scope: Scope, name: bytes, now: float) -> float | None:
        """An input has failed. `None` while that may be the input's fault; else when the general failure began."""
        streak = self.scopes.pop(scope, None)
        if streak is None or now - max(streak.names.values()) >= self._seconds:
            streak = _Streak(now)
        self.scopes[scope] = streak
        streak.names.pop(name, None)
        streak.names[name] = now
        for old in [each for each, at in streak.names.items() if now - at >= self._seconds]:
            del streak.names[old]
        if len(streak.names) > GENERAL:
            del streak.names[next(iter(streak.names))]
        while len(self.scopes) > self._room:
            del self.scopes[next(iter(self.scopes))]
        return streak.began if len(streak.names) >= GENERAL else None

    def names(self, scope: Scope) -> list[bytes]:
        """The inputs of a streak, the one that failed last at the end."""
        streak = self.scopes.get(scope)
        return [] if streak is None else list(streak.names)

    def end(self, scope: Scope) -> None:
        """An input has succeeded: the model answers, and the program works."""
        self.scopes.pop(scope, None)

    def sweep(self, now: float) -> None:
        """Forget streaks whose faults do not count any more."""
        for scope, streak in list(self.scopes.items()):
            if now - max(streak.names.values()) >= self._seconds:
                del self.scopes[scope]
