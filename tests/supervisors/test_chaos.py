"""The short versions of `tests.chaos.actors` and `tests.chaos.trees`: random deaths of every kind under load."""

from __future__ import annotations

import random

from tests.chaos import actors, trees


def test_deaths_notices_and_restarts_are_equal_and_no_answer_is_lost() -> None:
    seed = random.randrange(1_000_000)
    found = actors.trial(3.0, seed)
    assert not found.complaints, f"seed {seed}: {found}"
    assert len(found.deaths) > 20


def test_trees_that_end_and_come_back_leave_exactly_one_of_everybody() -> None:
    seed = random.randrange(1_000_000)
    found = trees.trial(2.0, seed)
    assert not found.complaints, f"seed {seed}: {found}"
    assert len(found.deaths) > 20
