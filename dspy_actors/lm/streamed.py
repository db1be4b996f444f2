"""`Streamed`: asks for an answer in pieces and pours them into the flow, no faster than the reader takes them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from dspy_actors.errors import LMError, LMTimeoutError
from dspy_actors.lm.estimate import BYTES_A_TOKEN, is_unanswered, prompt_tokens
from dspy_actors.lm.flow import Turn
from dspy_actors.lm.gates import Passing
from dspy_actors.lm.providers.base import Attempt, LMConfig, Provider, ProviderStream
from dspy_actors.lm.providers.whole_stream import streamed_whole
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.transports.observer import Observer, Relay
from dspy_actors.lm.watch import Watch
from dspy_actors.lm.work import Work
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.pieces import Piece, size_of
from supervisors.clock import Clock


class Streamed:
    """The attempts of one streamed call at one worker. Nothing is tried again once a piece was written.

    The first piece is waited for by the runtime's clock, from the moment the request is sent. The transport watches
    the silence between bytes; the client watches the call's deadline and cancels.
    """

    phase = "first_token"
    whole = False

    __slots__ = ("_clock", "_config", "_provider", "_settings", "_size", "_source", "_turn")

    def __init__(
        self, provider: Provider, config: LMConfig, turn: Turn, settings: StreamSettings, clock: Clock
    ) -> None:
        self._provider = provider
        self._config = config
        self._turn = turn
        self._settings = settings
        self._clock = clock
        self._size = 0
        self._source: ProviderStream | None = None

    async def ask(self, work: Work, attempt: Attempt, passing: Passing) -> LMResponse:
        """See `Exchange.ask`."""
        self._source = None
        watch = Watch(self._clock)
        observer = _Beginning(attempt.observer, partial(self._begin_to_wait, watch))
        try:
            async with watch:
                own = replace(attempt, observer=observer, idle=self._settings.idle)
                response = await self._read(work, own, passing, watch)
        except TimeoutError as late:
            if not watch.expired:
                raise
            raise self._too_late(attempt) from late
        finally:
            observer.over()
        usage = self.usage(work, response, None)
        return response if response.usage is usage else replace(response, usage=usage)

    def may_repeat(self) -> bool:
        """As long as nobody has seen a piece."""
        return not self._turn.right.begun

    def usage(self, work: Work, response: LMResponse | None, failure: LMError | None) -> Usage | None:
        """What the provider has told, else the prompt and what was seen of the answer, estimated."""
        if response is not None and response.usage is not None:
            return response.usage
        told = None if self._source is None else self._source.usage
        if told is None and not self._size and not is_unanswered(failure):
            return None
        told = told or Usage()
        prompt = told.prompt_tokens or prompt_tokens(work.request)
        seen = -int(-self._size // BYTES_A_TOKEN)
        used = replace(told, prompt_tokens=prompt, completion_tokens=max(told.completion_tokens, seen), estimated=True)
        self._turn.flow.used = used
        return used

    async def _read(self, work: Work, attempt: Attempt, passing: Passing, watch: Watch) -> LMResponse:
        source = await self._begun(work.request, attempt)
        self._source = self._turn.flow.source = source
        try:
            if not watch.is_on:
                self._begin_to_wait(watch)
            pieces = await source.read()
            watch.lift()
            if pieces:
                passing.begins(self._clock.now())
                if not self._turn.right.begin():  # the worker was buried meanwhile, and another one asked
                    raise CancelledError
                work.phase = "stream"
                await self._pour(source, pieces, work, passing)
            return source.response()
        finally:
            await source.aclose()

    async def _begun(self, request: LMRequest, attempt: Attempt) -> ProviderStream:
        """The provider's stream; the whole answer of a user's own provider that knows none."""
        if not hasattr(self._provider, "stream"):
            return streamed_whole(await self._provider.complete(request, attempt))
        return await self._provider.stream(request, attempt)

    async def _pour(self, source: ProviderStream, pieces: Sequence[Piece], work: Work, passing: Passing) -> None:
        room = self._written(pieces)
        # a stream that can write as its pieces come need not be asked each time
        pour = getattr(source, "pour", None)
        while True:
            if not room:
                work.phase = "consumer"
                began = self._clock.now()
                await self._turn.flow.channel.room()
                passing.held += self._clock.now() - began
                work.phase = "stream"
            if pour is not None:
                room = False
                if not await pour(self._written):
                    return
            else:
                pieces = await source.read()
                if not pieces:
                    return
                room = self._written(pieces)

    def _written(self, pieces: Sequence[Piece]) -> bool:
        """Write to the flow; whether there is room for more."""
        size = size_of(pieces[0]) if len(pieces) == 1 else sum(map(size_of, pieces))
        self._size += size
        return self._turn.flow.write(pieces, size)

    def _begin_to_wait(self, watch: Watch) -> None:
        if not self._turn.right.begun:  # a request may be sent to its end after the answer has begun
            watch.within(self._settings.patience(self._config.provider))

    def _too_late(self, attempt: Attempt) -> LMTimeoutError:
        config = self._config
        seconds = self._settings.patience(config.provider)
        where = f" at {config.base_url}" if config.base_url else ""
        msg = f"{config.provider}/{config.model}{where} sent no piece within {seconds:g} s (StreamSettings.first_token)"
        return LMTimeoutError(
            msg,
            phase="first_token",
            provider=config.provider,
            model=config.model,
            request_id=attempt.request_id,
        )


class _Beginning(Relay):
    """Calls `begins` each time that the wait for a first piece begins: a request is sent, a server is ready again."""

    __slots__ = ("_begins",)

    def __init__(self, observer: Observer, begins: Callable[[], None]) -> None:
        super().__init__(observer)
        self._begins: Callable[[], None] | None = begins

    def sent(self) -> None:
        super().sent()
        self._begin()

    def ready(self) -> None:
        super().ready()
        self._begin()

    def over(self) -> None:
        """The attempt has ended: what it stands on keeps this, and would be kept by it in turn."""
        self._begins = None

    def _begin(self) -> None:
        if self._begins is not None:
            self._begins()
