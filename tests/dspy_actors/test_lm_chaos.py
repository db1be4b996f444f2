"""The short version of `tests.chaos.lm_layer`: random deaths under load."""

from __future__ import annotations

import random

from tests.chaos.lm_layer import trial
from tests.server.client import StubServer


def test_random_deaths_under_two_hundred_calls_lose_none_and_leave_nothing_behind(stub: StubServer) -> None:
    seed = random.randrange(1_000_000)
    found = trial(stub, seconds=5.0, seed=seed)
    assert not found.complaints, f"seed {seed}: {found}"
    assert found.kills.total() >= 5
