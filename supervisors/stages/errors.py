"""The errors of the stages.

SupervisorsError
├── NotAConsumer             the stage cannot subscribe: it is a producer, or no stage
├── NotAProducer             the stage cannot be subscribed to: it is a consumer, or no stage
├── UnknownSubscription      the stage knows nothing of the subscription
└── DuplicatedSubscription   the producer has this very subscription already
"""

from __future__ import annotations

from supervisors.errors import SupervisorsError


class NotAConsumer(SupervisorsError):
    """`name` consumes nothing, so it cannot subscribe."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"{self.name} cannot subscribe; only a Consumer, a ProducerConsumer or a ConsumerSupervisor can"


class NotAProducer(SupervisorsError):
    """`name` produces nothing, so nobody can subscribe to it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"{self.name} has no events to give; subscribe to a Producer or a ProducerConsumer"


class UnknownSubscription(SupervisorsError):
    """`name` got a message about a subscription that it does not have, and has cancelled it at the other side."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"{self.name} does not know this subscription (any more); subscribe again"


class DuplicatedSubscription(SupervisorsError):
    """`name` got a subscription that it has already, and has cancelled it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"{self.name} has this subscription already; each one is sent once"
