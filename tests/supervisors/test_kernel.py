"""The kernel: dispatchers by name, who lives, the end, fork."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.errors import (
    ActorDied,
    AlreadyStarted,
    CallCycle,
    CallTimeout,
    MailboxFull,
    SpecError,
    StartFailed,
    SupervisorsError,
    SystemStopped,
    UsedAfterFork,
)
from supervisors.exits import Killed, Normal, Shutdown, is_clean
from supervisors.kernel import Kernel
from supervisors.testing import wait_until
from tests.supervisors.actors import KINDS, Background, Counter, OnLoop, spawn


def test_live_lists_the_living_in_the_order_of_their_start(kernel: Kernel) -> None:
    refs = [spawn(kernel, cls) for cls in KINDS]
    refs.pop(1).stop()
    assert kernel.live() == refs


def test_close_shuts_down_whoever_lives() -> None:
    kernel = Kernel()
    logs: list[list[object]] = [[] for _ in KINDS]
    for cls, log in zip(KINDS, logs, strict=True):
        spawn(kernel, cls, 0, log)
    assert kernel.close(5.0)
    assert all(isinstance(end, Shutdown) for (end,) in logs)
    assert kernel.live() == []


def test_close_fences_who_does_not_end() -> None:
    kernel, go, began = Kernel(), threading.Event(), threading.Event()
    ref = spawn(kernel)
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    assert not kernel.close(0.05)
    assert ref.down().get(0) == Killed()
    go.set()


def test_closing_twice_is_harmless(kernel: Kernel) -> None:
    assert kernel.close()
    assert kernel.close()


def test_a_closed_kernel_refuses_everything(kernel: Kernel) -> None:
    ref = spawn(kernel)
    kernel.close()
    for use in (
        lambda: kernel.spawn(Counter),
        lambda: ref.call(Counter.add, 1),
        lambda: ref.cast(Counter.add, 1),
        lambda: ref.send_request(Counter.add, 1),
        lambda: kernel.install("x", LoopDispatcher("x")),
    ):
        with pytest.raises(SystemStopped):
            use()


def test_two_kernels_live_side_by_side(kernel: Kernel) -> None:
    other = Kernel(name="other")
    ref, theirs = spawn(kernel), spawn(other)
    other.close()
    assert not theirs.is_alive()
    assert ref.call(Counter.add, 1) == 1


def test_an_unknown_dispatcher_is_refused_with_the_known_names(kernel: Kernel) -> None:
    class Lost(Actor):
        dispatcher = "io"

    with pytest.raises(SpecError, match="loop, pool, thread"):
        kernel.spawn(Lost)


def test_a_class_with_coroutines_needs_a_loop_at_the_start_too(kernel: Kernel) -> None:
    class Io(Counter):
        dispatcher = "io"

        async def fetch(self) -> None: ...

    kernel.install("io", kernel.dispatcher("pool"))
    with pytest.raises(SpecError, match="async def"):
        kernel.spawn(Io)


class Io(OnLoop):
    dispatcher = "io"


def test_an_installed_loop_runs_actors_and_can_be_replaced(kernel: Kernel) -> None:
    for _ in range(2):
        loop = LoopDispatcher("io")
        kernel.install("io", loop)
        ref = spawn(kernel, Io)
        assert ref.call(Counter.thread_name) == "supervisors-io"
        assert kernel.uninstall("io", loop)
        assert loop.stop(5.0)
        assert ref.down().get(0) == Killed()


def test_uninstall_leaves_the_successor_alone(kernel: Kernel) -> None:
    old, new = LoopDispatcher("io"), LoopDispatcher("io")
    kernel.install("io", old)
    kernel.uninstall("io", old)
    kernel.install("io", new)
    assert not kernel.uninstall("io", old)
    assert kernel.dispatcher("io") is new


def test_a_name_can_be_installed_once(kernel: Kernel) -> None:
    with pytest.raises(SpecError):
        kernel.install("pool", LoopDispatcher("pool"))


@pytest.mark.parametrize("cls", KINDS)
def test_a_snapshot_is_read_without_a_message(still: Kernel, clock: ManualClock, cls: type[Counter]) -> None:
    ref, go, began = spawn(still, cls), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.cast(Counter.add, 1)
    clock.advance(7.0)
    shot = ref.snapshot()
    go.set()
    assert {key: shot[key] for key in ("name", "class", "queue", "alive", "busy", "messages")} == {
        "name": ref.name,
        "class": cls.__name__,
        "queue": 1,
        "alive": True,
        "busy": 7.0,
        "messages": 2,
    }


def test_starts_and_exits_are_events(kernel: Kernel) -> None:
    seen: list[object] = []
    for event in ("start", "exit"):
        kernel.telemetry.attach("t", ("actor", event), lambda event, _, more: seen.append((event[1], more["name"])))
    ref = spawn(kernel)
    ref.stop()
    wait_until(lambda: len(seen) == 2)  # the event comes after those who watch
    assert seen == [("start", ref.name), ("exit", ref.name)]


def test_a_callback_that_raises_is_an_event(kernel: Kernel) -> None:
    seen: list[object] = []
    kernel.telemetry.attach("t", ("reply", "callback", "failure"), lambda *event: seen.append(event[2]["error"]))
    ref = spawn(kernel)
    reply = ref.send_request(Counter.late)
    reply.add_done_callback(lambda _: 1 // 0)
    ref.call(Counter.settle, 1)
    assert [type(error) for error in seen] == [ZeroDivisionError]
    assert ref.is_alive()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12 and later warn of what is tested here
def test_after_a_fork_the_parents_system_refuses_to_work(kernel: Kernel) -> None:
    ref = spawn(kernel)
    pid = os.fork()
    if pid == 0:  # the child: report by the exit code, and run nothing of the test process's endings
        code = 0
        for use in (
            lambda: ref.call(Counter.add, 1),
            lambda: ref.cast(Counter.add, 1),
            lambda: kernel.spawn(Counter),
        ):
            try:
                use()
            except UsedAfterFork:
                code += 1
            except BaseException:
                pass
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert ref.call(Counter.add, 1) == 1


def test_normal_and_shutdown_are_clean() -> None:
    assert is_clean(Normal())
    assert is_clean(Shutdown("x"))
    assert not is_clean(Killed())


@pytest.mark.parametrize(
    "error",
    [
        SpecError("x", 1, "2"),
        StartFailed("a", ValueError("x")),
        ActorDied("a", Killed(), False),
        CallTimeout("a", 1.5),
        MailboxFull("a", 3),
        CallCycle(("a", "b")),
        AlreadyStarted("ref"),
    ],
)
def test_errors_survive_a_copy_and_a_pickle(error: SupervisorsError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)


def test_every_error_says_what_to_do() -> None:
    assert "within" in str(CallTimeout("a", 5))
    assert "a -> b -> a" in str(CallCycle(("a", "b")))


def test_requests_from_many_threads_at_once_are_all_answered(kernel: Kernel) -> None:
    refs = [spawn(kernel, cls) for cls in KINDS]
    asking = [Background(lambda ref=ref: [ref.call(Counter.add, 1) for _ in range(200)]) for ref in refs * 3]
    for each in asking:
        each.value()
    assert [ref.call(Counter.add, 0) for ref in refs] == [600] * 4


def test_what_is_no_dispatcher_is_refused(kernel: Kernel) -> None:
    with pytest.raises(SpecError, match="submit, attach"):
        kernel.install("mine", object())  # type: ignore[arg-type]
