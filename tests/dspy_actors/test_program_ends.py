"""How calls of programs end early: deadlines and cancellation."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from dspy_actors.errors import Busy, CallCancelled, DeadlineExceeded, InputError, NameTaken, ProgramError, ShuttingDown
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.user_code import UserCode
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Ask, AskLater, Blocks, Gate, begin, let_go, qa, runtime
from tests.supervisors.actors import Background
from tests.supervisors.parking import all_parked


class Nested(Module):
    def __init__(self, inner: Module) -> None:
        self.inner = inner

    def forward(self, question: str) -> Any:
        return self.inner(question=question)


class NestedLater(Nested):
    forward = None  # type: ignore[assignment]

    async def aforward(self, question: str) -> Any:
        return await self.inner.acall(question=question)


class Sleeps(Module):
    """Awaits for ever; says when it was cancelled."""

    def __init__(self) -> None:
        self.begun: Reply[None] = Reply()
        self.cancelled: Reply[None] = Reply()

    def __deepcopy__(self, memo: object) -> Sleeps:
        return self

    async def aforward(self, question: str) -> Any:
        self.begun.set()
        try:
            await Reply[None]()
        finally:
            self.cancelled.set()


# -- deadlines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [qa, Ask, AskLater, lambda: Nested(AskLater()), lambda: NestedLater(Ask())])
def test_a_blocking_call_ends_at_its_deadline(make: Any) -> None:
    with runtime(Gate(), deadline=SOON) as rt, pytest.raises(DeadlineExceeded):
        rt.start(make())(question="blue")


@pytest.mark.parametrize("make", [qa, Ask, AskLater, lambda: Nested(AskLater()), lambda: NestedLater(Ask())])
def test_an_awaited_call_ends_at_its_deadline(make: Any) -> None:
    with runtime(Gate(), deadline=SOON) as rt, pytest.raises(DeadlineExceeded):
        asyncio.run(rt.start(make()).acall(question="blue"))


def test_a_deadline_says_how_long_the_call_had() -> None:
    with runtime(Gate(), deadline=SOON) as rt, pytest.raises(DeadlineExceeded, match=r"0\.15 s") as caught:
        rt.start(qa())(question="blue")
    assert caught.value.seconds == SOON


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_a_request_is_given_up_at_the_deadline(make: Any) -> None:
    gate = Gate()
    with runtime(gate, deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(make())(question="blue")
        gate.wait_for_cancel()


def test_a_forward_that_blocks_does_not_hold_its_caller() -> None:
    blocks = Blocks()
    with runtime(deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(blocks)(question="blue")
        let_go(rt, blocks)


def test_a_thread_that_does_not_come_back_is_counted_until_it_does() -> None:
    blocks = Blocks()
    with runtime(deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(blocks)(question="blue")
        wait_until(lambda: rt.system.kernel.zombies == 1)
        let_go(rt, blocks)


def test_too_many_threads_that_do_not_come_back_make_new_calls_busy() -> None:
    blocks = Blocks()
    with runtime(max_zombies=1) as rt:
        program = rt.start(blocks)
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                program.using(deadline=SOON)(question="blue")
        wait_until(lambda: rt.system.kernel.zombies == 2)
        with pytest.raises(Busy, match="abandoned threads"):
            program(question="blue")
        let_go(rt, blocks)


def test_code_of_a_call_that_is_over_asks_no_model() -> None:
    blocks = Blocks()
    with runtime(deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(blocks)(question="blue")
        blocks.go_on.set()
        with pytest.raises(CallCancelled):
            blocks.after.get(PATIENCE)
        assert rt.numbers().calls == 0


def test_code_of_a_call_that_is_over_keeps_nobody_waiting() -> None:
    blocks = Blocks()
    with runtime() as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(blocks).using(deadline=SOON)(question="blue")
        blocks.go_on.set()
        blocks.after.wait(PATIENCE, rt.system.clock)
        assert rt.start(qa())(question="blue").answer == "blue"


def test_an_aforward_is_cancelled_at_the_deadline() -> None:
    sleeps = Sleeps()
    with runtime(deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(sleeps)(question="blue")
        sleeps.cancelled.get(PATIENCE)


def test_an_aforward_inside_of_a_forward_is_cancelled_at_the_deadline() -> None:
    sleeps = Sleeps()
    with runtime(deadline=SOON) as rt:
        with pytest.raises(DeadlineExceeded):
            rt.start(Nested(sleeps))(question="blue")
        sleeps.cancelled.get(PATIENCE)


def test_a_handle_called_inside_of_a_call_keeps_to_that_calls_deadline() -> None:
    with runtime(Gate()) as rt:
        inner = rt.start(qa())

        class Outer(Module):
            def forward(self, question: str) -> Any:
                return inner.using(deadline=600.0)(question=question)

        outer = rt.start(Outer()).using(deadline=SOON)
        with pytest.raises(DeadlineExceeded):
            outer(question="blue")
        wait_until(lambda: inner.metrics()["inflight"] == 0)


# -- cancellation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_cancelling_the_awaiting_task_gives_up_the_request(make: Any) -> None:
    gate = Gate()

    async def main() -> None:
        task = asyncio.create_task(program.acall(question="blue"))
        await asyncio.to_thread(gate.wait_for)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with runtime(gate) as rt:
        program = rt.start(make())
        asyncio.run(main())
        gate.wait_for_cancel()


def test_a_call_that_nobody_cancelled_does_not_end_as_cancelled_where_its_code_awaits_what_was() -> None:
    class Awaits(Module):
        async def aforward(self, question: str) -> Any:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            return await gone

    async def awaited() -> None:
        async with asyncio.TaskGroup() as group:  # a child that ends as cancelled it takes for done
            group.create_task(program.acall(question="blue"))

    with runtime() as rt:
        program = rt.start(Awaits())
        for call in (lambda: program(question="blue"), lambda: program.submit(question="blue").get(PATIENCE)):
            with pytest.raises(ProgramError, match="CancelledError"):
                call()
        with pytest.raises(ExceptionGroup) as found:
            asyncio.run(awaited())
    assert isinstance(found.value.exceptions[0], ProgramError)


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_cancelling_a_submitted_call_gives_up_the_request(make: Any) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        reply = rt.start(make()).submit(question="blue")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_ctrl_c_gives_up_the_request_and_the_place(make: Any) -> None:
    gate = Gate()
    raised = threading.Event()

    def interrupt() -> None:
        gate.wait_for()
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)
        while not raised.wait(PATIENCE):  # it came just before the thread began to wait, where CPython does not look
            signal.pthread_kill(ident, signal.SIGINT)

    with runtime(gate) as rt:
        program = rt.start(make())
        interrupting = begin(interrupt)
        with pytest.raises(KeyboardInterrupt):
            program(question="blue")
        raised.set()
        interrupting.get(PATIENCE)
        gate.wait_for_cancel()
        wait_until(lambda: program.metrics()["inflight"] == 0)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_nothing_is_reported_of_a_call_that_is_given_up_in_the_middle_of_its_thread(how: str) -> None:
    blocks = Blocks()
    with capture_logs() as written, runtime() as rt:
        program = rt.start(blocks)
        reply = program.using(deadline=SOON if how == "deadline" else PATIENCE).submit(question="blue")
        assert blocks.begun.wait(PATIENCE)
        if how == "cancel":
            reply.cancel()
        reply.wait(PATIENCE, rt.system.clock)
        wait_until(lambda: rt.system.kernel.zombies == 1)
        let_go(rt, blocks)
    assert written == []


def test_a_cancelled_call_frees_its_place() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        reply = program.submit(question="blue")
        gate.wait_for()
        reply.cancel()
        wait_until(lambda: program.metrics()["inflight"] == 0)


def test_a_handle_called_inside_of_a_call_is_cancelled_with_it() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        inner = rt.start(qa())

        class Outer(Module):
            def forward(self, question: str) -> Any:
                return inner(question=question)

        reply = rt.start(Outer()).submit(question="blue")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()
        wait_until(lambda: inner.metrics()["inflight"] == 0)


def test_cancelling_the_first_call_does_not_keep_a_program_from_starting() -> None:
    async def main() -> Prediction:
        program = rt.start(qa())
        task = asyncio.create_task(program.acall(question="red"))
        await asyncio.sleep(0)
        task.cancel()
        return await program.acall(question="blue")

    with runtime() as rt:
        assert asyncio.run(main()).answer == "blue"


def test_a_start_that_fails_on_a_loop_is_raised_by_the_first_call() -> None:
    async def main() -> None:
        await rt.start(qa(), name="qa").acall(question="blue")

    with runtime() as rt:
        rt.start(qa(), name="qa")
        with pytest.raises(NameTaken):
            asyncio.run(main())


def test_a_safe_call_whose_inputs_have_no_names_holds_up_no_end() -> None:
    with runtime() as rt:
        program: Any = rt.start(qa())
        assert isinstance(program.safe_call("blue").error, InputError)
        assert rt.drain(0.0)


def test_a_coroutine_that_its_loop_did_not_come_to_before_the_end_is_told_so() -> None:
    """It is sent while the loop runs, and the loop ends before it looks."""
    kernel = Kernel()
    loop = kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)
    loop.start()

    async def body() -> None:
        raise AssertionError("it never begins")

    with all_parked(("loop:sending", "loop:closing"), loop) as (sending, closing):
        begun = Background(UserCode(kernel, lambda: None, 1).on_loop, body())  # type: ignore[arg-type, return-value]
        sending.reached()
        ending = Background(kernel.close, 5.0)
        closing.reached()
        sending.open()
        assert isinstance(begun.value().exception(), ShuttingDown)
        closing.open()
        assert ending.value()
