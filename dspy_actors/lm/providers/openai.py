"""OpenAI, and any server that speaks its chat completions or responses: gateways, clouds, a model of your own."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.base import Attempt, LMConfig, Opening, ProviderStream, checked_base_url
from dspy_actors.lm.providers.chat import ChatCompletions
from dspy_actors.lm.providers.dialect import Dialect
from dspy_actors.lm.providers.keys import KeyRing
from dspy_actors.lm.providers.listing import Listing, list_models
from dspy_actors.lm.providers.responses import Responses
from dspy_actors.lm.providers.vectors import Embeddings
from dspy_actors.lm.providers.wire import JSON_HEADERS, Wire
from dspy_actors.lm.transports.base import is_loopback
from dspy_actors.messages import LMRequest, LMResponse

_HOME = "https://api.openai.com/v1"
_VARIABLE = "OPENAI_API_KEY"
_CHAT = ChatCompletions()
_DIALECTS: Mapping[str, Dialect] = {"chat": _CHAT, "responses": Responses(), "embeddings": Embeddings()}


class OpenAIProvider:
    """`Provider` for chat completions; the option `model_type` makes it `responses` or `embeddings`."""

    name = "openai"
    key_variable = _VARIABLE

    def __init__(self, config: LMConfig, opening: Opening) -> None:
        self.endpoint = self.endpoint_of(config)
        self._model = config.model
        self._wire = bearer_wire(
            self.name, config, opening, self.endpoint, variable=_VARIABLE, required=not is_loopback(self.endpoint)
        )

    @staticmethod
    def endpoint_of(config: LMConfig) -> str:
        """Where a provider for `config` sends its requests. Raises `LMConfigurationError`."""
        return checked_base_url(config, _HOME)

    def complete(self, request: LMRequest, attempt: Attempt) -> Coroutine[Any, Any, LMResponse]:
        """See `base.Provider.complete`."""
        return self._wire.complete(dialect_of(request, self.name), request, attempt)

    def stream(self, request: LMRequest, attempt: Attempt) -> Coroutine[Any, Any, ProviderStream]:
        """See `base.Provider.stream`."""
        return self._wire.stream(dialect_of(request, self.name), request, attempt)

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


def bearer_wire(
    name: str, config: LMConfig, opening: Opening, endpoint: str, *, variable: str | None, required: bool
) -> Wire:
    """A wire to a server that takes its key as a bearer token."""
    keys = KeyRing(config, endpoint, opening.set_aside, variable=variable, required=required)
    return Wire(name, endpoint, opening.transport(endpoint), keys, _bearer, JSON_HEADERS)


def dialect_of(request: LMRequest, provider: str) -> Dialect:
    """The dialect that the option `model_type` names, as DSPy has it. Raises `LMConfigurationError`."""
    if not request.options:  # most
        return _CHAT
    kind = request.options.get("model_type") or "chat"
    found = _DIALECTS.get(kind) if isinstance(kind, str) else None
    if found is None:
        msg = f"model_type is 'chat', 'responses' or 'embeddings', not {kind!r:.40}"
        raise LMConfigurationError(msg, provider=provider, model=request.model)
    return found


def _bearer(key: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {key}"}
