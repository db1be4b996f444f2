"""`Mailbox`: the inbox of one incarnation, the right to run it, and its death.

Nobody ever waits for an actor. `own` is a raw lock that is only tried: whoever gets it runs the actor, on
whatever thread that is, and whoever does not leaves the message and goes. Every hand-over is "store, then look
again", on both sides, so that one of the two sees the other:

    a sender appends, then looks at `dead` and at `own`     the owner releases `own`, then looks at the queue
    the owner stores `cur`, then looks at `dead`            who finishes stores `dead`, then looks at `cur`
    a watcher adds itself, then looks at `dead`             who finishes stores `dead`, then looks at the watchers

A mailbox is one life: never reused, compared by identity.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from itertools import count
from threading import Lock, get_ident
from typing import Any

from pykka.messages import _ActorStop

from supervisors import steps
from supervisors.current import CURRENT, Home
from supervisors.dispatchers.base import BUDGET, Dispatcher
from supervisors.errors import ActorDied, Fenced, MailboxFull, fresh
from supervisors.exits import Exit, Killed, NoProc
from supervisors.holding import HOLD, SystemMessage
from supervisors.lineage import Ancestor
from supervisors.published_lock import free_after_fork
from supervisors.reply import Reply

_INCARNATIONS = count(1)
_FINISH = free_after_fork(Lock())  # held for a handful of instructions: which of two threads finishes a life

Message = tuple[str, tuple[Any, ...], dict[str, Any] | None, Reply[Any] | None]
"""A method's name, its arguments, and where its answer goes. Everything else in a queue goes to `on_info`.

No keyword arguments are None and not an empty dict: a cast of plain values is then nothing for the garbage collector
to look at, however many of them wait.
"""


class Mailbox:
    """One incarnation of an actor. pykka calls it the actor's inbox, and only puts into it."""

    __slots__ = (
        "__weakref__",
        "above",
        "actor",
        "bound",
        "ctx",
        "cur",
        "dead",
        "depth",
        "dispatcher",
        "exit",
        "fenced",
        "handled",
        "heir",
        "home",
        "host",
        "incarnation",
        "kind",
        "label",
        "last",
        "line",
        "names",
        "own",
        "pending",
        "q",
        "ref",
        "sched",
        "seat",
        "since",
        "started",
        "sysq",
        "timers",
        "waiting",
        "watchers",
        "work",
    )

    def __init__(self) -> None:
        self.actor: Any = None  # gone at the death: a ref must not keep a dead actor's state
        self.kind: type[Any] = object
        self.ref: Any = None
        self.home: Home
        self.dispatcher: Dispatcher
        self.label: str | None = None
        self.incarnation = next(_INCARNATIONS)
        self.bound: int | None = None
        self.q: deque[Any] = deque()
        self.sysq: deque[Any] | None = None  # exits and continuations: they overtake
        self.own = allocate_lock()
        self.sched = False
        self.started = False
        self.dead = False
        self.fenced = False
        self.exit: Exit | None = None
        self.cur: Reply[Any] | None = None
        self.pending: dict[Reply[Any], None] | None = None
        self.watchers: dict[Hashable, Callable[[Any], object]] = {}
        self.names: dict[Any, None] | None = None
        self.timers: dict[Any, None] | None = None
        self.ctx = Context()
        self.ctx.run(CURRENT.set, self)
        self.waiting: Reply[Any] | None = None
        self.depth = 0
        self.host: Any = None  # the pool's worker that runs it; set by who has `own`
        self.heir: Any = None  # while its owner finishes it: that thread; then who is to be run next, if somebody is
        self.work: Any = None  # the asyncio task that runs its coroutine handlers
        self.handled = 0
        self.since: float | None = None
        self.above: Ancestor | None = None
        self.line: Ancestor | None = None  # itself, as those it starts remember it
        self.seat: Any = None  # what its supervisor knows of it: whether somebody comes after it; until it is dead
        self.last: Message | None = None  # what it crashed in; until the death is told

    @property
    def name(self) -> str:
        """The registered name, or the class and the incarnation."""
        return self.label if self.label is not None else f"{self.kind.__name__}#{self.incarnation}"

    def as_ancestor(self) -> Ancestor:
        """What those remember that it starts."""
        if self.line is None:
            self.line = Ancestor(self.name, self.incarnation, self.above)
        return self.line

    # senders

    def put(self, message: Any, /) -> None:
        """Leave a message. Raises Fenced for a fenced sender, MailboxFull, SystemStopped, UsedAfterFork."""
        me = CURRENT.get()
        if me is not None and me.fenced:
            raise Fenced(me.name)
        if self.bound is not None or type(message) is not tuple:
            self._admit(message)
        if self.home.refuse is not None:
            raise fresh(self.home.refuse)
        if steps.hook is not None:
            steps.hook("put:appending", self)
        self.q.append(message)  # from here as in `post`, without another call
        if self.dead:
            self.reject()
        elif not self.sched and not self.own.locked():
            self.sched = True
            self.dispatcher.submit(self)

    def _admit(self, message: Any) -> None:
        """Refuse what there is no room for. Of what pykka's ref made: its reply learns whose it is."""
        if type(message) is not tuple:
            if isinstance(message.reply_to, Reply):
                message.reply_to.belongs_to(self)
            if type(message.message) is _ActorStop:  # never refused
                return
        if self.bound is not None and len(self.q) >= self.bound and not self.dead:
            raise MailboxFull(self.name, self.bound)

    def post(self, message: Any) -> None:
        """As `put`, never refused: death notices, timers."""
        if steps.hook is not None:
            steps.hook("put:appending", self)
        self.q.append(message)
        if self.dead:
            self.reject()
        elif not self.sched and not self.own.locked():
            self.sched = True
            self.dispatcher.submit(self)

    def post_first(self, message: Any) -> None:
        """Leave a message that overtakes all others."""
        self.lane().append(message)
        self.kick()

    def lane(self) -> deque[Any]:
        """The queue of what overtakes, made on demand."""
        if self.sysq is None:
            made: deque[Any] = (
                deque()
            )  # not under the lock: the collector comes where objects are made, and may take it
            with _FINISH:
                if self.sysq is None:
                    self.sysq = made
        return self.sysq

    def kick(self) -> None:
        """Have the actor look at its queues, unless somebody is at it."""
        if not self.dead and not self.sched and not self.own.locked():
            self.sched = True
            self.dispatcher.submit(self)

    # pykka's inbox protocol; nobody but us takes messages out

    def get(self) -> Any:
        """Not for use: the kernel takes messages out itself."""
        raise NotImplementedError("the kernel takes messages out of a mailbox; send with ref.call or ref.cast")

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self.q

    # the owner

    def released(self) -> bool:
        """Look again after `own` was released: True if there is something to do."""
        if self.fenced:
            self.home.zombie_cells.pop(self, None)
        if self.dead:
            self.reject()
            while self.sysq:
                give_up = getattr(self.sysq.popleft(), "give_up", None)
                if give_up is not None:  # the rest of a handler that paused, which nobody runs now
                    give_up()
            if self.heir is not None:
                self.hand_on(self.take_heir())
            return False
        lane = self.sysq
        if lane:
            return len(lane) > 1 or HOLD not in lane
        return bool(self.q)

    def activate(self, budget: int = BUDGET, host: Any = None) -> bool:
        """Handle messages in this thread, that of the worker `host`. True if there is more to do."""
        raise NotImplementedError

    def drain(self, budget: int) -> Coroutine[Any, Any, None] | None:
        """Handle messages; owner only, inside `ctx`. A coroutine is to be awaited before the next message."""
        raise NotImplementedError

    def began(self) -> None:
        """Look again for a fence or an exit, now that `work` is there to be cancelled."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Cancel what runs on a loop for this actor."""
        raise NotImplementedError

    # the heir: who takes care of a death is run by the thread that has just lost its work by it

    def bequeath(self, heir: Mailbox, message: Message, is_quick: Callable[[], bool]) -> None:
        """Leave `message` with `heir`, about the end of this life.

        In the thread that finishes this life as its owner, `heir` is not given to its dispatcher: that thread runs it
        next, or gives it away, when it lets go of this life. `is_quick()`, asked by who then owns `heir`, tells
        whether all that comes of the message never blocks, so that it may be run in a caller's place.
        """
        if self.heir != get_ident():
            heir.post(message)
            return
        if steps.hook is not None:
            steps.hook("put:appending", heir)
        heir.q.append(message)
        if heir.dead:
            heir.reject()
        elif not heir.sched and not heir.own.locked():
            heir.sched = True
            self.heir = (heir, is_quick)

    def take_heir(self) -> tuple[Mailbox, Callable[[], bool]] | None:
        """The heir of a finished life, once; whoever takes it sees to it that it is run."""
        heir, self.heir = self.heir, None
        return heir if type(heir) is tuple else None

    @staticmethod
    def hand_on(heir: tuple[Mailbox, Callable[[], bool]] | None) -> None:
        """Give the heir to its dispatcher."""
        if heir is not None:
            heir[0].dispatcher.submit(heir[0])

    # watchers

    def watch(self, key: Hashable, tell: Callable[[Mailbox], object]) -> bool:
        """Have `tell(self)` called at the official death. False, and no call, if that has been.

        `tell` runs in the thread that finishes this life and must not block. What it raises is reported as the event
        ("actor", "watcher", "failure").
        """
        if steps.hook is not None:
            steps.hook("watch:adding", self)
        self.watchers[key] = tell
        return not (self.dead and self.watchers.pop(key, None) is not None)

    def unwatch(self, key: Hashable) -> bool:
        """True if it was watching and will not be told now."""
        return self.watchers.pop(key, None) is not None

    # death

    def fence(self) -> None:
        """Declare this life over, from any thread. The code may go on, but answers, names and sends are refused."""
        self.fenced = True
        if not self.finish(Killed()):
            return
        if self.own.locked():
            if steps.hook is not None:
                steps.hook("fence:counting", self)
            self.home.zombie_cells[self] = None
            if self.own.locked():  # look again: its thread may have come back meanwhile
                self.dispatcher.abandon(self)
                zombies = {"zombies": len(self.home.zombie_cells)}
                self.home.telemetry.execute(("actor", "zombie"), zombies, {"name": self.name, "ref": self.ref})
                return
            self.home.zombie_cells.pop(self, None)
        if self.dispatcher.is_loop:  # idle, but what it started beside its mailbox goes on: end that
            self.dispatcher.abandon(self)

    def finish(self, exit: Exit, last: Reply[Any] | None = None, is_owner: bool = False) -> bool:
        """The one place where a life ends; the first caller does it all, later ones get False.

        Close the mailbox, drop the names, fail what is unanswered, tell the watchers, and then `last`: the caller
        of the message that ended it learns of the death when it is official. `is_owner` if this thread holds `own`
        and is going to release it.
        """
        with _FINISH:
            if self.exit is not None:
                return False
            self.exit = exit
            self.dead = True  # at once with `exit`: an owner whose own end comes second must find itself dead
        if steps.hook is not None:
            steps.hook("finish:dead", self)
        self.home.forget(self)
        self._drop_names()
        self.reject()
        self._fail_begun(last)
        if self.sysq:
            for message in list(self.sysq):
                if type(message) is SystemMessage:
                    message.reply_to.fail(self.died(False))
        if self.timers:
            for timer in list(self.timers):
                timer.cancel()
        self.dispatcher.detach(self)
        if is_owner:
            self.heir = get_ident()
        while self.watchers:
            for key in list(self.watchers):
                tell = self.watchers.pop(key, None)
                if tell is not None:
                    self.tell(tell)
        if last is not None:
            last.fail(self.died(True))
        metadata = {"name": self.name, "ref": self.ref, "exit": exit, "class": self.kind}
        self.home.telemetry.execute(("actor", "exit"), {"messages": self.handled}, metadata)
        self.actor = self.last = self.seat = None
        self.fenced = True  # whatever still runs in its name (tasks, helper threads) may not send
        return True

    def tell(self, tell: Callable[[Any], object]) -> None:
        """Tell one watcher of the death."""
        try:
            tell(self)
        except BaseException as error:  # one watcher's failure must not keep the death from the others
            metadata = {"name": self.name, "error": error, "watcher": tell}
            self.home.telemetry.execute(("actor", "watcher", "failure"), {}, metadata)

    def died(self, maybe_handled: bool) -> ActorDied:
        """What a caller of this life is told."""
        return ActorDied(self.name, self.exit or NoProc(), maybe_handled, self.incarnation)

    def reject(self) -> None:
        """Fail what waits in the queue of a dead actor: certainly not handled."""
        while self.q:
            try:
                message = self.q.popleft()
            except IndexError:  # another sender was faster
                break
            if type(message) is tuple:
                reply = message[3]
            else:
                reply = getattr(message, "reply_to", None)
                if reply is not None and type(message.message) is _ActorStop:
                    reply.set(None)  # pykka: a stop of a stopping actor succeeds
            if reply is not None:
                reply.fail(self.died(False))

    def _fail_begun(self, last: Reply[Any] | None) -> None:
        cur = self.cur
        if cur is not None and cur is not last:
            cur.fail(self.died(True))
        while self.pending:
            try:
                reply, _ = self.pending.popitem()
            except KeyError:  # it settled meanwhile
                break
            if reply is not last:
                reply.fail(self.died(True))

    def _drop_names(self) -> None:
        while self.names:
            try:
                entry, _ = self.names.popitem()
            except KeyError:  # it unregistered meanwhile
                break
            self.tell(lambda _, entry=entry: entry.drop())  # type: ignore[misc]  # a key's own code may raise
