"""`Attempts` at the gates: what happens between two lines of it, with gates that make it happen there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from dspy_actors.envelope import Envelope
from dspy_actors.errors import LMError, LMInvalidRequestError
from dspy_actors.lm.attempts import Attempts, Tries
from dspy_actors.lm.exchange import Whole
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.gates import Gates, Passing
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings, Need, Reservation
from dspy_actors.lm.line import Ending
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.waits import Waits
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry


class Hurried(Gates):
    """A call becomes urgent as it begins to wait, before anybody could be told whom to hurry."""

    work: Work

    def enter(self, passing: Passing) -> Coroutine[Any, Any, None] | None:
        waits = super().enter(passing)
        self.work.hurry("interactive")
        return waits


def test_an_attempt_of_a_call_that_became_urgent_as_it_began_to_wait_waits_as_an_urgent_one() -> None:
    lm, clock = LM("scripted/m"), ManualClock()
    house = Gatehouse(Guarding(limiter=LimiterSettings(max_in_flight=1)), clock, Telemetry()).gates(lm.config)
    parts = (house.line, house.breakers, house.retries, house.estimator, house.lane)
    gates = Hurried(*parts, clock, Telemetry(), house.truncations, Waits(clock.now))
    gates.work = Work(lm, LMRequest("m", (Message.of("user", "hi"),)), Envelope("c", priority="batch"))
    attempts = Attempts(lm.config, gates, LMCounters(), UsageLog({}), clock)
    reply: Reply[Answer] = Reply()

    async def ask() -> dict[str, Any]:
        other = gates.line.enter(Need())
        assert isinstance(other, Reservation)
        asking = asyncio.create_task(attempts.answer(gates.work, Whole(ScriptedProvider(["yes"])), Tries(reply)))
        await asyncio.sleep(0)
        waiting = gates.line.reading(clock.now())
        gates.line.settle(other, Ending(answered=True))
        await asking
        return waiting

    waiting = asyncio.run(ask())
    assert (waiting["waiting_interactive"], waiting["waiting_batch"]) == (1, 0)
    assert reply.get(0).response.texts == ("yes",)


@pytest.mark.parametrize(
    "answer",
    [None, "yes", LMResponse(("yes",), "m", usage=Usage(cast("int", None)))],
    ids=["nothing", "a text", "a count that is none"],
)
def test_a_call_whose_provider_gives_what_is_no_answer_is_over_and_gives_its_room_back(answer: Any) -> None:
    class Wrong:
        name, endpoint = "wrong", "wrong:"

        async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
            return cast("LMResponse", answer)

        async def aclose(self) -> None:
            """Nothing to close."""

    lm, clock, counters = LM("wrong/m"), ManualClock(), LMCounters()
    gates = Gatehouse(Guarding(limiter=LimiterSettings(max_in_flight=1)), clock, Telemetry()).gates(lm.config)
    work = Work(lm, LMRequest("m", (Message.of("user", "hi"),)), Envelope("c"))
    attempts = Attempts(lm.config, gates, counters, UsageLog({}), clock)
    with pytest.raises((AttributeError, TypeError)):
        asyncio.run(attempts.answer(work, Whole(Wrong()), Tries(Reply())))
    assert (counters.read().open, gates.line.reading(clock.now())["in_flight"]) == (0, 0)


def test_a_call_that_is_cancelled_twice_is_not_cut_off_on_its_way_out() -> None:
    async def leave(steps: list[str]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):  # as a transport that closes its connection
                await asyncio.sleep(0)
            steps.append("left")

    async def cancelled() -> list[str]:
        steps: list[str] = []
        tries = Tries(Reply())
        task = tries.task = asyncio.create_task(leave(steps))
        await asyncio.sleep(0)
        tries.reply_cancelled()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tries.reply_cancelled()
        await asyncio.wait([task])
        return steps

    assert asyncio.run(cancelled()) == ["left"]


@pytest.mark.parametrize("answer", ["yes", LMInvalidRequestError("no")])
def test_a_call_is_told_to_be_over_as_its_reply_is_settled(answer: str | LMError) -> None:
    lm, clock = LM("scripted/m"), ManualClock()
    gates = Gatehouse(Guarding(), clock, Telemetry()).gates(lm.config)
    over: list[tuple[asyncio.Task[None], bool]] = []
    attempts = Attempts(
        lm.config, gates, LMCounters(), UsageLog({}), clock, lambda task: over.append((task, tries.reply.done()))
    )
    work = Work(lm, LMRequest("m", (Message.of("user", "hi"),)), Envelope("c"))
    tries = Tries(Reply())

    async def ask() -> None:
        provider = ScriptedProvider([answer])
        tries.task = asyncio.create_task(attempts.answer(work, Whole(provider), tries))
        await tries.task

    asyncio.run(ask())
    assert over == [(tries.task, True)]
