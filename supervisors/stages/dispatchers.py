"""Who gets which event: to the one who wants most, or to everybody. Pure: they answer what is to be sent.

A dispatcher knows what each of its subscribers has asked for. `wanted` says how many events it can take now, and it
is never given more; so no subscriber ever gets an event that it did not ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from supervisors.errors import SpecError
from supervisors.stages.subscription import Subscription


class Deliver(NamedTuple):
    """Send `events` to the consumer of `subscription`."""

    subscription: Subscription
    events: list[Any]


class Inform(NamedTuple):
    """All events before it were sent: give the producer this message of its own."""

    message: Any


class Warn(NamedTuple):
    """Say this in the log."""

    text: str


Send: TypeAlias = Deliver | Inform | Warn


class Dispatcher(Protocol):
    """How a producing stage deals its events out. One instance serves one stage."""

    def subscribe(self, subscription: Subscription) -> None:
        """A new subscriber, which has asked for nothing yet. Raises `SpecError` to refuse it."""

    def ask(self, subscription: Subscription, events: int) -> list[Send]:
        """A subscriber wants so many more."""

    def cancel(self, subscription: Subscription) -> list[Send]:
        """A subscriber is gone, and what it asked for with it."""

    def wanted(self) -> int:
        """How many events can be dealt out now."""

    def dispatch(self, events: Sequence[Any]) -> list[Send]:
        """Deal out `events`, of which there are at most `wanted`."""

    def info(self, message: Any) -> list[Send]:
        """Give the message back as `Inform` as soon as all events dealt out so far are on their way."""


class DemandDispatcher:
    """Sends events to the subscriber with the highest pending demand, in batches; ties go to the first in line.

    All subscribers should have the same `max_demand`, otherwise the greedy one gets most; asking for more than
    `max_demand` (by default: what the first one asks for first) gives a warning.
    """

    def __init__(self, max_demand: int | None = None) -> None:
        if max_demand is not None and max_demand < 1:
            raise SpecError("max_demand", max_demand, "an int >= 1 or None")
        self._max = max_demand
        self._line: list[tuple[int, Subscription]] = []  # highest demand first
        self._total = 0

    def subscribe(self, subscription: Subscription) -> None:
        self._line.append((0, subscription))

    def ask(self, subscription: Subscription, events: int) -> list[Send]:
        if self._max is None:
            self._max = events
        current = self._take_out(subscription)
        self._put_in(current + events, subscription)
        self._total += events
        if events <= self._max:
            return []
        said = f"{subscription.consumer} asks for {events} events where others ask for at most {self._max}"
        return [Warn(f"{said}; with different demands the greedy one gets most: give all the same max_demand")]

    def cancel(self, subscription: Subscription) -> list[Send]:
        self._total -= self._take_out(subscription)
        return []

    def wanted(self) -> int:
        return self._total

    def dispatch(self, events: Sequence[Any]) -> list[Send]:
        sends: list[Send] = []
        start = 0
        while start < len(events):
            demand, subscription = self._line.pop(0)
            batch = list(events[start : start + demand])
            self._put_in(demand - len(batch), subscription)
            sends.append(Deliver(subscription, batch))
            start += len(batch)
        self._total -= len(events)
        return sends

    def info(self, message: Any) -> list[Send]:
        return [Inform(message)]

    def _take_out(self, subscription: Subscription) -> int:
        for position, (demand, each) in enumerate(self._line):
            if each is subscription:
                del self._line[position]
                return demand
        return 0

    def _put_in(self, demand: int, subscription: Subscription) -> None:
        behind = (position for position, (other, _) in enumerate(self._line) if other < demand)
        self._line.insert(next(behind, len(self._line)), (demand, subscription))


class BroadcastDispatcher:
    """Sends every event to every subscriber, as fast as the slowest of them asks.

    A subscriber may bring a `selector`; events it does not select do not count against its demand. One who
    subscribes later gets what comes from then on. A consumer can subscribe once.
    """

    def __init__(self) -> None:
        self._demands: dict[Subscription, int] = {}

    def subscribe(self, subscription: Subscription) -> None:
        if any(each.consumer is subscription.consumer for each in self._demands):
            raise SpecError("consumer", subscription.consumer, "one that has not subscribed to this broadcast before")
        self._demands[subscription] = 0

    def ask(self, subscription: Subscription, events: int) -> list[Send]:
        self._demands[subscription] += events
        return []

    def cancel(self, subscription: Subscription) -> list[Send]:
        self._demands.pop(subscription, None)
        return []

    def wanted(self) -> int:
        return min(self._demands.values(), default=0)

    def dispatch(self, events: Sequence[Any]) -> list[Send]:
        sends: list[Send] = []
        for subscription in self._demands:
            selector = subscription.to.selector
            chosen = list(events) if selector is None else [event for event in events if selector(event)]
            self._demands[subscription] -= len(chosen)
            if chosen:
                sends.append(Deliver(subscription, chosen))
        return sends

    def info(self, message: Any) -> list[Send]:
        return [Inform(message)]
