"""Every provider by name. A new one is one file, one line here, and `testing.providers.check_provider`."""

from __future__ import annotations

import importlib
from types import MappingProxyType

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.base import LMConfig, OpenTransport, Provider, ProviderFactory
from dspy_actors.lm.transports.base import TransportFactory, TransportSettings

PROVIDERS = MappingProxyType(
    {
        "openai": "dspy_actors.lm.providers.openai:OpenAIProvider",
        "embedded": "dspy_actors.lm.embedded.provider:EmbeddedProvider",
    }
)
"""Name -> `module:class`, imported when the first model of that name is opened."""


def provider_for(
    config: LMConfig, transport_factory: TransportFactory, settings: TransportSettings | None = None
) -> Provider:
    """Open the provider that `config` names; called on the io loop.

    Raises `LMConfigurationError` where the name is unknown or the config cannot work, and `LMNotConfiguredError`
    where a key is missing.
    """
    used = settings or TransportSettings()
    open_transport: OpenTransport = lambda base_url: transport_factory(base_url, used)  # noqa: E731
    return factory_of(config.provider)(config, open_transport)


def factory_of(name: str) -> ProviderFactory:
    """The factory behind `name`. Raises `LMConfigurationError`, naming the known ones."""
    target = PROVIDERS.get(name)
    if target is None:
        known = ", ".join(sorted(PROVIDERS))
        msg = (
            f"provider {name!r} is not known; known: {known}. A server that speaks OpenAI's chat completions is "
            f"LM('openai/<model>', base_url='http://...')"
        )
        raise LMConfigurationError(msg, provider=name)
    module, _, attribute = target.partition(":")
    found: ProviderFactory = getattr(importlib.import_module(module), attribute)
    return found
