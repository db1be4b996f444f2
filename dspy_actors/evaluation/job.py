"""`Job`: one program over many rows, shared by the evaluation actors that work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dspy_actors.errors import ProgramError
from dspy_actors.evaluation.feed import Feed
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.runner import Settings
from supervisors.actor import Ref
from supervisors.clock import Clock
from supervisors.reply import Reply

CRASH_TRIES = 2
"""How many evaluation actors a row may bring down before its outcome is that error."""


@dataclass(slots=True, eq=False)
class Row:
    """One row of a job.

    `tries` counts the outcomes thrown away, `crashes` the actors that died over it. `until` is when its time is over,
    all tries together: an instant of the runtime's clock in seconds, `None` before the first try. `turn` counts how
    often it was taken from a dead actor: what that one still does with it does not count.
    """

    index: int
    inputs: Mapping[str, Any]
    source: Any = None
    tries: int = 0
    crashes: int = 0
    until: float | None = None
    turn: int = 0


Deliver: TypeAlias = Callable[[Row, Outcome], Coroutine[Any, Any, float | None]]
"""Takes a row's outcome, on the programs loop. Returns `None` when done, or seconds after which to try again."""


@dataclass(slots=True, eq=False)
class Job:
    """What the actors share. `done` settles when every row has been delivered, or the job was stopped."""

    program: Program
    settings: Settings
    feed: Feed[Row]
    deliver: Deliver
    clock: Clock
    done: Reply[None] = field(default_factory=Reply)
    stopped: bool = False
    actors: list[Ref[Any]] = field(default_factory=list)

    async def work(self, held: set[Row]) -> None:
        """Take rows until there are no more: what one slot of an evaluation actor does.

        `held` shows which rows are in this actor's hands, to whoever has to give them back if it dies.
        """
        while (row := await self.feed.take()) is not None:
            held.add(row)
            turn = row.turn
            try:
                outcome = await self.program.outcome(dict(row.inputs), self._settings_for(row))
                if row.turn == turn:
                    await self._delivered(row, outcome)
            except asyncio.CancelledError:
                raise
            except BaseException:  # this row is what brings the actor down, not its neighbours in other slots
                row.crashes += 1
                raise
            held.discard(row)

    def _settings_for(self, row: Row) -> Settings:
        if row.until is None:
            row.until = self.clock.now() + self.settings.deadline
            return self.settings
        return self.settings.bind(deadline=max(0.0, row.until - self.clock.now()))

    async def _delivered(self, row: Row, outcome: Outcome) -> None:
        again = await self.deliver(row, outcome)
        if again is None or self.stopped:
            self.feed.settle()
            return
        row.tries += 1
        self.clock.call_at(self.clock.now() + again, lambda: self.feed.put_back(row))

    def fits(self, row: Row, wait: float) -> bool:
        """Whether a further try after `wait` seconds would begin within the row's time."""
        return row.until is None or self.clock.now() + wait < row.until

    async def lost(self, row: Row, cause: BaseException) -> None:
        """A row whose actor died: given back, unless it was this row that brought actors down, twice."""
        row.turn += 1
        if row.crashes < CRASH_TRIES and not self.stopped:
            self.feed.put_back(row)
            return
        msg = f"the program brought its evaluation actor down: {cause!r}"
        error = ProgramError(msg, error_type=type(cause).__name__)
        error.__cause__ = cause
        try:
            await self._delivered(row, Outcome(call_id="", error=error))
        except Exception as failure:
            self.done.fail(failure)
            raise

    def stop(self) -> None:
        """Take no more rows; those under way finish."""
        self.stopped = True
        self.feed.abandon()
