"""Opens providers by name and asks them once, for the tests of what they send and what they read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from dspy_actors.lm.providers.base import Attempt, KeySource, LMConfig, Provider
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.providers.table import provider_for
from dspy_actors.lm.transports.choose import choose
from dspy_actors.messages import LMRequest, LMResponse, Message
from dspy_actors.testing.peer import Peer, reply

T = TypeVar("T")
TURNS = (Message.of("system", "Be short."), Message.of("user", "Hello?"))

DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("openai", {}),
    "responses": ("openai", {"model_type": "responses"}),
    "messages": ("anthropic", {}),
    "local": ("local", {}),
}
"""By a word for each dialect: the provider that speaks it, and the options that choose it."""


def opened(
    name: str,
    base_url: str | None,
    api_key: KeySource = None,
    transport: str = "aiohttp",
    set_aside: SetAside | None = None,
) -> Provider:
    """The provider called `name` at `base_url`; call it on a running loop."""
    return provider_for(LMConfig(name, "m", base_url, api_key), choose(transport), set_aside=set_aside)


def using(open_provider: Callable[[], Provider], use: Callable[[Any], Awaitable[T]]) -> T:
    """What `use` makes of the provider, which is closed afterwards."""

    async def once() -> T:
        provider = open_provider()
        try:
            return await use(provider)
        finally:
            await provider.aclose()

    return asyncio.run(once())


def ask(name: str, base_url: str, request: LMRequest, **config: Any) -> LMResponse:
    """One answer to `request`."""
    return using(lambda: opened(name, base_url, **config), lambda provider: provider.complete(request, Attempt("c.1")))


def ask_in(
    dialect: str,
    base_url: str,
    turns: tuple[Message, ...] = TURNS,
    key: KeySource = None,
    transport: str = "aiohttp",
    model: str = "m",
    **options: Any,
) -> LMResponse:
    """One answer, asked for in one of `DIALECTS`."""
    name, choosing = DIALECTS[dialect]
    return ask(name, base_url, LMRequest(model, turns, {**choosing, **options}), api_key=key, transport=transport)


def said_in(dialect: str, body: bytes, status: int = 200, **options: Any) -> LMResponse:
    """What is made of `body` as the answer in one of `DIALECTS`."""
    name, choosing = DIALECTS[dialect]

    async def once() -> LMResponse:
        async with Peer(reply(status, body)) as peer:
            provider = opened(name, peer.url)
            try:
                return await provider.complete(LMRequest("m", TURNS, {**choosing, **options}), Attempt("c.1"))
            finally:
                await provider.aclose()

    return asyncio.run(once())
