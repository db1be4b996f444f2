"""The plugin as a stranger's project has it: its own files, its own configuration, its own run of pytest."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

PLUGIN = "supervisors.pytest_plugin"
QUICKLY = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")

HEAD = """
import threading, pytest
from supervisors import *

class Counter(Actor):
    def init(self, value=0):
        self.value = value
    def add(self, n):
        self.value += n
        return self.value
    def divide(self, by):
        return self.value // by

STAY = threading.Event()
KEPT = []
"""

TAIL = """
def test_last():
    '''Lets everything end.'''
    STAY.set()
    for kept in KEPT:
        kept.close()
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """What pytest says of these tests, with these lines of configuration."""
    pytester.makepyfile(HEAD + tests + TAIL)
    pytester.makeini("\n".join(["[pytest]", "supervisors_settling = 0.1", *options]))
    return pytester.runpytest_inprocess("-p", PLUGIN, *QUICKLY)


def test_the_distribution_registers_the_plugin() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    registered = project["entry-points"]["pytest11"]
    assert registered == {PLUGIN: PLUGIN}  # by its own name: `-p` and `pytest_plugins` then find it loaded
    assert import_module(PLUGIN).__doc__


def test_the_fixtures_are_there(pytester: pytest.Pytester) -> None:
    tests = """
def test_clock_and_system(clock, system):
    clock.advance(2.0)
    assert (clock.now(), system.state) == (2.0, "running")

def test_a_child_comes_back(start_supervised, system):
    ref = start_supervised(ChildSpec("counter", Counter, (42,), name=system.via("counter")))
    for _ in range(20):
        with pytest.raises(ActorDied):
            system.via("counter").call(Counter.divide, 0)
        system.registry.arrival("counter").get(5)
    assert system.via("counter").call(Counter.add, 0) == 42
    assert not ref.is_alive()

def test_a_class_will_do(start_supervised):
    assert start_supervised(Counter, 5, id="five").call(Counter.add, 1) == 6

ENDED = []

class Ends(Counter):
    def terminate(self, exit):
        ENDED.append((self.value, exit))

def test_children_of_a_test(start_supervised):
    for value in (1, 2):
        start_supervised(Ends, value, id=value)

def test_were_stopped_after_it_in_reverse_order():
    assert ENDED == [(2, Shutdown()), (1, Shutdown())]
"""
    run(pytester, tests).assert_outcomes(passed=6)


def test_what_a_test_leaves_behind_fails_it_and_is_named(pytester: pytest.Pytester) -> None:
    tests = """
def test_thread(clock):
    threading.Thread(target=STAY.wait, name="straggler", daemon=True).start()

def test_actor(clock):
    kernel = Kernel(name="forgetful")
    KEPT.append(kernel)
    kernel.spawn(Counter)

def test_timer(clock):
    KEPT.append(clock)
    clock.call_at(60.0, KEPT.clear)

def test_zombie(system):
    class Stuck(Actor):
        def hang(self, began):
            began.set()
            STAY.wait(60)
    began = threading.Event()
    ref = system.spawn(Stuck)
    ref.cast(Stuck.hang, began)
    began.wait(5)
    ref.fence()

def test_nothing(system):
    assert system.spawn(Counter).call(Counter.add, 1) == 1
"""
    result = run(pytester, tests)
    result.assert_outcomes(passed=6, errors=4)
    for said in ("*thread 'straggler'*", "*actor Counter#* of kernel 'forgetful'*", "*timer for list.clear*"):
        result.stdout.fnmatch_lines([said])
    result.stdout.fnmatch_lines(["*zombie 0 of kernel 'system'*"])


STRAY = """
def test_stray():
    threading.Thread(target=STAY.wait, name="straggler", daemon=True).start()
"""


@pytest.mark.parametrize(("mode", "errors"), [("used", 0), ("all", 1), ("none", 0)])
def test_a_project_says_which_tests_are_checked(pytester: pytest.Pytester, mode: str, errors: int) -> None:
    run(pytester, STRAY, f"supervisors_leaks = {mode}").assert_outcomes(passed=2, errors=errors)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("supervisors_leaks = some", "*supervisors_leaks cannot be 'some'; allowed: used, all, none*"),
        ("supervisors_settling = soon", "*supervisors_settling cannot be 'soon'; allowed: seconds >= 0*"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(pytester: pytest.Pytester, line: str, said: str) -> None:
    pytester.makepyfile(HEAD + TAIL)
    pytester.makeini(f"[pytest]\n{line}")
    result = pytester.runpytest_inprocess("-p", PLUGIN, *QUICKLY)
    result.stderr.fnmatch_lines([said])


def test_a_project_may_have_a_check_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import pytest

@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
"""
    )
    run(pytester, STRAY.replace("stray()", "stray(clock)")).assert_outcomes(passed=2)


def test_a_project_may_name_the_plugin_that_is_loaded_already(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(f'pytest_plugins = ("{PLUGIN}",)')
    run(pytester, "def test_clock(clock):\n    assert clock.now() == 0.0\n").assert_outcomes(passed=2)
