"""`Hearer`: who is told that a reply was cancelled, and of no other end."""

from __future__ import annotations

from typing import Protocol


class Hearer(Protocol):
    """See `Reply.tell_if_cancelled`."""

    def reply_cancelled(self) -> object:
        """Nobody wants the answer any more. Any thread; must not block. May be called twice."""
        ...
