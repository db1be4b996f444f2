"""What a consumer has asked of one producer, and when it asks for more. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Batch(NamedTuple):
    """Events for one call of `handle_events`, and how many of them had been asked for."""

    events: list[Any]
    counted: int


class Received(NamedTuple):
    """What came, cut into batches; `excess` events of it were not asked for."""

    batches: list[Batch]
    excess: int


class Inlet(Protocol):
    """The books of one subscription, at the consumer."""

    def first(self) -> int:
        """How many events to ask for when the subscription begins."""

    def receive(self, events: list[Any]) -> Received:
        """Events came."""

    def consumed(self, counted: int) -> int:
        """A batch was handled: how many events to ask for now, mostly none."""


class Demand:
    """Asks for `max_demand`, then for what is missing to it whenever no more than `min_demand` are left to come.

    So what was asked for and not yet handled is never more than `max_demand`, and batches are never larger than
    their difference.
    """

    def __init__(self, max_demand: int, min_demand: int) -> None:
        self._max = max_demand
        self._min = min_demand
        self.pending = 0
        """Asked for and not yet handled."""
        self._expected = 0

    def first(self) -> int:
        self.pending = self._expected = self._max
        return self._max

    def receive(self, events: list[Any]) -> Received:
        size = self._max - self._min
        batches = []
        excess = 0
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            counted = min(len(batch), self._expected)
            self._expected -= counted
            excess += len(batch) - counted
            batches.append(Batch(batch, counted))
        return Received(batches, excess)

    def consumed(self, counted: int) -> int:
        self.pending -= counted
        if self.pending > self._min:
            return 0
        ask = self._max - self.pending
        self.pending = self._max
        self._expected += ask
        return ask


class ByHand:
    """The books of a consumer that asks with `ask` when it likes: there are none."""

    def first(self) -> int:
        return 0

    def receive(self, events: list[Any]) -> Received:
        return Received([Batch(events, 0)], 0)

    def consumed(self, counted: int) -> int:
        return 0
