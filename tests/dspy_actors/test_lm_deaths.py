"""Deaths on the way to a model: worker, io loop, cache. No call is lost, none is sent for nobody."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dspy_actors.cache.manager import CacheManager
from dspy_actors.errors import LMTransportError
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.io_loop import IOLoop
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from supervisors import steps
from supervisors.exits import Exit, Killed, Normal, Shutdown
from supervisors.testing import wait_until
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.over_http import KILLED, ends, lm, of_class, submit, worker
from tests.dspy_actors.programs import PATIENCE, SOON, Ask, Gate, echo, qa, runtime
from tests.server.client import StubServer


def test_every_call_ends_when_the_worker_crashes_under_load(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(rt.start(qa()), 32)
    stub.wait("held>=32")
    worker(rt).exit(KILLED)
    stub.wait("requests>=64")
    stub.release()
    assert ends(replies) == ["ok"] * 32


def test_the_server_counts_as_many_requests_as_we_do_after_a_crash(rt: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(rt.start(qa()), 16)
    stub.wait("held>=16")
    worker(rt).exit(KILLED)
    stub.wait("requests>=32")
    stub.release()
    ends(replies)
    numbers = rt.numbers()
    assert (numbers.sent, numbers.resubmits, numbers.unanswered) == (stub.stats()["requests"], 16, 16)


def test_a_worker_is_started_again_once_for_one_crash(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(fast.start(qa()), 16)
    stub.wait("held>=16")
    worker(fast).exit(KILLED)
    stub.wait("requests>=32")
    stub.release()
    ends(replies)
    assert fast.system.restarts == 1


def test_a_call_whose_worker_dies_twice_ends_in_a_typed_error(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(fast.start(qa()), 1)
    for count in (1, 2):
        stub.wait(f"requests>={count}", "held>=1")
        worker(fast).exit(KILLED)
    assert ends(replies) == ["lm_transport"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (KeyError("boo"), "KeyError: 'boo'"),
        (None, "AttributeError: "),
        (ValueError("bad api_key=abc\nin the\tway " + "x" * 999), "ValueError: bad api_key=… in the way xxx"),
    ],
)
def test_a_call_over_which_a_provider_of_one_s_own_crashes_says_why_and_is_counted(said: Any, why: str) -> None:
    """It said that the worker died, and `failures` stayed 0."""

    class Provider(ScriptedProvider):
        async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
            if said is None:
                return None  # type: ignore[return-value]
            raise said

    with Runtime(lm="own/m", open_provider=lambda config: Provider([])) as rt, capture_logs():
        error = rt.start(qa()).safe_call(question="blue").error
        numbers = rt.numbers()
    assert isinstance(error, LMTransportError)
    assert f"the worker of own/m died 2 times while it held this call: {why}" in error.message
    assert len(error.message) < 300
    assert (numbers.calls, numbers.failures, numbers.open) == (1, 1, 0)


def test_a_call_whose_worker_died_is_sent_again_only_if_its_budget_allows_it(stub: StubServer) -> None:
    with guarded(stub, fault="hold", budgets={"": Budget(requests=1)}) as rt:
        replies = submit(rt.start(qa()), 1)
        stub.wait("held>=1")
        worker(rt).exit(KILLED)
        assert ends(replies) == ["budget_exceeded"]
        assert stub.stats()["requests"] == 1
        budgets: Any = rt.health()["budgets"]
        assert budgets["tenant (none)"]["requests"] == {"bound": 1, "spent": 1, "reserved": 0}


def test_equal_calls_survive_the_worker_when_the_call_that_led_them_is_gone(stub: StubServer) -> None:
    gate = Gate()
    with runtime(gate) as rt:
        leader = rt.start(Ask()).using(deadline=SOON).submit(question="blue")
        gate.wait_for()
        other = rt.start(qa()).submit(question="blue")
        assert ends([leader]) == ["deadline"]
        worker(rt).exit(KILLED)
        gate.wait_for()
        gate.open()
        assert ends([other]) == ["ok"]


def test_every_call_ends_when_the_io_loop_crashes_under_load(rt: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 16, "fault": "hold"}])
    replies = submit(rt.start(qa()), 16)
    stub.wait("held>=16")
    of_class(rt, IOLoop).exit(KILLED)
    assert ends(replies) == ["ok"] * 16


def test_every_call_ends_when_the_io_loop_is_fenced_under_load(rt: Runtime, stub: StubServer) -> None:
    stub.control(plan=[{"times": 16, "fault": "hold"}])
    replies = submit(rt.start(qa()), 16)
    stub.wait("held>=16")
    of_class(rt, IOLoop).fence()
    assert ends(replies) == ["ok"] * 16


def test_a_crash_of_the_io_loop_restarts_it_and_what_leans_on_it_and_nothing_else(fast: Runtime) -> None:
    program = fast.start(qa())
    program(question="before")
    loop = of_class(fast, IOLoop)
    loop.exit(KILLED)
    loop.down().get(PATIENCE)
    program(question="meanwhile")
    wait_until(lambda: fast.system.restarts >= 2)
    program(question="after")
    assert fast.system.restarts == 2


@pytest.mark.parametrize("exit", [KILLED, Shutdown("by hand"), Normal(), Killed()], ids=str)
def test_the_end_of_the_io_loop_is_the_only_one_that_is_reported(fast: Runtime, stub: StubServer, exit: Exit) -> None:
    stub.control(plan=[{"times": 4, "fault": "hold"}])
    replies = submit(fast.start(qa()), 4)
    stub.wait("held>=4")
    loop = of_class(fast, IOLoop)
    with capture_logs() as written:
        if isinstance(exit, Killed):
            loop.fence()
        else:
            loop.exit(exit)
        assert ends(replies) == ["ok"] * 4
        wait_until(lambda: bool(written))
    assert [(each["error_context"], each["offender"]["id"]) for each in written] == [("child_terminated", "io loop")]


def test_a_stuck_io_loop_is_replaced_before_it_comes_back() -> None:
    begun, gate = threading.Event(), threading.Event()

    def script(request: LMRequest) -> str:
        if not begun.is_set():
            begun.set()
            gate.wait(2 * PATIENCE)
        return echo(request)

    with runtime(script) as rt:
        (reply,) = submit(rt.start(qa()), 1)
        assert begun.wait(PATIENCE)
        of_class(rt, IOLoop).exit(KILLED)
        assert ends([reply]) == ["ok"]
        gate.set()
        wait_until(lambda: sum(thread.name == "supervisors-io of " + rt.name for thread in threading.enumerate()) == 1)


def test_nothing_is_reported_at_the_end_of_a_runtime_with_calls_under_way(stub: StubServer) -> None:
    stub.control(fault="hold")
    with capture_logs() as written, guarded(stub) as rt:
        submit(rt.start(qa()), 4)
        stub.wait("held>=4")
    assert written == []


class ClosedAtLast(ScriptedProvider):
    """Its closing is cut off as often as it takes a while; only the third one is quick."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.begun = threading.Semaphore(0)

    async def aclose(self) -> None:
        self.begun.release()
        self.closed += 1
        if self.closed < 3:
            await asyncio.Event().wait()


def test_a_provider_is_closed_though_its_worker_is_fenced_as_it_ends_and_its_loop_goes_then() -> None:
    slow = ClosedAtLast()
    opened = iter((slow, ScriptedProvider(echo)))
    with Runtime(lm="scripted/m", open_provider=lambda config: next(opened)) as rt:
        rt.start(qa())(question="blue")
        first = worker(rt)
        first.exit(KILLED)
        assert slow.begun.acquire(timeout=PATIENCE)
        first.fence()
        assert slow.begun.acquire(timeout=PATIENCE)
    assert slow.closed == 3


@pytest.mark.parametrize("transport", ["httpx", "aiohttp", "h11"])
def test_a_runtime_that_is_given_no_time_to_end_closes_its_connections(stub: StubServer, transport: str) -> None:
    stub.control(fault="hold")
    rt = Runtime(lm=lm(stub), transport=transport).start_up()
    submit(rt.start(qa()), 40)
    stub.wait("held>=40")
    stub.release(20)
    stub.wait("answered>=20")
    rt.shutdown(timeout=0.0)
    assert stub.wait("open==0")["requests"] == 40


def test_new_calls_work_after_the_io_loop_crashed(rt: Runtime, stub: StubServer) -> None:
    program = rt.start(qa())
    program(question="before")
    loop = of_class(rt, IOLoop)
    loop.exit(KILLED)
    loop.down().get(PATIENCE)
    assert program(question="after").answer


def test_a_crash_of_the_caches_actor_loses_no_entry(fast: Runtime) -> None:
    program = fast.start(qa())
    program(question="blue")
    manager = of_class(fast, CacheManager)
    manager.exit(KILLED)
    manager.down().get(PATIENCE)
    assert program(question="blue").cached


def test_calls_under_way_go_on_when_the_caches_actor_crashes(fast: Runtime, stub: StubServer) -> None:
    stub.control(fault="hold")
    replies = submit(fast.start(qa()), 4)
    stub.wait("held>=4")
    of_class(fast, CacheManager).exit(KILLED)
    stub.release()
    assert (ends(replies), stub.stats()["requests"]) == (["ok"] * 4, 4)


def test_an_answer_that_comes_as_its_worker_is_fenced_reaches_its_caller(tmp_path: Path) -> None:
    """In the thread that fences, the worker is dead already and nobody has been told of it yet."""
    gate = Gate()
    with runtime(gate, cache_path=tmp_path / "cache.db") as rt:
        asked = rt.start(qa()).submit(question="hello")
        gate.wait_for()
        ref = worker(rt)

        def answer_now(step: str, subject: object) -> None:
            if step == "finish:dead" and subject is ref.mailbox:
                gate.open()
                asked.wait(PATIENCE, rt.system.clock)

        with steps.installed(answer_now):
            ref.fence()
        assert asked.get(0).answer == "hello"
