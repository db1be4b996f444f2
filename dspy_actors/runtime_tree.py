"""`RuntimeTree`: what a runtime starts under a supervisor, and what stands of it. Users hold a `Runtime` instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy_actors.lm.layer_settings import LayerSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMCounters
from dspy_actors.modules.admission import Limits
from dspy_actors.runner import Settings
from supervisors.actor import Ref
from supervisors.exits import Crash, Exit
from supervisors.kernel import Kernel
from supervisors.registry import Registry

if TYPE_CHECKING:  # what stands in the tree is loaded when a runtime starts
    from dspy_actors.hosting import RuntimeHost
    from dspy_actors.lm.layer import LMLayer


class RuntimeTree:
    """The tree of the runtime called `name`, started again and again by whichever supervisor it hangs under.

    `host` and `layer` are what leads to whoever stands in the tree. They outlive its restarts; `None` before its
    first start.
    """

    def __init__(
        self, name: str, settings: Settings, layer_settings: LayerSettings, limits: Limits, max_zombies: int
    ) -> None:
        self.name = name
        self.settings = settings
        self.limits = limits
        self.counters = LMCounters()
        self.registry = Registry()
        self.host: RuntimeHost | None = None
        self.layer: LMLayer | None = None
        self._layer_settings = layer_settings
        self._max_zombies = max_zombies

    def start(self, kernel: Kernel) -> Any:
        """Start the tree, for a supervisor in this kernel; its root. What was published before is found again."""
        host = self.host
        if host is None or host.kernel is not kernel:
            host = self._laid_out(kernel)
        ref = host.start_tree(self.name)
        self.host = host
        host.came_up()
        if isinstance(ref, Ref):
            ref.down().add_done_callback(lambda down: self._ended(host, down.take()))
        return ref

    def is_ready(self, lm: LM | None) -> bool:
        """Whether a call to `lm` would be sent within the deadline, as far as can be told. Asks nobody."""
        host, layer = self.host, self.layer
        if host is None or host.closing or not all(self.registry.whereis(name) for name in ("tasks", "modules")):
            return False
        if host.refuses_threads:  # they are this process's to lose: others still have theirs
            return False
        return layer is not None and layer.is_prompt() and layer.lets_through(lm, self.settings.deadline)

    def _laid_out(self, kernel: Kernel) -> RuntimeHost:
        from dspy_actors.hosting import RuntimeHost
        from dspy_actors.lm.layer import LMLayer

        self.layer = LMLayer(self.name, self._layer_settings, kernel, self.registry, self.counters)
        return RuntimeHost(kernel, self.registry, self.layer, self.settings, self.limits, self._max_zombies)

    def _ended(self, host: RuntimeHost, exit: Exit) -> None:
        """A tree that crashed is started again and its calls go on; one that was stopped takes them with it."""
        if not isinstance(exit, Crash):
            host.went_down()
            if self.layer is not None:
                self.layer.close()
