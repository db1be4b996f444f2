"""A kernel for each test that wants one, closed after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisors.clock import ManualClock
from supervisors.kernel import Kernel
from tests.supervisors.workers import BOOM


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel on real time."""
    kernel = Kernel()
    yield kernel
    kernel.close(2.0)


@pytest.fixture
def still(clock: ManualClock) -> Iterator[Kernel]:
    """A kernel whose time stands still; its clock is the fixture `clock`."""
    kernel = Kernel(clock=clock)
    yield kernel
    kernel.close(2.0)


@pytest.fixture(autouse=True)
def a_boom_of_its_own() -> None:
    """`BOOM` is one object, which many tests raise; each is to begin without the traceback of the others."""
    BOOM.__traceback__ = None
