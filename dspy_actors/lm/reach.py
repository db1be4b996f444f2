"""`WorkerFinder`: from an LM's config to the ref of its worker, without ever blocking the one who asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

from dspy_actors.errors import DspyActorsError, LMConfigurationError, LMTransportError, ShuttingDown
from dspy_actors.lm.pools import POOLS, LMPools, ProviderPool, pool_name, worker_name
from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.worker import LMWorker
from supervisors.actor import Ref
from supervisors.clock import Clock
from supervisors.errors import StartFailed, SupervisorsError, SystemStopped
from supervisors.registry import Registry
from supervisors.reply import Reply

Found: TypeAlias = Callable[[Ref[LMWorker] | None, BaseException | None], None]

FIRST_WAIT = 0.005
LONGEST_WAIT = 0.2
ROOM = 256
"""Refs that are remembered before those of dead workers are looked for."""

PATIENCE = 10.0
"""Seconds to go on looking while the layer restarts; a call's own deadline ends its wait sooner."""


class WorkerFinder:
    """Finds workers by name, and asks the pools for those that are not there.

    Asking a pool is a message: it is served after the notice of a death that came before it, so the answer is the
    replacement and never the dead worker. Callbacks run in whichever thread has the answer and must not block.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._found: dict[Hashable, Ref[LMWorker]] = {}  # the last of each name, perhaps dead by now
        self._room = ROOM

    def here(self, config: LMConfig) -> Ref[LMWorker] | None:
        """The worker, where it is there; else somebody has to `ask` for it."""
        name = worker_name(config)
        ref = self._found.get(name)
        if ref is not None and ref.is_alive():
            return ref
        ref = self._registry.whereis(name)
        if ref is None:
            self._found.pop(name, None)
        else:
            self._found[name] = ref
            if len(self._found) > self._room:
                self._forget_the_dead()
        return ref

    def _forget_the_dead(self) -> None:
        for name, ref in list(self._found.items()):
            if not ref.is_alive():
                self._found.pop(name, None)
        self._room = max(ROOM, 2 * len(self._found))

    def ask(self, config: LMConfig, then: Found) -> None:
        """Call `then(ref, None)` or `then(None, error)` once the pool has answered.

        After a death the name may still be free or still the dead one's: the pool knows.
        """
        _Search(self, config, then).step()


class _Search:
    """One search: pool, then worker, then `then`; tried again for a while where a supervisor is being replaced."""

    __slots__ = ("config", "finder", "give_up_at", "then", "wait")

    def __init__(self, finder: WorkerFinder, config: LMConfig, then: Found) -> None:
        self.finder = finder
        self.config = config
        self.then = then
        self.wait = FIRST_WAIT
        self.give_up_at = finder._clock.now() + PATIENCE

    def step(self) -> None:
        registry = self.finder._registry
        pool = registry.whereis(pool_name(self.config.provider))
        if pool is not None and pool.is_alive():
            self._send(pool, ProviderPool.worker, self.config, self._worker_here)
            return
        pools = registry.whereis(POOLS)
        if pools is not None and pools.is_alive():
            self._send(pools, LMPools.pool, self.config.provider, self._pool_here)
            return
        self._again(None)

    def _send(self, ref: Ref[Any], method: Callable[..., Any], arg: object, then: Callable[[Reply[Any]], None]) -> None:
        try:
            reply = ref.send_request(method, arg)
        except SystemStopped:
            self._stopped()
            return
        reply.add_done_callback(then)

    def _pool_here(self, reply: Reply[Any]) -> None:
        error = reply.exception()
        if error is None:
            self.step()
        else:
            self._again(error)

    def _worker_here(self, reply: Reply[Any]) -> None:
        error = reply.exception()
        if error is None:
            self.then(reply.get(0), None)
        else:
            cause = _cause(error)
            if isinstance(cause, SupervisorsError):  # its loop or its supervisor is being replaced
                self._again(error)
            else:
                self.then(None, self._not_opened(cause))

    def _not_opened(self, cause: BaseException) -> BaseException:
        """Why the worker could not start: the provider's own word, or what else went wrong as an error of the LM."""
        if isinstance(cause, DspyActorsError):
            return cause.fresh()
        config = self.config
        msg = f"the provider of {config.provider}/{config.model} could not be opened: {type(cause).__name__}: {cause}"
        failure = LMConfigurationError(msg, provider=config.provider, model=config.model)
        failure.__cause__ = cause
        return failure

    def _again(self, error: BaseException | None) -> None:
        clock = self.finder._clock
        now = clock.now()
        if now >= self.give_up_at:
            msg = f"no worker for {self.config.provider}/{self.config.model}: the LM layer did not come back"
            failure = LMTransportError(msg, provider=self.config.provider, model=self.config.model)
            failure.__cause__ = error
            self.then(None, failure)
            return
        clock.call_at(now + self.wait, self.step)
        self.wait = min(LONGEST_WAIT, self.wait * 2)

    def _stopped(self) -> None:
        msg = "the runtime has ended; make the call on another one"
        self.then(None, ShuttingDown(msg))


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, StartFailed):
        error = error.cause
    return error
