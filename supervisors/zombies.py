"""How many fenced children still have a thread in their code, and how many of them are too many."""

from __future__ import annotations

from supervisors.errors import SpecError
from supervisors.mailbox import Mailbox


class Zombies:
    """The zombies among the children of one supervisor. Beyond OTP, where a process can be killed.

    Only those count that keep a thread: what runs on a loop is cancelled there when it is fenced.
    """

    __slots__ = ("_lives", "cap")

    def __init__(self, cap: int | None) -> None:
        """Raises SpecError."""
        check_cap(cap)
        self.cap = cap
        self._lives: list[Mailbox] = []

    def add(self, life: Mailbox) -> None:
        """`life` was fenced."""
        if self.cap is not None and not life.dispatcher.is_loop:
            self._lives.append(life)

    def too_many(self) -> bool:
        """Whether there are more now than there may be."""
        if self.cap is None:
            return False
        self._lives = [life for life in self._lives if life.own.locked()]
        return len(self._lives) > self.cap


def check_cap(cap: object) -> None:
    """Raise SpecError if `cap` is no number of zombies."""
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
        raise SpecError("max_zombies", cap, "an int >= 0 or None")
