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
from supervisors.published_lock import PublishedLock
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
        self._lock = PublishedLock()
        self.waited_for: dict[Hashable, _Callers] = {}
        """The workers, by name, that somebody waits for; where there are any, who finds one must come `in_turn` too."""

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

    def in_turn(self, config: LMConfig, ref: Ref[LMWorker] | None, then: Found) -> None:
        """As `ask`, but not before those are told who came before. `ref` is what `here` has found.

        A worker is there before the pool has told it to those who asked: whoever finds it tells them first. So the
        calls of one thread reach a worker in their order. A search that fails is the end of its own call alone.
        """
        name, turn = worker_name(config), object()
        with self._lock:
            callers = self.waited_for.get(name)
            if callers is None and ref is None:
                callers = self.waited_for.setdefault(name, _Callers())
            if callers is not None:
                callers.waiting[turn] = then
        if callers is None:
            then(ref, None)
        elif ref is not None:
            self._tell(name, callers, ref)
        else:
            self.ask(config, lambda ref, error: self._asked(name, callers, turn, ref, error))

    def _asked(
        self,
        name: Hashable,
        callers: _Callers,
        turn: object,
        ref: Ref[LMWorker] | None,
        error: BaseException | None,
    ) -> None:
        """The search of one who waits is over."""
        if ref is not None:
            self._tell(name, callers, ref)
            return
        with self._lock:
            then = callers.waiting.pop(turn, None)  # none where somebody else has found the worker meanwhile
            self._forget(name, callers)
        if then is not None:
            then(None, error)

    def _tell(self, name: Hashable, callers: _Callers, ref: Ref[LMWorker]) -> None:
        """Tell all who wait, in turn. Where somebody does already, those are told by him who have come meanwhile."""
        with self._lock:
            if callers.are_told:
                return
            callers.are_told = True
        first: BaseException | None = None
        while (then := self._next(name, callers)) is not None:
            try:
                then(ref, None)
            except BaseException as error:  # the others must hear
                first = first or error
        if first is not None:
            raise first

    def _next(self, name: Hashable, callers: _Callers) -> Found | None:
        """Whose turn it is; `None` where nobody waits any more, and who comes from now on finds nobody before him."""
        with self._lock:
            for turn in callers.waiting:
                return callers.waiting.pop(turn)
            callers.are_told = False
            self._forget(name, callers)
            return None

    def _forget(self, name: Hashable, callers: _Callers) -> None:
        if not callers.waiting and not callers.are_told and self.waited_for.get(name) is callers:
            del self.waited_for[name]

    def ask(self, config: LMConfig, then: Found) -> None:
        """Call `then(ref, None)` or `then(None, error)` once the pool has answered.

        After a death the name may still be free or still the dead one's: the pool knows.
        """
        _Search(self, config, then).step()


class _Callers:
    """Who waits for one worker, first who came first, each until somebody is about to tell him."""

    __slots__ = ("are_told", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[object, Found] = {}
        self.are_told = False


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
