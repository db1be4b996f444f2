"""`check`: one look at a model as a program would find it: its server, its key and its name. Costs no tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from dspy_actors.errors import LMError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Provider
from dspy_actors.lm.providers.listing import Lists
from dspy_actors.lm.providers.local import LocalProvider
from dspy_actors.lm.providers.opening import OpenProvider
from dspy_actors.lm.verdicts import is_nobody_there


@dataclass(frozen=True, slots=True)
class Checkup:
    """How a model was found.

    `endpoint` is `None` for one that runs in this process. `state` is `failed` where the server refused, with `error`,
    `unreachable` where nobody answered, with `error` too, and `reachable` where it answers but has no list of models,
    so that it may be another kind of server. `listed` says whether the server has the model, `None` where that cannot
    be told. `key_id` names the key that was sent, also to a server that failed, without telling it. `seconds` is how
    long the server took.
    """

    model: str
    endpoint: str | None = None
    state: Literal["ready", "reachable", "loading", "unreachable", "failed"] = "ready"
    listed: bool | None = None
    key_id: str | None = None
    seconds: float | None = None
    error: LMError | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a call would be answered now, as far as can be told."""
        return self.state == "ready" and self.listed is not False


async def check(lm: LM, open_provider: OpenProvider, seconds: float) -> Checkup:
    """Open the provider of `lm` on the running loop, ask its server, close it again, all within `seconds`.

    Raises an `LMError` where the model as written cannot be opened: an unknown provider, a bad `base_url`.
    """
    provider = open_provider(lm.config)
    try:
        return await _asked(lm, provider, seconds)
    finally:
        await provider.aclose()


async def _asked(lm: LM, provider: Provider, seconds: float) -> Checkup:
    if not isinstance(provider, Lists):
        return Checkup(lm.name)
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = began + seconds
    try:
        if isinstance(provider, LocalProvider) and await provider.health(deadline) == "loading":
            return Checkup(lm.name, provider.endpoint, "loading", None, provider.key_id, loop.time() - began)
        began = loop.time()
        listing = await provider.listing(deadline)
    except LMError as error:
        state: Literal["unreachable", "failed"] = "unreachable" if is_nobody_there(error) else "failed"
        return Checkup(lm.name, provider.endpoint, state, None, provider.key_id, loop.time() - began, error)
    return Checkup(
        lm.name,
        provider.endpoint,
        "reachable" if listing.models is None else "ready",
        listing.has(lm.model),
        provider.key_id,
        loop.time() - began,
    )
