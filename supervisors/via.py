"""`Via`: an address that is a name. Every use resolves it anew."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload

from supervisors import calls
from supervisors.current import BESIDE, CURRENT
from supervisors.errors import ActorDied, CallTimeout, check_seconds
from supervisors.exits import NoProc
from supervisors.ref import Ref
from supervisors.reply import Reply

P = ParamSpec("P")
R = TypeVar("R")

Sync: TypeAlias = Callable[Concatenate[Any, P], R]
Async: TypeAlias = Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]
Late: TypeAlias = Callable[Concatenate[Any, P], Reply[R]]

Slot: TypeAlias = tuple[Any, ...]
"""A key with its type: what tells 1 from 1.0 and from True."""

PATIENCE = 1.0
"""Seconds that a message which certainly was not handled waits for the successor of the actor that died."""


def strict(key: Hashable) -> Slot:
    """`key` such that keys are equal only if they are of one type, the members of tuples too."""
    kind = type(key)
    if kind is tuple:
        members: tuple[Hashable, ...] = key  # type: ignore[assignment]  # it is one
        return (kind, *[each if each.__class__ is str else strict(each) for each in members])  # a slot is no str
    return (kind, key)


class Names(Protocol):
    """The registry, as an address sees it."""

    def register(self, key: Hashable, ref: Ref[Any], value: object = None) -> None:
        """Let `ref` hold `key`."""

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The living holder."""

    def missed(self, key: Hashable) -> Ref[Any] | None:
        """The holder that has just died and is about to have a successor."""

    def arrival(self, key: Hashable) -> Reply[Ref[Any]]:
        """The living holder, or the next one."""


class Via:
    """A name, usable like a ref.

    `call` and `acall` send again to the successor what the actor that died certainly did not handle; they wait a
    second for it. What may have been handled is never sent twice. So they do for a second after the death of a holder
    that its supervisor starts again, unless that one is the caller or waits for this very `init` or `terminate`. Any
    other name without a holder answers ActorDied(NoProc) at once. Only `call` and `acall` wait: without a living holder
    a `cast` is dropped and a `send_request` fails.
    """

    __slots__ = ("_registry", "_seconds", "_value", "key")

    def __init__(self, registry: Names, key: Hashable, value: object = None, seconds: float | None = None) -> None:
        self._registry = registry
        self.key = key
        self._value = value
        self._seconds = seconds

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # an address

    def __repr__(self) -> str:
        return f"<Via {self.key!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and other._registry is self._registry and strict(other.key) == strict(self.key)

    def __hash__(self) -> int:
        return hash((id(self._registry), self.key))

    @property
    def label(self) -> str:
        """The name, for messages."""
        return str(self.key)

    def claim(self, ref: Ref[Any]) -> None:
        """Register `ref` under this name. Raises AlreadyRegistered."""
        self._registry.register(self.key, ref, self._value)

    def whereis(self) -> Ref[Any] | None:
        """The living holder."""
        return self._registry.whereis(self.key)

    def addressee(self) -> Ref[Any] | None:
        """To whom `call` sends: the living holder, else the dead one whose successor it then waits for, as if the
        message had been in its queue. None where it is refused at once.
        """
        ref = self.whereis()
        if ref is None:
            ref = self._registry.missed(self.key)
            if ref is not None and _is_held_up_here(ref):
                return None
        return ref

    def within(self, seconds: float | None) -> Via:
        """This name with another timeout for `call` and `acall`; None waits for as long as the holder lives.

        Raises SpecError for what is no number.
        """
        if seconds is not None:
            check_seconds("within", seconds)
        return Via(self._registry, self.key, self._value, calls.NO_LIMIT if seconds is None else seconds)

    @overload
    def call(self, method: Async[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Late[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Sync[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Ref.call`, to whoever holds the name."""
        ref = self._holder()
        left = _Left(ref, self._seconds)
        while True:
            try:
                return calls.call(ref.mailbox, method, args, kwargs, left.seconds())
            except ActorDied as died:
                if not _unhandled(died, ref):
                    raise
                arrival = self._registry.arrival(self.key)
                if not arrival.wait(left.patience(), left.clock):
                    arrival.cancel()
                    raise
                ref = arrival.take()

    @overload
    async def acall(self, method: Async[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Late[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Sync[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Ref.acall`, to whoever holds the name."""
        ref = self._holder()
        left = _Left(ref, self._seconds)
        while True:
            try:
                return await calls.acall(ref.mailbox, method, args, kwargs, left.seconds())
            except ActorDied as died:
                if not _unhandled(died, ref):
                    raise
                arrival = self._registry.arrival(self.key)
                try:
                    ref = await arrival.aget(left.patience(), left.clock)
                except CallTimeout:
                    arrival.cancel()
                    raise died from died.__cause__

    def cast(self, method: Callable[Concatenate[Any, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        """As `Ref.cast`; dropped where nobody holds the name."""
        ref = self.whereis()
        if ref is not None:
            ref.cast(method, *args, **kwargs)

    @overload
    def send_request(self, method: Async[P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    @overload
    def send_request(self, method: Late[P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    @overload
    def send_request(self, method: Sync[P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    def send_request(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Ref.send_request` to the present holder; never sent again. Fails with NoProc where there is none."""
        ref = self.whereis()
        if ref is None:
            reply: Reply[Any] = Reply()
            reply.fail(ActorDied(self.label, NoProc(), False))
            return reply
        return ref.send_request(method, *args, **kwargs)

    def _holder(self) -> Ref[Any]:
        ref = self.addressee()
        if ref is None:
            raise ActorDied(self.label, NoProc(), False)
        return ref


class _Left:
    """What is left of one call's time, over all its attempts."""

    __slots__ = ("_until", "clock")

    def __init__(self, ref: Ref[Any], within: float | None) -> None:
        seconds = calls.seconds_for(ref.mailbox, within)
        self.clock = ref.mailbox.home.clock
        self._until = None if seconds is None else self.clock.now() + seconds

    def seconds(self) -> float:
        return calls.NO_LIMIT if self._until is None else self._until - self.clock.now()

    def patience(self) -> float:
        return PATIENCE if self._until is None else max(0.0, min(PATIENCE, self._until - self.clock.now()))


def _is_held_up_here(ref: Ref[Any]) -> bool:
    """Whether the supervisor that is to start a successor of `ref` is the one who asks, or may be waiting for his
    `init` or `terminate`: it would do so for nothing.
    """
    me: Any = CURRENT.get()
    above = ref.mailbox.above
    if me is None or above is None:
        return False
    if me.incarnation == above.incarnation:
        return not BESIDE.get()
    return not me.started and any(each.incarnation == above.incarnation for each in me.above or ())


def _unhandled(died: ActorDied, ref: Ref[Any]) -> bool:
    """Whether it was `ref` that died, and not somebody it asked, with the message still in its queue."""
    return not died.maybe_handled and died.incarnation == ref.incarnation
