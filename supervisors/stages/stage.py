"""`Stage`: what producers and consumers share, and the messages that they send each other.

    consumer                                    producer
    --------                                    --------
    consumer_subscribed(subscription)      ->
    consumer_asked(subscription, 10)       ->
                                           <-   producer_sent(subscription, events)
    consumer_cancelled(subscription, exit) ->
                                           <-   producer_cancelled(subscription, exit)

Each watches the other. Delivery is at most once: what is on its way to a consumer that dies is lost, and nobody
else is affected. Within one subscription events keep their order.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import CoroutineType
from typing import Any, Literal, TypeAlias, TypeVar

from supervisors.actor import Actor, Down, Monitor
from supervisors.exits import Crash, Exit
from supervisors.ref import Ref
from supervisors.stages.errors import UnknownSubscription
from supervisors.stages.subscription import Cancelled, Subscription

T = TypeVar("T")

Events: TypeAlias = Iterable[Any] | Awaitable[Iterable[Any] | None] | None
"""What a callback gives: events, or None for no events; on a loop it may be a coroutine."""

Mode: TypeAlias = Literal["automatic", "manual"]

Steps: TypeAlias = Generator[Any, Any, T]
"""Work that yields what callbacks gave and is sent the values: the same for plain callbacks and coroutines."""

Lost: TypeAlias = Callable[[Subscription, Cancelled], Steps[None]]

logger = logging.getLogger("supervisors")


def drive(steps: Steps[T]) -> Any:
    """Do `steps`, here and now; from the first coroutine on, what is left is a coroutine too, for the loop."""
    value: Any = None
    try:
        while type(value) is not CoroutineType:
            value = steps.send(value)
    except StopIteration as done:
        return done.value
    return _awaited(steps, value)


async def _awaited(steps: Steps[T], value: Any) -> T:
    try:
        while True:
            value = steps.send(await value if type(value) is CoroutineType else value)
    except StopIteration as done:
        result: T = done.value
        return result


class Stage(Actor):
    """Derive from `Producer`, `ProducerConsumer` or `Consumer`. A stage runs on any dispatcher.

    On a loop `handle_demand`, `handle_events` and `handle_cancel` may be `async def`. Its mailbox cannot be bounded:
    demand bounds what comes in.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.mailbox is not None:
            raise TypeError(f"{cls.__name__} is a stage, which demand bounds; its mailbox cannot be bounded as well")

    def __init__(self) -> None:
        super().__init__()
        self._watched: dict[Monitor, tuple[Lost, Subscription]] = {}

    # to override

    def handle_subscribe(self, kind: Literal["producer", "consumer"], from_: Subscription) -> Mode:
        """A subscription begins; `kind` says what the other side is. A consumer may answer "manual" to use `ask`."""
        return "automatic"

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        """A subscription is over. The default does nothing; a producing stage may give events."""
        return None

    # messages for anybody

    def info(self, message: Any) -> None:
        """Give `on_info` this message, after all events that are here have been sent on."""
        self.ref.cast(Stage.informed, message)

    def informed(self, message: Any) -> Any:
        """The moment for a message given to `info` has come."""
        return self.on_info(message)

    # messages between stages; which of them a stage has a use for, its kind says

    def consumer_subscribed(self, subscription: Subscription) -> Any:
        """A consumer subscribes here."""
        self._misled("consumer_subscribed", subscription)

    def consumer_asked(self, subscription: Subscription, events: int) -> Any:
        """A consumer wants so many more events."""
        self._misled("consumer_asked", subscription)

    def consumer_cancelled(self, subscription: Subscription, reason: Exit) -> Any:
        """A consumer, or somebody for it, wants an end."""
        self._misled("consumer_cancelled", subscription)

    def producer_sent(self, subscription: Subscription, events: list[Any]) -> Any:
        """A producer sent events."""
        self._misled("producer_sent", subscription)

    def producer_cancelled(self, subscription: Subscription, reason: Exit) -> Any:
        """A producer has ended the subscription."""
        self._misled("producer_cancelled", subscription)

    def _misled(self, what: str, subscription: Subscription) -> None:
        logger.error("%s, a %s, got %s of %r and ignored it", self.name, type(self).__name__, what, subscription)

    # watching the other side

    def _watch(self, other: Ref[Any], lost: Lost, subscription: Subscription) -> Monitor:
        monitor = self.monitor(other)
        self._watched[monitor] = (lost, subscription)
        return monitor

    def _unwatch(self, monitor: Monitor) -> None:
        self._watched.pop(monitor, None)
        self.demonitor(monitor)

    def _on_down(self, down: Down) -> Any:
        known = self._watched.get(down.monitor)
        if known is None:
            return super()._on_down(down)
        lost, subscription = known
        return drive(lost(subscription, Cancelled("down", down.exit)))

    def _unknown(self) -> Crash:
        return Crash(UnknownSubscription(self.name))
