"""What ties a consumer to a producer: how it wants to be served, and the subscription itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from supervisors.errors import SpecError
from supervisors.exits import Exit
from supervisors.ref import Ref
from supervisors.via import Via

CancelMode: TypeAlias = Literal["permanent", "transient", "temporary"]
"""Whether a consumer ends with its producer: always, only when that end was not clean, or never."""

Address: TypeAlias = Ref[Any] | Via

MODES = ("permanent", "transient", "temporary")


@dataclass(frozen=True, slots=True)
class To:
    """Whom to subscribe to, and how. Raises `SpecError` for what is no producer and for numbers that make no sense."""

    producer: Address
    max_demand: int = 1000
    """Events that may be asked for and not yet handled, at most."""
    min_demand: int | None = None
    """More are asked for as soon as no more than this many are left to come. Left out: half of `max_demand`."""
    cancel: CancelMode = "permanent"
    partition: Hashable = None
    """For a producer with a `PartitionDispatcher`: which of its partitions."""
    selector: Callable[[Any], object] | None = None
    """For a producer with a `BroadcastDispatcher`: only events for which this is true. It runs in the producer."""

    def __post_init__(self) -> None:
        if not isinstance(self.producer, Ref | Via):
            raise SpecError("producer", self.producer, 'a ref, or a Via, as system.via("name") gives it')
        if not _is_int(self.max_demand) or self.max_demand < 1:
            raise SpecError("max_demand", self.max_demand, "an int >= 1")
        if self.min_demand is not None and not (_is_int(self.min_demand) and 0 <= self.min_demand < self.max_demand):
            raise SpecError("min_demand", self.min_demand, f"an int from 0 to {self.max_demand - 1}, or None for half")
        if self.cancel not in MODES:
            raise SpecError("cancel", self.cancel, " or ".join(map(repr, MODES)))
        if self.selector is not None and not callable(self.selector):
            raise SpecError("selector", self.selector, "a function of one event, or None")

    @property
    def least(self) -> int:
        """`min_demand`, filled in."""
        return self.max_demand // 2 if self.min_demand is None else self.min_demand

    def ends_with(self, exit: Exit, clean: bool) -> bool:
        """Whether a consumer of this mode ends when its subscription did, with `exit`."""
        return self.cancel == "permanent" or (self.cancel == "transient" and not clean)


class Subscription:
    """One consumer at one producer, for once; the `from_` of the callbacks. Compared by identity."""

    __slots__ = ("consumer", "producer", "to")

    def __init__(self, consumer: Ref[Any], producer: Address, to: To) -> None:
        self.consumer = consumer
        self.producer = producer
        self.to = to

    def __repr__(self) -> str:
        return f"<Subscription of {self.consumer} to {self.producer}>"


class Cancelled(NamedTuple):
    """Why a subscription is over: it was cancelled, or the other side is down."""

    kind: Literal["cancel", "down"]
    reason: Exit


def resolve(address: Address) -> Ref[Any] | None:
    """The actor behind `address`; None for a name that nobody holds."""
    return address.whereis() if isinstance(address, Via) else address


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
