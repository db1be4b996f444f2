"""`WorkerCrash`: brings one LM worker down while it is busy, and watches it come back."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import worker_name
from dspy_actors.runtime import Runtime
from supervisors.actor import Ref
from supervisors.exits import Crash

LOOK_SECONDS = 0.001


class StagedCrash(RuntimeError):
    """The failure that the demo stages."""


@dataclass(slots=True)
class WorkerCrash:
    """Looks every millisecond whether at least `open_calls` requests are open; then crashes their worker, once.

    `open_at_crash` says how many were, `back_after` in how many seconds its successor stood under the same name.
    """

    runtime: Runtime
    lm: LM
    open_calls: int
    open_at_crash: int = 0
    back_after: float | None = None
    stopped: bool = False
    _victim: Ref | None = None  # type: ignore[type-arg]
    _at: float = 0.0

    def arm(self) -> None:
        """Begin to look."""
        self._later()

    def disarm(self) -> None:
        """Stop looking."""
        self.stopped = True

    def _later(self) -> None:
        clock = self.runtime.system.clock
        clock.call_at(clock.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self.stopped:
            return
        now = self.runtime.system.clock.now()
        holder = self.runtime.registry.whereis(worker_name(self.lm.config))
        if self._victim is None:
            is_busy = self.runtime.numbers().open >= self.open_calls
            if holder is not None and is_busy:
                self.open_at_crash = self.runtime.numbers().open
                self._victim, self._at = holder, now
                holder.exit(Crash(StagedCrash("staged by the demo: the worker fails under load")))
        elif holder is not None and holder is not self._victim:
            self.back_after = now - self._at
            return
        self._later()
