"""What every attempt passes on the io loop before it is sent, as one ordered list: limiter, then breakers.

Rate is reserved before a probe's permit is taken, or a paused limiter would hold the only probe for a minute. What an
attempt holds is settled exactly once, whatever becomes of it: its answer, its error, its cancellation, the death of its
worker or of the io loop.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from dspy_actors.envelope import CLASSES, Priority
from dspy_actors.errors import CircuitOpen, LMError, LMRateLimitError, LMTimeoutError, LMTransportError
from dspy_actors.lm.breaker import Breaker, Permit, Verdict
from dspy_actors.lm.endpoint_breaker import EndpointBreaker
from dspy_actors.lm.estimate import Estimator
from dspy_actors.lm.hedge import Lane
from dspy_actors.lm.limiter import Need, Reservation
from dspy_actors.lm.line import Ending, Line
from dspy_actors.lm.rate_headers import SILENT, read_rate_headers
from dspy_actors.lm.retry_budget import RetryBudget
from dspy_actors.lm.truncations import Truncations
from dspy_actors.lm.verdicts import is_provider_failure
from dspy_actors.lm.waits import Waits
from dspy_actors.messages import LMResponse
from supervisors.clock import Clock
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry

WAITED = ("limiter", "wait")
"""Event of a wait for the rate limit that is over: measurements `seconds`; metadata `name`, `tenant`, `priority`."""

HEDGED = ("lm", "hedge")
"""Event of a second request beside a slow one: measurements {}, metadata `model`, `call_id`."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Passing:
    """One attempt on its way: what it may cost, by when it must be through, and what it holds.

    `prompt` is how many tokens its prompt has by its length, `need` what those before it make of that. `deadline` is an
    instant; `timeout` the seconds that the LM's owner gives each attempt, whatever the deadline. Of a stream
    `first_token` is the instant of its first piece, and `held` the seconds that its reader made it wait. It has
    `permits` of the gates' breakers, in their order, as far as it got, and the `headers` of the answer that came last.
    """

    __slots__ = (
        "began",
        "deadline",
        "first_token",
        "headers",
        "held",
        "need",
        "permits",
        "priority",
        "prompt",
        "reservation",
        "tenant",
        "timeout",
        "turn",
        "was_sent",
    )

    def __init__(
        self,
        prompt: int,
        need: Need,
        priority: Priority,
        tenant: str,
        deadline: float | None,
        timeout: float | None,
        began: float,
    ) -> None:
        self.prompt = prompt
        self.need = need
        self.priority = priority
        self.tenant = tenant
        self.deadline = deadline
        self.timeout = timeout
        self.began = began
        self.was_sent = False
        self.first_token: float | None = None
        self.held = 0.0
        self.headers: Mapping[str, str] = _NO_HEADERS
        self.turn: Reply[Reservation] | None = None
        self.reservation: Reservation | None = None
        self.permits: list[Permit] = []

    def begins(self, now: float) -> None:
        """The first piece of a stream is there."""
        self.first_token = now

    def until(self) -> float | None:
        """By when it must be through, as things stand: its call may be waited for longer by now."""
        return self.deadline

    def abandoned(self) -> None:
        """Nobody may ever hear how it ended. Any thread."""


class Gates:
    """The gates of one worker: the limiter of its model and key, the breakers of its model and its endpoint.

    Lives on the io loop with its worker; what it guards by is published and outlives both.
    """

    __slots__ = (
        "_clock",
        "_open",
        "_telemetry",
        "_waits",
        "breakers",
        "estimator",
        "lane",
        "line",
        "retries",
        "truncations",
    )

    def __init__(
        self,
        line: Line,
        breakers: tuple[EndpointBreaker, Breaker],
        retries: RetryBudget,
        estimator: Estimator,
        lane: Lane,
        clock: Clock,
        telemetry: Telemetry,
        truncations: Truncations,
        waits: Waits,
    ) -> None:
        self.line = line
        self.breakers = breakers
        self.retries = retries
        self.estimator = estimator
        self.lane = lane
        self._clock = clock
        self._telemetry = telemetry
        self.truncations = truncations
        self._waits = waits
        self._open: dict[Passing, None] = {}

    def enter(self, passing: Passing) -> Coroutine[Any, Any, None] | None:
        """Take room and permits where both are there; else what is to be awaited for them, at once.

        Raises `CircuitOpen` at once where a breaker refuses, `LMRateLimitError` where the wait for room would outlast
        the deadline; what is awaited raises them too, and `DeadlineExceeded` where the wait did outlast it.
        """
        now = self._clock.now()
        for breaker in self.breakers:  # nobody waits for room only to be refused
            if breaker.free is None:
                breaker.check(now)
        priority = passing.priority
        found = self.line.enter(
            passing.need, priority=priority, tenant=passing.tenant, deadline=passing.deadline, until=passing.until
        )
        if isinstance(found, Reply):
            passing.turn = found
        else:
            passing.reservation = found
        self._open[passing] = None  # from here on with all that it has: `abandon` comes from another thread
        if passing.turn is not None:
            return self._enter_in_turn(passing, passing.turn, priority)
        self._permit(passing, now)
        return None

    async def _enter_in_turn(self, passing: Passing, turn: Reply[Reservation], priority: Priority) -> None:
        try:
            await self._wait(turn, passing, priority)
        except BaseException:
            self.leave(passing, None, None)
            raise
        self._permit(passing, self._clock.now())

    def _permit(self, passing: Passing, now: float) -> None:
        """It has room: take the permits, with which it begins."""
        try:
            for breaker in self.breakers:
                passing.permits.append(breaker.free or breaker.permit(now, passing.deadline))
        except BaseException:
            self.leave(passing, None, None)
            raise
        finally:
            if passing not in self._open:  # then look: `abandon` may have come before a permit was there
                self._give_back(passing, now)
        passing.began = now

    def _give_back(self, passing: Passing, now: float) -> None:
        """Nobody will tell what comes of these permits: a probe would keep all others waiting until its lease ends."""
        for breaker, permit in zip(self.breakers, passing.permits, strict=False):
            breaker.report(permit, Verdict.NOTHING, now)

    def sent(self, passing: Passing) -> None:
        """The whole request is on its way."""
        passing.was_sent = True
        if passing.reservation is not None:
            self.line.sent(passing.reservation)

    def begun(self, passing: Passing) -> None:
        """The first piece of a stream has come: a probe has told what it is to tell, however slowly it is read."""
        permits, first = passing.permits, passing.first_token
        if first is None or not any(permit.probe for permit in permits):
            return
        endpoint, model = self.breakers
        of_endpoint, of_model = permits
        waited = first - passing.began
        permits[:] = endpoint.begun_by(model.name, of_endpoint, waited, first), model.begun(of_model, waited, first)

    def leave(self, passing: Passing, response: LMResponse | None, error: BaseException | None) -> None:
        """The attempt has ended: in an answer, in an error, or (neither) cancelled. Settles everything it holds."""
        if self._open.pop(passing, self) is self:
            return
        now = self._clock.now()
        took = now - passing.began - passing.held
        if response is not None:  # a stream is as slow as its first piece
            waited = took if passing.first_token is None else passing.first_token - passing.began
            endpoint, model = self.breakers
            of_endpoint, of_model = passing.permits
            endpoint.answered_by(model.name, of_endpoint, waited, now)
            model.answered(of_model, waited, now)
            self.retries.answered()
        else:
            self._tell_breakers(passing, error, took, now)
        reservation = passing.reservation if passing.turn is None else _taken(passing)
        if reservation is None:
            return
        try:
            ending = self._ending(passing, response, error, took)
        except BaseException:  # a provider of one's own gave what is no response: the room is needed when it is gone
            self.line.settle(reservation, Ending(sent=passing.was_sent))
            raise
        self.line.settle(reservation, ending)

    def _tell_breakers(self, passing: Passing, error: BaseException | None, took: float, now: float) -> None:
        """What an attempt without an answer says: the endpoint's breaker is told which model the server failed."""
        endpoint, model = self.breakers
        for breaker, permit in zip(self.breakers, passing.permits, strict=False):
            verdict = verdict_of(breaker, passing, error, took, now)
            failure = _failure(verdict, error, took)
            if breaker is endpoint and verdict is Verdict.FAILURE and _has_a_head(passing, error):
                endpoint.failed_by(model.name, permit, verdict, now, failure)
            else:
                breaker.report(permit, verdict, now, failure)

    def abandon(self) -> None:
        """The worker is gone and its io loop perhaps too: whatever its attempts still hold is given back."""
        for passing in list(self._open):
            self.leave(passing, None, None)
            passing.abandoned()

    def may_retry(self, error: LMError) -> bool:
        """Pay for another attempt; whether the provider's budget for such had enough.

        Being too fast costs nothing: the limiter lets one through after the pause, and the others when that one was
        answered, so nothing is multiplied.
        """
        if isinstance(error, LMRateLimitError):
            return True
        return self.retries.spend(after_timeout=isinstance(error, LMTimeoutError))

    def may_hedge(self) -> bool:
        """Pay for a second request beside a slow one; whether requests have earned it and the retry budget had it."""
        return self.lane.take() and self.retries.spend()

    def note_hedge(self, model: str, call_id: str) -> None:
        """A second request is sent beside a slow one."""
        self._telemetry.execute(HEDGED, {}, {"model": model, "call_id": call_id})

    def note_truncated(self, model: str, call_id: str, response: LMResponse, limit: int | None) -> None:
        """An answer of `model`, which was allowed `limit` tokens, was cut off."""
        self.truncations.note(self.breakers[1].name, model, call_id, response, limit)

    def _ending(
        self, passing: Passing, response: LMResponse | None, error: BaseException | None, took: float
    ) -> Ending:
        limits = read_rate_headers(passing.headers) if passing.headers else SILENT
        if response is not None:
            usage = response.usage
            if usage is None:
                return Ending(answered=True, seconds=took, limits=limits)
            self.estimator.learn(passing.prompt, usage)
            used = Need(usage.prompt_tokens, usage.completion_tokens)
            return Ending(answered=True, seconds=took, used=used, limits=limits)
        sent = passing.was_sent or bool(passing.headers)
        if isinstance(error, LMRateLimitError):
            return Ending(sent=sent, refused=True, retry_after=error.retry_after, limits=limits)
        return Ending(sent=sent, limits=limits)

    def hurry(self, passing: Passing, priority: Priority) -> None:
        """The attempt is of a more urgent class from now on, also where it waits already. Any thread."""
        if CLASSES.index(priority) < CLASSES.index(passing.priority):
            passing.priority = priority  # then look: who begins to wait does it the other way round
        turn = passing.turn
        if turn is not None:
            self.line.hurry(turn, priority)

    async def _wait(self, turn: Reply[Reservation], passing: Passing, priority: Priority) -> None:
        """Wait for a place in the line to come up, which it took as one of the class `priority`."""
        turn.on_settled(self._waits.begin(passing.tenant))  # whatever ends it: the io loop may be gone by then
        if passing.priority != priority:
            self.line.hurry(turn, passing.priority)
        began = self._clock.now()
        try:
            passing.reservation = await turn
        finally:
            waited = {"seconds": self._clock.now() - began}
            of_whom = {"name": self.line.name, "tenant": passing.tenant, "priority": passing.priority}
            self._telemetry.execute(WAITED, waited, of_whom)


def _failure(verdict: Verdict, error: BaseException | None, took: float) -> str | None:
    """What went wrong in words, where the verdict is one against the provider."""
    if verdict is Verdict.NOTHING:
        return None
    if isinstance(error, LMError):
        return f"{error.kind}: {error.message}"[:300]
    return f"no answer within {took:.1f} s"


def _has_a_head(passing: Passing, error: BaseException | None) -> bool:
    """Whether the failure is one that the server answered. A connection that breaks is none, at whatever point."""
    if not isinstance(error, LMError) or isinstance(error, LMTransportError):
        return False
    return error.status is not None or bool(passing.headers)


def _taken(passing: Passing) -> Reservation | None:
    """What the attempt holds of the limiter, also where its turn came up and it was never told; it waits no more."""
    turn = passing.turn
    if passing.reservation is None and turn is not None and not turn.cancel() and turn.exception() is None:
        return turn.take()
    return passing.reservation


def verdict_of(breaker: Breaker, passing: Passing, error: BaseException | None, took: float, now: float) -> Verdict:
    """What an attempt without an answer says of its provider.

    Where the caller's own deadline ended it, by a timeout or by a cancellation, the provider is to blame only if it had
    had the patience of the breaker's settings, or all the time that the LM's owner gives an attempt. After the first
    piece of a stream only its silence or an end too early is a failure.
    """
    settings = breaker.settings
    has_begun = passing.first_token is not None
    patience = min(settings.slow_seconds, settings.patience_seconds)
    was_patient = took >= patience
    if error is None:  # shared calls are cancelled when the last deadline of those who wait has passed
        is_over = passing.deadline is not None and now >= passing.deadline
        is_to_blame = passing.was_sent and not has_begun and is_over and was_patient
        return Verdict.FAILURE if is_to_blame else Verdict.NOTHING
    if not isinstance(error, LMError) or isinstance(error, CircuitOpen) or not is_provider_failure(error):
        return Verdict.NOTHING
    if isinstance(error, LMTimeoutError) and error.phase == "total" and error.status is None:
        had_all = passing.timeout is not None and took >= 0.9 * passing.timeout
        return Verdict.FAILURE if had_all or (was_patient and not has_begun) else Verdict.NOTHING
    return Verdict.FAILURE
