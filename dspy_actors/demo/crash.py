"""`WorkerCrash`: brings one LM worker down while it is busy, and watches it come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import worker_name
from dspy_actors.lm.providers.base import Attempt, LMConfig, Provider, ProviderStream
from dspy_actors.lm.providers.table import provider_for
from dspy_actors.lm.transports.base import TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.lm.transports.observer import Observer, Relay
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.runtime import Runtime
from supervisors.exits import Crash

HOLD_SECONDS = 2.0
"""How long an answer is held back for enough requests to be open."""


class StagedCrash(RuntimeError):
    """The failure that the demo stages."""


class WorkerCrash:
    """Crashes the worker of a model, once, at the moment at which `open_calls` requests are open.

    Open is what was sent and is not answered. Answers that are faster than the questions are held back until so many
    are open, for two seconds at most; then the worker crashes with fewer. It sees and holds them by standing between
    the workers and their providers: give `open_provider` to the `Runtime`, then `arm` it. `open_at_crash` says how
    many there were, `back_after` after how many seconds the worker's successor opened its provider.
    """

    def __init__(self, lm: LM, open_calls: int) -> None:
        self._lm = lm
        self._wanted = open_calls
        self._factory = choose("auto")
        self._settings = TransportSettings()
        self._runtime: Runtime | None = None
        self._never = asyncio.Event()
        self._crashed_at = 0.0
        self._open = 0
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

    @property
    def is_due(self) -> bool:
        """Whether the crash is still to come."""
        return self._runtime is not None and not self.open_at_crash

    def sent(self) -> None:
        """A request was sent; called on the io loop."""
        self._open += 1
        if self._open >= self._wanted and self.is_due:
            self._strike()

    def ended(self) -> None:
        """A request that was sent has ended; called on the io loop."""
        self._open -= 1

    async def hold(self) -> None:
        """Hold an answer back until the crash, which cancels whoever waits here."""
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self._never.wait()
        except TimeoutError:
            if self.is_due:
                self._strike()

    def _strike(self) -> None:
        assert self._runtime is not None
        worker = self._runtime.registry.whereis(worker_name(self._lm.config))
        if worker is not None:
            self.open_at_crash = self._open
            self._crashed_at = self._runtime.system.clock.now()
            worker.exit(Crash(StagedCrash("staged by the demo: the worker fails under load")))


class _Sent(Relay):
    """Tells the crash, too, that a request is on its way."""

    def __init__(self, observer: Observer, crash: WorkerCrash) -> None:
        super().__init__(observer)
        self._crash = crash
        self.was_sent = False

    def sent(self) -> None:
        self.was_sent = True
        super().sent()
        self._crash.sent()


class _Watched:
    """A provider that tells the crash about its requests."""

    def __init__(self, provider: Provider, crash: WorkerCrash) -> None:
        self.name = provider.name
        self.endpoint = provider.endpoint
        self._provider = provider
        self._crash = crash

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        sent = _Sent(attempt.observer, self._crash)
        try:
            response = await self._provider.complete(request, replace(attempt, observer=sent))
            if self._crash.is_due:
                await self._crash.hold()
            return response
        finally:
            if sent.was_sent:
                self._crash.ended()

    async def stream(self, request: LMRequest, attempt: Attempt) -> ProviderStream:
        return await self._provider.stream(request, attempt)

    async def aclose(self) -> None:
        await self._provider.aclose()
