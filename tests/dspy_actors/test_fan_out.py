"""A job in the hands of evaluation actors that start late and die early; the test plays their supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.evaluation.fan_out import fan_out
from dspy_actors.evaluation.feed import Feed
from dspy_actors.evaluation.job import Hand, Job, Row
from dspy_actors.modules.outcome import Outcome
from dspy_actors.runner import Settings
from supervisors.clock import ManualClock, Timer
from supervisors.errors import ActorDied
from supervisors.exits import Shutdown
from supervisors.reply import Reply
from tests.dspy_actors.programs import PATIENCE


class Actor:
    """An evaluation actor that has been given its work and does nothing by itself."""

    def __init__(self) -> None:
        self.working: Reply[None] = Reply()
        self.hand: Hand | None = None

    def send_request(self, method: Callable[..., Any], job: Job, slots: int, hand: Hand) -> Reply[None]:
        self.hand = hand
        return self.working


class Slot:
    """One slot, which tells when it leaves."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def wake(self) -> bool:
        self.told.append("woken")
        return True

    def leave(self) -> None:
        self.told.append("left")


class Crew:
    """Starts actors when the test says so."""

    def __init__(self) -> None:
        self.starts: list[Reply[Any]] = []
        self.evaluations: Any = self

    def send_request(self, method: Callable[..., Any], spec: Any) -> Reply[Any]:
        self.starts.append(Reply())
        return self.starts[-1]

    def run_on_loop(self, body: Coroutine[Any, Any, Any]) -> Reply[Any]:
        body.close()
        raise AssertionError("a job that was stopped tries no row again")

    def pause(self, seconds: float) -> Reply[None]:
        return Reply()

    def end_evaluation(self, ref: Any) -> None:
        pass


def test_an_actor_that_comes_after_the_stop_does_not_wait_for_the_rows_of_the_dead() -> None:
    feed = Feed([Row(0, {}), Row(1, {})], closed=False)
    deliver: Any = None
    program: Any = None
    job = Job(program, program, feed, deliver, ManualClock())
    crew, first, late = Crew(), Actor(), Actor()
    fan_out(crew, job, 2)
    crew.starts[0].set(first)
    row = feed.take(Slot())
    assert row is not None
    assert first.hand is not None
    assert first.hand.hold(row)
    job.stop()
    first.working.fail(ActorDied("first", Shutdown(), True))
    crew.starts[1].set(late)
    assert feed.ended
    late.working.set(None)
    assert job.done.done()


@pytest.mark.parametrize("stops_first", [False, True])
def test_a_job_that_is_stopped_does_not_wait_for_a_row_between_two_tries(stops_first: bool) -> None:
    class Program:
        async def outcome(self, inputs: Any, settings: Any) -> Outcome:
            return Outcome(call_id="")

    async def deliver(row: Row, outcome: Outcome) -> float:
        return 300.0

    async def main() -> None:
        working = asyncio.create_task(job.work(Hand(), slot))
        await waits.wait()
        job.stop()
        await asyncio.wait_for(working, PATIENCE)

    class Stopping(ManualClock):
        """Stops the job, as another thread may, when the wait for the second try begins."""

        def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
            waits.set()
            if stops_first:
                job.stop()
            return super().call_at(when, fn)

    waits = asyncio.Event()
    slot = Slot()
    program: Any = Program()
    clock = Stopping()
    job = Job(program, Settings(lm=None, adapter=ChatAdapter()), Feed([Row(0, {})]), deliver, clock)
    asyncio.run(main())
    clock.advance(300.0)
    assert slot.told == (["left"] if stops_first else ["left", "woken"])
    assert (job.feed.ended, job.feed.take(slot)) == (True, None)
