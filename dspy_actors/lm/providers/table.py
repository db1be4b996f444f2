"""Every provider by name. A new one is one file, one line here, and `testing.providers.check_provider`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.base import LMConfig, Opening, OpenTransport, Provider, ProviderFactory
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.transports.base import TransportFactory, TransportSettings
from dspy_actors.messages import ResponseFormat

PROVIDERS = MappingProxyType(
    {
        "openai": "dspy_actors.lm.providers.openai:OpenAIProvider",
        "anthropic": "dspy_actors.lm.providers.anthropic:AnthropicProvider",
        "local": "dspy_actors.lm.providers.local:LocalProvider",
        "embedded": "dspy_actors.lm.embedded.provider:EmbeddedProvider",
    }
)
"""Name -> `module:class`, imported when the first model of that name is opened."""

RESPONSE_FORMATS: Mapping[str, frozenset[ResponseFormat]] = MappingProxyType(
    {
        "openai": frozenset({"json_object", "json_schema"}),
        "anthropic": frozenset({"json_schema"}),
        "local": frozenset({"json_object", "json_schema"}),
    }
)
"""What a provider can hold its models to; nothing for those that are not here."""


def formats_of(provider: str) -> frozenset[ResponseFormat]:
    """The response formats that the models of `provider` are asked for unless told otherwise."""
    return RESPONSE_FORMATS.get(provider, frozenset())


def provider_for(
    config: LMConfig,
    transport_factory: TransportFactory,
    settings: TransportSettings | None = None,
    set_aside: SetAside | None = None,
    servers: Servers | None = None,
) -> Provider:
    """Open the provider that `config` names; called on the io loop.

    Providers that are given the same `set_aside` tell each other of refused keys; what local servers are seen to be is
    noted in `servers`.

    Raises `LMConfigurationError` where the name is unknown or the config cannot work, and `LMNotConfiguredError`
    where a key is missing.
    """
    used = settings or TransportSettings()
    open_transport: OpenTransport = lambda base_url: transport_factory(base_url, used)  # noqa: E731
    return factory_of(config.provider)(config, Opening(open_transport, set_aside or SetAside(), servers or Servers()))


def factory_of(name: str) -> ProviderFactory:
    """The factory behind `name`. Raises `LMConfigurationError`, naming the known ones."""
    target = PROVIDERS.get(name)
    if target is None:
        known = ", ".join(sorted(PROVIDERS))
        msg = (
            f"provider {name!r} is not known; known: {known}. A gateway that speaks OpenAI's chat completions is "
            f"LM('openai/<model>', base_url='https://...'), a server on this machine LM('local/<model>')"
        )
        raise LMConfigurationError(msg, provider=name)
    module, _, attribute = target.partition(":")
    found: ProviderFactory = getattr(importlib.import_module(module), attribute)
    return found
