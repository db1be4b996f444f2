"""`LMWorker`: the actor in front of one model at one endpoint with one key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random

from dspy_actors.errors import DeadlineExceeded, DspyActorsError, LMError
from dspy_actors.lm.estimate import prompt_tokens
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.gates import Passing
from dspy_actors.lm.providers.base import Attempt, LMConfig, Provider
from dspy_actors.lm.retry import RetryPolicy
from dspy_actors.lm.transports.observed import HEARD
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog, UsageRecord
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMResponse, Usage
from supervisors.actor import Actor
from supervisors.reply import Reply


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is started from, again and again: its model, how to open a provider, where to count."""

    config: LMConfig
    open_provider: Callable[[LMConfig], Provider]
    counters: LMCounters
    gatehouse: Gatehouse
    usage_log: UsageLog
    key_mark: Hashable = None


class LMWorker(Actor):
    """Sends requests and owns their retries: nobody above it tries again, nobody below it does.

    It runs on the io loop and defers every reply, so thousands of calls are open at once on one thread. Its death
    cancels the requests it has open; their callers learn it at once and send again through its successor.

    Messages: `complete(work)`: an `Answer`, or the `LMError` of the last attempt.
    """

    dispatcher = "loop"

    def init(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self.counters = plan.counters
        self.random = Random()
        self.provider = plan.open_provider(plan.config)  # first: it refuses a config that must not be published
        self.gates = plan.gatehouse.gates(plan.config, plan.key_mark)
        self.start_task(self._keep_open())

    def complete(self, work: Work) -> Reply[Answer]:
        """Ask the model; runs beside other calls until the answer, the last error or the deadline."""
        reply: Reply[Answer] = self.defer()
        task = self.start_task(self._answer(work, reply))
        loop = asyncio.get_running_loop()

        def stop_if_cancelled(settled: Reply[Answer]) -> None:
            if settled.cancelled():
                loop.call_soon_threadsafe(task.cancel)

        reply.add_done_callback(stop_if_cancelled)
        return reply

    async def _answer(self, work: Work, reply: Reply[Answer]) -> None:
        self.counters.add("open")
        try:
            answer = await self._attempts(work)
        except DspyActorsError as error:
            self.counters.add("failures")
            reply.fail(error)
        else:
            self.counters.add_usage(answer.response.usage)
            reply.set(answer)
        finally:
            self.counters.add("open", -1)

    async def _attempts(self, work: Work) -> Answer:
        number = 0
        last: LMError | None = None
        while True:
            passing = await self._enter(work, number, last)
            number += 1
            try:
                return Answer(await self._once(work, number, passing), attempts=number)
            except LMError as error:
                last = error
                error.attempts = number
            await self._back_off(work, number, last)

    async def _enter(self, work: Work, sent: int, last: LMError | None) -> Passing:
        """Through the gates; an attempt that they refuse ends the call with what the one before it met, if any."""
        work.account.phase = "limiter"
        passing = self.gates.begin(
            work.request,
            work.until(),
            timeout=work.timeout,
            priority=work.priority,
            tenant=work.account.tenant,
        )
        try:
            await self.gates.enter(passing)
        except LMError as refusal:
            if last is not None:  # what the provider did says more than that it is not asked again
                last.retry_after = refusal.retry_after if last.retry_after is None else last.retry_after
                raise last from refusal
            config = self.plan.config
            refusal.provider, refusal.model, refusal.attempts = config.provider, config.model, sent
            raise
        return passing

    async def _back_off(self, work: Work, number: int, error: LMError) -> None:
        """Wait until the next attempt; raises what ends the call where there is to be none."""
        if self._left(work) == 0.0:
            msg = f"the call's deadline passed while the model was asked ({error.phase or error.kind})"
            raise DeadlineExceeded(msg, phase=error.phase or "attempt") from error
        wait = RetryPolicy(work.num_retries).delay(number, error, self._left(work), self.random)
        if wait is None or not self.gates.may_retry(error):
            raise error
        work.account.phase = "backoff"
        await self.clock.sleep(wait)
        if self._left(work) == 0.0:
            msg = "the call's deadline passed before the model could be asked again"
            raise DeadlineExceeded(msg, phase="backoff") from error
        self.counters.add("retries")

    async def _once(self, work: Work, number: int, passing: Passing) -> LMResponse:
        """One attempt, which has passed the gates: to the provider, and out again whatever came of it."""
        response: LMResponse | None = None
        failure: LMError | None = None
        work.account.phase = "model"
        heard = HEARD.set(passing.heard)
        try:
            response = await self.provider.complete(work.request, self._attempt(work, number, passing))
        except LMError as error:
            failure = error
            raise
        except asyncio.CancelledError:
            self.counters.add("unanswered", int(passing.was_sent))
            raise
        finally:
            HEARD.reset(heard)
            self.gates.leave(passing, response, failure)
            if passing.was_sent:
                self._book(work, number, passing, response, failure)
        return response

    def _book(
        self, work: Work, number: int, passing: Passing, response: LMResponse | None, failure: LMError | None
    ) -> None:
        """Record a request that was sent, and charge it to the call's account, whatever came of it."""
        account, log, name = work.account, self.plan.usage_log, f"{self.plan.config.provider}/{self.plan.config.model}"
        usage = None if response is None else response.usage
        if usage is None and failure is None:  # answered without a count, or given up: the provider has read the prompt
            usage = Usage(prompt_tokens(work.request), estimated=True)
        cost = log.cost(usage, name)
        account.add(0 if usage is None else usage.total_tokens, cost)
        log.add(
            UsageRecord(
                call_id=work.call_id,
                attempt=number,
                tenant=account.tenant,
                session=account.session,
                model=name,
                status="ok" if response is not None else "error" if failure is not None else "cancelled",
                seconds=self.clock.now() - passing.began,
                usage=usage,
                cost=cost,
                kind=None if failure is None else failure.kind,
                priority=work.priority,
            )
        )

    def _attempt(self, work: Work, number: int, passing: Passing) -> Attempt:
        now = asyncio.get_running_loop().time()
        left = self._left(work)
        if left == 0.0:
            msg = "the call's deadline passed before the request was sent"
            raise DeadlineExceeded(msg, phase="queue")
        limit = work.timeout
        if work.shared:
            left = None
        allowed = left if limit is None else limit if left is None else min(left, limit)
        return Attempt(
            request_id=f"{work.call_id}.{number}",
            number=number,
            deadline=None if allowed is None else now + allowed,
            on_sent=lambda: self._sent(passing),
            on_ready=lambda: self._ready(passing),
        )

    def _ready(self, passing: Passing) -> None:
        """The server has loaded its model: the wait for that is nothing a breaker should call slow."""
        passing.began = self.clock.now()

    def _sent(self, passing: Passing) -> None:
        self.gates.sent(passing)
        self.counters.add("sent")

    def _left(self, work: Work) -> float | None:
        until = work.until()
        return None if until is None else max(0.0, until - self.clock.now())

    async def _keep_open(self) -> None:
        """Close the provider however this actor ends: its tasks are cancelled also when it is fenced."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.provider.aclose()


def worker_class(io_loop: str) -> type[LMWorker]:
    """`LMWorker` on the io loop of that name: the dispatcher is the class's, and each runtime has its own loop."""
    return type("LMWorker", (LMWorker,), {"dispatcher": io_loop, "__module__": __name__, "__doc__": LMWorker.__doc__})
