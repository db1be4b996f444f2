"""Timers of actors: a message that is due later, gone with the actor."""

from __future__ import annotations

from typing import Any

from supervisors import steps
from supervisors.clock import Clock, Timer
from supervisors.errors import check_seconds
from supervisors.mailbox import Mailbox


class MessageTimer:
    """Leaves one message in a mailbox when it is due. Cancelled by the actor's death; never raises."""

    __slots__ = ("_life", "_message", "_timer")

    def __init__(self, life: Mailbox, message: Any) -> None:
        self._life = life
        self._message = message
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        said = self._message[0] if isinstance(self._message, tuple) else self._message
        return f"<MessageTimer of {self._life.name}: {said}>"

    def begin(self, clock: Clock, seconds: float) -> None:
        """Be due in `seconds`. Raises SpecError for what is no number."""
        check_seconds("seconds", seconds)
        if self._life.timers is None:
            self._life.timers = {}
        if steps.hook is not None:
            steps.hook("timer:adding", self._life)
        self._life.timers[self] = None
        if steps.hook is not None:
            steps.hook("timer:added", self._life)
        self._timer = clock.call_at(clock.now() + seconds, self._fire)
        if self._life.dead:  # look again: its death may have missed this one
            self.cancel()

    def cancel(self) -> float | None:
        """The seconds that were left; None if the message is on its way."""
        self._forget()
        timer = self._timer
        return None if timer is None else timer.cancel()  # None: `begin` is at it, and will look at `dead` again

    def _fire(self) -> None:
        self._forget()
        self._life.post(self._message)

    def _forget(self) -> None:
        timers = self._life.timers
        if timers is not None:
            timers.pop(self, None)
