"""Coroutine handlers: their first step runs at once, and from within they cannot tell.

Each fact holds for the first coroutine of a loop, which gets a task of its own, and for later ones, whose first step
is run as a task that was kept ready.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from traceback import extract_tb
from typing import Any

import pytest

from supervisors.actor import Actor, Ref
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.dispatchers.shells import KEEP
from supervisors.errors import ActorDied
from supervisors.exits import Crash, Exit, Killed, Shutdown
from supervisors.kernel import Kernel, current_kernel
from supervisors.reply import Reply
from tests.supervisors.actors import FATAL, OnLoop, spawn

WHERE: ContextVar[str] = ContextVar("where", default="nowhere")


class Server(Actor):
    """Runs what it is sent."""

    dispatcher = "loop"

    def init(self) -> None:
        self.log: list[Any] = []

    async def run(self, work: Callable[[Server], Awaitable[Any]]) -> Any:
        return await work(self)

    async def at_once(self, work: Callable[[Server], Any]) -> Any:
        return work(self)

    def prepare(self, first: Callable[[Server], Any], work: Callable[[Server], Awaitable[Any]]) -> Awaitable[Any]:
        first(self)
        return work(self)

    def note(self, what: object) -> None:
        self.log.append(what)

    def notes(self) -> list[Any]:
        return self.log

    def terminate(self, exit: Exit) -> None:
        self.log.append(exit)


@pytest.fixture(params=["first", "later"])
def ref(request: pytest.FixtureRequest, kernel: Kernel) -> Ref[Server]:
    """A server whose next coroutine gets a task of its own, or one that was kept ready."""
    ref = kernel.spawn(Server)
    if request.param == "later":
        while not idle(kernel):
            ref.call(Server.at_once, lambda _: None)
    return ref


def idle(kernel: Kernel) -> int:
    """How many tasks are kept ready."""
    loop = kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)
    assert loop._shells is not None
    return len(loop._shells._idle)


def tasks(kernel: Kernel) -> int:
    """How many tasks the loop has, once those that end have ended."""

    async def count() -> int:
        for _ in range(10):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    loop = kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)
    return loop.run(count()).get(5)


def test_a_coroutine_that_waits_for_nothing_takes_no_turn_of_the_loop(kernel: Kernel) -> None:
    ref = kernel.spawn(Server)
    while not idle(kernel):
        ref.call(Server.at_once, lambda _: None)

    def first(server: Server) -> None:
        asyncio.get_running_loop().call_soon(server.note, "a turn")
        ref.cast(Server.at_once, lambda server: server.note("the next message"))

    ref.call(Server.at_once, first)
    ref.call(Server.at_once, lambda _: None)
    assert ref.call(Server.notes) == ["the next message", "a turn"]


def test_it_is_one_task_from_the_first_step_to_the_last(ref: Ref[Server]) -> None:
    async def work(_: Server) -> set[Any]:
        seen = {asyncio.current_task()}
        await asyncio.sleep(0)
        seen.add(asyncio.current_task())
        await asyncio.sleep(0.001)
        return seen | {asyncio.current_task()}

    seen = ref.call(Server.run, work)
    assert len(seen) == 1
    assert None not in seen


def test_a_timeout_that_begins_in_the_first_step_ends_what_it_waits_for(ref: Ref[Server]) -> None:
    async def work(_: Server) -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return "in time"
        return "never"

    assert ref.call(Server.run, work) == "in time"


def test_a_task_group_that_begins_in_the_first_step_waits_for_its_tasks(ref: Ref[Server]) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def work(_: Server) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(n)) for n in range(3)]
        return [task.result() for task in tasks]

    assert ref.call(Server.run, work) == [0, 2, 4]


@pytest.mark.parametrize("seconds", [0, 10])
def test_who_cancels_himself_in_the_first_step_is_cancelled_where_he_waits(ref: Ref[Server], seconds: float) -> None:
    async def work(server: Server) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        server.note("goes on")
        try:
            await asyncio.sleep(seconds)
        finally:
            server.note("ends")

    log: list[Any] = ref.call(Server.notes)
    with pytest.raises(ActorDied) as caught:
        ref.call(Server.run, work)
    assert isinstance(caught.value.exit, Crash)
    assert isinstance(caught.value.exit.error, asyncio.CancelledError)
    assert log == ["goes on", "ends", caught.value.exit]


def test_who_cancels_himself_does_not_hold_up_who_comes_next(kernel: Kernel, ref: Ref[Server]) -> None:
    other, loop = kernel.spawn(Server), kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)

    async def work(_: Server) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    async def send_both() -> Any:
        ref.cast(Server.run, work)
        return await other.within(3).acall(Server.notes)

    assert loop.run(send_both()).get(5) == []


def test_tasks_that_are_kept_ready_may_be_cancelled_by_anybody(kernel: Kernel, ref: Ref[Server]) -> None:
    other, loop = kernel.spawn(Server), kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)

    asking: list[Any] = []

    async def cancel_all(_: Server) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task(), *asking}:
            task.cancel()

    async def wait(_: Server) -> str:
        await asyncio.sleep(0.001)
        return "waited"

    async def send_both() -> Any:
        asking.append(asyncio.current_task())
        ref.cast(Server.run, cancel_all)
        return await other.within(3).acall(Server.run, wait)

    assert loop.run(send_both()).get(5) == "waited"
    assert ref.call(Server.run, wait) == "waited"


@pytest.mark.parametrize("waits", ["not", "after it", "before and after"])
def test_who_cancels_himself_and_goes_on_leaves_nothing_of_it_to_the_next(
    ref: Ref[Server], kernel: Kernel, waits: str
) -> None:
    async def work(_: Server) -> str:
        if waits == "before and after":
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            if waits != "not":
                await asyncio.sleep(10)
        except asyncio.CancelledError:
            pass
        return "went on"

    async def following(_: Server) -> int:
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0.001)
        return task.cancelling()

    assert ref.call(Server.run, work) == "went on"
    assert [ref.call(Server.run, following) for _ in range(3)] == [0, 0, 0]
    assert tasks(kernel) == 1 + idle(kernel)


def test_an_exit_that_comes_in_the_first_step_cancels_what_it_waits_for(ref: Ref[Server]) -> None:
    async def work(server: Server) -> None:
        server.ref.exit(Shutdown("now"))
        try:
            await asyncio.sleep(10)
        finally:
            server.note("ends")

    log: list[Any] = ref.call(Server.notes)
    with pytest.raises(ActorDied) as caught:
        ref.call(Server.run, work)
    assert caught.value.exit == Shutdown("now")
    assert log == ["ends", Shutdown("now")]


@pytest.mark.parametrize(
    ("end", "exit"),
    [(lambda server: server.ref.exit(Shutdown("now")), Shutdown("now")), (lambda server: server.ref.fence(), Killed())],
    ids=["exit", "fence"],
)
def test_an_end_that_comes_before_the_first_step_cancels_what_it_waits_for(
    ref: Ref[Server], end: Callable[[Server], None], exit: Exit
) -> None:
    ended = threading.Event()

    async def work(_: Server) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.set()

    with pytest.raises(ActorDied) as caught:
        ref.call(Server.prepare, end, work)
    assert caught.value.exit == exit
    assert ended.wait(3)


def test_a_fence_in_the_first_step_cancels_what_it_waits_for(ref: Ref[Server], kernel: Kernel) -> None:
    ended = threading.Event()

    async def work(server: Server) -> None:
        server.ref.fence()
        try:
            await asyncio.sleep(10)
        finally:
            ended.set()

    with pytest.raises(ActorDied) as caught:
        ref.call(Server.run, work)
    assert caught.value.exit == Killed()
    assert ended.wait(3)


@pytest.mark.parametrize("error", FATAL, ids=repr)
def test_whatever_is_raised_in_the_first_step_ends_the_actor_and_not_the_loop(
    ref: Ref[Server], kernel: Kernel, error: BaseException
) -> None:
    def fail(_: Server) -> None:
        raise error

    with pytest.raises(ActorDied) as caught:
        ref.call(Server.at_once, fail)
    assert isinstance(caught.value.exit, Crash)
    assert caught.value.exit.error is error
    assert [frame.name for frame in extract_tb(error.__traceback__)][1:3] == ["at_once", "fail"]
    assert spawn(kernel, OnLoop).call(OnLoop.pause, 0.0) == 0.0


def test_every_actor_keeps_its_context_over_waits_and_messages(kernel: Kernel, ref: Ref[Server]) -> None:
    other = kernel.spawn(Server)

    def stay(name: str) -> Callable[[Server], Awaitable[str]]:
        async def work(_: Server) -> str:
            WHERE.set(name)
            await asyncio.sleep(0)
            before = WHERE.get()
            await asyncio.sleep(0.001)
            return before + " " + WHERE.get()

        return work

    replies = [each.send_request(Server.run, stay(name)) for each, name in ((ref, "here"), (other, "there"))]
    assert [reply.get(5) for reply in replies] == ["here here", "there there"]
    assert [each.call(Server.at_once, lambda _: WHERE.get()) for each in (ref, other)] == ["here", "there"]


def test_a_task_beside_sees_what_its_actor_has_set_and_keeps_what_it_sets_to_itself(ref: Ref[Server]) -> None:
    async def look(reply: Reply[str]) -> None:
        where = WHERE.get()
        WHERE.set("elsewhere")
        await asyncio.sleep(0)
        reply.set(where + " " + WHERE.get())

    def begin(server: Server) -> Reply[str]:
        reply: Reply[str] = Reply()
        server.start_task(look(reply))
        return reply

    assert ref.call(Server.at_once, begin) == "nowhere elsewhere"
    assert ref.call(Server.at_once, begin) == "nowhere elsewhere"
    ref.call(Server.at_once, lambda _: WHERE.set("here") is None)
    assert ref.call(Server.at_once, begin) == "here elsewhere"
    assert ref.call(Server.at_once, lambda _: WHERE.get()) == "here"


def test_a_task_beside_belongs_to_its_actor_and_may_call_it(ref: Ref[Server], kernel: Kernel) -> None:
    async def ask(server: Server, reply: Reply[Any]) -> None:
        reply.set((await server.ref.acall(Server.notes), current_kernel()))

    def begin(server: Server) -> Reply[Any]:
        reply: Reply[Any] = Reply()
        server.start_task(ask(server, reply))
        return reply

    assert ref.call(Server.at_once, begin) == ([], kernel)


def test_messages_of_one_actor_do_not_overlap(ref: Ref[Server]) -> None:
    async def work(server: Server) -> None:
        server.note("in")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        server.note("out")

    for reply in [ref.send_request(Server.run, work) for _ in range(3)]:
        reply.get(5)
    assert ref.call(Server.notes) == ["in", "out"] * 3


def test_many_that_wait_at_once_are_answered_and_few_tasks_are_kept(kernel: Kernel) -> None:
    refs = [spawn(kernel, OnLoop) for _ in range(100)]
    for _ in range(3):
        replies = [ref.send_request(OnLoop.pause, 0.005) for ref in refs]
        assert [reply.get(5) for reply in replies] == [0.005] * 100
    assert tasks(kernel) == 1 + idle(kernel)
    assert 1 <= idle(kernel) <= KEEP


def test_a_kernel_that_closes_ends_a_coroutine_between_its_first_step_and_the_next() -> None:
    kernel = Kernel()
    ref, ended, loop = kernel.spawn(Server), threading.Event(), kernel.dispatcher("loop")
    assert isinstance(loop, LoopDispatcher)
    while not idle(kernel):
        ref.call(Server.at_once, lambda _: None)

    async def work(_: Server) -> None:
        threading.Thread(target=kernel.close, args=(0.1,)).start()
        while not loop._stopped:
            threading.Event().wait(0.001)
        try:
            await asyncio.sleep(10)
        finally:
            ended.set()

    ref.cast(Server.run, work)
    assert ended.wait(5)
    assert ref.down().get(5) is not None
