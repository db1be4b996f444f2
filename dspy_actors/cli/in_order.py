"""`InOrder`: a program's results in the order of its rows, with those that are early kept at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dspy_actors.batch import Mapped
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime

READ_AHEAD = 8
"""How many times `concurrency` results may wait for a slow row before no more rows are taken until it has ended."""


class InOrder:
    """Iterate once. Where the iteration is left in the middle, `early` has what was finished and not handed on."""

    def __init__(
        self,
        runtime: Runtime,
        program: Program,
        rows: Iterable[Mapping[str, Any]],
        concurrency: int,
        inputs: tuple[str, ...] | None,
    ) -> None:
        self._runtime = runtime
        self._program = program
        self._rows = iter(rows)
        self._concurrency = concurrency
        self._inputs = inputs
        self._waiting: dict[int, Mapped] = {}
        self._next = 0
        self._exhausted = False

    def __iter__(self) -> Iterator[Mapped]:
        while not self._exhausted:
            begins_at = self._next
            for mapped in self._runtime.map(
                self._program, self._some(), concurrency=self._concurrency, inputs=self._inputs, ordered=False
            ):
                index = begins_at + mapped.index
                self._waiting[index] = replace(mapped, index=index)
                while (due := self._waiting.get(self._next)) is not None:
                    yield due
                    del self._waiting[self._next]
                    self._next += 1

    def early(self, first: int) -> list[Mapped]:
        """Rows from number `first` on that have ended behind one that has not, in order."""
        return [self._waiting[index] for index in sorted(self._waiting) if index >= first]

    def has_success(self) -> bool:
        """Whether a row that waits for its turn has a prediction."""
        return any(mapped.outcome.ok for mapped in self._waiting.values())

    def _some(self) -> Iterator[Mapping[str, Any]]:
        """Rows up to the first moment at which too many results wait: the map then runs dry, and another begins."""
        while len(self._waiting) < READ_AHEAD * self._concurrency:
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                return
            yield row
