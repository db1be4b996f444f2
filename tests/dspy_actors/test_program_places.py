"""Places of a program, the queue for them, and the death and the end of its actor."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any

import pytest

from dspy_actors.errors import Busy, CallCancelled, DeadlineExceeded, NameTaken, ShuttingDown
from dspy_actors.example import Prediction
from dspy_actors.hosting import MAX_AMBIENT
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.actor import Ref
from supervisors.dynamic import DynamicSupervisor
from supervisors.exits import Crash
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Ask, Blocks, Gate, begin, let_go, qa, runtime

# -- places --------------------------------------------------------------------------------------------------------


def test_no_more_calls_run_than_there_are_places() -> None:
    gate = Gate()
    with runtime(gate, max_inflight=2) as rt:
        program = rt.start(qa())
        replies = [program.submit(question=f"q{n}") for n in range(5)]
        wait_until(lambda: program.metrics()["queued"] == 3)
        assert program.metrics()["inflight"] == 2
        gate.open()
        assert [reply.get(PATIENCE).answer for reply in replies] == [f"q{n}" for n in range(5)]


def test_calls_that_wait_are_let_in_in_their_order() -> None:
    order: list[str] = []

    class Notes(Module):
        def __init__(self) -> None:
            self.first = Blocks()

        def forward(self, question: str) -> Any:
            order.append(question)
            if question == "first":
                self.first.begun.set()
                assert self.first.go_on.wait(PATIENCE)
            return Prediction(answer=question)

    with runtime() as rt:
        notes = Notes()
        program = rt.start(notes, max_inflight=1)
        replies = [program.submit(question="first")]
        assert notes.first.begun.wait(PATIENCE)
        for n in range(1, 4):
            replies.append(program.submit(question=f"q{n}"))
            wait_until(lambda n=n: program.metrics()["queued"] == n)  # type: ignore[misc]
        notes.first.go_on.set()
        for reply in replies:
            reply.get(PATIENCE)
        assert order == ["first", "q1", "q2", "q3"]


def held(rt: Runtime, gate: Gate, *, waiting: int = 0, max_queue: int = 100) -> tuple[Program, list[Reply[Any]]]:
    """A program with one place, which is taken, and so many calls that wait for it."""
    program = rt.start(qa(), max_inflight=1, max_queue=max_queue)
    replies = [program.submit(question="first")]
    gate.wait_for()
    for n in range(waiting):
        replies.append(program.submit(question=f"q{n}"))
        wait_until(lambda n=n: program.metrics()["queued"] == n + 1)  # type: ignore[misc]
    return program, replies


def test_a_call_beyond_the_queue_is_refused() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, _ = held(rt, gate, waiting=1, max_queue=1)
        with pytest.raises(Busy, match="max_queue"):
            program(question="blue")


def test_a_call_that_is_cancelled_in_the_queue_makes_room_in_it() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, replies = held(rt, gate, waiting=1, max_queue=1)
        replies[1].cancel()
        wait_until(lambda: program.metrics()["queued"] == 0)
        last = program.submit(question="blue")
        gate.open()
        assert last.get(PATIENCE).answer == "blue"


def test_a_call_whose_deadline_passes_in_the_queue_says_so() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, _ = held(rt, gate)
        with pytest.raises(DeadlineExceeded, match="admission"):
            program.using(deadline=SOON)(question="blue")


def test_a_call_that_left_the_queue_takes_no_place_later() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, replies = held(rt, gate)
        with pytest.raises(DeadlineExceeded):
            program.using(deadline=SOON)(question="blue")
        gate.open()
        replies[0].get(PATIENCE)
        assert program(question="red").answer == "red"


def test_a_program_with_no_room_leaves_the_others_alone() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        held(rt, gate, waiting=1)
        gate.open()
        assert rt.start(qa())(question="blue").answer == "blue"


# -- the death of the actor ----------------------------------------------------------------------------------------


def kill(rt: Runtime, program: Program) -> None:
    """Crash the program's actor and wait until it has a successor."""
    name = ("module", program.name)
    ref = rt.registry.whereis(name)
    assert ref is not None
    ref.exit(Crash(RuntimeError("killed by the test")))
    ref.down().get(PATIENCE)
    rt.registry.arrival(name).get(PATIENCE)


def test_a_call_outlives_a_restart_of_its_programs_actor() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        reply = program.submit(question="blue")
        gate.wait_for()
        kill(rt, program)
        gate.open()
        assert reply.get(PATIENCE).answer == "blue"


def test_queued_calls_outlive_a_restart_of_their_programs_actor() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, replies = held(rt, gate, waiting=3)
        kill(rt, program)
        gate.open()
        assert [reply.get(PATIENCE).answer for reply in replies] == ["first", "q0", "q1", "q2"]


def test_a_restart_lets_no_more_calls_in_than_there_are_places() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, _ = held(rt, gate, waiting=3)
        kill(rt, program)
        wait_until(lambda: program.metrics()["queued"] == 3)
        assert program.metrics()["inflight"] == 1


def test_a_restart_keeps_the_active_version() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        program.activate(qa())
        kill(rt, program)
        assert program(question="blue").version == 2


def test_a_handle_outlives_the_supervisor_of_its_actor() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        modules = rt.registry.whereis("modules")
        assert modules is not None
        modules.exit(Crash(RuntimeError("killed by the test")))
        modules.down().get(PATIENCE)
        assert program(question="blue").answer == "blue"


def test_a_handle_outlives_a_restart_of_all_that_stands_behind_the_tasks() -> None:
    with runtime() as rt:
        program = rt.start(Ask())
        tasks, modules = rt.registry.whereis("tasks"), rt.registry.whereis("modules")
        assert tasks is not None
        assert modules is not None
        tasks.exit(Crash(RuntimeError("killed by the test")))
        modules.down().get(PATIENCE)
        rt.registry.arrival("tasks").get(PATIENCE)
        assert program(question="blue").answer == "blue"


@pytest.mark.parametrize("name", ["tasks", "modules"])
@pytest.mark.parametrize("end", [Ref.fence, lambda ref: ref.exit(Crash(RuntimeError("killed by the test")))])
def test_started_programs_stand_in_the_tree_again_when_their_supervisor_does(name: str, end: Any) -> None:
    with runtime() as rt:
        rt.start(qa(), name="qa")
        rt.start(qa(), name="other").stop()
        modules, dying = rt.registry.whereis("modules"), rt.registry.whereis(name)
        assert modules is not None
        assert dying is not None
        end(dying)
        modules.down().get(PATIENCE)
        wait_until(lambda: "qa  ModuleInstance  running" in rt.draw())
        assert "other" not in rt.draw()


def test_queued_calls_outlive_the_supervisor_of_their_programs_actor() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        _, replies = held(rt, gate, waiting=3)
        modules = rt.registry.whereis("modules")
        assert modules is not None
        modules.exit(Crash(RuntimeError("killed by the test")))
        modules.down().get(PATIENCE)
        gate.open()
        assert [reply.get(PATIENCE).answer for reply in replies] == ["first", "q0", "q1", "q2"]


def test_a_name_that_is_taken_leaves_its_holder_to_be_started_again() -> None:
    with runtime() as rt:
        program = rt.start(qa(), name="qa")
        with pytest.raises(NameTaken):
            rt.start(Ask(), name="qa")
        modules = rt.registry.whereis("modules")
        assert modules is not None
        modules.exit(Crash(RuntimeError("killed by the test")))
        modules.down().get(PATIENCE)
        rt.registry.arrival(("module", "qa")).get(PATIENCE)
        assert program(question="blue").answer == "blue"


@pytest.mark.parametrize("end", [Ref.fence, lambda ref: ref.exit(Crash(RuntimeError("killed by the test")))])
def test_a_call_whose_thread_is_stopped_by_a_restart_is_told_to_try_again(end: Any) -> None:
    blocks = Blocks()
    with runtime() as rt:
        reply = rt.start(blocks).submit(question="blue")
        assert blocks.begun.wait(PATIENCE)
        tasks = rt.registry.whereis("tasks")
        assert tasks is not None
        end(tasks)
        with pytest.raises(CallCancelled, match="again"):
            reply.get(PATIENCE)
        let_go(rt, blocks)


# -- the end of a program ------------------------------------------------------------------------------------------


def test_a_stopped_program_says_that_it_was_stopped() -> None:
    with runtime() as rt:
        program = rt.start(qa(), name="qa")
        program.stop()
        with pytest.raises(ShuttingDown, match="qa was stopped"):
            program(question="blue")


def test_a_stopped_program_finishes_the_calls_under_way() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        reply = program.submit(question="blue")
        gate.wait_for()
        program.stop()
        gate.open()
        assert reply.get(PATIENCE).answer == "blue"


def test_a_call_that_waits_when_its_program_is_stopped_ends() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program, replies = held(rt, gate, waiting=1)
        program.stop()
        with pytest.raises(ShuttingDown):
            replies[1].get(PATIENCE)


def test_a_program_stopped_while_it_starts_leaves_no_actor() -> None:
    async def main() -> None:
        rt.start(qa(), name="qa").stop()

    with runtime() as rt:
        asyncio.run(main())
        modules = rt.registry.whereis("modules")
        assert modules is not None
        wait_until(lambda: not modules.call(DynamicSupervisor.which_children))


def test_plain_modules_beyond_the_limit_are_ended_and_still_answer() -> None:
    with runtime() as rt:
        modules = [qa() for _ in range(MAX_AMBIENT + 20)]
        for module in modules:
            module(question="blue")
        supervisor = rt.registry.whereis("modules")
        assert supervisor is not None
        wait_until(lambda: len(supervisor.call(DynamicSupervisor.which_children)) <= MAX_AMBIENT)
        assert modules[0](question="blue").answer == "blue"


def test_a_plain_module_in_use_is_not_ended_by_others() -> None:
    gate = Gate()
    with runtime(gate):
        waiting = begin(copy_context().run, lambda: qa()(question="held"))
        gate.wait_for()
        gate.open()
        for _ in range(MAX_AMBIENT + 5):
            qa()(question="blue")
        assert waiting.get(PATIENCE).answer == "held"


def test_a_deadline_that_passes_in_the_queue_names_the_program_and_its_places() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa(), name="narrow", max_inflight=1)
        first = program.submit(question="a")
        gate.wait_for()
        error = program.using(deadline=SOON).safe_call(question="b").error
        gate.open()
        first.get(PATIENCE)
    assert isinstance(error, DeadlineExceeded)
    assert error.phase == "admission"
    assert "a place of narrow, which has max_inflight=1" in str(error)
