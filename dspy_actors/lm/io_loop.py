"""`IOLoop`: the supervised owner of the asyncio loop on which all HTTP runs."""

from __future__ import annotations

from dspy_actors.lm.pulse import Pulse
from supervisors.actor import Actor
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import SpecError
from supervisors.exits import Exit
from supervisors.kernel import Kernel

STOP_SECONDS = 5.0


class IOLoop(Actor):
    """Owns one thread with one asyncio loop, installed in the kernel as the dispatcher called `name`.

    Only our own code runs on it: workers, transports, providers. Its supervisor is rest_for_one, so the workers are
    started again on the loop of its successor. Each runtime has a loop of its own name, so two of them live in one
    system.

    The loop outlives the actor until those that lean on it were stopped, in order: then its successor ends it, or its
    supervisor that ends (`end_loop`). Were it gone before, each worker would die of that by itself, and their pools
    would start them again where there is no loop.

    Messages: none.
    """

    def init(self, name: str, pulse: Pulse) -> None:
        end_loop(self.kernel, name)
        loop = LoopDispatcher(name)
        self.kernel.install(name, loop)
        loop.start()
        pulse.begin()
        self.beating = loop.run(pulse.beat())

    def terminate(self, exit: Exit) -> None:
        self.beating.cancel()


def end_loop(kernel: Kernel, name: str) -> None:
    """End the loop called `name`, if there is one; what still lives on it is fenced. Blocks, 5 seconds at most."""
    try:
        left = kernel.dispatcher(name)
    except SpecError:
        return
    kernel.uninstall(name, left)
    left.stop(STOP_SECONDS)
