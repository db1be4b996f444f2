"""A model server on this machine or next to it: `LM("local/<model>")`, with vLLM, Ollama and llama.cpp by name.

It needs no key and may be cold. A server that answers "loading model" has refused nothing: the request waits until the
server is ready, within the attempt's deadline. Sampling options are always sent, because such servers take them from
the model's files otherwise, and the same request would not mean the same thing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from dspy_actors.errors import LMServerError, LMTransportError, LMUnsupportedFeatureError
from dspy_actors.lm.providers.base import Attempt, LMConfig, Opening, ProviderStream, checked_base_url
from dspy_actors.lm.providers.dialect import Dialect
from dspy_actors.lm.providers.listing import Listing, list_models
from dspy_actors.lm.providers.openai import bearer_wire, dialect_of
from dspy_actors.lm.transports.observer import ask_again
from dspy_actors.lm.verdicts import NOT_READY
from dspy_actors.messages import ImagePart, LMRequest, LMResponse

T = TypeVar("T")

SERVERS: Mapping[str, str] = {
    "vllm": "http://localhost:8000/v1",
    "ollama": "http://localhost:11434/v1",
    "llama.cpp": "http://localhost:8080/v1",
}
"""What may stand for a `base_url`, and where such a server listens by default."""

_HOME = SERVERS["vllm"]

SAMPLING: Mapping[str, object] = {"temperature": 0.0, "top_p": 1.0}
"""What is sent where the request does not say: the most likely answer, the same one each time."""

COLD_SECONDS = 300.0
"""How long a loading server is waited for where the attempt has no deadline."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_NOT_HEEDED = ("n", "tool_choice", "logit_bias")

Health: TypeAlias = Literal["ready", "loading"]


class LocalProvider:
    """`Provider` for OpenAI-compatible servers close by. Lives on the io loop."""

    name = "local"

    def __init__(self, config: LMConfig, opening: Opening) -> None:
        self.endpoint = self.endpoint_of(config)
        self._wire = bearer_wire(self.name, config, opening, self.endpoint, variable=None, required=False)
        self._model = config.model
        self._ollama = ":11434" in self.endpoint
        self._waiting = asyncio.Lock()
        self._seen_ready = -1.0
        self._servers = opening.servers

    @staticmethod
    def endpoint_of(config: LMConfig) -> str:
        """Where a provider for `config` sends its requests. Raises `LMConfigurationError`."""
        url = SERVERS.get((config.base_url or "").lower(), config.base_url)
        return checked_base_url(replace(config, base_url=url), _HOME)

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        """See `base.Provider.complete`; waits while the server loads its model."""
        return await self._once_ready(self._wire.complete, request, attempt)

    async def stream(self, request: LMRequest, attempt: Attempt) -> ProviderStream:
        """See `base.Provider.stream`; waits while the server loads its model."""
        return await self._once_ready(self._wire.stream, request, attempt)

    async def health(self, deadline: float | None = None) -> Health:
        """Ask the server how it is, by `GET /health` or, where there is none, by `GET /v1/models`. Costs no tokens.

        Raises an `LMError` where it is neither ready nor loading; `deadline` is an instant of `loop.time()`.
        """
        root = self.endpoint.removesuffix("/v1")
        try:
            answer = await self._wire.get(f"{root}/health", deadline, self._model)
            if answer.status in (404, 405, 501):
                answer = await self._wire.get(f"{self.endpoint}/models", deadline, self._model)
        except LMTransportError:
            self._servers.note(self.endpoint, "unreachable")
            raise
        found: Health | None = {200: "ready", 503: "loading"}.get(answer.status)  # type: ignore[assignment]
        if found is not None:  # some say no more than 503 while they load
            self._servers.note(self.endpoint, found)
            return found
        raise self._wire.refusal(answer, None, self._model, None)

    @property
    def key_id(self) -> str | None:
        """See `listing.Lists`."""
        return self._wire.keys.key_id

    async def listing(self, deadline: float | None = None) -> Listing:
        """See `listing.Lists`."""
        return await list_models(self._wire, "/models", deadline, self._model)

    async def aclose(self) -> None:
        """See `base.Provider.aclose`."""
        await self._wire.transport.aclose()

    async def _once_ready(
        self, ask: Callable[[Dialect, LMRequest, Attempt], Awaitable[T]], request: LMRequest, attempt: Attempt
    ) -> T:
        """Ask, and again each time the server was loading and is ready now.

        Each time later than the time before: the health page of a router is its own, and says nothing of the model.
        """
        if self._ollama:
            _check_ollama(request)
        dialect = dialect_of(request, self.name)
        sent = request if request.options.get("model_type") == "embeddings" else _with_sampling(request)
        loop = asyncio.get_running_loop()
        until = loop.time() + COLD_SECONDS if attempt.deadline is None else attempt.deadline
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = await ask(dialect, sent, attempt)
            except LMTransportError:
                self._servers.note(self.endpoint, "unreachable")
                raise
            except LMServerError as error:
                if error.provider_code != NOT_READY:
                    raise
                failed = error
                self._servers.note(self.endpoint, "loading")
                if not await self._wait_until_ready(loop.time(), until, pause):
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._servers.note(self.endpoint, "ready")
                return answer
            ask_again(attempt.observer, failed)
            attempt.observer.ready()

    async def _wait_until_ready(self, failed: float, until: float, pause: float) -> bool:
        """Wait for the server; one of the waiting calls asks it, first after `pause` seconds.

        False where `until` comes first.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until), self._waiting:
                while self._seen_ready < failed:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    if await self.health(until) == "ready":
                        self._seen_ready = loop.time()
        except TimeoutError:
            return False
        return True


def _with_sampling(request: LMRequest) -> LMRequest:
    given = {name: value for name, value in request.options.items() if value is not None}
    return replace(request, options={**SAMPLING, **given})


def _check_ollama(request: LMRequest) -> None:
    """Refuse what Ollama takes and does not heed: an answer to another question is worse than none."""
    for name in _NOT_HEEDED:
        if request.options.get(name) not in (None, 1, "auto"):
            msg = f"Ollama does not heed the option {name}; leave it out"
            raise LMUnsupportedFeatureError(msg, provider="local", model=request.model)
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ImagePart) and not part.url.startswith("data:"):
                msg = "Ollama fetches no images; give it the bytes: Image(path.read_bytes())"
                raise LMUnsupportedFeatureError(msg, provider="local", model=request.model)
