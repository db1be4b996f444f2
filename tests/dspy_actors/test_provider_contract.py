"""Every provider of the table keeps the contract of `Provider`. A new one gets a line in `OPEN`, and no test more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.providers.table import PROVIDERS, provider_for
from dspy_actors.lm.transports.choose import choose
from dspy_actors.messages import LMRequest, Message
from dspy_actors.testing.providers import check_provider
from tests.dspy_actors.embedded import prompt
from tests.server.client import StubServer

TURNS = (Message.of("system", "Be short."), Message.of("user", "Hello?"))
PLAIN = LMRequest("m", TURNS)
EMBEDDED = LMRequest("knn", prompt("question -> answer: Literal['yes', 'no']", question="Is it?"))


def at_the_stub(name: str) -> Callable[[StubServer, str], Provider]:
    return lambda stub, transport: provider_for(LMConfig(name, "m", stub.base_url), choose(transport))


OPEN: dict[str, tuple[Callable[[StubServer, str], Provider], LMRequest]] = {
    "openai": (at_the_stub("openai"), PLAIN),
    "openai responses": (at_the_stub("openai"), LMRequest("m", TURNS, {"model_type": "responses"})),
    "anthropic": (at_the_stub("anthropic"), PLAIN),
    "local": (at_the_stub("local"), PLAIN),
    "embedded": (lambda stub, transport: provider_for(LMConfig("embedded", "knn"), choose(transport)), EMBEDDED),
}
"""How each is opened, and a request it can answer."""


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
@pytest.mark.parametrize("name", OPEN)
def test_the_provider_keeps_its_contract(stub: StubServer, name: str, transport: str) -> None:
    open_provider, request = OPEN[name]
    asyncio.run(check_provider(lambda: open_provider(stub, transport), request))


def test_every_provider_is_checked() -> None:
    assert {name.split()[0] for name in OPEN} == set(PROVIDERS)


def test_every_request_of_the_contract_was_a_valid_one(stub: StubServer) -> None:
    for open_provider, request in OPEN.values():
        asyncio.run(check_provider(lambda: open_provider(stub, "aiohttp"), request))  # noqa: B023
    counts: dict[str, Any] = stub.stats()
    assert (counts["invalid"], counts["requests"] > 80) == (0, True)
