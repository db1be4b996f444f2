"""The guards that stand before a request is sent, as one ordered list: `make_guards`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Protocol, TypeAlias

from dspy_actors.cache.flight import Flight, SingleFlight
from dspy_actors.cache.keys import digest
from dspy_actors.cache.tiers import AnswerCache
from dspy_actors.envelope import Envelope
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.account import Account
from dspy_actors.lm.budget import Amount, BudgetBook
from dspy_actors.lm.estimate import likely_usage
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest
from supervisors.reply import Reply

After: TypeAlias = Callable[[Answer | None, BaseException | None], object]


class LMCall:
    """One call on its way through the guards.

    `reply` is what the caller waits for; of a stream, `flow` is what its reader reads. A guard that lets the call pass
    may leave a function in `after`: those run in their order when the answer or the error is there. `upstream` is
    the worker's reply while one is asked. `until` says how long anybody waits for the call, and `abandoned` that nobody
    does.
    """

    __slots__ = (
        "abandoned",
        "account",
        "after",
        "ending",
        "endpoint",
        "envelope",
        "flow",
        "key",
        "lm",
        "reply",
        "request",
        "resubmits",
        "shared",
        "until",
        "upstream",
    )

    def __init__(self, lm: LM, request: LMRequest, envelope: Envelope, flow: Flow | None = None) -> None:
        self.lm = lm
        self.request = request
        self.envelope = envelope
        self.endpoint = lm.base_url or lm.provider
        self.flow = flow
        self.key: bytes | None = None
        self.reply: Reply[Answer] = Reply()
        self.after: list[After] = []
        self.upstream: Reply[Answer] | None = None
        self.resubmits = 0
        self.abandoned = False
        self.account = Account(envelope.tenant, envelope.session, envelope.priority)
        self.shared = False
        self.until: Callable[[], float | None] = lambda: envelope.deadline
        self.ending = [None]

    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.abandoned or (self.flow is not None and self.flow.dropped)

    def ends(self) -> bool:
        """Whether this is the end of the call: the first one counts."""
        try:
            self.ending.pop()  # one C call
        except IndexError:
            return False
        return True


class Guard(Protocol):
    """Stands between a call and the worker."""

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        """`None` lets the call pass; a reply answers it; an `LMError` refuses it.

        Runs in the caller's thread and never blocks.
        """
        ...


class CacheGuard:
    """Answers from the cache, and keeps what the model answers. A hit takes no message."""

    def __init__(self, cache: AnswerCache, counters: LMCounters) -> None:
        self._cache = cache
        self._counters = counters

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        if not call.lm.cache:
            return None
        call.key = digest(call.request, provider=call.lm.provider, endpoint=call.endpoint, tenant=call.envelope.tenant)
        if call.key is None:
            self._counters.add("uncacheable")
            return None
        found = self._cache.get(call.key)
        if found is None:
            call.after.append(self._keeper(call.key))
            return None
        self._counters.add("cache_hits")
        call.reply.set(Answer(found, "cache", attempts=0))
        return call.reply

    def _keeper(self, key: bytes) -> After:
        def keep(answer: Answer | None, error: BaseException | None) -> None:
            if answer is not None:
                self._cache.keep(key, answer.response)
            elif error is not None:
                self._cache.refuse(key, error)

        return keep


class FlightGuard:
    """Sends one request for equal calls made at once; each caller keeps its own wait and its own deadline.

    A stream has a reader with a pace of its own, so it neither joins a call nor is joined.
    """

    def __init__(self, flights: SingleFlight[bytes, Answer], cache: AnswerCache, counters: LMCounters) -> None:
        self._flights = flights
        self._cache = cache
        self._counters = counters

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        key = call.key
        if key is None or call.flow is not None:
            return None
        flight, reply = self._flights.join(key, call.envelope.deadline, call.envelope.priority)
        if flight is None:
            self._counters.add("coalesced")
            return _joined(reply)
        call.reply = reply
        call.shared = True
        call.until = lambda: flight.deadline
        flight.on_joined(call.account.hurry)
        landed = self._cache.peek(key)
        if landed is not None:  # the flight before this one landed after our look into the cache
            self._counters.add("cache_hits")
            flight.succeed(Answer(landed, "cache", attempts=0))
            return reply
        flight.on_abandoned(lambda: give_up(call))
        call.after.append(lambda answer, error: _land(flight, answer, error))
        return None


class BudgetGuard:
    """Sets aside what a call may cost, and refuses it where its tenant or its session cannot afford that.

    A call that joins an equal one or is answered from the cache sends nothing and costs nothing. Where money is bounded
    a call is refused with `LMConfigurationError` if its model or a fallback has no price: it could not be held to it.
    """

    def __init__(self, book: BudgetBook, log: UsageLog) -> None:
        self._book = book
        self._log = log

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        ledgers = self._book.ledgers(call.account.tenant, call.account.session)
        if ledgers:
            for ledger in ledgers:
                if ledger.budget.money is not None:
                    self._require_prices(call.lm, ledger.name)
            most = likely_usage(call.request)
            money = self._log.cost(most, call.lm.name) or Decimal(0)
            hold = call.account.hold = self._book.hold(ledgers, Amount(most.total_tokens, money, 1))

            def settle(answer: Answer | None, error: BaseException | None) -> None:
                hold.settle(call.account.settle(hold.charge))

            call.after.insert(0, settle)  # before those who wait hear of the end: what is left is theirs to spend
        return None

    def _require_prices(self, lm: LM, scope: str) -> None:
        if lm.name not in self._log.prices:
            priced = ", ".join(self._log.prices) or "none"
            msg = (
                f"the budget of {scope} bounds money, and {lm.name} has no price (prices are known for: {priced}); "
                f"write Runtime(prices={{{lm.name!r}: Price(...)}}), with Price(0, 0) for what is free"
            )
            raise LMConfigurationError(msg, provider=lm.provider, model=lm.model)
        for each in lm.fallbacks:
            self._require_prices(each.lm, scope)


def _land(flight: Flight[bytes, Answer], answer: Answer | None, error: BaseException | None) -> None:
    if answer is not None:
        flight.succeed(answer)
    elif error is not None:
        flight.fail(error)


def _joined(reply: Reply[Answer]) -> Reply[Answer]:
    """What someone gets who joined a flight: the answer, and none of its cost."""
    own: Reply[Answer] = Reply()

    def landed(done: Reply[Answer]) -> None:
        error = done.exception()
        if done.cancelled():
            own.cancel()
        elif error is not None:
            own.fail(error)
        else:
            answer = done.take()
            own.set(replace(answer, source="flight", attempts=0) if answer.source == "model" else answer)

    reply.add_done_callback(landed)
    own.add_done_callback(lambda done: reply.cancel() if done.cancelled() else None)
    return own


def give_up(call: LMCall) -> None:
    """Cancel the request of a call that nobody waits for any more, also if it has not been sent yet."""
    call.abandoned = True  # then look: who sends looks the other way round
    if call.upstream is not None:
        call.upstream.cancel()


def make_guards(
    cache: AnswerCache,
    flights: SingleFlight[bytes, Answer],
    book: BudgetBook,
    log: UsageLog,
    counters: LMCounters,
) -> tuple[Guard, ...]:
    """The guards of one runtime, in order: a hit costs nothing, an equal call sends no second request."""
    return (
        CacheGuard(cache, counters),
        FlightGuard(flights, cache, counters),
        BudgetGuard(book, log),
    )
