"""What tests are given here: a kernel that is closed after them, an event that is set, what structlog was told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

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


@pytest.fixture
def written() -> Iterator[list[dict[str, Any]]]:
    """What structlog was given."""
    found: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append(dict(fields))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    yield found
    structlog.reset_defaults()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event for plain functions to wait for; set at the end in any case."""
    event = threading.Event()
    yield event
    event.set()
