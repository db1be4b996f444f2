"""Stages that write down what happens to them, and a way to wait until nothing happens any more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from supervisors.exits import Exit
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.stages.consuming import Consumer
from supervisors.stages.producer_consumer import ProducerConsumer
from supervisors.stages.producing import Producer
from supervisors.stages.stage import Events, Mode, Stage
from supervisors.stages.subscription import Cancelled, Subscription, To
from supervisors.testing import Log, wait_until
from tests.conformance.words import word


class Logging(Stage):
    """Logs (name, what, ...): subscriptions that end, messages, its own end; crashes when it is told to."""

    log: Log
    label: str

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        self.log.add(self.label, cancelled.kind, word(cancelled.reason))
        return None

    def on_info(self, message: Any) -> None:
        self.log.add(self.label, "info", message)

    def terminate(self, exit: Exit) -> None:
        self.log.add(self.label, "end", word(exit))

    def ping(self) -> None:
        """Answer, and so show that everything before was handled."""


class Source(Logging, Producer):
    """Logs what it is asked for, and sends what it is fed."""

    def init(self, log: Log, label: str = "p", **options: Any) -> None:
        self.log, self.label = log, label
        self.produces(**options)

    def handle_demand(self, demand: int) -> Events:
        self.log.add(self.label, "asked", demand)
        return None

    def feed(self, events: Iterable[Any]) -> None:
        self.emit(events)


class Counting(Source):
    """Makes the numbers 0, 1, 2 ... as many as it is asked for."""

    def init(self, log: Log, label: str = "p", **options: Any) -> None:
        super().init(log, label, **options)
        self.next = 0

    def handle_demand(self, demand: int) -> Events:
        super().handle_demand(demand)
        first, self.next = self.next, self.next + demand
        return range(first, self.next)


class Sink(Logging, Consumer):
    """Logs the events it gets."""

    def init(self, log: Log, label: str = "c", subscribe_to: Iterable[To] = (), mode: Mode = "automatic") -> None:
        self.log, self.label, self.mode = log, label, mode
        for to in subscribe_to:
            self.subscribe(to)

    def handle_subscribe(self, kind: Literal["producer", "consumer"], from_: Subscription) -> Mode:
        return self.mode

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        self.log.add(self.label, "got", events)
        return None


class Times(Logging, ProducerConsumer):
    """Logs the events it gets, and sends each of them so many times."""

    def init(self, log: Log, label: str = "pc", subscribe_to: Iterable[To] = (), times: int = 1) -> None:
        self.log, self.label, self.times = log, label, times
        for to in subscribe_to:
            self.subscribe(to)

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        self.log.add(self.label, "got", events)
        return [event for event in events for _ in range(self.times)]


def source(kernel: Kernel, log: Log, cls: type[Source] = Source, label: str = "p", **options: Any) -> Ref[Source]:
    return kernel.spawn(cls, log, label, **options)


def sink(kernel: Kernel, log: Log, label: str = "c", *to: To, mode: Mode = "automatic") -> Ref[Sink]:
    return kernel.spawn(Sink, log, label, to, mode)


def times(kernel: Kernel, log: Log, *to: To, times: int = 1, label: str = "pc") -> Ref[Times]:
    return kernel.spawn(Times, log, label, to, times)


def feed(ref: Ref[Source], *events: Any) -> None:
    """Let the source send `events`, at once."""
    ref.call(Source.feed, events)


def quiet(*stages: Ref[Any]) -> None:
    """Return when none of the stages has anything to do, nor has sent anything that another one has not handled.

    Each is asked twice: what one has sent before its first answer another one may have taken out of its queue and not
    begun, where it is neither waiting nor counted; it is done with before the second answer of that one.
    """

    def nothing_happened() -> bool:
        before = [ref.snapshot()["messages"] for ref in stages]
        for ref in stages * 2:
            if ref.is_alive():
                ref.send_request(Logging.ping).wait(5, ref.mailbox.home.clock)
        after = [ref.snapshot() for ref in stages]
        return all(
            not each["alive"] or (each["queue"] == 0 and each["messages"] == count + 2)
            for each, count in zip(after, before, strict=True)
        )

    wait_until(nothing_happened)


def of(log: Log, label: str, what: str | None = None) -> list[Any]:
    """What happened to one stage; of one kind, only the values."""
    mine = [event[1:] for event in log.events if event[0] == label]
    return mine if what is None else [event[1] for event in mine if event[0] == what]
