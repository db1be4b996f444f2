"""Monitors: one actor learns of the end of another, exactly once, as a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.exits import Exit, NoProc
from supervisors.mailbox import Mailbox
from supervisors.ref import Ref


class Monitor:
    """One watch of one actor over another. Two monitors on one actor give two notices."""

    __slots__ = ("_watcher", "active", "ref")

    def __init__(self, watcher: Mailbox, ref: Ref[Any]) -> None:
        self._watcher = watcher
        self.ref = ref
        self.active = True
        """False once its notice was handled or it was taken back."""

    def __repr__(self) -> str:
        return f"<Monitor of {self.ref.name}>"

    def begin(self) -> None:
        """Watch. A target that is dead already is reported as NoProc."""
        target, watcher = self.ref.mailbox, self._watcher
        if target.dead or not target.watch(self, self._fire):
            self._post(NoProc())
        elif target is not watcher:  # who lives long must not remember all that have ever watched it
            if not watcher.watch(self, lambda _: target.unwatch(self)):
                target.unwatch(self)
            if not self.ref.is_alive():  # look again: `_fire` may have found nothing to take back
                watcher.unwatch(self)

    def end(self) -> bool:
        """Stop watching; a notice that waits in the queue is dropped. False if it had been handled."""
        active, self.active = self.active, False
        self.ref.mailbox.unwatch(self)
        self._watcher.unwatch(self)
        return active

    def _fire(self, life: Mailbox) -> None:
        self._watcher.unwatch(self)
        self._post(life.exit or NoProc())

    def _post(self, exit: Exit) -> None:
        self._watcher.post(("_on_down", (Down(self, self.ref, exit),), None, None))


@dataclass(frozen=True, slots=True)
class Down:
    """`ref` is officially dead: its names are free, its callers are told. Comes to `on_info`, after what it sent."""

    monitor: Monitor
    ref: Ref[Any]
    exit: Exit
