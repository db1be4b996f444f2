"""One reading of the whole LM layer, and readiness: what a probe of a service sees."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from dspy_actors import LM, CircuitOpen, LMConfigurationError, Predict, Runtime
from dspy_actors.errors import DeadlineExceeded, LMRateLimitError
from dspy_actors.example import Prediction
from dspy_actors.lm.breaker import State
from dspy_actors.lm.guard_actors import BreakerManager
from dspy_actors.lm.pulse import INTERVAL, Pulse
from dspy_actors.messages import LMRequest
from dspy_actors.modules.module import Module
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.dispatchers.loop import LoopDispatcher
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, SOON, Blocks, Gate, let_go, qa
from tests.dspy_actors.programs import runtime as programs_runtime


def answer(request: LMRequest) -> str:
    return "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"


def runtime() -> Runtime:
    return Runtime(LM("scripted/m"), open_provider=lambda config: ScriptedProvider(answer))


def test_health_is_plain_data_with_every_part_of_the_layer() -> None:
    with runtime() as rt:
        Predict("question -> answer")(question="q")
        health: dict[str, Any] = json.loads(json.dumps(rt.health()))

    assert health["numbers"]["sent"] == 1
    assert health["breakers"]["scripted/m"]["state"] == "closed"
    assert health["cache"]["entries"] == 1
    assert set(health) >= {"loop_lag_seconds", "limiters", "retry_budgets", "budgets", "disk_cache"}


def test_a_runtime_is_ready_once_it_is_up_and_not_once_it_drains() -> None:
    with runtime() as rt:
        wait_until(rt.ready)
        rt.drain(1.0)

        assert not rt.ready()


def test_a_runtime_whose_default_model_is_cut_off_is_not_ready() -> None:
    with runtime() as rt:
        Predict("question -> answer")(question="q")
        wait_until(rt.ready)
        breakers = rt.registry.whereis("breakers")
        assert breakers is not None
        breakers.call(BreakerManager.force_open, "scripted/m")

        assert not rt.ready()
        breakers.call(BreakerManager.reset, "scripted/m")
        assert rt.ready()


def test_a_breaker_is_opened_and_reset_by_hand_by_its_name() -> None:
    with runtime() as rt:
        ask = rt.start(Predict("question -> answer"))
        ask(question="q")
        rt.breakers.force_open("scripted/m")
        with pytest.raises(CircuitOpen, match="by hand"):
            ask(question="another")
        assert rt.breakers.readings()["scripted/m"].state is State.FORCED_OPEN
        rt.breakers.reset("scripted/m")

        assert ask(question="a third").answer


def test_a_breaker_that_there_is_not_is_refused_with_those_there_are() -> None:
    with runtime() as rt:
        with pytest.raises(LMConfigurationError, match="none, before the first call"):
            rt.breakers.reset("nobody/here")
        Predict("question -> answer")(question="q")
        with pytest.raises(LMConfigurationError, match=r"'nobody/here'; there are: .*scripted/m"):
            rt.breakers.force_open("nobody/here")


def test_a_breaker_that_nobody_knows_is_not_opened() -> None:
    with runtime() as rt:
        breakers = rt.registry.whereis("breakers")
        assert breakers is not None

        assert breakers.call(BreakerManager.force_open, "nobody/here") is False


def test_a_loop_that_is_held_up_is_seen_from_outside() -> None:
    pulse = Pulse()

    async def held() -> float | None:
        beating = asyncio.create_task(pulse.beat())
        await asyncio.sleep(0)
        until = time.monotonic() + INTERVAL + 0.1
        while time.monotonic() < until:  # the loop is busy with somebody's code
            pass
        lag = pulse.lag()
        beating.cancel()
        return lag

    lag = asyncio.run(held())
    assert lag is not None
    assert lag >= 0.09
    assert pulse.lag() is None


def test_breakers_outlive_the_actor_that_looks_after_them() -> None:
    with runtime() as rt:
        Predict("question -> answer")(question="q")
        breakers = rt.registry.whereis("breakers")
        assert breakers is not None
        breakers.call(BreakerManager.force_open, "scripted/m")
        breakers.fence()
        wait_until(lambda: rt.registry.whereis("breakers") not in (None, breakers))
        again = rt.registry.whereis("breakers")
        assert again is not None

        assert again.call(BreakerManager.readings)["scripted/m"].state.value == "forced_open"


def limited(seconds: float) -> Runtime:
    """A model that is too fast for its provider once, and is told to come back after `seconds`."""
    answers = iter([LMRateLimitError("too fast", status=429, retry_after=seconds)])
    lm = LM("scripted/m", num_retries=0, cache=False)
    provider = ScriptedProvider(lambda request: next(answers, None) or answer(request))
    return Runtime(lm, deadline=60.0, open_provider=lambda config: provider)


def test_a_runtime_whose_model_is_paused_for_longer_than_a_call_may_wait_is_not_ready() -> None:
    with limited(3600.0) as rt:
        ask = rt.start(Predict("question -> answer"))
        wait_until(rt.ready)
        for _ in range(2):
            with pytest.raises(LMRateLimitError):
                ask(question="q")

        assert not rt.ready()


def test_a_runtime_with_a_pause_that_its_calls_can_wait_out_is_ready() -> None:
    with limited(20.0) as rt:
        wait_until(rt.ready)
        with pytest.raises(LMRateLimitError):
            rt.start(Predict("question -> answer"))(question="q")

        assert rt.limiters.readings()["scripted/m"]["paused_seconds"]
        assert rt.ready()


def test_a_pause_is_ended_by_hand_by_the_limiter_s_name() -> None:
    with limited(3600.0) as rt:
        ask = rt.start(Predict("question -> answer"))
        with pytest.raises(LMRateLimitError):
            ask(question="q")
        rt.limiters.resume("scripted/m")
        wait_until(rt.ready)

        assert ask(question="q").answer == "yes"


def test_a_limiter_that_there_is_not_is_refused_with_those_there_are() -> None:
    with runtime() as rt:
        with pytest.raises(LMConfigurationError, match="none, before the first call"):
            rt.limiters.resume("nobody/here")
        Predict("question -> answer")(question="q")
        with pytest.raises(LMConfigurationError, match="'nobody/here'; there are: scripted/m"):
            rt.limiters.resume("nobody/here")


# -- programs ------------------------------------------------------------------------------------------------------


def test_calls_that_wait_for_a_place_are_seen() -> None:
    gate = Gate()
    with programs_runtime(gate) as rt:
        program = rt.start(qa(), name="busy", max_inflight=2)
        rt.start(qa(), name="idle")
        replies = [program.submit(question=f"q{n}") for n in range(5)]
        wait_until(lambda: seen(rt)["queued"] == 3)

        assert seen(rt) == {
            "started": 2,
            "open_calls": 5,
            "inflight": 2,
            "queued": 3,
            "queued_by_program": {"busy": 3},
        }
        gate.open()
        for reply in replies:
            reply.get(PATIENCE)


def seen(rt: Runtime) -> dict[str, Any]:
    programs: Any = rt.health()["programs"]
    return dict(programs)


def test_a_runtime_that_has_lost_too_many_threads_is_not_ready_until_they_come_back() -> None:
    blocks = Blocks()
    with programs_runtime(max_zombies=1) as rt:
        wait_until(rt.ready)
        program = rt.start(blocks)
        for lost in (1, 2):
            wait_until(rt.ready)
            with pytest.raises(DeadlineExceeded):
                program.using(deadline=SOON)(question="blue")
            wait_until(lambda lost=lost: rt.health()["zombies"] == lost)  # type: ignore[misc]

        assert rt.health()["max_zombies"] == 1
        assert not rt.ready()
        let_go(rt, blocks)
        wait_until(rt.ready)


class Holds(Module):
    """Holds up the loop that it runs on until the test lets go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __deepcopy__(self, memo: object) -> Holds:
        return self

    async def aforward(self, question: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        return Prediction(answer="late")


def lag(rt: Runtime) -> float | None:
    found: Any = rt.health()["programs_loop_lag_seconds"]
    return None if found is None else float(found)


def test_a_program_that_holds_up_the_programs_loop_is_seen_meanwhile() -> None:
    holds = Holds()
    with programs_runtime() as rt:
        assert lag(rt) is None
        reply = rt.start(holds).submit(question="blue")
        assert holds.begun.wait(PATIENCE)
        wait_until(lambda: (lag(rt) or 0.0) > 0.1)
        assert not reply.done()
        holds.go_on.set()
        assert reply.get(PATIENCE).answer == "late"


def test_watching_the_programs_loop_keeps_nothing_of_the_call_that_began_it() -> None:
    held: ContextVar[object] = ContextVar("held")
    kept = Holds()
    gone = weakref.ref(kept)
    context = copy_context()
    context.run(held.set, kept)
    with programs_runtime() as rt:
        context.run(rt.start(qa()).submit, question="blue").get(PATIENCE)
        assert lag(rt) is not None
        del context, kept
        wait_until(lambda: gc.collect() >= 0 and gone() is None)


def test_the_programs_loop_of_a_service_is_watched_as_long_as_the_runtime_is_there() -> None:
    rt = programs_runtime()
    with System() as system:
        loop = system.kernel.dispatcher("loop")
        assert isinstance(loop, LoopDispatcher)
        system.start_child(rt.child_spec())
        program = rt.start(qa())
        for _ in range(2):
            program.submit(question="blue").get(PATIENCE)
            assert lag(rt) is not None
            system.root.call(Supervisor.terminate_child, rt.name)
            assert lag(rt) is None
            wait_until(lambda: not loop._tasks)
            system.root.call(Supervisor.restart_child, rt.name)
