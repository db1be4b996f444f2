"""`opener`: how a runtime opens the providers of its models, over the transport that it was told to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.providers.table import provider_for
from dspy_actors.lm.transports.base import TransportSettings
from dspy_actors.lm.transports.choose import choose

OpenProvider: TypeAlias = Callable[[LMConfig], Provider]


def opener(transport: str, set_aside: SetAside, servers: Servers | None = None) -> OpenProvider:
    """Opens the provider of a config by its name, over `transport` (see `Runtime`), with keys set aside together."""
    factory = choose(transport)
    settings = TransportSettings()
    return lambda config: provider_for(config, factory, settings, set_aside, servers)
