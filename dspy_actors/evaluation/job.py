"""`Job`: one program over many rows, shared by the evaluation actors that work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from dspy_actors.errors import ProgramError
from dspy_actors.evaluation.feed import Feed, Taker
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.runner import FRAME, Frame, Settings, call_around, checkpoint, current_frame
from supervisors.actor import Ref
from supervisors.clock import Clock, Timer
from supervisors.exits import shown
from supervisors.published_lock import PublishedLock
from supervisors.reply import Reply

MOMENT = 0.001
"""Seconds that a try gets which begins when its row's time is over: it ends as late, and not as the program's fault."""

CRASH_TRIES = 2
"""How many evaluation actors a row may bring down before its outcome is that error."""


@dataclass(slots=True, eq=False)
class Row:
    """One row of a job.

    `tries` counts the outcomes thrown away, `crashes` the actors that died over it. `until` is when its time is over,
    all tries together: an instant of the runtime's clock in seconds, `None` before the first try.
    """

    index: int
    inputs: Mapping[str, Any]
    source: Any = None
    tries: int = 0
    crashes: int = 0
    until: float | None = None


class Hand:
    """The rows that one evaluation actor works on. Published: it outlives the actor.

    A row is in one hand at most, and only whoever takes it out of there decides what becomes of it: the slot that has
    an outcome, or whoever revokes the hand of a dead actor, in whose name code may still run.
    """

    __slots__ = ("_lock", "_revoked", "_rows")

    def __init__(self) -> None:
        self._lock = PublishedLock()
        self._rows: set[Row] = set()
        self._revoked = False

    def hold(self, row: Row) -> bool:
        """Take a row into the hand; False where the hand was revoked."""
        with self._lock:
            if not self._revoked:
                self._rows.add(row)
            return not self._revoked

    def drop(self, row: Row) -> bool:
        """Take a row out of the hand; False where it was taken away."""
        with self._lock:
            here = row in self._rows
            self._rows.discard(row)
            return here

    def revoke(self) -> list[Row]:
        """Take all rows out of the hand, for others to try."""
        with self._lock:
            self._revoked = True
            rows = list(self._rows)
            self._rows.clear()
            return rows


class SlotOwner(Taker, Protocol):
    """Whose slots work on a job."""

    def leave(self) -> None:
        """A slot found no more rows. On the programs loop."""
        ...


Deliver: TypeAlias = Callable[[Row, Outcome], Coroutine[Any, Any, float | Callable[[], object]]]
"""Judges a row's outcome, on the programs loop: seconds after which to try again, or what books the result."""


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
    outer: Frame | None = field(default_factory=lambda: call_around(current_frame()))
    """The call that the job was made in, if any. The rows end with it, it pays for them, and they are let in while the
    runtime drains and it is under way."""
    actors: list[Ref[Any]] = field(default_factory=list)
    _between: dict[Row, list[Timer]] = field(default_factory=dict)
    """The rows between two tries, each with the timer of the next. Whoever takes one out decides what becomes of it."""

    def check(self) -> None:
        """Raise `CallCancelled` where the call around it was cancelled."""
        if self.outer is not None:
            checkpoint(self.outer)

    async def work(self, hand: Hand, owner: SlotOwner) -> None:
        """Take rows until there are none, then leave: what one slot of an evaluation actor does.

        `hand` shows which rows it works on, to whoever has to give them back if the actor dies.
        """
        while (row := self.feed.take(owner)) is not None:
            if not hand.hold(row):
                self.feed.put_back(row)
                break
            try:
                settings = self._settings_for(row)
                if self.outer is not None:
                    FRAME.set(Frame(self.outer.runner, settings, outer=self.outer))
                outcome = await self.program.outcome(dict(row.inputs), settings)
                if self.outer is not None:
                    FRAME.set(None)  # the slot's own work is nobody's call
                verdict = await self.deliver(row, outcome)
                if hand.drop(row):
                    self._conclude(row, verdict)
            except asyncio.CancelledError:
                raise
            except BaseException:  # this row is what brings the actor down, not its neighbours in other slots
                row.crashes += 1
                raise
        owner.leave()

    def _settings_for(self, row: Row) -> Settings:
        if row.until is None:
            row.until = self.clock.now() + self.settings.deadline
            return self.settings
        return self.settings.bind(deadline=max(MOMENT, row.until - self.clock.now()))

    def _conclude(self, row: Row, verdict: float | Callable[[], object]) -> None:
        if callable(verdict):
            verdict()
            self.feed.settle()
        else:
            row.tries += 1
            timers = self._between[row] = []
            timers.append(self.clock.call_at(self.clock.now() + verdict, lambda: self._try_again(row)))
            if self.stopped:  # then look: who stopped it looks the other way round
                self._give_up(row)

    def _try_again(self, row: Row) -> None:
        if self._between.pop(row, None) is not None:
            self.feed.put_back(row)

    def _give_up(self, row: Row) -> None:
        timers = self._between.pop(row, None)
        if timers is not None:
            for timer in timers:
                timer.cancel()
            self.feed.settle()

    def fits(self, row: Row, wait: float) -> bool:
        """Whether a further try after `wait` seconds would begin within the row's time."""
        return row.until is None or self.clock.now() + wait < row.until

    async def lost(self, row: Row, cause: BaseException) -> None:
        """A row whose actor died: given back, unless it was this row that brought actors down, twice."""
        if row.crashes < CRASH_TRIES and not self.stopped:
            self.feed.put_back(row)
            return
        msg = f"the program brought its evaluation actor down: {shown(cause)}"
        error = ProgramError(msg, error_type=type(cause).__name__)
        error.__cause__ = cause
        try:
            self._conclude(row, await self.deliver(row, Outcome(call_id="", error=error)))
        except Exception as failure:
            self.done.fail(failure)
            raise

    def is_given_up(self) -> bool:
        """Whether a row that failed is not worth another try: the job was stopped, or the call around it cancelled."""
        around = None if self.outer is None else self.outer.scope
        return self.stopped or (around is not None and around.cancelled)

    def stop(self) -> None:
        """Take no more rows, and try none again; those under way finish."""
        self.stopped = True
        self.feed.abandon()
        for row in list(self._between):
            self._give_up(row)
