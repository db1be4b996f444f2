"""Both transports against the same contract, and what only one of them has."""

from __future__ import annotations

import asyncio

import pytest

from dspy_actors.lm.transports.base import TransportFactory
from dspy_actors.lm.transports.choose import choose
from dspy_actors.testing.transports import TRANSPORT_CHECKS, Check

TRANSPORTS = ("httpx", "aiohttp")


@pytest.fixture(params=TRANSPORTS)
def factory(request: pytest.FixtureRequest) -> TransportFactory:
    return choose(request.param)


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_a_transport_keeps_its_contract(factory: TransportFactory, check: Check) -> None:
    asyncio.run(check(factory))
