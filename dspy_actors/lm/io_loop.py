"""`IOLoop`: the supervised owner of the asyncio loop on which all HTTP runs."""

from __future__ import annotations

import asyncio

from dspy_actors.lm.pulse import Pulse
from supervisors.actor import Actor
from supervisors.clock import SystemClock
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import SpecError, SystemStopped
from supervisors.exits import Exit
from supervisors.kernel import Kernel

STOP_SECONDS = 5.0
"""How long the thread of a loop that has to end is waited for."""

STUCK_SECONDS = 1.0
"""A loop that is held up for so long at the end of its actor is not waited for."""


class IOLoop(Actor):
    """Owns one thread with one asyncio loop, installed in the kernel as the dispatcher called `name`.

    Only our own code runs on it: workers, transports, providers. Its supervisor is rest_for_one, so the workers are
    started again on the loop of its successor. Each runtime has a loop of its own name, so two of them live in one
    system.

    The loop outlives the actor until those that lean on it were stopped, in order: then its successor ends it, or its
    supervisor that ends (`end_loop`). Were it gone before, each worker would die of that by itself, and their pools
    would start them again where there is no loop. Only a loop that is stuck goes at once: nobody on it would hear of
    his end.

    So a stuck loop whose actor is told to end is replaced after `STUCK_SECONDS`. An actor that is fenced runs no
    `terminate`, and nobody looks: then its workers, which do not hear either, are waited for (`pools.WORKER_SHUTDOWN`,
    10 s), and after them the thread (`STOP_SECONDS`), 15 s in all. None of this is a setting: no code runs on this loop
    but ours and that of an `open_provider`, which must not block. Meanwhile `rt.ready()` is false, and calls wait
    within their deadlines.

    Messages: none.
    """

    def init(self, name: str, pulse: Pulse) -> None:
        end_loop(self.kernel, name)
        self.loop = LoopDispatcher(name)
        self.kernel.install(name, self.loop)
        self.loop.start()
        pulse.begin()
        self.beating = self.loop.run(pulse.beat())

    def terminate(self, exit: Exit) -> None:
        self.beating.cancel()
        if self._is_stuck():
            self.kernel.uninstall(self.loop.name, self.loop)  # by now a successor's may have the name
            self.loop.stop(0.0)

    def _is_stuck(self) -> bool:
        try:
            return not self.loop.run(asyncio.sleep(0)).wait(STUCK_SECONDS, SystemClock())
        except SystemStopped:  # a successor was quicker than our end
            return False


def end_loop(kernel: Kernel, name: str) -> None:
    """End the loop called `name`, if there is one; what still lives on it is fenced. Blocks, 5 seconds at most."""
    try:
        left = kernel.dispatcher(name)
    except SpecError:
        return
    kernel.uninstall(name, left)
    left.stop(STOP_SECONDS)
