"""Runtimes on the test server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspy_actors.runtime import Runtime
from tests.dspy_actors.over_http import lm
from tests.dspy_actors.programs import PATIENCE
from tests.server.client import StubServer


@pytest.fixture(params=["httpx", "aiohttp"])
def rt(request: pytest.FixtureRequest, stub: StubServer) -> Iterator[Runtime]:
    with Runtime(lm=lm(stub), transport=request.param, deadline=PATIENCE) as running:
        yield running


@pytest.fixture
def fast(stub: StubServer) -> Iterator[Runtime]:
    """One transport, where the transport is not the point."""
    with Runtime(lm=lm(stub), transport="aiohttp", deadline=PATIENCE) as running:
        yield running
