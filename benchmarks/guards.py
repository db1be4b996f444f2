"""What the guards cost a call that nobody holds up: µs on one thread, no network.

`whole chain before the slot` is everything between a program's question and the slot of the transport: cache key and
look-up, single flight, budget, then limiter and both breakers. `whole chain, there and back` has the settlement of all
of them too, with what the cache keeps. The bare baseline is one uncontended `threading.Lock` taken and given back, the
least that shared state can cost.

    python benchmarks/guards.py [--rounds 9] [--calls 2000]
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from _report import Report, Row, interleave
from _targets import Targets

from dspy_actors.cache.flight import SingleFlight
from dspy_actors.cache.keys import digest
from dspy_actors.cache.table import Table
from dspy_actors.cache.tiers import AnswerCache
from dspy_actors.envelope import Envelope
from dspy_actors.lm.breaker import Breaker, Verdict
from dspy_actors.lm.budget import Budget, BudgetBook
from dspy_actors.lm.estimate import prompt_tokens
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.gates import Gates, Passing
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.guards import Guard, LMCall, make_guards
from dspy_actors.lm.limiter import LimiterSettings, Need, RateLimiter, Reservation
from dspy_actors.lm.line import Ending, Line
from dspy_actors.lm.lm import LM
from dspy_actors.lm.prices import Price
from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from supervisors.clock import SystemClock
from supervisors.registry import Registry
from supervisors.telemetry import Telemetry

CLOCK = SystemClock()
LIMITS = LimiterSettings(requests_per_minute=1e9, tokens_per_minute=1e12)
SYSTEM = "You answer questions. " * 30
ANSWER = LMResponse(("four",), "m", Usage(200, 10))
USED = Need(200, 10)
BARE = "a lock, taken and given back"
BEFORE = "whole chain before the slot"
AT_ONCE = 64


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--calls", type=int, default=2000)
    options = arguments.parse_args()
    report = Report("guards", "us")
    cases = {name: partial(_timed, work, options.calls) for name, work in _cases().items()}
    cases[BEFORE] = partial(_before, _caller_side(), _gates(), options.calls)
    rows = interleave(cases, options.rounds)
    report.table(f"one call, {options.calls} in a row", rows, BARE)
    report.close(targets=_targets(rows).show())


def _timed(work: Callable[[int], object], calls: int) -> list[float]:
    """Mean µs a call, of one stretch of calls: the thread's own time, whatever else the machine does."""
    began = time.thread_time()
    for number in range(calls):
        work(number)
    return [(time.thread_time() - began) / calls * 1e6]


def _before(caller: Callable[[int], LMCall], gates: Gates, calls: int) -> list[float]:
    """Mean µs a call up to the slot. So many are under way at once; their coming back is not timed."""
    spent, inside = 0.0, []
    for _ in range(calls // AT_ONCE):
        began = time.thread_time()
        for number in range(AT_ONCE):
            call = caller(number)
            inside.append((call, _enter(gates, call.request)))
        spent += time.thread_time() - began
        while inside:
            call, passing = inside.pop()
            _leave(gates, passing)
            _land(call)
    return [spent / (calls // AT_ONCE * AT_ONCE) * 1e6]


def _cases() -> dict[str, Callable[[int], object]]:
    lock = threading.Lock()

    def bare(number: int) -> None:
        with lock:
            pass

    caller, gates = _caller_side(), _gates()

    def whole(number: int) -> None:
        call = caller(number)
        _attempt(gates, call.request)
        _land(call)

    return {
        BARE: bare,
        "breaker, permit and report": _breaker(),
        "limiter, reserve and settle": _limiter(),
        "limiter behind its line": _line(),
        "cache key": lambda number: digest(_request(number), provider="openai", endpoint="openai", tenant=""),
        "caller's side: cache, flight, budget": lambda number: _land(caller(number)),
        "worker's side: limiter, breakers": lambda number: _attempt(gates, _request(0)),
        "whole chain, there and back": whole,
    }


def _request(number: int) -> LMRequest:
    messages = (Message.of("system", SYSTEM), Message.of("user", f"What is {number} + 2?"))
    return LMRequest("m", messages, {"temperature": 0.0, "max_tokens": 50})


def _breaker() -> Callable[[int], object]:
    breaker = Breaker("m")

    def work(number: int) -> None:
        now = CLOCK.now()
        breaker.check(now)
        permit = breaker.permit(now)
        breaker.report(permit, Verdict.SUCCESS, now)

    return work


def _limiter() -> Callable[[int], object]:
    limiter = RateLimiter(LIMITS, CLOCK.now())
    need = Need(200, 50)

    def work(number: int) -> None:
        now = CLOCK.now()
        made = limiter.reserve(need, now)
        assert isinstance(made, Reservation)
        limiter.sent(made, now)
        limiter.settle(made, USED, now, sent=True)

    return work


def _line() -> Callable[[int], object]:
    line = Line("m", RateLimiter(LIMITS, CLOCK.now()), CLOCK)
    need, ending = Need(200, 50), Ending(answered=True, seconds=0.5, used=USED)

    def work(number: int) -> None:
        made = line.enter(need)
        assert isinstance(made, Reservation)
        line.sent(made)
        line.settle(made, ending)

    return work


def _gates() -> Gates:
    return Gatehouse(Guarding(limiter=LIMITS), CLOCK, Telemetry()).gates(LMConfig("openai", "m"))


def _attempt(gates: Gates, request: LMRequest) -> None:
    _leave(gates, _enter(gates, request))


def _enter(gates: Gates, request: LMRequest) -> Passing:
    prompt, now = prompt_tokens(request), CLOCK.now()
    passing = Passing(prompt, gates.estimator.need(request, prompt), "interactive", "", now + 600.0, None, now)
    if gates.enter(passing) is not None:
        raise AssertionError("the limiter made a call wait")
    return passing


def _leave(gates: Gates, passing: Passing) -> None:
    gates.sent(passing)
    gates.leave(passing, ANSWER, None)


class _Nobody:
    """Makes calls that no worker answers."""

    def answered(self, call: LMCall) -> None:
        raise AssertionError("nobody was asked")


def _caller_side() -> Callable[[int], LMCall]:
    """Every call asks something new: each one is a miss, flies alone and is paid for from a budget."""
    lm, counters, nobody = LM("openai/m"), LMCounters(), _Nobody()
    book = BudgetBook({"": Budget(tokens=10**15, money=Decimal(10**9), requests=10**12)}, {})
    usage = UsageLog({"openai/m": Price(Decimal("0.15"), Decimal("0.60"))})
    guards: tuple[Guard, ...] = make_guards(_cache(), SingleFlight(), book, usage, counters)
    asked = iter(range(10**9))

    def work(number: int) -> LMCall:
        call = LMCall(lm, _request(next(asked)), Envelope("c", deadline=CLOCK.now() + 600.0), nobody)
        for guard in guards:
            assert guard.admit(call) is None
        return call

    return work


def _cache() -> AnswerCache:
    table: Table[bytes, Any] = Table(CLOCK, max_entries=10_000)
    refusals: Table[bytes, Any] = Table(CLOCK, max_entries=10_000)
    return AnswerCache(table, refusals, None, Registry(), Telemetry())


def _land(call: LMCall) -> None:
    answer = Answer(ANSWER)
    for after in call.after:
        after.ended(call, answer, None)


def _targets(rows: dict[str, Row]) -> Targets:
    targets = Targets()
    targets.at_most(BEFORE, rows[BEFORE].median, 60.0, "us")
    targets.at_most("breaker, permit and report", rows["breaker, permit and report"].median, 5.0, "us")
    targets.at_most("limiter, reserve and settle", rows["limiter, reserve and settle"].median, 5.0, "us")
    return targets


if __name__ == "__main__":
    main()
