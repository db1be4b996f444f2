"""pytest's plugin: a system, a clock and supervised children for a test, and a check that it leaves nothing behind.

    def test_a_counter_comes_back(start_supervised):
        counter = start_supervised(ChildSpec("counter", Counter))

Loaded by pytest itself where this distribution is installed. A test that uses one of these fixtures is checked: a
thread, an actor, a zombie or a timer that is there after it, and was not before, fails it and is named. With the
option `supervisors_leaks = all` in pytest's configuration every test is checked, with `none` no test;
`supervisors_settling` is how many seconds something has to end by itself, 3 if left out. A project that has a check
of its own overrides the fixture `nothing_is_left`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisors.clock import ManualClock
from supervisors.leaks import SETTLING, left, seen
from supervisors.ref import Ref
from supervisors.spec import ChildLike, child_spec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System

OPTION = "supervisors_leaks"
SECONDS = "supervisors_settling"
OURS = frozenset({"clock", "start_supervised", "system"})
OFTEN = 1_000_000
"""Restarts a second that a test's children may have, as in Elixir's ExUnit: a test crashes them on purpose."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest's hook."""
    said = "which tests must leave no thread, actor or timer: used (those with a fixture of supervisors), all, none"
    parser.addini(OPTION, said, default="used")
    parser.addini(SECONDS, "seconds that what a test started has to end after it", default=str(SETTLING))


def pytest_configure(config: pytest.Config) -> None:
    """pytest's hook. Raises UsageError for a value of the option that there is not."""
    if config.getini(OPTION) not in ("used", "all", "none"):
        raise pytest.UsageError(f"{OPTION} cannot be {config.getini(OPTION)!r}; allowed: used, all, none")
    if not re.fullmatch(r"\d+(\.\d*)?", config.getini(SECONDS)):
        raise pytest.UsageError(f"{SECONDS} cannot be {config.getini(SECONDS)!r}; allowed: seconds >= 0")


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when a thread, an actor or a timer that was not there before it is there after it."""
    mode = request.config.getini(OPTION)
    if mode == "none" or (mode == "used" and OURS.isdisjoint(request.fixturenames)):
        yield
        return
    before = seen()
    yield
    rest = left(before, settling=float(request.config.getini(SECONDS)))
    if rest:
        pytest.fail("the test left behind:\n  " + "\n  ".join(rest), pytrace=False)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until the test advances it."""
    return ManualClock()


@pytest.fixture
def system() -> Iterator[System]:
    """A running system on real time, shut down after the test."""
    with System() as running:
        yield running


@pytest.fixture
def start_supervised(system: System) -> Callable[..., Ref[Any]]:
    """`start_supervised(spec)` starts a child of the test's own supervisor, in `system`: its ref.

    Takes what `child_spec` takes: a spec, or a class with its arguments; and options of the spec by name. A child that
    crashes is restarted however often that is. All are stopped after the test, in reverse order. Raises as
    `Supervisor.start_child` does.
    """
    limits = {"strategy": Strategy.ONE_FOR_ONE, "max_restarts": OFTEN, "max_seconds": 1.0}
    supervisor = system.spawn(Supervisor, **limits)

    def start(child: ChildLike, *args: Any, **overrides: Any) -> Ref[Any]:
        spec = child_spec(child, *args, **overrides)
        return supervisor.within(spec.start_timeout + 5.0).call(Supervisor.start_child, spec)

    return start
