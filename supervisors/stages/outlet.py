"""The producing side of a stage: what it was asked for, what it owes, what it holds back. Pure.

One rule keeps the books: whenever something changed, events that wait go out as far as they are wanted, and what is
wanted beyond that and not yet owed is asked of the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from supervisors.stages.buffer import Buffer
from supervisors.stages.dispatchers import Dispatcher, Send
from supervisors.stages.subscription import Subscription


class Need(NamedTuple):
    """The stage is to make so many events."""

    events: int


class Discarded(NamedTuple):
    """So many events were thrown away, because the buffer was full."""

    events: int


Action: TypeAlias = Send | Need | Discarded


class Outlet:
    """Between a stage that makes events and those who asked for them. Each method answers what is to be done."""

    def __init__(self, dispatcher: Dispatcher, buffer: Buffer, accumulate: bool = False) -> None:
        self.dispatcher = dispatcher
        self.buffer = buffer
        self.owed = 0
        """Events that the stage was asked for and has not made yet."""
        self.discarded = 0
        self._held: list[int] | None = [] if accumulate else None

    def ask(self, subscription: Subscription, events: int) -> list[Action]:
        """A subscriber wants so many more."""
        return [*self.dispatcher.ask(subscription, events), *self.settle()]

    def settle(self) -> list[Action]:
        """Send what waits as far as it is wanted, and ask the stage for what is missing."""
        actions: list[Action] = []
        while self.buffer and (room := self.dispatcher.wanted()) > 0:
            taken = self.buffer.take(room)
            actions += self.dispatcher.dispatch(taken.events)
            actions += self._inform(taken.due)
        missing = self.missing()
        if missing > 0:
            self.owed += missing
            if self._held is None:
                actions.append(Need(missing))
            else:
                self._held.append(missing)
        return actions

    def missing(self) -> int:
        """How many events are wanted and neither here nor owed."""
        return self.dispatcher.wanted() - self.owed

    def emit(self, events: Sequence[Any]) -> list[Action]:
        """The stage made `events`, asked for or not."""
        self.owed = max(0, self.owed - len(events))
        actions: list[Action] = []
        if not self.buffer:
            while events and (room := self.dispatcher.wanted()) > 0:
                actions += self.dispatcher.dispatch(events[:room])
                events = events[room:]
        stored = self.buffer.store(events)
        if stored.discarded:
            self.discarded += stored.discarded
            actions.append(Discarded(stored.discarded))
        return actions + self._inform(stored.due)

    def info(self, message: Any) -> list[Send]:
        """Give the message back as `Inform` when everything made so far is on its way."""
        return [] if self.buffer.info(message) else self.dispatcher.info(message)

    def accumulate(self) -> None:
        """From now on, keep what the stage is asked for until `forward`."""
        if self._held is None:
            self._held = []

    def forward(self) -> list[Action]:
        """Ask the stage for what was kept, one after the other, and keep nothing from now on."""
        held, self._held = self._held, None
        return [Need(events) for events in held or ()]

    def _inform(self, messages: list[Any]) -> list[Send]:
        return [send for message in messages for send in self.dispatcher.info(message)]
