"""Who gets which event: the one subscriber of its partition. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

from supervisors.errors import SpecError
from supervisors.hashing import stable_hash
from supervisors.stages.dispatchers import Deliver, Inform, Send
from supervisors.stages.subscription import Subscription

Hash: TypeAlias = Callable[[Any], tuple[Any, Hashable] | None]
"""From an event to the event that is sent and its partition; None drops it."""


class _Mark:
    """A message that waits in the queues of some partitions, until the last of them has come to it."""

    __slots__ = ("left", "message")

    def __init__(self, message: Any, left: int) -> None:
        self.message = message
        self.left = left


class _Partition:
    """One partition: its subscriber, what that has asked for, and what waits for it."""

    __slots__ = ("demand", "events", "queue", "subscription")

    def __init__(self) -> None:
        self.subscription: Subscription | None = None
        self.demand = 0
        self.queue: deque[Any] = deque()
        self.events = 0


class PartitionDispatcher:
    """Sends each event to the subscriber of its partition, which says `To(..., partition=name)`.

    `partitions` are their names, or their number (then they are called 0, 1, ...). `hash` gives an event's
    partition; left out, it is `stable_hash(event)` modulo their number. Events of a partition that has no demand, or
    no subscriber yet, wait for it in a queue of its own; while they wait, a partition that is behind slows the
    others down, for they count against what all have asked for. A subscriber that goes leaves its queue to the next.

    Raises `SpecError` for an event of an unknown partition, which ends the producer.
    """

    def __init__(self, partitions: int | Iterable[Hashable], hash: Hash | None = None) -> None:
        if isinstance(partitions, int):
            names: list[Hashable] = list(range(partitions))
        else:
            names = list(partitions)
            if hash is None and names != list(range(len(names))):
                raise SpecError("hash", hash, "a function of the event, since the partitions are not 0, 1, ...")
        if not names or len(set(names)) != len(names):
            raise SpecError("partitions", partitions, "a number >= 1, or names that differ from each other")
        self._hash = hash if hash is not None else self._by_value
        self._partitions = {name: _Partition() for name in names}
        self._places: dict[Subscription, _Partition] = {}
        self.dropped = 0
        """Events for which `hash` gave None."""

    def _by_value(self, event: Any) -> tuple[Any, Hashable]:
        return event, stable_hash(event) % len(self._partitions)

    def subscribe(self, subscription: Subscription) -> None:
        name = subscription.to.partition
        partition = self._partitions.get(name)
        if partition is None:
            raise SpecError("partition", name, f"one of {', '.join(map(repr, self._partitions))}")
        if partition.subscription is not None:
            holder = partition.subscription.consumer
            raise SpecError("partition", name, f"one that is free; {holder} has subscribed to this one")
        partition.subscription = subscription
        self._places[subscription] = partition

    def ask(self, subscription: Subscription, events: int) -> list[Send]:
        partition = self._places[subscription]
        partition.demand += events
        return self._from_queue(partition, subscription)

    def cancel(self, subscription: Subscription) -> list[Send]:
        partition = self._places.pop(subscription, None)
        if partition is not None:
            partition.subscription = None
            partition.demand = 0
        return []

    def wanted(self) -> int:
        return max(0, sum(each.demand - each.events for each in self._partitions.values()))

    def dispatch(self, events: Sequence[Any]) -> list[Send]:
        for event in events:
            placed = self._hash(event)
            if placed is None:
                self.dropped += 1
                continue
            event, name = placed
            partition = self._partitions.get(name)
            if partition is None:
                raise SpecError("partition", name, f"one of {', '.join(map(repr, self._partitions))} (from hash)")
            partition.queue.append(event)
            partition.events += 1
        sends: list[Send] = []
        for subscription, partition in self._places.items():
            sends += self._from_queue(partition, subscription)
        return sends

    def info(self, message: Any) -> list[Send]:
        behind = [each for each in self._partitions.values() if each.queue]
        mark = _Mark(message, len(behind))
        for partition in behind:
            partition.queue.append(mark)
        return [] if behind else [Inform(message)]

    def _from_queue(self, partition: _Partition, subscription: Subscription) -> list[Send]:
        events: list[Any] = []
        reached: list[Send] = []
        queue = partition.queue
        while queue:
            entry = queue[0]
            if type(entry) is _Mark:
                entry.left -= 1
                if entry.left == 0:
                    reached.append(Inform(entry.message))
            elif partition.demand == 0:
                break
            else:
                partition.demand -= 1
                partition.events -= 1
                events.append(entry)
            queue.popleft()
        return [Deliver(subscription, events), *reached] if events else reached
