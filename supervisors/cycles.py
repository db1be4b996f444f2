"""Finding out that a call waits for itself, before it waits."""

from __future__ import annotations

from typing import Protocol

from supervisors.current import Life
from supervisors.errors import CallCycle


class Awaited(Protocol):
    """A reply, as this file sees it."""

    _home: Life | None

    def done(self) -> bool:
        """Whether the answer is there."""


def check_cycle(me: Life, reply: Awaited) -> None:
    """Raise CallCycle if the one who is to answer `reply` waits, directly or not, for `me`.

    Only blocking waits are edges. A deferred reply is none: its actor is free. Every actor publishes what it
    waits for before it looks, so the last one to close a ring sees all of it.
    """
    path = [me.name]
    other = _who_is_busy_with(reply)
    while other is not None and len(path) < 1000:
        if other is me:
            raise CallCycle(tuple(path))
        path.append(other.name)
        other = None if other.waiting is None else _who_is_busy_with(other.waiting)


def _who_is_busy_with(reply: Awaited) -> Life | None:
    home = reply._home
    if home is None or reply.done():
        return None
    if home.pending is not None and reply in home.pending:
        return None
    return home
