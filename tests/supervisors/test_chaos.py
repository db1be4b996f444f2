"""The short version of `tests.chaos.actors`: random deaths of every kind under load."""

from __future__ import annotations

import random

from tests.chaos.actors import trial


def test_deaths_notices_and_restarts_are_equal_and_no_answer_is_lost() -> None:
    seed = random.randrange(1_000_000)
    found = trial(3.0, seed)
    assert not found.complaints, f"seed {seed}: {found}"
    assert len(found.deaths) > 20
