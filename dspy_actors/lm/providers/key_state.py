"""`key_state`: what can be told of a model's keys without sending anything, for readiness and health."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.providers.keys import given_keys
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.providers.table import factory_of
from dspy_actors.lm.transports.base import is_loopback
from dspy_actors.secret import Secret, may_be_sent

KeyState: TypeAlias = Literal["given", "not needed", "unknown", "missing", "unusable", "set aside"]
"""`unknown`: what a callable will give, but where the key that it gave last is set aside, and whether a provider of
one's own needs a key."""

HOPELESS: frozenset[KeyState] = frozenset({"missing", "unusable", "set aside"})
"""A call with such keys fails before anything is sent."""


def key_state(config: LMConfig, set_aside: SetAside) -> KeyState:
    """The state of the keys that a call to `config` would be sent with now. Reads the environment; sends nothing."""
    try:
        factory = factory_of(config.provider)
        endpoint = getattr(factory, "endpoint_of", lambda _: None)(config)
        keys = given_keys(config)
    except LMConfigurationError:
        return "unusable"
    if endpoint is None:
        return "not needed"
    if callable(config.api_key):
        return "unknown" if set_aside.find_given(config.api_key, endpoint) is None else "set aside"
    variable: str | None = getattr(factory, "key_variable", None)
    if config.api_key is None and variable and (found := os.environ.get(variable, "").strip()):
        if not may_be_sent(found):
            return "unusable"
        keys = (Secret(found),)
    if not keys:
        return "missing" if variable and not is_loopback(endpoint) else "not needed"
    return "set aside" if all(set_aside.find(endpoint, key.key_id) for key in keys) else "given"
