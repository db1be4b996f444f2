"""`InOrder`: a program's results in the order of its rows, with rows that the infrastructure failed tried again."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dspy_actors.batch import Mapped
from dspy_actors.cli.failures import is_unreachable
from dspy_actors.cli.stopping import Stopping
from dspy_actors.errors import CircuitOpen, LMError
from dspy_actors.evaluation.evaluate import RETRY_WAITS, passes
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime

READ_AHEAD = 8
"""How many times `concurrency` results may wait for a slow row before no more rows are taken until it has ended."""

CAREFUL = 3
"""Rows that run one at a time after a breaker's pause: it lets one probe through, and refuses what comes with it."""

PAUSE_SECONDS = 1.0
"""The pause after a refusal that does not say when to come back."""


class InOrder:
    """Iterate once. Where the iteration is left in the middle, `early` has what was finished and not handed on.

    A row that a breaker refused was not tried: no more rows are taken for as long as the breaker asks for, and it
    runs again, until `patience` seconds after its first refusal. A row that the infrastructure failed otherwise runs
    again twice, a little later; one that found no model does so only once another row has found one. `on_outage` is
    told of a breaker's refusal, once between two rows that a model answered.
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
        self._runtime = runtime
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
        self._again: list[tuple[float, int, Mapping[str, Any]]] = []
        self._tries: dict[int, int] = {}
        self._spent: dict[int, int] = {}
        self._refused_at: dict[int, float] = {}
        self._resume_at = 0.0
        self._careful = 0
        self._next = 0
        self._exhausted = False
        self.has_success = False

    def __iter__(self) -> Iterator[Mapped]:
        while not self._exhausted or self._again:
            self._stopping.pause(self._pause())
            numbers: dict[int, int] = {}
            alone = self._careful > 0
            for mapped in self._runtime.map(
                self._program,
                self._some(numbers, alone),
                concurrency=1 if alone else self._concurrency,
                inputs=self._inputs,
                ordered=False,
            ):
                index = numbers.pop(mapped.index)
                if mapped.outcome.ok:
                    self.has_success, self._is_outage = True, False
                if self._comes_again(index, mapped):
                    continue
                attempts = attempts_of(mapped.outcome) + self._spent.pop(index, 0)
                self._waiting[index] = replace(mapped, index=index, outcome=replace(mapped.outcome, attempts=attempts))
                while (due := self._waiting.get(self._next)) is not None:
                    yield due
                    del self._waiting[self._next]
                    self._next += 1

    def early(self, first: int) -> list[Mapped]:
        """Rows from number `first` on that have ended behind one that has not, in order."""
        return [self._waiting[index] for index in sorted(self._waiting) if index >= first]

    def _some(self, numbers: dict[int, int], alone: bool) -> Iterator[Mapping[str, Any]]:
        """Rows up to the moment at which the map has to run dry, so that another begins; `numbers` tells which."""
        position = 0
        while (found := self._take()) is not None:
            numbers[position], row = found
            position += 1
            yield row
            if alone:
                return

    def _take(self) -> tuple[int, Mapping[str, Any]] | None:
        now, hurries = self._clock.now(), self._stopping.asked
        if now < self._resume_at and not hurries:
            return None
        if self._again and (hurries or self._again[0][0] <= now):
            return heapq.heappop(self._again)[1:]
        if self._is_full():
            return None
        found = next(self._rows, None)
        self._exhausted = found is None
        return found

    def _is_full(self) -> bool:
        return len(self._waiting) >= READ_AHEAD * self._concurrency

    def _pause(self) -> float:
        """Seconds until there is something to do."""
        until = self._resume_at
        if self._again and (self._exhausted or self._is_full()):
            until = max(until, self._again[0][0])
        return until - self._clock.now()

    def _comes_again(self, index: int, mapped: Mapped) -> bool:
        """Whether the row is put back: the infrastructure failed it, and it has tries or time left."""
        wait = None if self._stopping.asked else self._wait(index, mapped)
        if wait is None:
            self._tries.pop(index, None)
            self._refused_at.pop(index, None)
            self._careful = max(0, self._careful - 1)
            return False
        self._spent[index] = self._spent.get(index, 0) + attempts_of(mapped.outcome)
        heapq.heappush(self._again, (self._clock.now() + wait, index, mapped.row))
        return True

    def _wait(self, index: int, mapped: Mapped) -> float | None:
        """Seconds after which the row should run again, `None` where this is its end."""
        fault, now = mapped.outcome.fault, self._clock.now()
        if isinstance(fault, CircuitOpen):
            if now - self._refused_at.setdefault(index, now) > self._patience:
                return None
            if not self._is_outage:
                self._is_outage = True
                self._on_outage(fault)
            wait = fault.retry_after or PAUSE_SECONDS
            self._resume_at = max(self._resume_at, now + wait)
            self._careful = CAREFUL
            return wait
        tries = self._tries.get(index, 0)
        if fault is None or tries >= len(RETRY_WAITS) or not passes(fault):
            return None
        if is_unreachable(fault) and not self.has_success:
            return None
        self._tries[index] = tries + 1
        asked = fault.retry_after if isinstance(fault, LMError) else None
        return max(RETRY_WAITS[tries], asked or 0.0)


def attempts_of(outcome: Outcome) -> int:
    """How often a row was sent to a model, failed ones too."""
    return (
        max(outcome.attempts, outcome.error.attempts or 0) if isinstance(outcome.error, LMError) else outcome.attempts
    )
