"""`IOLoop`: the supervised owner of the asyncio loop on which all HTTP runs."""

from __future__ import annotations

from dspy_actors.lm.pulse import Pulse
from supervisors.actor import Actor
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import SpecError
from supervisors.exits import Exit

STOP_SECONDS = 5.0


class IOLoop(Actor):
    """Owns one thread with one asyncio loop, installed in the kernel as the dispatcher called `name`.

    Only our own code runs on it: workers, transports, providers. It ends with its loop and its loop ends with it; its
    supervisor is rest_for_one, so the workers that lived on the old loop are started again on the new one. Each
    runtime has a loop of its own name, so two of them live in one system.

    Messages: none.
    """

    def init(self, name: str, pulse: Pulse) -> None:
        self.loop_name = name
        self._bury_predecessor()
        self.loop = LoopDispatcher(name)
        self.kernel.install(name, self.loop)
        self.loop.start()
        pulse.begin()
        self.beating = self.loop.run(pulse.beat())

    def terminate(self, exit: Exit) -> None:
        self.beating.cancel()
        self.kernel.uninstall(self.loop_name, self.loop)
        self.loop.stop(STOP_SECONDS)

    def _bury_predecessor(self) -> None:
        """End the loop of one that was fenced, so could not end it itself."""
        try:
            left = self.kernel.dispatcher(self.loop_name)
        except SpecError:
            return
        self.kernel.uninstall(self.loop_name, left)
        left.stop(STOP_SECONDS)
