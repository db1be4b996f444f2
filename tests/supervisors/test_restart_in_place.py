"""A restart wakes no thread that it can do without; and what must not come of that."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.errors import ActorDied, CallCycle
from supervisors.exits import Exit, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.testing import wait_until
from tests.supervisors.actors import idle, in_thread
from tests.supervisors.workers import REST, child, gone, ids, state, supervise


class Where(Actor):
    """Knows in which thread its `init` ran; its second and later lives do what they are told in `init`."""

    def init(self, lives: list[str], later: Any = None) -> None:
        lives.append(threading.current_thread().name)
        if later is not None and len(lives) > 1:
            later(self)

    def crash(self) -> None:
        raise ValueError("as it was told to")

    def crash_here(self, lives: list[str]) -> None:
        lives.append(threading.current_thread().name)
        raise ValueError("as it was told to")


class InlineWhere(Where):
    inline = True


class Hanging:
    """What keeps a new life in its `init` until it is let go."""

    def __init__(self) -> None:
        self.began, self.over = threading.Event(), threading.Event()

    def __call__(self, actor: Actor) -> None:
        self.began.set()
        self.over.wait(10)


def crash(ref: Ref[Any]) -> str:
    """Crash the child by a call; the name of the caller's thread."""
    with pytest.raises(ActorDied):
        ref.call(Where.crash)
    return threading.current_thread().name


def left_alone(sup: Ref[Supervisor]) -> Ref[Any]:
    """The child, once nobody runs its supervisor: whoever crashes it then runs that one next."""
    found = child(sup, "a")
    idle(sup)
    return found


def come_back(sup: Ref[Supervisor], lives: list[str], number: int = 2) -> None:
    wait_until(lambda: len(lives) >= number)
    ids(sup)


# --- an inline child: in its caller's place -------------------------------------------------------------------------


def test_an_inline_child_comes_back_in_the_place_of_the_caller_that_crashed_it(kernel: Kernel) -> None:
    lives: list[str] = []
    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives,))])
    assert in_thread(crash, left_alone(sup)) == lives[1]


def test_when_the_caller_is_told_the_inline_child_is_back(still: Kernel) -> None:
    """Its time stands still: while the supervisor writes its report of the first crash, somebody runs it."""
    lives: list[str] = []
    sup = supervise(still, [ChildSpec("a", InlineWhere, (lives,))])

    def crash_twice() -> None:
        for number in (2, 3):
            crash(left_alone(sup))
            assert len(lives) == number

    in_thread(crash_twice)


@pytest.mark.parametrize("spare", [0, 1])
def test_the_last_straw_is_for_the_pool(kernel: Kernel, spare: int) -> None:
    lives: list[str] = []
    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives,))], max_restarts=spare)
    for _ in range(spare + 1):
        in_thread(crash, child(sup, "a"))
    assert gone(sup) == Shutdown("max_restarts")


def test_a_group_is_restarted_on_the_pool(kernel: Kernel) -> None:
    lives: list[str] = []
    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives,)), ChildSpec("b", Where, ([],))], REST)
    in_thread(crash, child(sup, "a"))
    come_back(sup, lives)
    assert "pool" in lives[1]


def test_no_child_is_restarted_on_the_callers_loop(kernel: Kernel) -> None:
    lives: list[str] = []
    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives,))])
    ref = child(sup, "a")

    async def crash_it() -> None:
        with pytest.raises(ActorDied):
            await ref.acall(Where.crash)

    in_thread(asyncio.run, crash_it())
    come_back(sup, lives)
    assert "pool" in lives[1]


def test_a_child_that_waits_for_whoever_crashed_it_is_told_at_once(kernel: Kernel) -> None:
    lives: list[str] = []
    found: list[BaseException] = []

    class Asker(Where):
        def ask(self, ref: Ref[Any]) -> str:
            return crash(ref)

        def hello(self) -> str:
            return "hello"

    asker = kernel.spawn(Asker, [])

    def ask_back(actor: Actor) -> None:
        try:
            asker.call(Asker.hello)
        except CallCycle as error:
            found.append(error)

    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives, ask_back))])
    asker.call(Asker.ask, left_alone(sup))
    assert len(found) == 1


def test_a_failing_init_in_the_callers_place_is_the_childs_failure(kernel: Kernel) -> None:
    lives: list[str] = []

    def fail(actor: Actor) -> None:
        if len(lives) < 4:
            raise SystemExit(1)

    sup = supervise(kernel, [ChildSpec("a", InlineWhere, (lives, fail))], max_restarts=10)
    in_thread(crash, child(sup, "a"))
    come_back(sup, lives, 4)
    assert isinstance(state(sup, "a"), Ref)


# --- a pool child: in the thread that ran the supervisor ------------------------------------------------------------


def test_a_pool_child_comes_back_in_the_thread_that_it_crashed_in(kernel: Kernel) -> None:
    lives: list[str] = []
    crashed: list[str] = []
    sup = supervise(kernel, [ChildSpec("a", Where, (lives,))])
    with pytest.raises(ActorDied):
        left_alone(sup).call(Where.crash_here, crashed)
    come_back(sup, lives)
    assert lives[1:] == crashed


def test_a_supervisor_is_deaf_until_init_is_done(kernel: Kernel) -> None:
    hanging = Hanging()
    sup = supervise(kernel, [ChildSpec("a", Where, ([], hanging))])
    crash(child(sup, "a"))
    assert hanging.began.wait(5)
    asked = sup.send_request(Supervisor.which_child, "a")
    assert not asked.wait(0.05, kernel.clock)
    hanging.over.set()
    assert isinstance(asked.get(5).ref, Ref)


def test_a_restart_that_takes_too_long_is_fenced_and_tried_again(kernel: Kernel) -> None:
    hanging, lives = Hanging(), list[str]()

    def hang_once(actor: Actor) -> None:
        if len(lives) == 2:
            hanging(actor)

    sup = supervise(kernel, [ChildSpec("a", Where, (lives, hang_once), start_timeout=0.05)])
    crash(child(sup, "a"))
    come_back(sup, lives, 3)
    assert isinstance(state(sup, "a"), Ref)
    wait_until(lambda: kernel.zombies == 1)  # counted by who fences it, while the supervisor tries again
    hanging.over.set()
    wait_until(lambda: kernel.zombies == 0)


def test_a_child_that_calls_its_supervisor_from_init_is_told_at_once(kernel: Kernel) -> None:
    found: list[BaseException] = []
    above: list[Ref[Supervisor]] = []

    def ask_above(actor: Actor) -> None:
        try:
            above[0].call(Supervisor.count_children)
        except CallCycle as error:
            found.append(error)

    above.append(supervise(kernel, [ChildSpec("a", Where, ([], ask_above))]))
    crash(child(above[0], "a"))
    wait_until(lambda: len(found) == 1)


def test_a_supervisor_that_is_stopped_meanwhile_ends_after_init(kernel: Kernel) -> None:
    hanging, lives = Hanging(), list[str]()
    sup = supervise(kernel, [ChildSpec("a", Where, (lives, hanging))])
    crash(child(sup, "a"))
    assert hanging.began.wait(5)
    sup.exit(Shutdown())
    hanging.over.set()
    assert gone(sup) == Shutdown()
    wait_until(lambda: kernel.live() == [])


def test_a_supervisor_that_is_fenced_meanwhile_leaves_nobody_behind(kernel: Kernel) -> None:
    hanging = Hanging()
    sup = supervise(kernel, [ChildSpec("a", Where, ([], hanging))])
    crash(child(sup, "a"))
    assert hanging.began.wait(5)
    sup.fence()
    hanging.over.set()
    wait_until(lambda: kernel.live() == [] and kernel.zombies == 0)


def test_a_child_that_crashes_right_after_its_restart_is_restarted_again(kernel: Kernel) -> None:
    lives: list[str] = []

    def crash_at_once(actor: Actor) -> None:
        if len(lives) < 4:
            actor.continue_with(Where.crash)

    sup = supervise(kernel, [ChildSpec("a", Where, (lives, crash_at_once))], max_restarts=10)
    crash(child(sup, "a"))
    come_back(sup, lives, 4)
    assert isinstance(state(sup, "a"), Ref)


def test_all_workers_may_hang_in_restarts_and_the_others_go_on(kernel: Kernel) -> None:
    hanging = [Hanging() for _ in range(4)]
    sups = [supervise(kernel, [ChildSpec("a", Where, ([], each))]) for each in hanging]
    for sup in sups:
        crash(child(sup, "a"))
    assert all(each.began.wait(5) for each in hanging)
    assert kernel.spawn(Where, []).is_alive()
    for each in hanging:
        each.over.set()
    assert all(isinstance(state(sup, "a"), Ref) for sup in sups)


def test_a_supervisor_with_handlers_of_its_own_does_nothing_by_halves(kernel: Kernel) -> None:
    seen: list[object] = []

    class Own(Supervisor):
        def child_ended(self, ref: Ref[Any], exit: Exit) -> None:
            super().child_ended(ref, exit)
            seen.append(self.which_child("a").ref)

    lives: list[str] = []
    sup: Ref[Any] = kernel.spawn(Own, [ChildSpec("a", Where, (lives,))], strategy=REST)
    crash(child(sup, "a"))
    come_back(sup, lives)
    assert len(seen) == 1
    assert isinstance(seen[0], Ref)
