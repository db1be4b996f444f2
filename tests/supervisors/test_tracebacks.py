"""One exception object that is raised again and again: its traceback names each way to it once."""

from __future__ import annotations

import asyncio
import traceback
import weakref
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.errors import ActorDied, StartFailed
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.testing import wait_until
from supervisors.tracebacks import WAYS, without_repeats
from tests.supervisors.workers import supervise

TIMES = 5


class Crasher(Actor):
    """Crashes with the one exception that it was given."""

    def init(self, error: Exception, fails: bool = False) -> None:
        self.error = error
        if fails:
            raise error

    def boom(self) -> Any:
        raise self.error

    def deeper(self) -> Any:
        return self.boom()

    def pass_on(self, other: Ref[Any]) -> None:
        try:
            other.call(Crasher.boom)
        except ActorDied as died:
            raise died.exit.error from None  # type: ignore[union-attr]  # it crashed


class CrasherOnLoop(Crasher):
    dispatcher = "loop"

    async def boom(self) -> None:
        await asyncio.sleep(0)
        raise self.error

    async def deeper(self) -> None:
        await self.boom()


class BadEnd(Crasher):
    def terminate(self, exit: object) -> None:
        raise self.error


kinds = pytest.mark.parametrize("cls", [Crasher, CrasherOnLoop])


@pytest.fixture
def error() -> Exception:
    return ValueError("kept somewhere")


def names(error: BaseException) -> list[str]:
    """The functions of its traceback, from the one that caught it to the one that raised it."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def crash(kernel: Kernel, error: Exception, cls: type[Crasher], method: Any) -> None:
    with pytest.raises(ActorDied):
        kernel.spawn(cls, error).call(method)


@kinds
def test_crashes_on_one_way_leave_it_once(kernel: Kernel, error: Exception, cls: type[Crasher]) -> None:
    for _ in range(TIMES):
        crash(kernel, error, cls, cls.boom)
    assert names(error)[1:] == ["boom"]


def test_the_way_of_the_last_crash_comes_first_and_each_other_way_once(kernel: Kernel, error: Exception) -> None:
    for _ in range(TIMES):
        crash(kernel, error, Crasher, Crasher.boom)
        crash(kernel, error, Crasher, Crasher.deeper)
    assert names(error) == ["handle", "deeper", "boom", "handle", "boom"]


def test_failing_starts_leave_one_way(kernel: Kernel, error: Exception) -> None:
    for _ in range(TIMES):
        with pytest.raises(StartFailed):
            kernel.spawn(Crasher, error, fails=True)
    assert names(error) == ["handle", "init"]


def test_failing_start_functions_leave_one_way(kernel: Kernel, error: Exception) -> None:
    def start(kernel: Kernel) -> Ref[Crasher]:
        raise error

    sup = supervise(kernel)
    for _ in range(TIMES):
        with pytest.raises(StartFailed):
            sup.call(Supervisor.start_child, ChildSpec("a", start))
    assert names(error) == ["spawn", "start"]


def test_ways_that_take_turns_are_each_named_once(kernel: Kernel, error: Exception) -> None:
    for _ in range(TIMES):
        crash(kernel, error, Crasher, Crasher.boom)
        kernel.spawn(BadEnd, error).stop()
        crash(kernel, error, CrasherOnLoop, CrasherOnLoop.boom)
    assert sorted(names(error)) == ["_await_handler", "boom", "boom", "die", "handle", "terminate"]


def test_only_the_last_of_many_ways_are_named(kernel: Kernel, error: Exception) -> None:
    made = [type(f"Crasher{n}", (Crasher,), {"boom": _raiser(n)}) for n in range(WAYS + 2)]
    for cls in made:
        crash(kernel, error, cls, cls.boom)
    assert names(error) == ["handle", f"boom{WAYS + 1}", "handle", f"boom{WAYS}", "handle", f"boom{WAYS - 1}"]


def _raiser(n: int) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def boom{n}(self): raise self.error", scope)
    return scope[f"boom{n}"]


def test_failing_ends_leave_one_way(kernel: Kernel, error: Exception) -> None:
    for _ in range(TIMES):
        kernel.spawn(BadEnd, error).stop()
    assert names(error) == ["die", "terminate"]


def test_a_crash_that_is_passed_on_tells_where_it_began(kernel: Kernel, error: Exception) -> None:
    first, second = kernel.spawn(Crasher, error), kernel.spawn(Crasher, error)
    with pytest.raises(ActorDied):
        second.call(Crasher.pass_on, first)
    assert names(error) == ["handle", "pass_on", "handle", "boom"]


def test_the_dead_are_not_kept_alive_by_what_they_died_of(kernel: Kernel, error: Exception) -> None:
    def live_and_die() -> weakref.ref[Crasher]:
        ref = kernel.spawn(Crasher, error)
        actor = weakref.ref(ref.mailbox.actor)
        with pytest.raises(ActorDied):
            ref.call(Crasher.boom)
        return actor

    lives = [live_and_die() for _ in range(TIMES)]
    wait_until(lambda: all(life() is None for life in lives[:-1]))  # let go of a moment after the death was told


def test_an_exception_that_was_never_raised_stays_as_it_is(error: Exception) -> None:
    assert without_repeats(error) is error
    assert error.__traceback__ is None
