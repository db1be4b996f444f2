"""What every attempt passes on the io loop before it is sent, as one ordered list: limiter, then breakers.

Rate is reserved before a probe's permit is taken, or a paused limiter would hold the only probe for a minute. Leases
are settled exactly once, whatever becomes of the attempt.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dspy_actors.envelope import Priority
from dspy_actors.errors import DeadlineExceeded, LMError, LMRateLimitError, LMTimeoutError
from dspy_actors.lm.breaker import Breaker, Permit, Verdict
from dspy_actors.lm.classify import is_provider_failure
from dspy_actors.lm.limiter import RateLimiter, Reservation
from dspy_actors.lm.rate_headers import read_rate_headers
from dspy_actors.lm.retry_budget import RetryBudget
from dspy_actors.messages import LMRequest, LMResponse
from supervisors.clock import Clock

_RANKS: Mapping[Priority, int] = {"interactive": 0, "batch": 1, "optimizer": 2}
PAUSE_SECONDS = 1.0
"""How long a limiter pauses after a 429 that does not say when to come back."""

LOOK_AGAIN = 0.25
"""Seconds after which whoever is first in line looks at the limits again, as they may have been learned meanwhile."""


@dataclass(slots=True)
class Passing:
    """One attempt on its way: what it may cost, by when it must be through, and what it holds."""

    tokens: int
    priority: Priority
    deadline: float | None
    began: float = 0.0
    was_sent: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    reservation: Reservation | None = None
    permits: list[tuple[Breaker, Permit]] = field(default_factory=list)

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """The answer's headers have come."""
        self.headers = headers


class Gates:
    """The gates of one worker: the limiter of its model and key, the breakers of its model and its endpoint.

    Lives on the io loop with its worker; what it guards by is published and outlives both.
    """

    def __init__(self, limiter: RateLimiter, breakers: tuple[Breaker, ...], retries: RetryBudget, clock: Clock) -> None:
        self.limiter = limiter
        self.breakers = breakers
        self.retries = retries
        self._clock = clock
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._left: asyncio.Future[None] | None = None
        self._estimate = TokenEstimate()

    def begin(self, request: LMRequest, priority: Priority, deadline: float | None) -> Passing:
        """An attempt at `request`."""
        tokens = 0 if self.limiter.tokens.per_minute is None else self._estimate.of(request)
        return Passing(tokens, priority, deadline)

    async def enter(self, passing: Passing) -> None:
        """Wait for room and take the permits.

        Raises `CircuitOpen` at once where a breaker refuses, `LMRateLimitError` where the wait would outlast the
        deadline.
        """
        now = self._clock.now()
        for breaker in self.breakers:  # nobody waits for room only to be refused
            breaker.check(now)
        passing.reservation = await self._room(passing)
        try:
            for breaker in self.breakers:
                permit = breaker.permit(self._clock.now(), passing.deadline)
                passing.permits.append((breaker, permit))
        except BaseException:
            self.leave(passing, None, None)
            raise
        passing.began = self._clock.now()

    def leave(self, passing: Passing, response: LMResponse | None, error: BaseException | None) -> None:
        """The attempt has ended: in an answer, in an error, or (neither) cancelled. Settles everything it holds."""
        now = self._clock.now()
        took = now - passing.began if passing.began else 0.0
        for breaker, permit in passing.permits:
            breaker.report(permit, verdict_of(breaker, passing, response, error, took), now)
        passing.permits.clear()
        if response is not None:
            self.retries.answered()
            self._estimate.learn(passing.tokens, response)
            self.limiter.measured(took)
        self._settle(passing, response, error, now)

    def _settle(self, passing: Passing, response: LMResponse | None, error: BaseException | None, now: float) -> None:
        reservation, passing.reservation = passing.reservation, None
        if reservation is None:
            return
        used = response.usage.total_tokens if response is not None and response.usage is not None else None
        self.limiter.settle(reservation, used, now, sent=passing.was_sent)
        if passing.headers:
            self.limiter.learn(read_rate_headers(passing.headers), passing.began, now)
        if isinstance(error, LMRateLimitError):
            after = error.retry_after
            self.limiter.pause(PAUSE_SECONDS if after is None else after, now)
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    async def _room(self, passing: Passing) -> Reservation:
        """Room for the attempt: at once, or in its turn; urgent ones first, then in the order they came."""
        if not self._queue:
            found = self.limiter.reserve(passing.tokens, self._clock.now())
            if isinstance(found, Reservation):
                return found
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (_RANKS[passing.priority], next(self._numbers), turn)
        heapq.heappush(self._queue, entry)
        try:
            while self._queue[0] is not entry:
                await self._until(passing, turn)
            return await self._first_in_line(passing)
        finally:
            self._queue.remove(entry)
            heapq.heapify(self._queue)
            if self._queue and not self._queue[0][2].done():
                self._queue[0][2].set_result(None)

    async def _first_in_line(self, passing: Passing) -> Reservation:
        while True:
            now = self._clock.now()
            found = self.limiter.reserve(passing.tokens, now)
            if isinstance(found, Reservation):
                return found
            self._refuse_hopeless(found, passing, now)
            if found is math.inf:
                self._left = asyncio.get_running_loop().create_future()
                await self._until(passing, self._left)
            else:
                await self._clock.sleep(min(found, LOOK_AGAIN))

    async def _until(self, passing: Passing, turn: asyncio.Future[None]) -> None:
        """Wait for `turn`, no longer than the deadline."""
        if passing.deadline is None:
            await turn
            return
        seconds = max(0.0, passing.deadline - self._clock.now())
        late = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((turn, late), return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
        if not turn.done():
            raise self._too_late()

    def _refuse_hopeless(self, wait: float, passing: Passing, now: float) -> None:
        if passing.deadline is None:
            return
        if now >= passing.deadline:
            raise self._too_late()
        if wait is not math.inf and now + wait > passing.deadline:
            msg = f"the rate limit leaves no room within the call's deadline; room is there in {wait:.1f} s"
            raise LMRateLimitError(msg, retry_after=wait, phase="limiter")

    @staticmethod
    def _too_late() -> DeadlineExceeded:
        return DeadlineExceeded("the call's deadline passed while it waited for the rate limit", phase="limiter")


def verdict_of(
    breaker: Breaker, passing: Passing, response: LMResponse | None, error: BaseException | None, took: float
) -> Verdict:
    """What an attempt says of its provider.

    A timeout counts only where the attempt had the time to be slow: one impatient caller must not open the circuit
    for everybody.
    """
    slow = breaker.settings.slow_seconds
    if response is not None:
        return Verdict.SLOW if took > slow else Verdict.SUCCESS
    if not isinstance(error, LMError) or not is_provider_failure(error):
        return Verdict.NOTHING
    if isinstance(error, LMTimeoutError) and passing.deadline is not None:
        allowed = passing.deadline - passing.began
        if allowed < min(slow, 30.0) and error.phase != "connect":
            return Verdict.NOTHING
    return Verdict.FAILURE


class TokenEstimate:
    """Tokens a request will take: its bytes over four, put right by what answers have told, plus what it may answer."""

    __slots__ = ("_answer", "_ratio")

    def __init__(self) -> None:
        self._ratio = 1.0
        self._answer = 256.0

    def of(self, request: LMRequest) -> int:
        """The estimate for `request`, as the provider itself would reserve it."""
        size = sum(len(message.text) for message in request.messages)
        most = request.options.get("max_tokens") or request.options.get("max_completion_tokens")
        answer = float(most) if isinstance(most, int) else self._answer
        return int(size / 4.0 * self._ratio + answer) + 1

    def learn(self, estimate: int, response: LMResponse) -> None:
        """Move towards what the answer took."""
        usage = response.usage
        if usage is None or estimate <= 0:
            return
        self._answer += 0.1 * (usage.completion_tokens - self._answer)
