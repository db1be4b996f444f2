"""The tour of `dspy_actors.testing`: it runs, and what it lists is there."""

from __future__ import annotations

import doctest
import importlib
import re

from dspy_actors import testing


def test_the_tour_runs() -> None:
    done = doctest.testmod(testing)
    assert (done.failed, done.attempted > 0) == (0, True)


def test_what_the_tour_lists_is_there() -> None:
    listed = re.findall(r"^    (\w+)\.(\w+)  +\w", testing.__doc__ or "", re.MULTILINE)
    assert len(listed) == 8
    assert [
        name for file, name in listed if not hasattr(importlib.import_module(f"{testing.__name__}.{file}"), name)
    ] == []
