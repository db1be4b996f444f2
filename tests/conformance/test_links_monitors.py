"""Section K: monitors, links, exit signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from supervisors import links
from supervisors.actor import Down, Monitor
from supervisors.errors import ActorDied
from supervisors.exits import Killed, Normal
from supervisors.kernel import Kernel
from supervisors.links import ExitSignal
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.testing import Log, wait_until
from tests.conformance.actors import ENDS, KINDS, Gate, LoopWorker, Worker, finish, queued, worker
from tests.conformance.words import BOOM, EXITS, down, recorded, word

kinds = pytest.mark.parametrize("cls", KINDS)
ends = pytest.mark.parametrize(("cls", "how"), ENDS)


class Watcher(Worker):
    """Watches others and logs their ends as words."""

    def watch(self, ref: Ref[Any]) -> Monitor:
        return self.monitor(ref)

    def unwatch(self, monitor: Monitor) -> bool:
        return self.demonitor(monitor)

    def on_info(self, message: Any) -> None:
        self.log.add(word(message.exit) if isinstance(message, Down) else message)


def watcher(kernel: Kernel, log: Log) -> Ref[Watcher]:
    ref = kernel.spawn(Watcher, "w", log)
    log.clear()
    return ref


def heard(kernel: Kernel, target: Ref[Any], how: str | None = None, times: int = 1) -> list[Any]:
    """What a watcher of `target` hears when it ends so."""
    log = Log()
    ref = watcher(kernel, log)
    for _ in range(times):
        ref.call(Watcher.watch, target)
    if how is not None:
        finish(target, how)
    ref.call(Worker.hello)
    return log.events


@ends
def test_k01_a_monitor_tells_the_end_once_with_its_reason(kernel: Kernel, cls: type[Worker], how: str) -> None:
    assert heard(kernel, worker(kernel, cls=cls), how) == [recorded("K01")[how]]


@ends
def test_k01_an_end_is_told_once(kernel: Kernel, cls: type[Worker], how: str) -> None:
    log = Log()
    ref = worker(kernel, cls=cls)
    ref.mailbox.watch("test", lambda life: log.add("told"))
    finish(ref, how)

    assert log == ["told"]


@kinds
def test_k02_a_monitor_of_the_dead_tells_noproc_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    dead = worker(kernel, cls=cls)
    finish(dead)

    assert heard(kernel, dead) == recorded("K02")[:1]


@kinds
def test_k03_the_end_of_a_killed_actor_is_killed(kernel: Kernel, cls: type[Worker]) -> None:
    assert heard(kernel, worker(kernel, cls=cls), "killed") == [recorded("K03")]


def test_k04_two_monitors_tell_twice_and_are_two(kernel: Kernel) -> None:
    target, ref = worker(kernel), watcher(kernel, Log())
    first, second = ref.call(Watcher.watch, target), ref.call(Watcher.watch, target)

    assert {"downs": heard(kernel, target, "crash", times=2), "differ": first is not second} == recorded("K04")


def test_k05_a_demonitor_takes_back_a_notice_that_is_on_its_way(kernel: Kernel) -> None:
    log = Log()
    target, ref = worker(kernel), watcher(kernel, log)
    monitor = ref.call(Watcher.watch, target)
    with Gate() as gate:
        ref.cast(Worker.hold, gate)
        gate.reached()
        taken_back = ref.send_request(Watcher.unwatch, monitor)
        finish(target)
        queued(ref, 2)
    taken_back.get(5)
    ref.call(Worker.hello)

    assert bool(log.events) == recorded("K05")["flush"]["stays"]


def test_k05_a_demonitor_after_the_notice_was_handled_says_so(kernel: Kernel) -> None:
    log = Log()
    target, ref = worker(kernel), watcher(kernel, log)
    monitor = ref.call(Watcher.watch, target)
    finish(target)
    log.wait_for("crash")

    assert ref.call(Watcher.unwatch, monitor) == recorded("K05")["flush_info"]["answer"]


def test_k06_after_a_demonitor_nothing_comes(kernel: Kernel) -> None:
    log = Log()
    target, ref = worker(kernel), watcher(kernel, log)
    monitor = ref.call(Watcher.watch, target)
    in_time = ref.call(Watcher.unwatch, monitor)
    finish(target)
    ref.call(Worker.hello)

    assert {"in_time": in_time, "down": bool(log.events)} == recorded("K06")


class Trapping(Watcher):
    """Logs the exit signals it gets as words."""

    trap_exit = True

    def on_info(self, message: Any) -> None:
        if isinstance(message, ExitSignal):
            self.log.add(f"exit {word(message.exit)}")
        else:
            super().on_info(message)


def answers(ref: Ref[Any]) -> str:
    """`alive`, or how it ended."""
    try:
        ref.call(Worker.hello)
    except ActorDied:
        return down(ref)
    return "alive"


@kinds
def test_k07_a_normal_exit_signal_is_ignored(kernel: Kernel, cls: type[Worker]) -> None:
    ref = worker(kernel, cls=cls)
    links.exit(ref, Normal())

    assert answers(ref) == recorded("K07")


@kinds
@pytest.mark.parametrize("how", ["shutdown", "shutdown done", "crash"])
def test_k08_any_other_exit_signal_ends_it_with_that_reason(kernel: Kernel, cls: type[Worker], how: str) -> None:
    ref = worker(kernel, cls=cls)
    links.exit(ref, EXITS[how])

    assert answers(ref) == recorded("K08")[how]


def test_k09_who_traps_exits_gets_messages_but_a_kill_cannot_be_trapped(kernel: Kernel) -> None:
    log = Log()
    ref = worker(kernel, log, Trapping)
    for how in ("normal", "shutdown", "crash"):
        links.exit(ref, EXITS[how])
    ref.call(Worker.hello)
    links.exit(ref, Killed())

    assert {"log": log.events, "killed": answers(ref)} == recorded("K09")


def peer_of(kernel: Kernel, cls: type[Worker], how: str) -> str:
    """What becomes of the linked peer of one that ends so."""
    peer, ending = worker(kernel, cls=cls), worker(kernel, cls=cls)
    links.link(peer, ending)
    finish(ending, how)
    return answers(peer)


@kinds
def test_k10_the_normal_end_of_a_linked_peer_is_nothing(kernel: Kernel, cls: type[Worker]) -> None:
    assert peer_of(kernel, cls, "normal") == recorded("K10")


@kinds
@pytest.mark.parametrize("how", ["shutdown", "shutdown done", "crash", "killed"])
def test_k11_any_other_end_of_a_linked_peer_is_the_same_end(kernel: Kernel, cls: type[Worker], how: str) -> None:
    assert peer_of(kernel, cls, how) == recorded("K11")[how]


def test_k12_a_link_to_the_dead_is_a_signal_of_noproc(kernel: Kernel) -> None:
    log = Log()
    ref, dead = worker(kernel, log, Trapping), worker(kernel)
    finish(dead)
    links.link(ref, dead)
    ref.call(Worker.hello)

    assert log == [f"exit {recorded('K12')}"]


@kinds
def test_k13_after_an_unlink_an_end_is_nothing(kernel: Kernel, cls: type[Worker]) -> None:
    assert recorded("K13") == "nothing"
    peer, ending = worker(kernel, cls=cls), worker(kernel, cls=cls)
    links.link(peer, ending)
    links.unlink(peer, ending)
    finish(ending, "crash")

    assert answers(peer) == "alive"


@kinds
@pytest.mark.parametrize("how", ["shutdown", "shutdown done", "crash"])
def test_k08_an_exit_ends_an_actor_with_that_reason(kernel: Kernel, cls: type[Worker], how: str) -> None:
    ref = worker(kernel, cls=cls)
    ref.exit(EXITS[how])

    assert down(ref) == recorded("K08")[how]


@kinds
def test_k14_what_an_actor_sent_comes_before_the_notice_of_its_end(kernel: Kernel, cls: type[Worker]) -> None:
    class Sender(cls):  # type: ignore[misc, valid-type]
        def send_and_crash(self, to: Ref[Any]) -> None:
            for number in (1, 2, 3):
                to.cast(Worker.note, number)
            raise BOOM

    log = Log()
    ref = watcher(kernel, log)
    for _ in range(20):
        target: Ref[Any] = worker(kernel, cls=Sender)
        ref.call(Watcher.watch, target)
        gone = target.down()
        target.cast(Sender.send_and_crash, ref)
        gone.get(5)
    ref.call(Worker.hello)

    assert log.events == [*recorded("K14")[0], "crash"] * 20


@kinds
def test_k14_a_caller_has_its_answer_before_the_notice(kernel: Kernel, cls: type[Worker]) -> None:
    log = Log()
    ref = watcher(kernel, log)
    target: Ref[Any] = worker(kernel, cls=cls)
    ref.call(Watcher.watch, target)
    gone = target.down()
    with Gate() as gate:
        target.cast(Worker.hold, gate)
        gate.reached()
        reply: Reply[Any] = target.send_request(Worker.end, Normal(), "bye")
        reply.add_done_callback(lambda done: log.add(done.take()))
    gone.get(5)
    ref.call(Worker.hello)

    assert log == ["bye", "normal"]


@ends
def test_k15_the_registry_has_forgotten_the_dead_before_its_end_is_told(
    kernel: Kernel, cls: type[Worker], how: str
) -> None:
    log = Log()
    registry = Registry(listeners=[lambda event: log.add(type(event).__name__)])
    ref = kernel.spawn(cls, "a", Log(), name=registry.via("named"))
    ref.down().add_done_callback(lambda _: log.add("down"))
    finish(ref, how)

    assert log == ["Registered", "Unregistered", "down"]


@ends
def test_k15_the_name_is_free_before_the_end_is_told(kernel: Kernel, cls: type[Worker], how: str) -> None:
    name, seen = Registry().via("named"), []
    ref = kernel.spawn(cls, "a", Log(), name=name)
    ref.down().add_done_callback(lambda _: seen.append(name.whereis()))
    finish(ref, how)

    assert (seen == [None]) is recorded("K15")


def test_k16_the_end_of_the_parent_ends_also_who_traps_exits(kernel: Kernel) -> None:
    log, parent = Log(), worker(kernel)
    ref = kernel.spawn(Trapping, "a", log, parent=parent)
    log.clear()
    links.exit(ref, EXITS["crash"])
    ref.call(Worker.hello)
    stranger = log.events
    log.clear()
    finish(parent, "shutdown")

    assert {"stranger": stranger, "parent": down(ref), "log": log.events} == recorded("K16")


def test_k17_an_actor_can_end_itself_normally(kernel: Kernel) -> None:
    class Quits(Worker):
        def quit(self) -> None:
            self.ref.exit(Normal())

    ref = worker(kernel, cls=Quits)
    ref.cast(Quits.quit)  # type: ignore[arg-type]

    assert down(ref) == recorded("K17")


class Begins(LoopWorker):
    """Is told to end in the moment in which its coroutine is about to begin."""

    def work(self, end: Callable[[Ref[Any]], object]) -> Any:
        end(self.ref)
        return asyncio.Event().wait()

    async def breathe(self) -> None:
        await asyncio.sleep(0)


@pytest.fixture(params=["the loop's first coroutine", "a later one"])
def begins(kernel: Kernel, request: pytest.FixtureRequest) -> Ref[Any]:
    """An actor whose coroutine will be run in a task of its own, or in one that the loop keeps ready."""
    if request.param == "a later one":
        for _ in range(3):
            worker(kernel, cls=Begins).call(Begins.breathe)
    return worker(kernel, cls=Begins)


def test_k03_a_kill_ends_also_a_coroutine_that_is_about_to_begin(kernel: Kernel, begins: Ref[Any]) -> None:
    zombies: list[int] = []

    def kill(ref: Ref[Any]) -> None:
        ref.fence()
        zombies.append(kernel.zombies)

    begins.cast(Begins.work, kill)
    down(begins)

    wait_until(lambda: zombies and kernel.zombies == 0)
    assert zombies == [1]


def test_k08_an_exit_ends_also_a_coroutine_that_is_about_to_begin(begins: Ref[Any]) -> None:
    begins.cast(Begins.work, lambda ref: ref.exit(EXITS["shutdown"]))

    assert down(begins) == recorded("K08")["shutdown"]
