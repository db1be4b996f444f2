"""Fixtures of all tests, and the check after each that nothing it started is left: threads, sockets, tasks, actors."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.leaks import left, seen
from tests.server.client import StubServer

pytest_plugins = ("supervisors.pytest_plugin", "pytester")
"""The first has `clock`, `system` and `start_supervised`; where we are installed pytest has loaded it already."""

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
"""No property fails because the machine is busy."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--switch-interval=1e-5`: threads take turns five hundred times as often, so that races are met."""
    said = "seconds after which a running thread lets another one run, for the whole run (Python's own: 5e-3)"
    parser.addoption("--switch-interval", type=float, default=None, metavar="SECONDS", help=said)


def pytest_configure(config: pytest.Config) -> None:
    seconds = config.getoption("--switch-interval")
    if seconds is not None:
        sys.setswitchinterval(seconds)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the tests ran on, also with `-q`."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    terminalreporter.write_line(f"{version}, threads switch every {sys.getswitchinterval():g} s")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail the test when something that was not there before it is there after it."""
    before = seen()
    yield
    rest = left(before)
    if rest:
        pytest.fail("the test left behind:\n  " + "\n  ".join(rest), pytrace=False)


@pytest.fixture(autouse=True)
def reports_go_where_they_went() -> Iterator[None]:
    """structlog's `capture_logs` leaves it configured, to standard output: reports of later tests would go there."""
    yield
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[StubServer]:
    """The model provider of `tests.server`, one process for the session. Tests take `stub`."""
    with StubServer() as running:
        yield running


@pytest.fixture
def stub(server: StubServer) -> StubServer:
    """The provider, reset: it has seen nothing and answers in good health."""
    server.reset()
    return server
