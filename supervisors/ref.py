"""`Ref`: the address of one incarnation of an actor, and how it is called.

A call to an idle actor of an `inline` class runs the handler in the caller's place: no queue, no other thread.
Everything else is a message, and a reply that is waited for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeAlias, TypeVar, overload

import pykka

from supervisors import calls
from supervisors.cell import Cell
from supervisors.current import CURRENT, refuse_fenced
from supervisors.errors import check_seconds
from supervisors.exits import Exit
from supervisors.lineage import refuse_from_below
from supervisors.reply import Reply

A = TypeVar("A", bound=pykka.Actor)
P = ParamSpec("P")
R = TypeVar("R")

Sync: TypeAlias = Callable[Concatenate[A, P], R]
Async: TypeAlias = Callable[Concatenate[A, P], Coroutine[Any, Any, R]]
Late: TypeAlias = Callable[Concatenate[A, P], Reply[R]]
"""A handler, by what it returns: the answer, a coroutine of it, or the deferred reply. To a caller they are one."""


class Ref(pykka.ActorRef[A], Generic[A]):
    """One incarnation of an actor. Compared by identity; never points to a successor (a name does that).

    pykka's own `ask`, `tell`, `stop` and `proxy` work too; what they send goes to `on_receive`.
    """

    __slots__ = ("mailbox",)  # a plain slot, no property: every look at an actor begins with it
    mailbox: Cell
    """The incarnation itself; for the other floors of this package."""

    def __init__(self, cell: Cell) -> None:
        self.mailbox = cell

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # an address, compared by identity

    def __repr__(self) -> str:
        return f"<Ref of {self.mailbox.name}{'' if self.is_alive() else ', dead'}>"

    def __str__(self) -> str:
        return self.mailbox.name

    # what pykka reads

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]  # pykka declares plain attributes, we compute them
        """The actor's class."""
        kind: type[A] = self.mailbox.kind
        return kind

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """pykka's name for the incarnation."""
        return f"urn:supervisors:{self.mailbox.incarnation}"

    @property
    def actor_inbox(self) -> Cell:  # type: ignore[override]
        """The mailbox."""
        return self.mailbox

    @property
    def actor_stopped(self) -> Event:  # type: ignore[override]
        """An event that is set at the official death. Made on demand; as a rule there is one for all who ask."""
        for known in list(self.mailbox.watchers):
            if type(known) is Event:
                return known
        stopped = Event()
        if not self.mailbox.watch(stopped, lambda _: stopped.set()):
            stopped.set()
        return stopped

    @property
    def _actor_weakref(self) -> Callable[[], A]:  # type: ignore[override]  # pykka's proxies look at the actor
        return lambda: self.mailbox.actor

    # looking

    @property
    def name(self) -> str:
        """The registered name, or the class and the incarnation."""
        return self.mailbox.name

    @property
    def incarnation(self) -> int:
        """A number that no other incarnation in this process has; a successor's is greater."""
        return self.mailbox.incarnation

    def is_alive(self) -> bool:
        """False from the official death on: after `terminate`, with the names free."""
        return not self.mailbox.dead

    def snapshot(self) -> dict[str, Any]:
        """Statistics, read without a message: the actor may be stuck. Times in seconds."""
        cell = self.mailbox
        since = cell.since
        return {
            "name": cell.name,
            "class": cell.kind.__qualname__,
            "dispatcher": cell.dispatcher.name,
            "incarnation": cell.incarnation,
            "queue": len(cell.q),
            "pending": len(cell.pending or ()),
            "messages": cell.handled,
            "alive": not cell.dead,
            "zombie": cell in cell.home.zombie_cells,
            "busy": None if since is None or cell.dead else max(0.0, cell.now() - since),
            "exit": cell.exit,
        }

    # calling

    @overload
    def call(self, method: Async[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Late[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Sync[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Send `method` and block until it is answered: 5 s, or what is left of the caller's deadline.

        Raises ActorDied, CallTimeout, CallCycle, MailboxFull, Fenced, UnknownMessage, TypeError for arguments that
        do not fit (the actor lives); BlockingCallOnLoop at once on a thread that runs an asyncio loop, unless the
        target can be run in place.
        """
        return calls.call(self.mailbox, method, args, kwargs, None)

    @overload
    async def acall(self, method: Async[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Late[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Sync[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `call`, from any asyncio loop. Cancelling the task gives the answer up (see `Reply.cancel`)."""
        return await calls.acall(self.mailbox, method, args, kwargs, None)

    def cast(self, method: Callable[Concatenate[A, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Send `method` and go on. A dead target drops it; MailboxFull, Fenced and UnknownMessage are raised."""
        cell = self.mailbox
        cell.put((cell.table.get(method) or calls.method_name(cell, method), args, kwargs or None, None))

    @overload
    def send_request(self, method: Async[A, P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    @overload
    def send_request(self, method: Late[A, P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    @overload
    def send_request(self, method: Sync[A, P, R], *args: P.args, **kwargs: P.kwargs) -> Reply[R]: ...
    def send_request(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Send `method` and get the reply to come. No timeout; a death settles it."""
        cell = self.mailbox
        reply: Reply[Any] = Reply(cell)
        cell.put((cell.table.get(method) or calls.method_name(cell, method), args, kwargs or None, reply))
        return reply

    def within(self, seconds: float | None) -> Within[A]:
        """This ref with another timeout for `call` and `acall`; None waits for as long as the actor lives.

        Raises SpecError for what is no number.
        """
        return Within(self.mailbox, seconds)

    # ending

    def exit(self, exit: Exit) -> None:
        """Ask the actor to end at its next message boundary, before what is queued. Does not wait.

        While it is in `init` that fails its start, whatever the exit.
        Raises Fenced, and SpecError for what is no exit.
        """
        refuse_fenced()
        self.mailbox.request_exit(exit)

    def fence(self) -> None:
        """Declare the actor dead now, whatever its code is at. Its callers are told; what it sends is refused.

        Raises Fenced for a fenced caller.
        """
        refuse_fenced()
        self.mailbox.fence()

    @overload
    def stop(self, *, block: Literal[True] = True, timeout: float | None = None) -> bool: ...
    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[bool]: ...
    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]: ...
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]:
        """pykka's stop, a message like others: behind what is queued. False if the actor is dead already.

        With `block` it waits for the end, at most `timeout` seconds (pykka.Timeout), and raises StopFromBelow at once
        for an actor that belongs to this one: it would wait for its own end.
        """
        if block:
            refuse_from_below(CURRENT.get(), self.mailbox)
        return super().stop(block=block, timeout=timeout)

    def down(self) -> Reply[Exit]:
        """A reply that settles with the exit at the official death; at once if that has been.

        The actor remembers it until then, or until it is cancelled, as awaiting it in a task that is cancelled does, or
        until nobody has it any more and it has no callbacks.
        """
        reply: Reply[Exit] = Reply()
        cell = self.mailbox
        awaited = _Awaited(reply, cell)
        if cell.watch(awaited, awaited.tell):
            reply.on_settled(awaited.forget)
        else:
            reply.set(cell.exit)
        return reply


class _Awaited(weakref.ref[Reply[Exit]]):
    """A reply of `down`, as the actor remembers it: it goes with the last who has it, unless it has callbacks.

    They hold it, and are held by its list, which is kept here.
    """

    __slots__ = ("_cell", "_waiters")

    def __new__(cls, reply: Reply[Exit], cell: Cell) -> Self:
        return super().__new__(cls, reply, _Awaited.forget)

    def __init__(self, reply: Reply[Exit], cell: Cell) -> None:
        self._cell = cell
        self._waiters: object = reply._waiters

    def tell(self, life: Any) -> None:
        """The actor is officially dead."""
        reply = self()
        if reply is not None:
            reply.set(life.exit)

    def forget(self) -> None:
        """The reply is settled, or gone."""
        self._cell.unwatch(self)
        self._waiters = None


class Within(Generic[A]):
    """A ref with a timeout of its own."""

    __slots__ = ("_cell", "_seconds")

    def __init__(self, cell: Cell, seconds: float | None) -> None:
        if seconds is not None:
            check_seconds("within", seconds)
        self._cell = cell
        self._seconds = calls.NO_LIMIT if seconds is None else seconds

    @overload
    def call(self, method: Async[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Late[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, method: Sync[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Ref.call`, within these seconds."""
        return calls.call(self._cell, method, args, kwargs, self._seconds)

    @overload
    async def acall(self, method: Async[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Late[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, method: Sync[A, P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `Ref.acall`, within these seconds."""
        return await calls.acall(self._cell, method, args, kwargs, self._seconds)
