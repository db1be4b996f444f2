"""A runtime's life: start, two at once, in a service's tree, drain, shutdown, and use after all that."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dspy_actors.errors import BlockingCall, DeadlineExceeded, LMConfigurationError, NoRuntime, ShuttingDown
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.runner import current_frame
from dspy_actors.runtime import Runtime
from supervisors import steps
from supervisors.clock import ManualClock
from supervisors.errors import CallCycle, StartFailed
from supervisors.exits import Crash
from supervisors.kernel import kernels
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.tasks import TaskActor
from supervisors.testing import Log, Probe, wait_until
from tests.dspy_actors.over_http import of_class
from tests.dspy_actors.programs import PATIENCE, SOON, Ask, AskLater, Blocks, Gate, begin, qa, runtime, says

ROOT = Path(__file__).resolve().parents[2]


# -- start ---------------------------------------------------------------------------------------------------------


def test_a_runtime_starts_once() -> None:
    rt = runtime()
    try:
        assert rt.start_up() is rt.start_up()
    finally:
        rt.shutdown()


def test_an_open_runtime_is_ready() -> None:
    with runtime() as rt:
        assert rt.ready()


def test_a_runtime_that_was_not_started_is_not_ready() -> None:
    assert not runtime().ready()


def test_starting_a_program_before_the_runtime_says_what_is_missing() -> None:
    with pytest.raises(NoRuntime, match="start_up"):
        runtime().start(qa())


def test_leaving_the_block_leaves_no_runtime_in_force() -> None:
    with runtime():
        pass
    assert current_frame() is None


def test_two_runtimes_live_side_by_side() -> None:
    with runtime([says(answer="one")]) as one, runtime([says(answer="two")]) as two:
        answers = [rt.start(qa())(question="blue").answer for rt in (one, two)]
    assert answers == ["one", "two"]


def test_the_inner_of_two_runtimes_answers_a_plain_module() -> None:
    with runtime([says(answer="outer")]), runtime([says(answer="inner")]):
        assert qa()(question="blue").answer == "inner"


def test_one_of_two_runtimes_outlives_the_other() -> None:
    with runtime() as one:
        with runtime():
            pass
        assert one.start(qa())(question="blue").answer == "blue"


def test_a_runtime_entered_in_one_context_can_be_left_in_another() -> None:
    rt = runtime()
    copy_context().run(rt.__enter__)
    rt.__exit__(None, None, None)
    assert not rt.ready()


def test_a_blocking_start_on_a_running_loop_says_what_to_write() -> None:
    async def main() -> None:
        with runtime():
            pass

    with pytest.raises(BlockingCall, match="async with"):
        asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    async def main() -> None:
        task = asyncio.create_task(rt.__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    rt = runtime()
    asyncio.run(main())
    assert not rt.ready()


# -- in a service's tree -------------------------------------------------------------------------------------------


def test_a_runtime_hangs_in_a_services_own_tree() -> None:
    rt = runtime()
    with System() as system:
        system.start_child(rt.child_spec())
        assert rt.start(qa())(question="blue").answer == "blue"


def test_a_handle_outlives_a_restart_of_the_whole_runtime() -> None:
    rt = runtime()
    with System() as system:
        system.start_child(rt.child_spec())
        program = rt.start(Ask())
        top = rt.registry.whereis(rt.name)
        assert top is not None
        top.exit(Crash(RuntimeError("killed by the test")))
        top.down().get(PATIENCE)
        wait_until(rt.ready)
        assert program(question="blue").answer == "blue"


def test_the_cache_outlives_a_restart_of_the_whole_runtime() -> None:
    rt = runtime()
    with System() as system:
        ref = system.start_child(rt.child_spec())
        program = rt.start(qa())
        program(question="blue")
        ref.exit(Crash(RuntimeError("killed by the test")))
        ref.down().get(PATIENCE)
        wait_until(rt.ready)
        assert program(question="blue").cached


def test_a_runtime_in_a_services_own_tree_says_whose_system_it_has_and_tells_its_events_there() -> None:
    heard: list[Any] = []
    with System() as system:
        system.telemetry.attach("test", ("breaker", "state"), lambda _, __, about: heard.append(about["name"]))
        rt = Runtime(lm="embedded/knn")
        with pytest.raises(NoRuntime, match="it has not started"):
            _ = rt.system
        system.start_child(rt.child_spec())
        with pytest.raises(NoRuntime, match=r"use the `System` whose tree that is, its `telemetry`"):
            rt.draw()
        rt.start(Predict("question -> answer: Literal['yes', 'no']"))(question="Is it up?")
        rt.breakers.force_open("embedded/knn")
    assert heard == ["embedded/knn"]


def test_a_runtime_ends_with_the_services_tree() -> None:
    rt = runtime()
    with System() as system:
        system.start_child(rt.child_spec())
        program = rt.start(qa())
    with pytest.raises(ShuttingDown):
        program(question="blue")


def test_a_call_under_way_ends_with_the_services_tree() -> None:
    gate = Gate()
    rt = runtime(gate)
    with System() as system:
        system.start_child(rt.child_spec())
        waiting = begin(rt.start(qa()).run, {"question": "blue"}, rt.settings)
        gate.wait_for()
    with pytest.raises(ShuttingDown):
        waiting.get(PATIENCE)


def test_a_runtime_can_be_started_again_in_a_new_system() -> None:
    rt = runtime()
    for _ in range(2):
        with System() as system:
            system.start_child(rt.child_spec())
            assert rt.start(qa())(question="blue").answer == "blue"


def test_a_supervisor_that_replaces_a_sibling_brings_the_runtime_back() -> None:
    rt = runtime()
    with System(strategy=Strategy.ONE_FOR_ALL) as system:
        probe = system.start_child(ChildSpec("probe", Probe, args=(Log(),)))
        system.start_child(rt.child_spec())
        program = rt.start(qa())
        probe.exit(Crash(RuntimeError("killed by the test")))
        probe.down().get(PATIENCE)
        system.root.call(Supervisor.which_children)
        assert program(question="blue").answer == "blue"


# -- drain and shutdown --------------------------------------------------------------------------------------------


def test_draining_waits_for_the_calls_under_way() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        reply = rt.start(qa()).submit(question="blue")
        gate.wait_for()
        drained = begin(rt.drain, PATIENCE)
        wait_until(lambda: not rt.ready())
        gate.open()
        assert drained.get(PATIENCE) is True
        assert reply.get(PATIENCE).answer == "blue"


def test_draining_tells_when_calls_did_not_end() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        reply = rt.start(qa()).submit(question="blue")
        gate.wait_for()
        assert rt.drain(SOON) is False
        reply.cancel()


def test_a_draining_runtime_takes_no_calls() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        rt.drain(PATIENCE)
        with pytest.raises(ShuttingDown, match="was called while its runtime drains"):
            program(question="blue")


def test_a_call_on_a_runtime_that_has_ended_is_told_so() -> None:
    with runtime() as rt:
        program = rt.start(qa())
    with pytest.raises(ShuttingDown, match="was called after its runtime had ended"):
        program(question="blue")


def test_an_idle_runtime_drains_at_once() -> None:
    with runtime() as rt:
        rt.start(qa())(question="blue")
        assert rt.drain(0.0)


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
@pytest.mark.parametrize("way", ["run", "submit"])
def test_a_call_under_way_at_the_shutdown_ends_with_a_typed_error(make: Any, way: str) -> None:
    gate = Gate()
    rt = runtime(gate).start_up()
    program = rt.start(make())
    waiting = begin(lambda: program(question="b")) if way == "run" else program.submit(question="b")
    gate.wait_for()
    rt.shutdown()
    with pytest.raises(ShuttingDown, match="runtime ended"):
        waiting.get(PATIENCE)


def test_an_awaited_call_on_the_users_loop_ends_at_the_shutdown() -> None:
    gate = Gate()

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            await program.acall(question="blue")

    rt = runtime(gate).start_up()
    program = rt.start(AskLater())
    waiting = begin(asyncio.run, main())
    gate.wait_for()
    rt.shutdown()
    with pytest.raises(ShuttingDown):
        waiting.get(PATIENCE)


def test_a_call_in_the_queue_ends_at_the_shutdown() -> None:
    gate = Gate()
    rt = runtime(gate).start_up()
    program = rt.start(qa(), max_inflight=1)
    first = begin(lambda: program(question="first"))
    gate.wait_for()
    waiting = begin(lambda: program(question="blue"))
    wait_until(lambda: program.metrics()["queued"] == 1)
    rt.shutdown()
    for reply in (first, waiting):
        with pytest.raises(ShuttingDown):
            reply.get(PATIENCE)


def test_a_thread_that_does_not_come_back_does_not_hold_the_shutdown() -> None:
    blocks = Blocks()
    rt = runtime().start_up()
    waiting = begin(lambda: rt.start(blocks)(question="blue"))
    assert blocks.begun.wait(PATIENCE)
    kernel = rt.system.kernel
    begin(rt.shutdown, 0.2).get(PATIENCE)
    blocks.go_on.set()
    wait_until(lambda: kernel.zombies == 0)
    with pytest.raises((ShuttingDown, DeadlineExceeded)):
        waiting.get(PATIENCE)


def test_a_forward_that_outlasts_the_shutdown_is_reported_once_as_a_child_that_had_to_be_killed() -> None:
    """As OTP reports it; that the supervisor of such a child had to wait for it is no error of its own."""
    blocks, clock = Blocks(), ManualClock()
    rt = runtime(clock=clock).start_up()
    waiting = begin(lambda: rt.start(blocks)(question="blue"))
    assert blocks.begun.wait(PATIENCE)
    kernel, task = rt.system.kernel, of_class(rt, TaskActor)
    with capture_logs() as written:
        ended = begin(rt.shutdown, 1000.0)
        wait_until(lambda: len(task.mailbox.sysq) > 0)  # it is told to end, and has five seconds
        clock.advance(5.0)
        wait_until(lambda: kernel.zombies == 1)
        clock.advance(4.0)
        ended.get(PATIENCE)
    assert [(each["event"], each["reason"]) for each in written] == [("supervisor.shutdown_error", "Killed()")]
    assert written[0]["offender"]["id"] == "task"
    blocks.go_on.set()
    wait_until(lambda: kernel.zombies == 0)
    with pytest.raises(ShuttingDown):
        waiting.get(PATIENCE)


def test_a_shutdown_on_a_running_loop_says_what_to_write_and_can_be_made_up_for() -> None:
    async def main() -> None:
        rt.shutdown()

    rt = runtime().start_up()
    with pytest.raises(BlockingCall, match="to_thread"):
        asyncio.run(main())
    assert rt.ready()
    rt.shutdown()


def test_a_shutdown_out_of_a_running_program_is_refused_and_can_be_made_up_for() -> None:
    class Ends(Module):
        def forward(self) -> Any:
            rt.shutdown()

    rt = runtime().start_up()
    with pytest.raises(CallCycle):
        rt.start(Ends())()
    rt.shutdown()


def test_a_second_shutdown_does_nothing() -> None:
    rt = runtime().start_up()
    system = rt.system
    rt.shutdown()
    ended = system.snapshot()
    rt.shutdown()
    assert system.snapshot() == ended
    assert (ended["state"], ended["tree"], ended["others"]) == ("stopped", None, [])


def at_actor(number: int, act: Callable[[], object]) -> AbstractContextManager[None]:
    """Call `act` where the actor of this number is about to be there, in the thread that starts it."""
    steps_there = itertools.count()

    def step(name: str, subject: object) -> None:
        if name == "spawn:adding" and next(steps_there) == number:
            act()

    return steps.installed(step)


def test_a_shutdown_from_another_thread_ends_a_start_that_is_about_to_begin() -> None:
    rt = runtime()
    with at_actor(0, lambda: begin(rt.shutdown).get(PATIENCE)), pytest.raises(ShuttingDown):
        rt.start_up()
    with pytest.raises(NoRuntime):
        _ = rt.system


@pytest.mark.parametrize("number", range(1, 12))
def test_a_shutdown_from_another_thread_ends_a_start_that_is_under_way(number: int) -> None:
    rt, ends = runtime(), []
    with at_actor(number, lambda: ends.append(begin(rt.shutdown))), suppress(ShuttingDown):
        rt.start_up()
    assert [end.get(PATIENCE) for end in ends] == [None]
    with pytest.raises(NoRuntime):
        _ = rt.system


def test_two_threads_that_start_a_runtime_start_one_system() -> None:
    rt = runtime()
    begun, other = threading.Event(), []

    def second() -> Runtime:
        begun.set()
        return rt.start_up()

    def first_actor() -> None:
        other.append(begin(second))
        assert begun.wait(PATIENCE)

    with at_actor(0, first_actor):
        rt.start_up()
    assert other[0].get(PATIENCE) is rt
    names = [kernel.name for kernel in kernels() if kernel.name == rt.name]
    rt.shutdown()
    assert names == [rt.name]


def test_two_threads_may_end_a_runtime() -> None:
    gate = Gate()
    rt = runtime(gate).start_up()
    reply = rt.start(qa()).submit(question="blue")
    gate.wait_for()
    ends = [begin(rt.shutdown) for _ in range(4)]
    assert [end.get(PATIENCE) for end in ends] == [None] * 4
    with pytest.raises(ShuttingDown):
        reply.get(PATIENCE)


def test_a_start_that_failed_in_the_tree_may_be_made_again() -> None:
    rt = runtime()

    def fail() -> None:
        (kernel,) = [each for each in kernels() if each.name == rt.name]
        kernel.live()[1].fence()  # the root of the runtime's tree, in its init

    with at_actor(2, fail), pytest.raises(StartFailed):
        rt.start_up()
    with rt:
        assert qa()(question="blue").answer == "blue"


def test_a_start_that_failed_may_be_made_again(tmp_path: Path) -> None:
    rt = runtime(cache_path=tmp_path / "later" / "answers.sqlite")
    with pytest.raises(LMConfigurationError):
        rt.start_up()
    (tmp_path / "later").mkdir()
    with rt:
        assert qa()(question="blue").answer == "blue"


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_a_handle_used_after_the_shutdown_says_that_its_runtime_has_ended(make: Any) -> None:
    with runtime() as rt:
        program = rt.start(make())
    with pytest.raises(ShuttingDown, match="ended"):
        program(question="blue")


def test_a_call_submitted_after_the_shutdown_says_that_its_runtime_has_ended() -> None:
    with runtime() as rt:
        program = rt.start(qa())
    with pytest.raises(ShuttingDown, match="ended"):
        program.submit(question="blue")


def test_a_call_awaited_after_the_shutdown_says_that_its_runtime_has_ended() -> None:
    with runtime() as rt:
        program = rt.start(qa())
    with pytest.raises(ShuttingDown, match="ended"):
        asyncio.run(program.acall(question="blue"))


def test_a_runtime_cannot_be_started_after_its_end() -> None:
    rt = runtime().start_up()
    rt.shutdown()
    with pytest.raises(ShuttingDown, match="make a new Runtime"):
        rt.start_up()


def test_stopping_a_program_after_the_shutdown_does_nothing() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        system = rt.system
    ended = system.snapshot()
    program.stop()
    assert system.snapshot() == ended


def test_a_context_that_outlived_its_runtime_says_so() -> None:
    with runtime():
        context = copy_context()
    with pytest.raises(ShuttingDown):
        context.run(lambda: qa()(question="blue"))


# -- threads and processes -----------------------------------------------------------------------------------------


FORK = """
import os, sys
from tests.dspy_actors.programs import Ask, AskLater, qa, runtime
from dspy_actors.errors import NoRuntime

with runtime() as rt:
    programs = [rt.start(make()) for make in (qa, Ask, AskLater)]
    programs[0](question="blue")
    assert rt.ready()
    child = os.fork()
    if child == 0:
        refused = 0
        for call in [p for p in programs] + [p.submit for p in programs] + [qa()]:
            try:
                call(question="red")
            except NoRuntime as error:
                refused += "child" in str(error)
        refused += not rt.ready()
        rt.shutdown(timeout=3600)  # nothing of it lives here, so there is nothing to wait for
        os._exit(100 + refused)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, programs[0](question="green").answer)
"""


def test_every_call_in_a_forked_child_is_refused_and_the_parent_goes_on() -> None:
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", FORK]  # CPython warns from 3.12 on
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (run.stdout.split(), run.stderr) == (["108", "green"], "")


HELD = """
import os, signal, sys, threading
from contextlib import ExitStack
from tests.dspy_actors.programs import qa, runtime
from dspy_actors.envelope import new_call_id

with runtime() as rt:
    rt.start(qa())(question="blue")
kinds = (type(threading.Lock()), type(threading.RLock()))
ours = [module for name, module in sys.modules.items() if name.startswith(("dspy_actors", "supervisors"))]
locks = {id(each): each for module in ours for each in vars(module).values() if isinstance(each, kinds)}
held, forked = threading.Event(), threading.Event()

def hold():
    with ExitStack() as stack:
        for lock in locks.values():
            stack.enter_context(lock)
        held.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with runtime() as rt:
        answer = rt.start(qa())(question="red").answer
    print(answer, new_call_id().partition("-")[0], flush=True)
    os._exit(0)
forked.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), new_call_id().partition("-")[0], len(locks))
"""


def test_a_child_that_is_forked_in_the_middle_of_anything_has_a_runtime_and_call_ids_of_its_own() -> None:
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", HELD]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    answer, childs, code, parents, locks = run.stdout.split()
    assert (answer, code, run.stderr) == ("red", "0", "")
    assert childs != parents
    assert int(locks) > 2


def test_many_threads_call_one_handle() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        replies = [begin(lambda n=n: program(question=f"q{n % 10}").answer) for n in range(40)]  # type: ignore[misc]
        assert [reply.get(PATIENCE) for reply in replies] == [f"q{n % 10}" for n in range(40)]


def test_calls_of_many_threads_are_all_counted() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        threads = [threading.Thread(target=lambda: program(question="blue")) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert program.metrics()["succeeded"] == 20
