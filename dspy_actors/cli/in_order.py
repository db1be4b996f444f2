"""`InOrder`: a program's results in the order of its rows, with rows that the infrastructure failed tried again."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from dspy_actors.batch import Mapped, map_rows
from dspy_actors.cli.failures import is_temporary, is_unreachable
from dspy_actors.cli.stopping import Stopping
from dspy_actors.errors import CircuitOpen, LMError
from dspy_actors.evaluation.host import EvaluationHost
from dspy_actors.evaluation.second_tries import RETRY_WAITS, passes
from dspy_actors.messages import Usage
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime

READ_AHEAD = 8
"""How many times `concurrency` results may wait for a slow row before no more rows are taken until it has ended."""

CAREFUL = 3
"""Rows that run one at a time after a breaker's pause: it lets one probe through, and refuses what comes with it."""

PAUSE_SECONDS = 1.0
"""The pause after a refusal that does not say when to come back."""


@dataclass(slots=True)
class _Taken:
    """A row that was taken. `until` is when its time is over, all tries and waits together; seconds of the clock."""

    index: int
    row: Mapping[str, Any]
    began: float
    until: float
    tries: int = 0
    attempts: int = 0
    usage: Usage | None = None
    last: Outcome | None = None

    def book(self, outcome: Outcome) -> None:
        """Count what a try took."""
        self.attempts += outcome.attempts
        if outcome.usage is not None:
            self.usage = outcome.usage if self.usage is None else self.usage + outcome.usage


class InOrder:
    """Iterate once. Where the iteration is left in the middle, `early` has what was finished and not handed on.

    A row has `patience` seconds from when it is taken, whatever happens. One that a breaker refused was not tried: it
    waits for as long as the breaker asks for, and runs again. Meanwhile no more than `concurrency` rows are taken, to
    wait with it; those whose time runs out end in the refusal. A row that the infrastructure failed otherwise runs
    again twice, a little later; one that found no model does so only once another row has found one. `on_outage` is
    told of a breaker's refusal, once between two rows that a model answered.

    Raises `CircuitOpen` where no row was answered before a breaker opened, and none after its first pause; in its place
    the error of a row that has ended in one that does not pass.
    """

    def __init__(
        self,
        runtime: Runtime,
        program: Program,
        rows: Iterable[Mapping[str, Any]],
        inputs: tuple[str, ...] | None,
        stopping: Stopping,
        *,
        concurrency: int,
        patience: float,
        on_outage: Callable[[CircuitOpen], object],
    ) -> None:
        self._program = program
        self._rows = enumerate(stopping.until(rows))
        self._inputs = inputs
        self._stopping = stopping
        self._concurrency = concurrency
        self._patience = patience
        self._on_outage = on_outage
        self._is_outage = False
        self._clock = runtime.system.clock
        self._waiting: dict[int, Mapped] = {}
        self._again: list[tuple[float, int, _Taken]] = []
        self._refusal: CircuitOpen | None = None
        self._resume_at = 0.0
        self._careful = 0
        self._next = 0
        self._exhausted = False
        self._is_proven = False
        self._lasting: Exception | None = None  # of a server that will answer no better later
        self.has_success = False

    def __iter__(self) -> Iterator[Mapped]:
        while not self._exhausted or self._again:
            yield from self._pause()
            yield from self._round()

    def early(self, first: int) -> list[Mapped]:
        """Rows from number `first` on that have ended behind one that has not, in order."""
        return [self._waiting[index] for index in sorted(self._waiting) if index >= first]

    def _round(self) -> Iterator[Mapped]:
        """Run rows until there is a reason to pause."""
        numbers: dict[int, _Taken] = {}
        alone = self._careful > 0
        for mapped in map_rows(
            cast("EvaluationHost", self._program.host),  # a program of a runtime runs in the host of its evaluations
            self._program,
            self._some(numbers, alone),
            self._program.in_force(),
            1 if alone else self._concurrency,
            inputs=self._inputs,
            ordered=False,
            until=lambda position: numbers[position].until if numbers[position].last is not None else None,
        ):
            taken = numbers.pop(mapped.index)
            outcome = mapped.outcome
            taken.book(outcome)
            if outcome.ok:
                self.has_success, self._is_outage = True, False
            if is_answered(outcome):
                self._is_proven = True
            elif is_unreachable(outcome.error) and not is_temporary(outcome.error):
                self._lasting = outcome.error
            if not self._comes_again(taken, outcome):
                yield from self._ended(taken, outcome)

    def _ended(self, taken: _Taken, outcome: Outcome) -> Iterator[Mapped]:
        """Keep how a row ended, and hand on what is due."""
        seconds = outcome.seconds if taken.last is None else self._clock.now() - taken.began
        outcome = replace(outcome, attempts=taken.attempts, usage=taken.usage, seconds=seconds)
        self._waiting[taken.index] = Mapped(taken.index, taken.row, outcome)
        while (due := self._waiting.get(self._next)) is not None:
            yield due
            del self._waiting[self._next]
            self._next += 1

    def _some(self, numbers: dict[int, _Taken], alone: bool) -> Iterator[Mapping[str, Any]]:
        """Rows up to the moment at which the map has to run dry, so that another begins; `numbers` tells which."""
        position = 0
        while (taken := self._take()) is not None:
            numbers[position] = taken
            position += 1
            yield taken.row
            if alone:
                return

    def _take(self) -> _Taken | None:
        now, hurries = self._clock.now(), self._stopping.asked
        if now < self._resume_at and not hurries:
            return None
        while self._again and (hurries or self._again[0][0] <= now):
            taken = heapq.heappop(self._again)[2]
            if taken.last is not None or not hurries:  # one that was never tried is not under way
                return taken
        return None if self._is_full() else self._take_new(now)

    def _take_new(self, now: float) -> _Taken | None:
        found = next(self._rows, None)
        self._exhausted = found is None
        return None if found is None else _Taken(*found, now, now + self._patience)

    def _is_full(self) -> bool:
        return len(self._waiting) >= READ_AHEAD * self._concurrency

    def _pause(self) -> Iterator[Mapped]:
        """Wait until there is something to do; rows whose time is over meanwhile end."""
        while not self._stopping.asked:
            now = self._clock.now()
            until = self._resume_at
            if now < until:
                self._hold(now)
            elif self._again and (self._exhausted or self._is_full()):
                until = self._again[0][0]
            if now >= until:
                return
            self._stopping.pause(min([until, *(taken.until for _, _, taken in self._again)]) - now)
            yield from self._expired()

    def _hold(self, now: float) -> None:
        """Take as many rows as may be under way, to wait for the breaker."""
        while len(self._again) < self._concurrency and not self._is_full() and (taken := self._take_new(now)):
            heapq.heappush(self._again, (self._resume_at, taken.index, taken))

    def _expired(self) -> Iterator[Mapped]:
        """End the rows that wait and whose time is over."""
        now = self._clock.now()
        over = [taken for _, _, taken in self._again if taken.until <= now]
        self._again = [one for one in self._again if one[2].until > now]
        heapq.heapify(self._again)
        for taken in sorted(over, key=lambda taken: taken.index):
            taken.last = taken.last or Outcome(call_id="", error=self._refusal, fault=self._refusal)
            yield from self._ended(taken, taken.last)

    def _comes_again(self, taken: _Taken, outcome: Outcome) -> bool:
        """Whether the row is put back: the infrastructure failed it, and it has tries and time left."""
        wait = None if self._stopping.asked else self._wait(taken, outcome)
        if wait is None:
            self._careful = max(0, self._careful - 1)
            return False
        taken.last = outcome
        heapq.heappush(self._again, (self._clock.now() + wait, taken.index, taken))
        return True

    def _wait(self, taken: _Taken, outcome: Outcome) -> float | None:
        """Seconds after which the row should run again, `None` where this is its end."""
        fault, now = outcome.fault, self._clock.now()
        if isinstance(fault, CircuitOpen):
            return self._refused(fault, now) if now < taken.until else None
        if fault is None or taken.tries >= len(RETRY_WAITS) or not passes(fault):
            return None
        if is_unreachable(fault) and not self.has_success:
            return None
        asked = fault.retry_after if isinstance(fault, LMError) else None
        wait = max(RETRY_WAITS[taken.tries], asked or 0.0)
        taken.tries += 1
        return wait if now + wait < taken.until else None

    def _refused(self, fault: CircuitOpen, now: float) -> float:
        """Seconds to wait for the breaker."""
        if not self._is_proven and now >= self._resume_at > 0.0:
            raise self._lasting or fault
        if self._is_proven and not self._is_outage:
            self._is_outage = True
            self._on_outage(fault)
        wait = fault.retry_after or PAUSE_SECONDS
        self._refusal = fault
        self._resume_at = max(self._resume_at, now + wait)
        self._careful = CAREFUL
        return wait


def is_answered(outcome: Outcome) -> bool:
    """Whether a model, or the program without one, answered the row, with a refusal of this row perhaps."""
    refused = outcome.attempts > 0 and outcome.fault is None and not is_unreachable(outcome.error)
    return outcome.ok or refused
