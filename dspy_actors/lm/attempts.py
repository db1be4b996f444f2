"""`Attempts`: the requests of a call, one after the other, until an answer, the last error or the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any

from dspy_actors.envelope import Priority
from dspy_actors.errors import BudgetExceeded, DeadlineExceeded, DspyActorsError, LMError, LMTransportError
from dspy_actors.lm.estimate import answer_bound, prompt_tokens, with_lacking
from dspy_actors.lm.exchange import Exchange
from dspy_actors.lm.gates import Gates, Passing
from dspy_actors.lm.hedge import Hedge
from dspy_actors.lm.providers.base import Attempt, LMConfig
from dspy_actors.lm.race import first_answer
from dspy_actors.lm.retry import RetryPolicy
from dspy_actors.lm.transports.observer import Observer
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import Status, UsageLog, UsageRecord
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMResponse, Usage
from supervisors.clock import Clock
from supervisors.reply import Reply


class Tries:
    """What a worker does for one call until its `reply` is settled, and then stops where nobody waits any more.

    `task` does it. So many requests were `sent`, `hedges` of them beside another, and one was `answered` or none yet.
    """

    __slots__ = ("_stopped", "answered", "hedges", "reply", "sent", "task")

    def __init__(self, reply: Reply[Answer]) -> None:
        self.reply = reply
        self.task: asyncio.Task[None] | None = None
        self.sent = 0
        self.hedges = 0
        self.answered = False
        self._stopped = False

    def reply_cancelled(self) -> None:
        """There is no use in trying any more. In the thread that cancels."""
        task = self.task
        if task is not None:
            task.get_loop().call_soon_threadsafe(self._stop, task)

    def _stop(self, task: asyncio.Task[None]) -> None:
        """Once only: what a cancelled task does on its way out is not to be cut off."""
        if not self._stopped:
            self._stopped = True
            task.cancel()


class Attempts:
    """The one owner of retries, for the calls and the streams of one worker. Lives on the io loop."""

    __slots__ = ("_config", "_log", "_name", "_over", "_random", "clock", "counters", "gates")

    def __init__(
        self,
        config: LMConfig,
        gates: Gates,
        counters: LMCounters,
        log: UsageLog,
        clock: Clock,
        over: Callable[[asyncio.Task[None]], object] = lambda _: None,
    ) -> None:
        """`over` is called by each task of a call as the last it does, but for one that is cancelled or raises."""
        self.gates = gates
        self._config = config
        self._name = f"{config.provider}/{config.model}"
        self.counters = counters
        self._log = log
        self._over = over
        self.clock = clock
        self._random = Random()

    async def answer(self, work: Work, exchange: Exchange, tries: Tries) -> None:
        """Ask until there is an answer, and settle the reply: with it, or with the error that ended the call.

        That is the `LMError` of the last attempt, a refusal, or `DeadlineExceeded`. The call counts as open meanwhile.
        """
        counters, stream = self.counters, not exchange.whole
        counters.begin(stream=stream)
        last: LMError | None = None
        try:
            work.cover(1)  # set aside already, unless a worker died over it
            while True:
                passing = await self._enter(work, tries.sent, last)
                try:
                    if work.lm.hedge is None:
                        response = await self._once(work, exchange, tries, passing)
                    else:
                        response = await self._maybe_hedged(work, exchange, tries, passing, work.lm.hedge)
                    break
                except LMError as error:
                    last = error
                    error.attempts = tries.sent
                    if not exchange.may_repeat():
                        raise
                await self._back_off(work, tries.sent - tries.hedges, last)
            usage = response.usage  # in here: a provider of one's own may give what is no response
            is_whole = response.truncated is None
        except DspyActorsError as error:
            counters.end(stream=stream, failed=True)
            tries.reply.fail(error)
        except BaseException:
            counters.end(stream=stream)
            raise
        else:
            counters.end(usage, stream=stream)
            answer = Answer(response, "model", tries.sent)
            if not is_whole:
                self._note_truncated(work, answer)
            tries.reply.set(answer)
        if tries.task is not None:
            self._over(tries.task)

    def _note_truncated(self, work: Work, answer: Answer) -> None:
        """The answer was cut off: count it, and tell of it."""
        self.counters.add("truncated")
        answer.limit = answer_bound(work.request)
        self.gates.note_truncated(self._name, work.envelope.call_id, answer.response, answer.limit)

    def _maybe_hedged(
        self, work: Work, exchange: Exchange, tries: Tries, passing: _Request, hedge: Hedge
    ) -> Coroutine[Any, Any, LMResponse]:
        """One attempt, and where it is the first one and slow, a second beside it."""
        once = self._once(work, exchange, tries, passing)
        if not exchange.whole or tries.sent > 0:
            return once
        after = self.gates.lane.begin(hedge)
        if after is None:
            return once
        return first_answer(once, self.clock.sleep(after), lambda: self._hedge(work, exchange, tries))

    def _hedge(self, work: Work, exchange: Exchange, tries: Tries) -> Coroutine[Any, Any, LMResponse] | None:
        """The second request beside a slow one; `None` where there may be none."""
        if self._left(work) == 0.0 or not self._can_afford(work, 2):
            return None
        if not self.gates.may_hedge():
            self._can_afford(work, 1)
            return None
        return self._beside(work, exchange, tries)

    @staticmethod
    def _can_afford(work: Work, requests: int) -> bool:
        """Have set aside what so many requests cost, those under way counted; whether the budgets allow it."""
        try:
            work.cover(requests)
        except BudgetExceeded:
            return False
        return True

    async def _beside(self, work: Work, exchange: Exchange, tries: Tries) -> LMResponse:
        """The second request: it waits at the gates in its call's name and class, as the first one did."""
        passing = _Request(self, work)
        await self._through(work, passing)
        if tries.answered:  # the room that this one waited for is what the answer left: it is too late
            self.gates.leave(passing, None, None)
            raise asyncio.CancelledError
        tries.hedges += 1
        self.counters.add("hedges")
        self.gates.note_hedge(self._name, work.envelope.call_id)
        return await self._once(work, exchange, tries, passing)

    async def _through(self, work: Work, passing: _Request) -> None:
        """Through the gates; while it waits there, it becomes as urgent as its call."""
        waits = self.gates.enter(passing)
        if waits is None:
            return
        work.hurried = passing.hurry
        passing.priority = work.priority  # then look: it may have become more urgent meanwhile
        try:
            await waits
        finally:
            work.hurried = None

    async def _enter(self, work: Work, sent: int, last: LMError | None) -> _Request:
        """Through the gates; an attempt that they refuse ends the call with what the one before it met, if any."""
        work.phase = "limiter"
        passing = _Request(self, work)
        try:
            await self._through(work, passing)
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
        wait = RetryPolicy(work.lm.num_retries).delay(number, error, self._left(work), self._random)
        if wait is None:
            raise error
        try:
            work.cover(1)
        except BudgetExceeded as refusal:
            raise error from refusal
        if not self.gates.may_retry(error):
            raise error
        work.phase = "backoff"
        await self.clock.sleep(wait)
        if self._left(work) == 0.0:
            msg = "the call's deadline passed before the model could be asked again"
            raise DeadlineExceeded(msg, phase="backoff") from error
        self.counters.add("retries")

    async def _once(self, work: Work, exchange: Exchange, tries: Tries, passing: _Request) -> LMResponse:
        """One attempt, which has passed the gates: to the provider, and out again whatever came of it."""
        if not work.begin(passing):
            self.gates.leave(passing, None, None)
            raise asyncio.CancelledError
        tries.sent += 1
        is_first = tries.sent == 1
        response: LMResponse | None = None
        failure: LMError | None = None
        work.phase = exchange.phase
        try:
            response = await exchange.ask(work, self._attempt(work, passing), passing)
            tries.answered = True
            told = response.usage
            if told is not None and not (told.prompt_tokens and told.completion_tokens):
                response = with_lacking(work.request, response, told)
        except LMError as error:
            failure = error
            raise
        except asyncio.CancelledError as error:
            failure = self._unasked(tries)
            if failure is not None:
                raise failure from error
            self.counters.add("unanswered", int(passing.was_sent))
            raise
        finally:
            try:
                passing.over()
                overtaken = tries.answered and failure is None and is_first  # a second one was begun too late to say
                if exchange.whole and (response is not None or overtaken):
                    self.gates.lane.learn(self.clock.now() - passing.began)
                self.gates.leave(passing, response, failure)
                if passing.was_sent and not passing.booked:
                    status: Status = "ok" if response is not None else "error" if failure is not None else "cancelled"
                    kind = None if failure is None else failure.kind
                    self.book(work, passing, status, kind, exchange.usage(work, response, failure))
            finally:
                work.over(passing)
        return response

    def _unasked(self, tries: Tries) -> LMError | None:
        """The error of an attempt that raised `CancelledError`, where nobody has cancelled it: the provider's own code.

        Left as it is it would end the call's task, and nobody would ever settle the reply.
        """
        task = asyncio.current_task()
        if task is None or task.cancelling() or tries.reply.done():
            return None
        config = self._config
        msg = f"the code of the provider of {self._name} raised CancelledError, and nobody had cancelled the call"
        return LMTransportError(msg, provider=config.provider, model=config.model)

    def book(
        self,
        work: Work,
        passing: _Request,
        status: Status,
        kind: str | None,
        usage: Usage | None,
    ) -> None:
        """Record a request that was sent, and charge the call for it, whatever came of it."""
        envelope, log, name = work.envelope, self._log, self._name
        cost = log.cost(usage, name)
        if work.hold is not None:
            work.charge(0 if usage is None else usage.total_tokens, cost)
        log.add(
            UsageRecord(
                envelope.call_id,
                passing.number,
                envelope.tenant,
                envelope.session,
                name,
                status,
                self.clock.now() - passing.began,
                usage,
                cost,
                kind,
                work.priority,
            )
        )

    def _attempt(self, work: Work, passing: _Request) -> Attempt:
        """What the provider is to know of the request, which has its number from here on."""
        left, allowed = self._left(work), work.lm.timeout
        if left == 0.0:
            msg = "the call's deadline passed before the request was sent"
            raise DeadlineExceeded(msg, phase="queue")
        if left is not None and (allowed is None or left < allowed) and not work.is_shared():
            allowed = left
        deadline = None if allowed is None else asyncio.get_running_loop().time() + allowed
        passing.number = next(work.envelope.numbers)
        return Attempt(f"{work.envelope.call_id}.{passing.number}", passing.number, deadline, passing)

    def _left(self, work: Work) -> float | None:
        until = work.until()
        return None if until is None else max(0.0, until - self.clock.now())


class _Request(Passing, Observer):
    """One attempt: what the gates see of it, and what provider and transport tell of it, on the io loop.

    `number` is its place among the requests of the call. `booked` says that what was sent last has its record, as
    nothing may take its place. All this is one object, for thousands are under way at once.
    """

    __slots__ = ("_attempts", "_work", "booked", "number")

    def __init__(self, attempts: Attempts, work: Work) -> None:
        envelope, request = work.envelope, work.request
        prompt = prompt_tokens(request)
        super().__init__(
            prompt,
            attempts.gates.estimator.need(request, prompt),
            work.priority,
            envelope.tenant,
            work.until(),
            work.lm.timeout,
            attempts.clock.now(),
        )
        self._attempts = attempts
        self._work: Work | None = work
        self.number = 0
        self.booked = False

    def sent(self) -> None:
        """See `Observer.sent`; where one was sent before, that came to nothing."""
        if self.was_sent:
            self._came_to_nothing()
            self.booked = False
        attempts = self._attempts
        attempts.gates.sent(self)
        attempts.counters.add("sent")

    def until(self) -> float | None:
        """See `Passing.until`."""
        work = self._work
        return self.deadline if work is None else work.until()

    def hurry(self, priority: Priority) -> None:
        """Its call has become more urgent. Any thread."""
        self._attempts.gates.hurry(self, priority)

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Observer.heard`."""
        self.headers = headers

    def again(self) -> None:
        """See `Observer.again`: the budgets are asked. Raises `BudgetExceeded`."""
        work = self._work
        if self.was_sent and work is not None:
            self._came_to_nothing()
            work.cover_again()

    def ready(self) -> None:
        """See `Observer.ready`: the wait for that is nothing a breaker should call slow."""
        self.began = self._attempts.clock.now()

    def abandoned(self) -> None:
        """See `Passing.abandoned`: the call's budgets do not wait for it."""
        work = self._work
        if work is not None:
            work.over(self)

    def begins(self, now: float) -> None:
        """See `Passing.begins`."""
        super().begins(now)
        self._attempts.gates.begun(self)

    def over(self) -> None:
        """The attempt has ended: a provider that keeps what it was given keeps no call with it."""
        self._work = None

    def _came_to_nothing(self) -> None:
        """Book the request that was sent last by itself."""
        if self._work is not None and not self.booked:
            self._attempts.book(self._work, self, "error", None, None)
            self.booked = True
