"""`LMWorker`: the actor in front of one model at one endpoint with one key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dspy_actors.lm.attempts import Attempts, Tries
from dspy_actors.lm.exchange import Exchange, Whole
from dspy_actors.lm.flow import Turn
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.outbox import Outbox
from dspy_actors.lm.providers.base import LMConfig, Provider
from dspy_actors.lm.roster import NEVER, Use
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.streamed import Streamed
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.work import Answer, Work
from supervisors.actor import Actor
from supervisors.errors import Fenced
from supervisors.exits import Shutdown
from supervisors.reply import Reply

_OWN_TASKS = 1
"""Tasks of a worker that are no calls; they are its first."""

CLOSINGS = 3
"""How often a provider's closing is begun: a fence cuts off what an exit began, and the end of the loop that again."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is started from, again and again: its model, how to open a provider, where to count."""

    use: Use
    open_provider: Callable[[LMConfig], Provider]
    counters: LMCounters
    gatehouse: Gatehouse
    usage_log: UsageLog
    streaming: StreamSettings


class LMWorker(Actor):
    """Sends requests and owns their retries: nobody above it tries again, nobody below it does.

    It runs on the io loop and defers every reply, so thousands of calls are open at once on one thread. Its death
    cancels the requests it has open; their callers learn it at once and send again through its successor.

    Messages: `complete(work)`: an `Answer`, or the `LMError` of the last attempt. `stream(work, turn)`: the same, once
    all pieces are in the turn's flow. `retire(seconds)`: end, if nobody has called it for so long. `leave(seconds)`:
    end as soon as no call is under way.
    """

    dispatcher = "loop"

    def init(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.counters = plan.counters
        self.use = plan.use
        config = plan.use.config
        self.provider = plan.open_provider(config)  # first: it refuses a config that must not be published
        self.gates = plan.gatehouse.gates(config, plan.use.mark)
        self.attempts = Attempts(config, self.gates, plan.counters, plan.usage_log, self.clock, self.end_task)
        self.whole = Whole(self.provider)
        self.outbox = Outbox(asyncio.get_running_loop())
        self.use.leaves, self.use.is_busy = False, self._is_busy
        self.start_task(self._keep_open())

    def complete(self, work: Work) -> Reply[Answer]:
        """Ask the model; runs beside other calls until the answer, the last error or the deadline."""
        return self._begin(work, self.whole)

    def stream(self, work: Work, turn: Turn) -> Reply[Answer]:
        """Ask the model for pieces and write them to the flow; nothing is tried again after the first one."""
        turn.flow.runs_on(asyncio.get_running_loop(), self.outbox)
        plan = self.plan
        return self._begin(work, Streamed(self.provider, self.use.config, turn, plan.streaming, self.clock))

    def retire(self, seconds: float) -> None:
        """End, unless a call is under way or came less than `seconds` ago.

        A call that comes behind this message was never held: its client is told so, and asks for a successor.
        """
        now = self.clock.now()
        if self._is_busy():
            self.use.at = now
        elif now - self.use.idle_since >= seconds:
            self.stop(Shutdown("idle"))

    def leave(self, seconds: float) -> None:
        """End as soon as no call is under way; one that nobody has called yet waits `seconds` for its first."""
        for task in self.list_tasks()[_OWN_TASKS:]:
            task.add_done_callback(self._left)
        if self.use.at == NEVER:
            self.send_after(seconds, LMWorker.retire, seconds)
        else:
            self.retire(0.0)

    def _begin(self, work: Work, exchange: Exchange) -> Reply[Answer]:
        self.use.at = self.clock.now()
        reply: Reply[Answer] = self.defer()
        tries = Tries(reply)
        task = tries.task = self.start_task(self.attempts.answer(work, exchange, tries))
        if self.use.leaves:
            task.add_done_callback(self._left)
        reply.tell_if_cancelled(tries)
        return reply

    def _is_busy(self) -> bool:
        return self.running_tasks > _OWN_TASKS

    def _left(self, task: asyncio.Task[None]) -> None:
        """A call of a worker that leaves is over; those in its mailbox come first."""
        if not self._is_busy():
            with suppress(Fenced):  # it is over already, and ends its calls
                self.ref.cast(LMWorker.retire, 0.0)

    async def _keep_open(self) -> None:
        """Close the provider however this actor ends: its tasks are cancelled also when it is fenced."""
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(CLOSINGS):
                with suppress(asyncio.CancelledError):
                    await self.provider.aclose()
                    break


def worker_class(io_loop: str) -> type[LMWorker]:
    """`LMWorker` on the io loop of that name: the dispatcher is the class's, and each runtime has its own loop."""
    return type("LMWorker", (LMWorker,), {"dispatcher": io_loop, "__module__": __name__, "__doc__": LMWorker.__doc__})
