"""What a loop actor has started beside its mailbox ends with it, also when it is fenced while it is idle."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import pytest

from supervisors import steps
from supervisors.actor import Actor
from supervisors.errors import StartFailed
from supervisors.exits import Crash
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.supervisors.actors import idle


class Keeper(Actor):
    dispatcher: ClassVar[str] = "loop"

    def init(self, ended: Reply[str]) -> None:
        self.start_task(self._keep(ended))

    async def _keep(self, ended: Reply[str]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set("cancelled")
            raise

    def ping(self) -> str:
        return "pong"


def test_the_tasks_of_an_idle_loop_actor_are_cancelled_when_it_is_fenced(kernel: Kernel) -> None:
    ended: Reply[str] = Reply()
    ref = kernel.spawn(Keeper, ended)
    ref.call(Keeper.ping)

    ref.fence()

    assert ended.get(2.0) == "cancelled"


def test_an_idle_loop_actor_that_is_fenced_is_no_zombie(kernel: Kernel) -> None:
    ref = kernel.spawn(Keeper, Reply())
    ref.call(Keeper.ping)

    idle(ref).fence()

    assert kernel.zombies == 0


class FailsToStart(Keeper):
    """Its `init` has started a task already as it fails, or as somebody tells it to end."""

    def init(self, ended: Reply[str], by_exit: bool = False) -> None:
        super().init(ended)
        if not by_exit:
            raise ValueError("no")
        self.ref.exit(Crash(ValueError("no")))


@pytest.mark.parametrize("by_exit", [False, True])
def test_a_task_of_an_init_that_failed_is_cancelled(kernel: Kernel, by_exit: bool) -> None:
    ended: Reply[str] = Reply()
    with pytest.raises(StartFailed):
        kernel.spawn(FailsToStart, ended, by_exit)

    assert ended.get(2.0) == "cancelled"


class Held(Keeper):
    def hold(self, began: threading.Event, go: threading.Event) -> None:
        began.set()
        go.wait(5.0)


def test_the_tasks_are_cancelled_too_where_its_handler_ends_at_the_moment_of_the_fence(kernel: Kernel) -> None:
    ended: Reply[str] = Reply()
    began, go = threading.Event(), threading.Event()
    ref = kernel.spawn(Held, ended)
    ref.cast(Held.hold, began, go)
    assert began.wait(2.0)

    def step(name: str, subject: object) -> None:
        if name == "fence:counting":
            go.set()
            wait_until(lambda: not ref.mailbox.own.locked())

    with steps.installed(step):
        ref.fence()

    assert ended.get(2.0) == "cancelled"
    assert kernel.zombies == 0


class TooLate(Actor):
    """Starts a task after its end: somebody has fenced it in the middle of a handler, or of its `init`."""

    dispatcher: ClassVar[str] = "loop"

    def init(self, ended: Reply[str], at_once: bool) -> None:
        self.ended = ended
        if at_once:
            self.begin()

    def begin(self) -> None:
        self.ref.fence()
        self.start_task(self._keep())

    async def _keep(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set("cleaned up")


def test_a_task_that_is_started_after_the_fence_may_clean_up_and_ends(kernel: Kernel) -> None:
    ended: Reply[str] = Reply()
    ref = kernel.spawn(TooLate, ended, False)
    ref.cast(TooLate.begin)

    assert ended.get(2.0) == "cleaned up"


def test_a_task_that_is_started_in_an_init_that_was_fenced_ends_too(kernel: Kernel) -> None:
    ended: Reply[str] = Reply()
    with pytest.raises(StartFailed):
        kernel.spawn(TooLate, ended, True)

    assert ended.get(2.0) == "cleaned up"
