"""`Consumer`: asks for events and handles them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from supervisors.actor import Monitor
from supervisors.errors import ActorDied
from supervisors.exits import Exit, NoProc, is_clean
from supervisors.stages.demand import ByHand, Demand, Inlet
from supervisors.stages.errors import NotAProducer
from supervisors.stages.producing import Producing
from supervisors.stages.stage import Events, Stage, Steps, drive, logger
from supervisors.stages.subscription import Address, Cancelled, Subscription, To, resolve


class Batch(NamedTuple):
    """Events to be handled together; `counted` of them had been asked for."""

    subscription: Subscription
    events: list[Any]
    counted: int


class End(NamedTuple):
    """A subscription is over; what came before it is handled before."""

    subscription: Subscription
    cancelled: Cancelled


class Info(NamedTuple):
    """A message that waits for the events before it."""

    message: Any


Entry: TypeAlias = Batch | End | Info


class Feed(NamedTuple):
    """What a consumer keeps of one subscription."""

    inlet: Inlet
    monitor: Monitor


class Consuming(Stage):
    """The consuming half of a stage."""

    def __init__(self) -> None:
        super().__init__()
        self._producers: dict[Subscription, Feed] = {}
        self._inbox: deque[Entry] = deque()

    # to override

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        """Handle events, at most `max_demand - min_demand` of them at once. To override."""
        raise NotImplementedError(f"{type(self).__name__} needs handle_events(self, events, from_)")

    # messages

    def subscribe(self, to: To | Address) -> Subscription:
        """Subscribe; for `init` and other handlers, and as a message. Does not wait for the producer.

        A producer that is dead, or a name that nobody holds, is a subscription that ends at once: a temporary one
        does no harm, any other ends this stage with NoProc. Raises NotAProducer, and in `init` ActorDied.
        """
        to = to if isinstance(to, To) else To(to)
        producer = resolve(to.producer)
        if producer is None:
            return self._nobody(to)
        if not issubclass(producer.actor_class, Producing):
            raise NotAProducer(producer.name)
        subscription = Subscription(self.ref, producer, to)
        monitor = self._watch(producer, self._lose, subscription)
        producer.cast(Stage.consumer_subscribed, subscription)
        by_hand = self.handle_subscribe("producer", subscription) == "manual"
        inlet: Inlet = ByHand() if by_hand else Demand(to.max_demand, to.least)
        self._producers[subscription] = Feed(inlet, monitor)
        first = inlet.first()
        if first:
            producer.cast(Stage.consumer_asked, subscription, first)
        return subscription

    def _nobody(self, to: To) -> Subscription:
        if to.cancel != "temporary":
            if not self._cell.started:
                raise ActorDied(str(to.producer), NoProc(), False)
            self.stop(NoProc())
        return Subscription(self.ref, to.producer, to)

    def producer_sent(self, subscription: Subscription, events: list[Any]) -> Any:
        feed = self._producers.get(subscription)
        if feed is None:
            subscription.producer.cast(Stage.consumer_cancelled, subscription, self._unknown())
            return None
        received = feed.inlet.receive(events)
        if received.excess:
            logger.error("%s got %d events that it had not asked for from %r", self.name, received.excess, subscription)
        self._inbox.extend(Batch(subscription, *batch) for batch in received.batches)
        return self.work()

    def producer_cancelled(self, subscription: Subscription, reason: Exit) -> Any:
        return drive(self._lose(subscription, Cancelled("cancel", reason)))

    def work(self) -> Any:
        """The stage's message to itself: handle what is here."""
        return drive(self._work())

    # the work

    def _may_work(self) -> bool:
        return True

    def _work(self) -> Steps[None]:
        while self._inbox and (type(self._inbox[0]) is not Batch or self._may_work()):
            if self._cell.sysq:  # it is to end, or to do something else first: that comes between two batches
                self.continue_with(Consuming.work)
                return
            entry = self._inbox.popleft()
            if isinstance(entry, Batch):
                self._made((yield self.handle_events(entry.events, entry.subscription)))
                self._consumed(entry.subscription, entry.counted)
            elif isinstance(entry, End):
                yield from self._end(entry)
            else:
                self._pass_on(entry.message)

    def _made(self, events: Iterable[Any] | None) -> None:
        """What a callback gave; a consumer has nobody to give it to."""
        if events is not None and events != []:
            logger.error("%s is a consumer and cannot send events on; handle_events must give None", self.name)

    def _pass_on(self, message: Any) -> None:
        self.ref.cast(Stage.informed, message)

    def _consumed(self, subscription: Subscription, counted: int) -> None:
        feed = self._producers.get(subscription)
        ask = feed.inlet.consumed(counted) if feed is not None else 0
        if ask:
            subscription.producer.cast(Stage.consumer_asked, subscription, ask)

    def _lose(self, subscription: Subscription, cancelled: Cancelled) -> Steps[None]:
        feed = self._producers.pop(subscription, None)
        if feed is not None:
            self._unwatch(feed.monitor)
            self._inbox.append(End(subscription, cancelled))
            yield from self._work()

    def _end(self, end: End) -> Steps[None]:
        self._made((yield self.handle_cancel(end.cancelled, end.subscription)))
        reason = end.cancelled.reason
        if end.subscription.to.ends_with(reason, is_clean(reason)):
            self._finish(reason)

    def _finish(self, reason: Exit) -> None:
        self.stop(reason)


class Consumer(Consuming):
    """Asks for events and handles them.

        class Printer(Consumer):
            def init(self, producer):
                self.subscribe(To(producer, max_demand=10))

            def handle_events(self, events, from_):
                print(events)

    What it was sent and had not handled when it ends is lost.
    """
