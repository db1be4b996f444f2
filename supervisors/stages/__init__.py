"""Stages: producers and consumers that exchange events by demand. The protocol and its words are GenStage's.

A consumer asks its producer for events, handles them, and asks for more; nobody is ever sent more than it asked for,
so a slow consumer slows its producer down instead of being flooded.

    >>> from supervisors import System
    >>> from supervisors.stages import Consumer, Producer, ProducerConsumer, To, from_iterable, stream
    >>> class Doubler(ProducerConsumer):
    ...     def init(self, producer):
    ...         self.subscribe(To(producer, max_demand=10))
    ...     def handle_events(self, events, from_):
    ...         return [2 * event for event in events]
    >>> with System() as system:
    ...     doubler = system.spawn(Doubler, from_iterable([1, 2, 3]))
    ...     doubled = list(stream([To(doubler, cancel="transient")]))
    >>> doubled
    [2, 4, 6]

`Producer.handle_demand` makes events, `Consumer.handle_events` handles them, a `ProducerConsumer` stands between;
`ConsumerSupervisor` starts a child for each event. A producer's dispatcher decides who gets what: `DemandDispatcher`
(the one who wants most), `BroadcastDispatcher` (everybody), `PartitionDispatcher` (by a hash of the event).

Delivery is at most once: what is on its way to a consumer that dies is lost. Events keep their order within a
subscription, and a buffer that overflows counts what it throws away.

**Where this departs from GenStage**, and why:

    callbacks give events, or None          the state is the actor; `emit` sends events from any other handler
    bad options are SpecError, here         GenStage answers {:error, {:bad_opts, _}} and goes on without
    a bad partition refuses the consumer    GenStage lets it end the producer, and all its other consumers
    partition queues outlive a consumer     GenStage throws what waits for a consumer away with it
    a producer_consumer that ends cleanly   sends its buffer on first; GenStage loses it
    what was buffered goes before what is   GenStage counts an earlier consumer's demand against the next one's
      made, whoever had asked for it          and lets newer events overtake
"""

from __future__ import annotations

from supervisors.stages.buffer import Buffer
from supervisors.stages.calls import (
    ask,
    async_info,
    async_subscribe,
    cancel,
    demand,
    estimate_buffered_count,
    sync_info,
    sync_subscribe,
)
from supervisors.stages.consumer_supervisor import ConsumerSupervisor
from supervisors.stages.consuming import Consumer
from supervisors.stages.dispatchers import BroadcastDispatcher, DemandDispatcher, Dispatcher
from supervisors.stages.errors import DuplicatedSubscription, NotAConsumer, NotAProducer, UnknownSubscription
from supervisors.stages.from_iterable import FromIterable, from_iterable
from supervisors.stages.partition_dispatcher import PartitionDispatcher
from supervisors.stages.producer_consumer import ProducerConsumer
from supervisors.stages.producing import Producer
from supervisors.stages.stage import Events
from supervisors.stages.stream import Stream, stream
from supervisors.stages.subscription import Cancelled, Subscription, To

__all__ = [
    "BroadcastDispatcher",
    "Buffer",
    "Cancelled",
    "Consumer",
    "ConsumerSupervisor",
    "DemandDispatcher",
    "Dispatcher",
    "DuplicatedSubscription",
    "Events",
    "FromIterable",
    "NotAConsumer",
    "NotAProducer",
    "PartitionDispatcher",
    "Producer",
    "ProducerConsumer",
    "Stream",
    "Subscription",
    "To",
    "UnknownSubscription",
    "ask",
    "async_info",
    "async_subscribe",
    "cancel",
    "demand",
    "estimate_buffered_count",
    "from_iterable",
    "stream",
    "sync_info",
    "sync_subscribe",
]
