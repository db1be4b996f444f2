"""`Producer`: makes events when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from supervisors.actor import Monitor
from supervisors.errors import SpecError, SupervisorsError
from supervisors.exits import Crash, Exit
from supervisors.stages.buffer import Buffer, Keep
from supervisors.stages.dispatchers import Deliver, DemandDispatcher, Dispatcher, Inform, Warn
from supervisors.stages.errors import DuplicatedSubscription
from supervisors.stages.outlet import Action, Need, Outlet
from supervisors.stages.stage import Events, Stage, Steps, drive, logger
from supervisors.stages.subscription import Cancelled, Subscription

DemandMode: TypeAlias = Literal["forward", "accumulate"]

BUFFER_SIZE = 10_000
"""Events that a producer keeps for later, unless `produces` says otherwise."""


class Producing(Stage):
    """The producing half of a stage."""

    _BUFFER_SIZE: int | None = BUFFER_SIZE

    def __init__(self) -> None:
        super().__init__()
        self._outlet = Outlet(DemandDispatcher(), Buffer(self._BUFFER_SIZE))
        self._consumers: dict[Subscription, Monitor] = {}
        self._will_settle = False

    # to use and to override

    def emit(self, events: Iterable[Any] | None) -> None:
        """Send `events` to those who asked for them, and keep the rest. From any handler, or from a task beside it."""
        for action in self._outlet.emit(list(events) if events is not None else []):
            self._do(action)
        if self._outlet.missing() > 0 and not self._will_settle:  # some were dropped, or not selected: others instead
            self._will_settle = True
            self.ref.cast(Producing.settle)

    def format_discarded(self, discarded: int) -> bool:
        """The buffer was full and `discarded` events were thrown away: whether to say so in the log."""
        return True

    def _configure(self, dispatcher: Dispatcher | None, buffer: Buffer, demand: DemandMode) -> None:
        if self._cell.started:
            raise RuntimeError(f"{self.name} has started: call produces(...) in init, before anybody can subscribe")
        if demand not in ("forward", "accumulate"):
            raise SpecError("demand", demand, "'forward' or 'accumulate'")
        self._outlet = Outlet(dispatcher or DemandDispatcher(), buffer, accumulate=demand == "accumulate")

    # messages

    def info(self, message: Any) -> None:
        for send in self._outlet.info(message):
            self._do(send)

    def estimate_buffered_count(self) -> int:
        """How many events are kept because nobody has asked for them."""
        return len(self._outlet.buffer)

    def count_discarded(self) -> int:
        """How many events have been thrown away, because the buffer was full."""
        return self._outlet.discarded

    def settle(self) -> Any:
        """The stage's message to itself: look again at what is wanted."""
        self._will_settle = False
        return drive(self._run(self._outlet.settle()))

    def consumer_subscribed(self, subscription: Subscription) -> Any:
        if subscription in self._consumers:
            self._refuse(subscription, DuplicatedSubscription(self.name))
            return None
        try:
            self._outlet.dispatcher.subscribe(subscription)
        except SpecError as error:
            self._refuse(subscription, error)
            return None
        self._consumers[subscription] = self._watch(subscription.consumer, self._leave, subscription)
        self.handle_subscribe("consumer", subscription)
        return drive(self._run(self._outlet.settle()))

    def consumer_asked(self, subscription: Subscription, events: int) -> Any:
        if subscription not in self._consumers:
            subscription.consumer.cast(Stage.producer_cancelled, subscription, self._unknown())
            return None
        return drive(self._run(self._outlet.ask(subscription, events)))

    def consumer_cancelled(self, subscription: Subscription, reason: Exit) -> Any:
        return drive(self._leave(subscription, Cancelled("cancel", reason)))

    def _refuse(self, subscription: Subscription, error: SupervisorsError) -> None:
        logger.error("%s refused %r: %s", self.name, subscription, error)
        subscription.consumer.cast(Stage.producer_cancelled, subscription, Crash(error))

    def _leave(self, subscription: Subscription, cancelled: Cancelled) -> Steps[None]:
        monitor = self._consumers.pop(subscription, None)
        if monitor is None:
            return
        self._unwatch(monitor)
        subscription.consumer.cast(Stage.producer_cancelled, subscription, cancelled.reason)
        sends = self._outlet.dispatcher.cancel(subscription)
        self.emit((yield self.handle_cancel(cancelled, subscription)))
        yield from self._run([*sends, *self._outlet.settle()])

    def _run(self, actions: list[Action]) -> Steps[None]:
        for action in actions:
            if isinstance(action, Need):
                self.emit((yield self._demanded(action.events)))
            else:
                self._do(action)

    def _demanded(self, events: int) -> Events:
        raise NotImplementedError

    def _do(self, action: Action) -> None:
        if isinstance(action, Deliver):
            action.subscription.consumer.cast(Stage.producer_sent, action.subscription, action.events)
        elif isinstance(action, Inform):
            self.ref.cast(Stage.informed, action.message)
        elif isinstance(action, Warn):
            logger.warning("%s: %s", self.name, action.text)
        elif self.format_discarded(action.events):
            logger.warning("%s has discarded %d events from its buffer", self.name, action.events)
            self._count(action.events)
        else:
            self._count(action.events)

    def _count(self, discarded: int) -> None:
        event = ("stage", "buffer", "discarded")
        self.kernel.telemetry.execute(event, {"events": discarded}, {"name": self.name, "ref": self.ref})


class Producer(Producing):
    """Makes events when they are asked for.

        class Numbers(Producer):
            def init(self, first=0):
                self.next = first

            def handle_demand(self, demand):
                events = range(self.next, self.next + demand)
                self.next += demand
                return events

    `init` may call `produces` to choose who gets which event and what is kept. (The class attribute `dispatcher` is
    another matter: as for every actor, it says which threads run the stage.) A producer that has fewer events than it
    was asked for gives what it has, remembers the difference and sends the rest with `emit` when it comes; what it
    emits beyond what was asked for is kept in the buffer.
    """

    def produces(
        self,
        *,
        dispatcher: Dispatcher | None = None,
        buffer_size: int | None = BUFFER_SIZE,
        buffer_keep: Keep = "last",
        demand: DemandMode = "forward",
    ) -> None:
        """For `init`: how events are dealt out, and what happens to those that nobody asked for.

        `dispatcher` deals them out (left out: `DemandDispatcher()`). Up to `buffer_size` events (None: any number)
        wait to be asked for; then the oldest (`buffer_keep="last"`) or the newest (`"first"`) are thrown away.
        `demand="accumulate"` keeps what is asked for until somebody calls `demand(stage, "forward")`. Raises SpecError.
        """
        self._configure(dispatcher, Buffer(buffer_size, buffer_keep), demand)

    def handle_demand(self, demand: int) -> Events:
        """So many more events are wanted. To override."""
        raise NotImplementedError(f"{type(self).__name__} is a Producer and needs handle_demand(self, demand)")

    def set_demand(self, mode: DemandMode) -> Any:
        """From now on keep what is asked for ("accumulate"), or hand it on with what was kept ("forward")."""
        if mode == "accumulate":
            self._outlet.accumulate()
            return None
        return drive(self._run([*self._outlet.forward()]))

    def _demanded(self, events: int) -> Events:
        return self.handle_demand(events)
