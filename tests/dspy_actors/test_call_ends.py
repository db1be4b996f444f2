"""How a call to a model ends: everybody who is to hear of it does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspy_actors.envelope import Envelope
from dspy_actors.errors import DeadlineExceeded, LMRateLimitError, LMServerError, LMTransportError
from dspy_actors.lm.client import LMClient
from dspy_actors.lm.guards import LMCall
from dspy_actors.lm.in_turn import InTurn
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.reach import WorkerFinder
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, Message
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry
from tests.dspy_actors.programs import qa

DOWN = LMServerError("down")


class NoWorkers(WorkerFinder):
    """Finds none, and says why."""

    def __init__(self) -> None:
        pass

    def here(self, config: Any) -> None:
        return None

    def in_turn(self, config: Any, ref: Any, then: Any) -> None:
        then(None, DOWN)


class Watching:
    """A guard that lets each call pass and hears of its end; one that is `broken` raises then."""

    def __init__(self, heard: list[BaseException | None], *, broken: bool = False) -> None:
        self._heard = heard
        self._broken = broken

    def admit(self, call: LMCall) -> None:
        call.after += (self,)

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        if self._broken:
            raise RuntimeError("broken")
        self._heard.append(error)


def test_a_guard_that_raises_at_the_end_of_a_call_keeps_nobody_from_hearing_of_it() -> None:
    heard: list[BaseException | None] = []
    replies: list[Reply[Answer]] = []

    class Seeing(Watching):
        def admit(self, call: LMCall) -> None:
            replies.append(call.reply)
            super().admit(call)

    counters = LMCounters()
    guards = (Seeing(heard), Watching(heard, broken=True), Watching(heard))
    client = LMClient(NoWorkers(), guards, InTurn(counters, Telemetry()), counters, ManualClock())
    with pytest.raises(RuntimeError, match="broken"):
        client.submit(LM("scripted/m"), LMRequest("m", (Message.of("user", "hello"),)), Envelope("c"))
    assert heard == [DOWN, DOWN]
    assert replies[0].exception() is DOWN


class Opener(Actor):
    """Opens streams, and lives on."""

    def open(self, client: LMClient, until: float) -> LMStream:
        request = LMRequest("m", (Message.of("user", "hello"),))
        return client.stream(LM("scripted/m"), request, Envelope("c", deadline=until))


def test_an_actor_does_not_keep_a_stream_whose_time_is_over_as_it_is_opened() -> None:
    kernel, counters, clock = Kernel(), LMCounters(), ManualClock(5.0)
    try:
        client = LMClient(NoWorkers(), (), InTurn(counters, Telemetry()), counters, clock)
        ref = kernel.spawn(Opener)
        stream = ref.call(Opener.open, client, 5.0)
        with pytest.raises(DeadlineExceeded):
            stream.take().get()
        assert not ref.mailbox.watchers
    finally:
        kernel.close()


def test_a_provider_that_says_to_come_back_at_no_time_locks_no_model_out() -> None:
    """Of a pause that was nan nothing ever said that it was over: every later call brought its worker down."""
    said = iter([LMRateLimitError("too fast", status=429, retry_after=float("nan")), *["[[ ## answer ## ]]\nyes"] * 3])

    def script(request: LMRequest) -> Any:
        return next(said)

    lm = LM("scripted/m", num_retries=0)
    with Runtime(lm, open_provider=lambda config: ScriptedProvider(script)) as rt:
        program = rt.start(qa())
        assert isinstance(program.safe_call(question="blue").error, LMRateLimitError)
        assert [program(question=text).answer for text in ("red", "green")] == ["yes", "yes"]


def test_a_provider_that_awaits_what_was_cancelled_fails_its_attempt() -> None:
    """It raises `CancelledError`, which nobody asked for: nobody settled the reply, and its caller waited for ever."""
    asked: list[str] = []

    async def script(request: LMRequest) -> str:
        asked.append(request.model)
        gone = asyncio.ensure_future(asyncio.Event().wait())
        gone.cancel()
        await gone
        raise AssertionError

    lm = LM("scripted/m", num_retries=1)
    with Runtime(lm, deadline=5.0, open_provider=lambda config: ScriptedProvider(script)) as rt:
        failure = rt.start(qa()).safe_call(question="blue").error
    assert isinstance(failure, LMTransportError)
    assert "CancelledError" in failure.message
    assert (asked, failure.attempts) == (["m", "m"], 2)
