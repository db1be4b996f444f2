"""What one does with stages from outside, in GenStage's words. Every function may be called from any thread."""

from __future__ import annotations

from typing import Any

from supervisors.errors import SpecError, check_exit
from supervisors.exits import Exit, Normal
from supervisors.stages.consuming import Consuming
from supervisors.stages.errors import NotAConsumer, NotAProducer
from supervisors.stages.producer_consumer import ProducerConsumer
from supervisors.stages.producing import DemandMode, Producer, Producing
from supervisors.stages.stage import Stage
from supervisors.stages.subscription import Address, Subscription, To, resolve


def sync_subscribe(consumer: Address, to: To | Address, **options: Any) -> Subscription:
    """Let `consumer` subscribe to a producer, and wait until it has; `options` are the other fields of `To`.

    Raises, before anything is sent, SpecError, NotAConsumer and NotAProducer; else as `Ref.call`. On a running
    asyncio loop use `async_subscribe`.
    """
    wish = _checked(consumer, to, options)
    return consumer.call(Consuming.subscribe, wish)


def async_subscribe(consumer: Address, to: To | Address, **options: Any) -> None:
    """As `sync_subscribe`, without waiting."""
    wish = _checked(consumer, to, options)
    consumer.cast(Consuming.subscribe, wish)


def ask(subscription: Subscription, events: int) -> None:
    """Ask for so many more events: for consumers whose `handle_subscribe` gave "manual". Raises SpecError."""
    if isinstance(events, bool) or not isinstance(events, int) or events < 0:
        raise SpecError("events", events, "an int >= 0")
    if events:
        subscription.producer.cast(Stage.consumer_asked, subscription, events)


def cancel(subscription: Subscription, reason: Exit = Normal()) -> None:  # noqa: B008 - a frozen value
    """End a subscription: the producer is told, confirms, and the consumer does what its cancel mode says.

    Raises SpecError for a reason that is no exit.
    """
    check_exit(reason)
    subscription.producer.cast(Stage.consumer_cancelled, subscription, reason)


def sync_info(stage: Address, message: Any) -> None:
    """Give the stage's `on_info` a message after all events that are in it now were sent on; wait until it has it."""
    stage.call(Stage.info, message)


def async_info(stage: Address, message: Any) -> None:
    """As `sync_info`, without waiting; for a stage's own use too, as a mark behind its last event."""
    stage.cast(Stage.info, message)


def demand(stage: Address, mode: DemandMode) -> None:
    """Let a producer keep what it is asked for ("accumulate"), or work on it ("forward"). Raises SpecError."""
    if mode not in ("forward", "accumulate"):
        raise SpecError("demand", mode, "'forward' or 'accumulate'")
    ref = resolve(stage)
    if ref is None or (mode == "forward" and issubclass(ref.actor_class, ProducerConsumer)):
        return
    if not issubclass(ref.actor_class, Producer):
        raise NotAProducer(ref.name)
    ref.cast(Producer.set_demand, mode)


def estimate_buffered_count(stage: Address) -> int:
    """How many events a producing stage keeps because nobody has asked for them. Raises as `Ref.call`."""
    return stage.call(Producing.estimate_buffered_count)


def _checked(consumer: Address, to: To | Address, options: dict[str, Any]) -> To:
    if isinstance(to, To) and options:
        raise SpecError("options", options, "nothing beside a To, which has them as fields")
    wish = to if isinstance(to, To) else To(to, **options)
    taker, giver = resolve(consumer), resolve(wish.producer)
    if taker is not None and not issubclass(taker.actor_class, Consuming):
        raise NotAConsumer(taker.name)
    if giver is not None and not issubclass(giver.actor_class, Producing):
        raise NotAProducer(giver.name)
    return wish
