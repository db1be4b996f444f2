"""What calls and runtimes leave in memory when they have ended: nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

from dspy_actors.envelope import Envelope
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.guards import LMCall
from dspy_actors.lm.lm import LM
from dspy_actors.lm.streamed import Streamed
from dspy_actors.messages import TextPart
from dspy_actors.runtime import Runtime
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, Gate, qa, runtime


def kept() -> list[object]:
    """What is still in memory of the calls of the tenant that is called as this file."""
    found: list[object] = []
    for each in gc.get_objects():
        envelope = each.envelope if isinstance(each, LMCall) else each
        if isinstance(envelope, Envelope) and envelope.tenant == __name__:
            found.append(each)
    return found


def test_nothing_is_kept_of_calls_that_have_ended() -> None:
    gate = Gate()
    with runtime(gate, max_inflight=2, tenant=__name__) as rt:
        under_way = rt.start(qa()).submit(question="blue")
        gate.wait_for()
        assert kept(), "what is kept would not be found"
        gate.open()
        under_way.get(PATIENCE)
        del under_way
        for make in (qa, Ask, AskLater):
            program = rt.start(make())
            for reply in [program.submit(question=f"q{n}") for n in range(20)]:
                reply.get(PATIENCE)
            program(question="blue")
            asyncio.run(program.acall(question="red"))
        wait_until(lambda: gc.collect() >= 0 and not kept())


def test_a_call_that_is_over_leaves_nothing_to_the_collector() -> None:
    with runtime(lm=LM("scripted/m", cache=False), tenant=__name__) as rt:
        program = rt.start(qa())
        program(question="green")
        gc.collect()
        gc.disable()
        try:
            program(question="blue")
            asyncio.run(program.acall(question="red"))
            wait_until(lambda: not kept())
        finally:
            gc.enable()


def test_a_connection_that_waits_for_its_next_request_keeps_nothing_of_the_last(rt: Runtime) -> None:
    def asked() -> bool:
        return any(isinstance(each, TextPart) and __name__ in each.text for each in gc.get_objects())

    part = TextPart(__name__)
    assert asked(), "what is kept would not be found"
    del part
    rt.start(qa())(question=__name__)
    wait_until(lambda: gc.collect() >= 0 and not asked())


def test_a_stream_that_is_over_leaves_nothing_to_the_collector(rt: Runtime) -> None:
    def streams() -> set[int]:
        return {id(each) for each in gc.get_objects() if isinstance(each, (Flow, Streamed))}

    gc.collect()
    gc.disable()
    try:
        others = streams()  # held by errors that other tests keep and raise again and again
        for piece in rt.stream("hello"):
            del piece
        wait_until(lambda: streams() <= others)
    finally:
        gc.enable()


def test_nothing_is_kept_of_a_runtime_that_has_ended() -> None:
    with runtime() as rt:
        rt.start(Ask())(question="blue")
        qa()(question="blue")
    there = weakref.ref(rt)
    del rt
    wait_until(lambda: gc.collect() >= 0 and there() is None)


def io_loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("supervisors-io of")]


def test_the_io_loop_ends_with_a_runtime_in_a_system_that_goes_on() -> None:
    rt = runtime()
    with System() as system:
        child = rt.child_spec()
        system.start_child(child)
        rt.start(qa())(question="blue")
        assert len(io_loops()) == 1
        system.root.call(Supervisor.terminate_child, child.id)
        assert io_loops() == []
