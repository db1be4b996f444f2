"""`map_rows`: a program over a stream of rows, lazily, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeAlias

from dspy_actors.errors import CallCancelled, DataError
from dspy_actors.evaluation.fan_out import fan_out
from dspy_actors.evaluation.feed import Feed
from dspy_actors.evaluation.host import EvaluationHost, check_call
from dspy_actors.evaluation.job import Job, Row
from dspy_actors.example import Example
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.runner import Settings, refuse_on_loop

AnyRow: TypeAlias = Mapping[str, Any] | Example
"""What a program can be mapped over."""

READ_AHEAD = 4
"""How many times `concurrency` rows may be read and not yet handed on, while an earlier row is slow."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One row, whole, and how it ended: an `Example` is the one that was given, with its labels."""

    index: int
    row: AnyRow
    outcome: Outcome


def map_rows(
    host: EvaluationHost,
    program: Module | Program,
    rows: Iterable[AnyRow],
    settings: Settings,
    concurrency: int,
    *,
    inputs: Sequence[str] | None,
    ordered: bool,
    until: Callable[[int], float | None] = lambda index: None,
) -> Iterator[Mapped]:
    """See `Runtime.map`. `rows` is read in the thread that iterates, which waits for the next row while it is read.

    What `rows` raises, and what it gives that is no row, ends the mapping once the rows before it have been handed on;
    so does, with `CallCancelled`, the cancellation of the call whose code this is.

    `until(index)` is when a row's time is over, on the runtime's clock in seconds; `None` gives it the whole deadline.
    """
    refuse_on_loop("map", "`await program.acall(...)` for each row, or iterate in `asyncio.to_thread`")
    check_call()
    host.check_open("map")
    own = program if isinstance(program, Program) else host.start(program)
    mapping = _Mapping(host, own, settings, concurrency, ordered)
    try:
        yield from mapping.run(rows, inputs, until)
    finally:
        mapping.close()
        if own is not program:
            own.stop()


class _Mapping:
    def __init__(
        self, host: EvaluationHost, program: Program, settings: Settings, concurrency: int, ordered: bool
    ) -> None:
        self._host = host
        self._ordered = ordered
        self._window = concurrency * (READ_AHEAD if ordered else 1)
        self._ended: SimpleQueue[Mapped | BaseException | None] = SimpleQueue()
        self._early: dict[int, Mapped] = {}
        self._next = 0
        self._job = Job(program, settings.of_class("batch"), Feed(closed=False), self._deliver, host.clock)
        self._concurrency = concurrency

    async def _deliver(self, row: Row, outcome: Outcome) -> Callable[[], object]:
        return lambda: self._ended.put(Mapped(row.index, row.source, outcome))

    def run(
        self, rows: Iterable[AnyRow], inputs: Sequence[str] | None, until: Callable[[int], float | None]
    ) -> Iterator[Mapped]:
        fan_out(self._host, self._job, self._concurrency)
        self._job.done.add_done_callback(lambda done: self._ended.put(done.exception()))
        source = enumerate(rows)
        unfinished, exhausted = 0, False
        broken: Exception | None = None
        while not exhausted or unfinished:
            while not exhausted and unfinished < self._window:
                try:
                    self._job.check()
                    found = next(source, None)
                    row = None if found is None else _row(*found, inputs, until(found[0]))
                except Exception as error:  # of the user's source: those under way were paid for, and are handed on
                    row, broken = None, error
                if row is None:
                    exhausted = True
                    self._job.feed.close()
                    break
                self._job.feed.offer(row)
                unfinished += 1
            if not unfinished:
                continue
            ended = self._ended.get()
            if not isinstance(ended, Mapped):
                raise ended or CallCancelled("the runtime ended while rows were under way")
            for mapped in self._in_turn(ended):
                unfinished -= 1
                yield mapped
        if broken is not None:
            raise broken

    def _in_turn(self, mapped: Mapped) -> Iterator[Mapped]:
        if not self._ordered:
            yield mapped
            return
        self._early[mapped.index] = mapped
        while (due := self._early.pop(self._next, None)) is not None:
            self._next += 1
            yield due

    def close(self) -> None:
        done = self._job.done.done()
        self._job.stop()
        if not done:
            self._host.stop_evaluations(self._job)


def _row(index: int, row: Any, inputs: Sequence[str] | None, until: float | None) -> Row:
    if not hasattr(row, "items"):
        msg = f"row {index} is a {type(row).__name__}; a row is a mapping from input names to values"
        raise DataError(msg, line=index + 1)
    given = dict(row.items())
    source = row if isinstance(row, Example) else given  # a dict would not know which of its fields are inputs
    if inputs is None and isinstance(row, Example) and row.input_keys is not None:
        taken = {name: value for name, value in given.items() if name in row.input_keys}
    else:
        taken = given if inputs is None else {name: given[name] for name in inputs if name in given}
    return Row(index, taken, source, until=until)
