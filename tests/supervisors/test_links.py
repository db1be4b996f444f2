"""Links and exit signals: who goes along with whom, and who only hears of it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from supervisors import links
from supervisors.exits import Crash, Exit, Killed, NoProc, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.links import ExitSignal
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.testing import Log
from tests.supervisors.actors import KINDS, Counter, spawn
from tests.supervisors.workers import BOOM, CRASH, child, end, ids, spec, supervise

kinds = pytest.mark.parametrize("cls", KINDS)
BAD: list[Exit] = [Shutdown(), Shutdown("done"), CRASH, Killed()]


class Linker(Counter):
    def tie(self, ref: Ref[Any]) -> None:
        self.link(ref)

    def untie(self, ref: Ref[Any]) -> None:
        self.unlink(ref)

    def send(self, ref: Ref[Any], exit: Exit) -> None:
        links.exit(ref, exit)

    def quit(self, exit: Exit) -> None:
        links.exit(self.ref, exit)

    def begin(self, cls: type[Counter]) -> Ref[Any]:
        return cls.start()


class Trapper(Linker):
    trap_exit = True


def finish(ref: Ref[Any], exit: Exit) -> None:
    """Let an actor end with `exit`."""
    if isinstance(exit, Killed):
        ref.fence()
    else:
        end(ref, exit)


def notes(ref: Ref[Any]) -> list[Any]:
    return ref.call(Counter.notes)


@kinds
@pytest.mark.parametrize("exit", BAD, ids=str)
def test_a_linked_actor_goes_along_with_the_same_exit(kernel: Kernel, cls: type[Counter], exit: Exit) -> None:
    a, b = spawn(kernel), spawn(kernel, cls)
    links.link(a, b)
    finish(a, exit)
    assert b.down().get(5) == exit


def test_a_link_works_both_ways(kernel: Kernel) -> None:
    a, b = spawn(kernel), spawn(kernel)
    links.link(a, b)
    finish(b, CRASH)
    assert a.down().get(5) == CRASH


def test_a_normal_end_of_a_linked_actor_is_nothing(kernel: Kernel) -> None:
    a, b = spawn(kernel), spawn(kernel)
    links.link(a, b)
    finish(a, Normal())
    assert b.call(Counter.add, 1) == 1


@pytest.mark.parametrize("exit", [Normal(), *BAD], ids=str)
def test_who_traps_exits_hears_of_it_and_lives(kernel: Kernel, exit: Exit) -> None:
    a, b = spawn(kernel), spawn(kernel, Trapper)
    b.call(Linker.tie, a)
    finish(a, exit)
    assert notes(b) == [ExitSignal(a, exit)]


def test_an_actor_may_begin_to_trap_exits(kernel: Kernel) -> None:
    class Later(Linker):
        def trap(self) -> None:
            self.trap_exit = True

    a, b = spawn(kernel), spawn(kernel, Later)
    b.call(Linker.tie, a)
    b.call(Later.trap)
    finish(a, CRASH)
    assert notes(b) == [ExitSignal(a, CRASH)]


def test_a_link_to_the_dead_is_a_signal_of_noproc(kernel: Kernel) -> None:
    dead, trapper, mortal = spawn(kernel), spawn(kernel, Trapper), spawn(kernel)
    finish(dead, Normal())
    links.link(trapper, dead)
    links.link(dead, mortal)
    assert notes(trapper) == [ExitSignal(dead, NoProc())]
    assert mortal.down().get(5) == NoProc()


def test_who_is_unlinked_does_not_go_along(kernel: Kernel) -> None:
    a, b = spawn(kernel), spawn(kernel, Linker)
    b.call(Linker.tie, a)
    b.call(Linker.untie, a)
    finish(a, CRASH)
    assert b.call(Counter.add, 1) == 1


def test_to_link_twice_is_to_link_once(kernel: Kernel) -> None:
    a, b = spawn(kernel), spawn(kernel, Trapper)
    for _ in range(2):
        b.call(Linker.tie, a)
    finish(a, CRASH)
    assert len(notes(b)) == 1


def test_an_actor_is_not_linked_to_itself(kernel: Kernel) -> None:
    a = spawn(kernel, Trapper)
    a.call(Linker.tie, a)
    assert not a.mailbox.watchers


def test_links_of_the_dead_are_forgotten(kernel: Kernel) -> None:
    a, b = spawn(kernel), spawn(kernel, Trapper)
    links.link(a, b)
    finish(a, CRASH)
    notes(b)
    assert not b.mailbox.watchers


def test_a_crash_runs_along_a_line_of_links(kernel: Kernel) -> None:
    line = [spawn(kernel) for _ in range(5)]
    for one, other in itertools.pairwise(line):
        links.link(one, other)
    finish(line[2], CRASH)
    assert [ref.down().get(5) for ref in line] == [CRASH] * 5


def test_names_are_free_when_the_signal_comes(kernel: Kernel) -> None:
    registry, seen = Registry(), Log()

    class Looker(Trapper):
        def on_info(self, message: Any) -> None:
            seen.add(registry.whereis("x"))

    a, b = spawn(kernel, Counter, name=registry.via("x")), spawn(kernel, Looker)
    links.link(a, b)
    finish(a, CRASH)
    seen.wait_for(None)


# exit signals


@kinds
def test_a_signal_of_normal_is_ignored(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    links.exit(ref, Normal())
    assert ref.call(Counter.add, 1) == 1


@kinds
@pytest.mark.parametrize("exit", [Shutdown(), Shutdown("done"), CRASH], ids=str)
def test_any_other_signal_ends_an_actor(kernel: Kernel, cls: type[Counter], exit: Exit) -> None:
    ref = spawn(kernel, cls)
    spawn(kernel, Linker).call(Linker.send, ref, exit)
    assert ref.down().get(5) == exit


@pytest.mark.parametrize("exit", [Normal(), Shutdown(), CRASH], ids=str)
def test_a_trapped_signal_is_a_message_that_says_who_sent_it(kernel: Kernel, exit: Exit) -> None:
    sender, ref = spawn(kernel, Linker), spawn(kernel, Trapper)
    sender.call(Linker.send, ref, exit)
    assert notes(ref) == [ExitSignal(sender, exit)]


def test_a_signal_from_outside_comes_from_nobody(kernel: Kernel) -> None:
    ref = spawn(kernel, Trapper)
    links.exit(ref, Shutdown())
    assert notes(ref) == [ExitSignal(None, Shutdown())]


def test_nobody_traps_killed(kernel: Kernel) -> None:
    log: list[Any] = []
    ref = spawn(kernel, Trapper, 0, log)
    links.exit(ref, Killed())
    assert (ref.down().get(5), log) == (Killed(), [])


@pytest.mark.parametrize("exit", [Normal(), Crash(BOOM)], ids=str)
def test_an_actor_that_signals_itself_ends(kernel: Kernel, exit: Exit) -> None:
    ref = spawn(kernel, Linker)
    ref.cast(Linker.quit, exit)
    assert ref.down().get(5) == exit


def test_a_signal_from_the_parent_is_not_trapped(kernel: Kernel) -> None:
    parent = spawn(kernel, Linker)
    ref = parent.call(Linker.begin, Trapper)
    parent.call(Linker.send, ref, Shutdown("home"))
    assert ref.down().get(5) == Shutdown("home")


def test_a_signal_to_the_dead_is_nothing(kernel: Kernel) -> None:
    ref = spawn(kernel)
    finish(ref, Normal())
    links.exit(ref, CRASH)
    assert ref.down().get(0) == Normal()


@pytest.mark.parametrize("exit", [Normal(), Shutdown(), CRASH], ids=str)
def test_a_supervisor_ignores_signals_from_others_than_its_parent(
    kernel: Kernel, exit: Exit, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log)])
    links.exit(sup, exit)
    child(sup, "a").call(type(child(sup, "a").mailbox.actor).hello)
    assert (ids(sup), log.events, capfd.readouterr().err) == (["a"], ["+a"], "")


def test_a_fenced_actor_sends_no_signals(kernel: Kernel) -> None:
    class Fencer(Linker):
        def strike(self, ref: Ref[Any]) -> None:
            self.ref.fence()
            links.exit(ref, CRASH)

    ref = spawn(kernel)
    spawn(kernel, Fencer).send_request(Fencer.strike, ref).wait(5, kernel.clock)
    assert ref.call(Counter.add, 1) == 1
