"""Beyond OTP: too many fenced children whose threads do not come back end their supervisor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import SpecError
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import BRUTAL_KILL, ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import Log, wait_until
from tests.supervisors.actors import Background
from tests.supervisors.workers import (
    TEMPORARY,
    InlineWorker,
    LoopWorker,
    Worker,
    child,
    gone,
    ids,
    spec,
    supervise,
)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set at the end of the test, so that all threads come back."""
    event = threading.Event()
    yield event
    event.set()


def stuck(ref: Ref[Any], release: threading.Event) -> Ref[Any]:
    """The actor sits in its code, and is fenced."""
    began = threading.Event()
    ref.cast(Worker.hang, release, began)
    assert began.wait(5)
    ref.fence()
    return ref


@pytest.mark.parametrize("cls", [Worker, InlineWorker])
def test_more_zombies_than_allowed_end_the_supervisor(
    kernel: Kernel, release: threading.Event, cls: type[Worker]
) -> None:
    sup = supervise(kernel, [spec("a", Log(), cls), spec("b", Log(), cls)], max_zombies=1)
    stuck(child(sup, "a"), release)
    alive = ids(sup)
    stuck(child(sup, "b"), release)
    assert (alive, gone(sup)) == (["a", "b"], Shutdown("max_zombies"))
    release.set()
    wait_until(lambda: kernel.zombies == 0)


def test_zombies_whose_threads_came_back_do_not_count(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_zombies=1, max_restarts=9)
    for _ in range(4):
        release = threading.Event()
        ref = stuck(child(sup, "a"), release)
        release.set()
        wait_until(lambda ref=ref: not ref.mailbox.own.locked())  # type: ignore[misc]
    assert ids(sup) == ["a"]
    wait_until(lambda: kernel.zombies == 0)


def test_without_a_cap_there_may_be_any_number(kernel: Kernel, release: threading.Event) -> None:
    sup = supervise(kernel, [spec("a", Log())], max_restarts=9)
    for _ in range(4):
        stuck(child(sup, "a"), release)
    assert ids(sup) == ["a"]
    release.set()
    wait_until(lambda: kernel.zombies == 0)


def test_what_runs_on_a_loop_is_no_lost_thread(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), LoopWorker, shutdown=BRUTAL_KILL)], max_zombies=0)
    child(sup, "a").fence()
    assert ids(sup) == ["a"]


def test_a_child_that_does_not_start_in_time_counts(
    still: Kernel, clock: ManualClock, release: threading.Event
) -> None:
    began = threading.Event()

    class Hangs(Worker):
        def init(self) -> None:  # type: ignore[override]
            began.set()
            release.wait(10)

    sup = supervise(still, max_zombies=0)
    made = ChildSpec("a", Hangs, start_timeout=1.0)
    starting = Background(sup.within(None).call, Supervisor.start_child, made)
    began.wait(5)
    while starting.thread.is_alive():
        clock.advance(1.0)
    with pytest.raises(Exception, match="did not"):
        starting.value()
    assert gone(sup) == Shutdown("max_zombies")
    release.set()
    wait_until(lambda: still.zombies == 0)


def test_a_child_that_does_not_stop_in_time_counts(still: Kernel, clock: ManualClock, release: threading.Event) -> None:
    sup = supervise(still, [spec("a", Log(), shutdown=1.0)], max_zombies=0)
    began = threading.Event()
    child(sup, "a").cast(Worker.hang, release, began)
    began.wait(5)
    stopping = Background(sup.within(None).call, Supervisor.terminate_child, "a")
    while stopping.thread.is_alive():
        clock.advance(1.0)
    assert gone(sup) == Shutdown("max_zombies")
    release.set()
    wait_until(lambda: still.zombies == 0)


def test_a_supervisor_that_ends_with_zombies_ends_as_it_should(kernel: Kernel, release: threading.Event) -> None:
    sup = supervise(kernel, [spec("a", Log(), shutdown=0.0)], max_zombies=0)
    began = threading.Event()
    child(sup, "a").cast(Worker.hang, release, began)
    began.wait(5)
    sup.exit(Shutdown("home"))
    assert gone(sup) == Shutdown("home")
    release.set()
    wait_until(lambda: kernel.zombies == 0)


def test_a_dynamic_supervisor_has_a_cap_too(kernel: Kernel, release: threading.Event) -> None:
    sup = kernel.spawn(DynamicSupervisor, max_zombies=0)
    stuck(sup.call(DynamicSupervisor.start_child, spec("a", Log(), restart=TEMPORARY)), release)
    assert gone(sup) == Shutdown("max_zombies")
    release.set()
    wait_until(lambda: kernel.zombies == 0)


def test_a_system_with_too_many_zombies_fails(release: threading.Event) -> None:
    with System(max_zombies=1) as system:
        refs = [stuck(system.spawn(Worker, name, Log()), release) for name in "ab"]
        assert system.wait(5)
        release.set()
        wait_until(lambda: system.kernel.zombies == 0)
    assert (system.failure, len(refs)) == (Shutdown("max_zombies"), 2)


@pytest.mark.parametrize("cap", [-1, 1.5, True, "many"])
def test_a_cap_is_a_number_of_zombies(kernel: Kernel, cap: Any) -> None:
    for make in (
        lambda: supervise(kernel, max_zombies=cap),
        lambda: kernel.spawn(DynamicSupervisor, max_zombies=cap),
        lambda: System(max_zombies=cap),
    ):
        with pytest.raises(Exception, match="max_zombies cannot be"):
            make()


def test_a_bad_cap_is_a_spec_error() -> None:
    with pytest.raises(SpecError):
        System(max_zombies=-1)
