"""`Opener`: how a runtime opens the providers of its models, over the transport that it was told to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.providers.table import factory_of, provider_for
from dspy_actors.lm.transports.base import TransportSettings
from dspy_actors.lm.transports.choose import Chosen, choose

OpenProvider: TypeAlias = Callable[[LMConfig], Provider]


class Opener:
    """Opens the provider of a config by its name, with keys set aside together. Called on the io loop."""

    def __init__(self, transport: Chosen, set_aside: SetAside, servers: Servers) -> None:
        self._transport = transport
        self._settings = TransportSettings()
        self._set_aside = set_aside
        self._servers = servers

    def __call__(self, config: LMConfig) -> Provider:
        """See `provider_for`."""
        return provider_for(config, self._transport, self._settings, self._set_aside, self._servers)

    def load(self, config: LMConfig) -> None:
        """Load what the provider of `config` stands on: its module, the HTTP client, the CAs.

        The first time this takes up to half a second, for which a loop would stand still: call it in another thread,
        before the provider is opened. Raises as that would.
        """
        factory = factory_of(config.provider)
        endpoint_of: Callable[[LMConfig], str] | None = getattr(factory, "endpoint_of", None)
        if endpoint_of is not None:  # one without an endpoint needs no network
            endpoint = endpoint_of(config)
            self._transport.load()
            self._settings.trust.load(endpoint)


def opener(transport: str, set_aside: SetAside, servers: Servers | None = None) -> Opener:
    """Opens providers over `transport` (see `Runtime`). Raises `LMConfigurationError` where none has that name."""
    return Opener(choose(transport), set_aside, servers or Servers())
