"""`OwnSystem`: the actor system that a runtime starts for itself, where it hangs in nobody's tree."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from dspy_actors.runner import ours
from supervisors.clock import Clock
from supervisors.spec import ChildSpec
from supervisors.system import System


class OwnSystem:
    """A system with one child, which may be started and stopped from several threads at once.

    `system` is it, from the moment in which it is about to be started until it was stopped.
    """

    def __init__(self, name: str, clock: Clock | None) -> None:
        self._name = name
        self._clock = clock
        self._starting = Lock()
        self.system: System | None = None

    @property
    def is_starting(self) -> bool:
        """Whether somebody starts it now: what it has so far is not to be used."""
        return self._starting.locked()

    def start(self, child: Callable[[], ChildSpec], check: Callable[[], None]) -> None:
        """Start it and its child, unless that was done; returns when both are up.

        `check` raises what there is against it, at any moment: a shutdown may come meanwhile and find no system. What a
        failed start raises is an error of this package, where there is one for it.
        """
        with self._starting:
            if self.system is None:
                self._start(child, check)

    def _start(self, child: Callable[[], ChildSpec], check: Callable[[], None]) -> None:
        system = self.system = System(self._name, clock=self._clock)
        try:
            check()
            system.start()
            system.start_child(child())
        except BaseException as error:
            system.shutdown(5.0)
            self.system = None
            check()
            raise ours(error)  # noqa: B904 - the failed start stays its context

    def stop(self, timeout: float) -> None:
        """Stop it, within `timeout` seconds, where it was started."""
        system = self.system
        if system is not None:
            system.shutdown(timeout)
            self.system = None
