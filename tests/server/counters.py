"""What the server has seen since it was last reset."""

from __future__ import annotations

import operator
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

_COMPARE: dict[str, Callable[[int, int], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}
NAMES = (
    "requests",
    "answered",
    "in_flight",
    "peak",
    "aborted",
    "invalid",
    "held",
    "accepted",
    "open",
    "reused",
    "streams",
    "pieces",
    "written",
)


class Counters:
    """Counts, the last bodies, and who waits for a count. Used on the server's loop only.

    `requests` that arrived whole, `answered` to the last byte, `in_flight` between the two, `peak` the most at once,
    `aborted` by the client before the last byte, `invalid` refused by the check of the body or the key, `held`
    waiting for a release, `accepted` and `open` connections (those of control routes left out), `reused` requests
    on a connection that had carried one before; of `streams` asked for, the `pieces` and the bytes `written`, which
    are more than the client has read by what lies in the two sockets.
    """

    def __init__(self, keep: int = 100) -> None:
        self.requests = self.answered = self.in_flight = self.peak = self.aborted = 0
        self.invalid = self.held = self.accepted = self.open = self.reused = 0
        self.streams = self.pieces = self.written = 0
        self.statuses: Counter[int] = Counter()
        self.bodies: deque[dict[str, Any]] = deque(maxlen=keep)
        self.arrivals: deque[float] = deque(maxlen=20_000)
        self.waiting: list[tuple[list[str], Callable[[], None]]] = []

    def changed(self) -> None:
        """Call after a count was changed: answers those who waited for it."""
        if not self.waiting:
            return
        ready = [entry for entry in self.waiting if self.hold(entry[0])]
        for entry in ready:
            self.waiting.remove(entry)
            entry[1]()

    def hold(self, conditions: list[str]) -> bool:
        """Whether all conditions, such as `aborted>=1`, hold now."""
        return all(self._holds(condition) for condition in conditions)

    def _holds(self, condition: str) -> bool:
        for sign, compare in _COMPARE.items():
            name, found, value = condition.partition(sign)
            if found and name in NAMES:
                return compare(getattr(self, name), int(value))
        msg = f"{condition!r} is not NAME>=N, NAME<=N or NAME==N with a name of {', '.join(NAMES)}"
        raise ValueError(msg)

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON; `arrivals` are seconds since the reset."""
        counts: dict[str, Any] = {name: getattr(self, name) for name in NAMES}
        counts["statuses"] = {str(status): count for status, count in sorted(self.statuses.items())}
        counts["arrivals"] = list(self.arrivals)
        return counts
