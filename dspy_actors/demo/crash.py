"""`WorkerCrash`: brings one LM worker down while it is busy, and watches it come back."""

from __future__ import annotations

from dataclasses import replace

from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import worker_name
from dspy_actors.lm.providers.base import Attempt, LMConfig, Provider
from dspy_actors.lm.providers.table import provider_for
from dspy_actors.lm.transports.base import TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.runtime import Runtime
from supervisors.exits import Crash


class StagedCrash(RuntimeError):
    """The failure that the demo stages."""


class WorkerCrash:
    """Crashes the worker of a model, once, at the moment at which `open_calls` requests are open.

    Open is what was sent and is not answered. A model that answers faster than it is asked never has so many open:
    after `patience` requests those that wait to be sent count as well, after half as many again one is enough. It
    sees them by standing between the workers and their providers: give `open_provider` to the `Runtime`, then `arm`
    it. `open_at_crash` says how many there were, `back_after` after how many seconds the worker's successor opened
    its provider.
    """

    def __init__(self, lm: LM, open_calls: int, patience: int) -> None:
        self._lm = lm
        self._wanted = open_calls
        self._patience = patience
        self._factory = choose("auto")
        self._settings = TransportSettings()
        self._runtime: Runtime | None = None
        self._crashed_at = 0.0
        self.open_at_crash = 0
        self.back_after: float | None = None

    def open_provider(self, config: LMConfig) -> Provider:
        """The provider that `config` names, watched. Called on the io loop by every worker that starts."""
        if self.open_at_crash and self.back_after is None and self._runtime is not None:
            self.back_after = self._runtime.system.clock.now() - self._crashed_at
        return _Watched(provider_for(config, self._factory, self._settings), self)

    def arm(self, runtime: Runtime) -> None:
        """From now on the worker crashes as soon as it is busy enough."""
        self._runtime = runtime

    def look(self, begun: int, held: int, sent: int) -> None:
        """Called on the io loop whenever a request has begun or was sent."""
        runtime = self._runtime
        if runtime is None or self.open_at_crash:
            return
        found = held if begun >= self._patience else sent
        wanted = 1 if begun >= 1.5 * self._patience else self._wanted
        worker = runtime.registry.whereis(worker_name(self._lm.config)) if found >= wanted else None
        if worker is not None:
            self.open_at_crash = found
            self._crashed_at = runtime.system.clock.now()
            worker.exit(Crash(StagedCrash("staged by the demo: the worker fails under load")))


class _Watched:
    """A provider whose requests are counted: those begun, those under way, and those of them that were sent."""

    def __init__(self, provider: Provider, crash: WorkerCrash) -> None:
        self.name = provider.name
        self.endpoint = provider.endpoint
        self._provider = provider
        self._crash = crash
        self._begun = self._held = self._sent = 0

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        was_sent = 0

        def on_sent() -> None:
            nonlocal was_sent
            was_sent = 1
            self._sent += 1
            if attempt.on_sent is not None:
                attempt.on_sent()
            self._crash.look(self._begun, self._held, self._sent)

        self._begun += 1
        self._held += 1
        self._crash.look(self._begun, self._held, self._sent)
        try:
            return await self._provider.complete(request, replace(attempt, on_sent=on_sent))
        finally:
            self._held -= 1
            self._sent -= was_sent

    async def aclose(self) -> None:
        await self._provider.aclose()
