"""The guards that stand before a request is sent, as one ordered list: `make_guards`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from decimal import Decimal
from typing import ClassVar, Protocol, TypeAlias

from dspy_actors.cache.flight import Flight, SingleFlight
from dspy_actors.cache.keys import digest
from dspy_actors.cache.tiers import AnswerCache
from dspy_actors.envelope import Envelope
from dspy_actors.errors import BudgetExceeded, LMConfigurationError
from dspy_actors.lm.budget import Amount, BudgetBook
from dspy_actors.lm.estimate import likely_usage
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import key_name
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMRequest
from supervisors.reply import Reply

FlightName: TypeAlias = tuple[bytes, Hashable, float | None, int]
"""The key of the request, the API key that it is sent with, how long each attempt may take, and how often again."""

Flights: TypeAlias = SingleFlight[FlightName, Answer]


class After(Protocol):
    """Hears how a call ends."""

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> object:
        """The answer is there, or the error. Runs in the thread that has it, before anybody who waits is told."""
        ...


class Client(Protocol):
    """Who made a call."""

    def answered(self, call: LMCall) -> object:
        """`call.upstream` is settled; in the thread that settled it."""
        ...

    def again(self, call: LMCall) -> Reply[Answer]:
        """Begin a call that stands for one that was made before. Any thread."""
        ...


class LMCall(Work):
    """One call on its way through the guards, and then, as the `Work` that it is, to a worker.

    `reply` is what the caller waits for; of a stream, `flow` is what its reader reads. Whoever stands in `after` hears
    of the end, in that order: the guards that let the call pass and have something to settle. `flight` is what others
    may join, `key` its name in the cache; `upstream` is the worker's reply while one is asked, which calls the call
    when it is settled, and so its `client` is told. `abandoned` says that nobody waits any more.
    """

    __slots__ = (
        "abandoned",
        "after",
        "client",
        "flight",
        "flow",
        "key",
        "reply",
        "resubmits",
        "upstream",
    )

    is_repeat: ClassVar[bool] = False
    """Whether it stands for a call that was counted before."""

    def __init__(
        self,
        lm: LM,
        request: LMRequest,
        envelope: Envelope,
        client: Client,
        flow: Flow | None = None,
    ) -> None:
        super().__init__(lm, request, envelope)
        self.client = client
        self.flow = flow
        self.key: bytes | None = None
        self.reply: Reply[Answer] = Reply()
        self.after: tuple[After, ...] = ()  # not a list: of most calls nobody hears
        self.flight: Flight[FlightName, Answer] | None = None
        self.upstream: Reply[Answer] | None = None
        self.resubmits = 0
        self.abandoned = False

    def joining(self, shared: Reply[Answer]) -> Reply[Answer]:
        """What its caller waits for as it joins a flight, in which `shared` is its own."""
        return Joined(self, shared).own

    def __call__(self) -> None:
        """`upstream` is settled. No method of another name: bound, it would be one more object a call."""
        self.client.answered(self)

    def until(self) -> float | None:
        """How long anybody waits for it: it moves while others join and leave."""
        flight = self.flight
        return self.envelope.deadline if flight is None else flight.deadline

    def is_shared(self) -> bool:
        """See `Work.is_shared`; a stream is cancelled too when its time is over."""
        return self.flight is not None or self.flow is not None

    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.abandoned or (self.flow is not None and self.flow.dropped)

    def reply_cancelled(self) -> None:
        """`reply` was cancelled: nobody waits any more."""
        self.give_up()

    def give_up(self) -> None:
        """Cancel the request that nobody waits for any more, also if it has not been sent yet."""
        self.abandoned = True  # then look: who sends looks the other way round
        if self.upstream is not None:
            self.upstream.cancel()


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
        lm = call.lm
        if not lm.cache:
            return None
        endpoint = lm.base_url or lm.provider
        key = call.key = digest(call.request, provider=lm.provider, endpoint=endpoint, tenant=call.envelope.tenant)
        if key is None:
            self._counters.add("uncacheable")
            return None
        found = self._cache.get(key, key_name(lm.api_key))
        if found is None:
            call.after += (self,)
            return None
        self._counters.add("cache_hits")
        call.reply.set(Answer(found, "cache", attempts=0, key=key))
        return call.reply

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        """Keep the answer, or that the request was refused as invalid."""
        assert call.key is not None
        if answer is not None:
            answer.key = call.key  # nobody has it yet
            self._cache.keep(call.key, answer.response)
        elif error is not None:
            self._cache.refuse(call.key, error, key_name(call.lm.api_key))


class FlightGuard:
    """Sends one request for equal calls made at once; each caller keeps its own wait and its own deadline.

    Equal are those of one key, timeout and number of retries: what becomes of another's says nothing of one's own. A
    stream has a reader with a pace of its own, so it neither joins a call nor is joined.
    """

    def __init__(self, flights: Flights, cache: AnswerCache, counters: LMCounters) -> None:
        self._flights = flights
        self._cache = cache
        self._counters = counters

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        key = call.key
        if key is None or call.flow is not None:
            return None
        lm, envelope = call.lm, call.envelope
        name = (key, key_name(lm.api_key), lm.timeout, lm.num_retries)
        flight, reply = self._flights.join(name, envelope.deadline, envelope.priority, call.reply)
        if flight is None:
            if not call.is_repeat:
                self._counters.add("coalesced")
            return call.joining(reply)
        call.flight = flight
        flight.on_joined(call.hurry)
        landed = self._cache.peek(key)
        if landed is not None:  # the flight before this one landed after our look into the cache
            self._counters.add("cache_hits")
            flight.succeed(Answer(landed, "cache", attempts=0, key=key))
            return reply
        flight.on_abandoned(call.give_up)
        call.after += (self,)
        return None

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        """Tell everybody who has joined."""
        flight = call.flight
        assert flight is not None
        if answer is not None:
            flight.succeed(answer)
        elif error is not None:
            flight.fail(error)


class BudgetGuard:
    """Sets aside what a call may cost, and refuses it where its tenant or its session cannot afford that.

    A call that joins an equal one or is answered from the cache sends nothing and costs nothing. Where money is bounded
    a call is refused with `LMConfigurationError` if its model or a fallback has no price: it could not be held to it.
    """

    def __init__(self, book: BudgetBook, log: UsageLog) -> None:
        self._book = book
        self._log = log

    def admit(self, call: LMCall) -> Reply[Answer] | None:
        ledgers = self._book.ledgers(call.envelope.tenant, call.envelope.session)
        if ledgers:
            for ledger in ledgers:
                if ledger.budget.money is not None:
                    self._require_prices(call.lm, ledger.name)
            most = likely_usage(call.request)
            money = self._log.cost(most, call.lm.name) or Decimal(0)
            call.hold = self._book.hold(ledgers, Amount(most.total_tokens, money, 1))
            call.after = (self, *call.after)  # before those who wait hear of the end: what is left is theirs to spend
        return None

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        """Put what was spent in the place of what was set aside."""
        hold = call.hold
        assert hold is not None
        hold.settle(*call.settle(hold.charge, hold.let_go))

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


class Joined:
    """The wait of a call that has joined a flight: `own` gets the answer, and none of its cost.

    Where the flight failed for want of money or requests, which may be the want of whoever flew it alone, the call is
    made again: one of those who wait may pay, and flies it. Those who cannot pay get what their leader had met.
    """

    __slots__ = ("_call", "_met", "_shared", "own")

    def __init__(self, call: LMCall, shared: Reply[Answer]) -> None:
        self.own: Reply[Answer] = Reply()
        self._call = call
        self._met: BaseException | None = None
        self.wait_for(shared)
        self.own.add_done_callback(self._left)

    def wait_for(self, shared: Reply[Answer]) -> None:
        """Wait for that, the reply of a flight or of a call of one's own."""
        self._shared = shared  # then look: who leaves does it the other way round
        if self.own.cancelled():
            shared.cancel()
        shared.add_done_callback(self._landed)

    def _left(self, own: Reply[Answer]) -> None:
        if own.cancelled():
            self._shared.cancel()

    def _landed(self, done: Reply[Answer]) -> None:
        own, error = self.own, done.exception()
        if done.cancelled():
            own.cancel()
        elif error is None:
            answer = done.take()
            own.set(answer if self._call.flight or answer.source != "model" else _shared_answer(answer))
        elif self._call.flight is not None or not _is_of_budget(error):
            own.fail(error if self._met is None or not isinstance(error, BudgetExceeded) else self._met)
        elif not own.done():
            self._make_again(error)

    def _make_again(self, error: BaseException) -> None:
        if self._met is None and not isinstance(error, BudgetExceeded):
            self._met = error
        before = self._call
        self._call = call = _MadeAgain(self, before)
        try:
            made = call.client.again(call)
        except Exception as failure:
            self.own.fail(failure)
            return
        if made is not self.own:  # it has joined nobody
            self.wait_for(made)


class _MadeAgain(LMCall):
    """A call whose flight failed for want of money or requests, made once more by itself."""

    __slots__ = ("_joined",)

    is_repeat = True

    def __init__(self, joined: Joined, call: LMCall) -> None:
        super().__init__(call.lm, call.request, call.envelope, call.client)
        self._joined = joined

    def joining(self, shared: Reply[Answer]) -> Reply[Answer]:
        self._joined.wait_for(shared)
        return self._joined.own


def _shared_answer(answer: Answer) -> Answer:
    return replace(answer, source="flight", attempts=0)


def _is_of_budget(error: BaseException) -> bool:
    """Whether the call ended because a budget had no room for a request more, the first one or another."""
    return isinstance(error, BudgetExceeded) or isinstance(error.__cause__, BudgetExceeded)


def make_guards(
    cache: AnswerCache,
    flights: Flights,
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
