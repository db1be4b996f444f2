"""`Attempts`: the requests of a call, one after the other, until an answer, the last error or the deadline."""

from __future__ import annotations

import asyncio
from random import Random

from dspy_actors.errors import DeadlineExceeded, LMError
from dspy_actors.lm.exchange import Exchange
from dspy_actors.lm.gates import Gates, Passing
from dspy_actors.lm.providers.base import Attempt, LMConfig
from dspy_actors.lm.retry import RetryPolicy
from dspy_actors.lm.transports.observed import HEARD
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog, UsageRecord
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMResponse, Usage
from supervisors.clock import Clock


class Attempts:
    """The one owner of retries, for the calls and the streams of one worker. Lives on the io loop."""

    __slots__ = ("_clock", "_config", "_counters", "_log", "_random", "gates")

    def __init__(self, config: LMConfig, gates: Gates, counters: LMCounters, log: UsageLog, clock: Clock) -> None:
        self.gates = gates
        self._config = config
        self._counters = counters
        self._log = log
        self._clock = clock
        self._random = Random()

    async def answer(self, work: Work, exchange: Exchange) -> Answer:
        """Ask until there is an answer. Raises the `LMError` of the last attempt, or `DeadlineExceeded`."""
        number = 0
        last: LMError | None = None
        while True:
            passing = await self._enter(work, number, last)
            number += 1
            try:
                return Answer(await self._once(work, exchange, number, passing), attempts=number)
            except LMError as error:
                last = error
                error.attempts = number
                if not exchange.may_repeat():
                    raise
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
            config = self._config
            refusal.provider, refusal.model, refusal.attempts = config.provider, config.model, sent
            raise
        return passing

    async def _back_off(self, work: Work, number: int, error: LMError) -> None:
        """Wait until the next attempt; raises what ends the call where there is to be none."""
        if self._left(work) == 0.0:
            msg = f"the call's deadline passed while the model was asked ({error.phase or error.kind})"
            raise DeadlineExceeded(msg, phase=error.phase or "attempt") from error
        wait = RetryPolicy(work.num_retries).delay(number, error, self._left(work), self._random)
        if wait is None or not self.gates.may_retry(error):
            raise error
        work.account.phase = "backoff"
        await self._clock.sleep(wait)
        if self._left(work) == 0.0:
            msg = "the call's deadline passed before the model could be asked again"
            raise DeadlineExceeded(msg, phase="backoff") from error
        self._counters.add("retries")

    async def _once(self, work: Work, exchange: Exchange, number: int, passing: Passing) -> LMResponse:
        """One attempt, which has passed the gates: to the provider, and out again whatever came of it."""
        response: LMResponse | None = None
        failure: LMError | None = None
        work.account.phase = exchange.phase
        heard = HEARD.set(passing.heard)
        try:
            response = await exchange.ask(work, self._attempt(work, number, passing), passing)
        except LMError as error:
            failure = error
            raise
        except asyncio.CancelledError:
            self._counters.add("unanswered", int(passing.was_sent))
            raise
        finally:
            HEARD.reset(heard)
            self.gates.leave(passing, response, failure)
            if passing.was_sent:
                self._book(work, number, passing, response, failure, exchange.usage(work, response, failure))
        return response

    def _book(
        self,
        work: Work,
        number: int,
        passing: Passing,
        response: LMResponse | None,
        failure: LMError | None,
        usage: Usage | None,
    ) -> None:
        """Record a request that was sent, and charge it to the call's account, whatever came of it."""
        account, log, name = work.account, self._log, f"{self._config.provider}/{self._config.model}"
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
                seconds=self._clock.now() - passing.began,
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
        passing.began = self._clock.now()

    def _sent(self, passing: Passing) -> None:
        self.gates.sent(passing)
        self._counters.add("sent")

    def _left(self, work: Work) -> float | None:
        until = work.until()
        return None if until is None else max(0.0, until - self._clock.now())
