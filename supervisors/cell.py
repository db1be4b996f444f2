"""`Cell`: how an actor runs its messages, whoever owns it at the moment."""

from __future__ import annotations

from asyncio import CancelledError, _get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any

from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from supervisors import steps
from supervisors.dispatchers.base import BUDGET
from supervisors.ending import Ending, ExitRequest
from supervisors.exits import Crash, Normal
from supervisors.holding import HOLD, SystemMessage, is_held
from supervisors.mailbox import Message
from supervisors.pause import Pause
from supervisors.reply import Reply
from supervisors.tracebacks import without_repeats
from supervisors.unsettled import UNSET

INIT = "init"
"""The first message of every life; its answer is the start acknowledgement."""


class Ignore:
    """`return IGNORE` from `init`: do not start, and that is no failure."""

    def __repr__(self) -> str:
        return "IGNORE"


IGNORE = Ignore()


class Cell(Ending):
    """A mailbox with hands: takes messages out and calls the actor's methods, in the actor's own context."""

    __slots__ = ("debug", "dispatcher_name", "inline", "now", "table")

    def __init__(self) -> None:
        super().__init__()
        self.inline = False
        self.dispatcher_name = "pool"
        self.table: dict[Callable[..., Any], str] = {}
        self.now: Callable[[], float]
        self.debug: Any = None  # the notes of `Watched`

    # running

    def activate(self, budget: int = BUDGET, host: Any = None) -> bool:
        """Try to own the actor and handle what is there, in this thread, that of the pool's worker `host`.

        True if there is more to do.
        """
        self.sched = False
        if not self.own.acquire(False):
            return False
        self.host = host
        self.depth = 0
        pause: Any = None
        more = False
        try:
            pause = self.ctx.run(self.drain, budget)
        finally:
            self.host = None
            if pause is None:
                if self.heir is not None and host is not None:
                    host.inherit(self.take_heir())
                if steps.hook is not None:
                    steps.hook("own:releasing", self)
                self.own.release()
                more = bool(self.q or self.sysq or self.fenced) and self.released()
        if type(pause) is Pause:
            pause.begin(host)
            return False
        return more

    def run_first(self, budget: int = BUDGET) -> bool:
        """Handle `init`, and what came meanwhile, in this thread, for a life that was made with `own` held.

        True if there is more to do.
        """
        try:
            self.ctx.run(self.drain, budget)
        finally:
            self.host = None
            if steps.hook is not None:
                steps.hook("own:releasing", self)
            self.own.release()
            more = self.released()
        return more

    def pause(self, pause: Pause) -> None:
        """Let the handler in hand, which is about to return, be continued by `pause`. Owner only, on the pool."""
        self.lane().appendleft(pause)

    def resume(self, rest: Callable[[Pause], object], pause: Pause) -> None:
        """The rest of a handler, after its pause. Owner only, inside `ctx`."""
        if self.dead:
            return
        try:
            rest(pause)
        except BaseException as error:  # as in `handle`
            self.die(Crash(without_repeats(error)), None)
        else:
            self._conclude(None, None)

    def drain(self, budget: int, until: Reply[Any] | None = None) -> Coroutine[Any, Any, None] | None:
        """Handle up to `budget` messages, or up to the one whose reply is `until`. Owner only, inside `ctx`."""
        q = self.q
        while budget > 0 and not self.dead:
            if self.sysq:
                message = self._overtaker(self.sysq)
                if message is HOLD:
                    return None
                coro = self._urgent(message)
            elif not q:
                return None
            else:
                try:
                    message = q.popleft()
                except IndexError:  # rejected meanwhile, by a sender that saw the death
                    return None
                if type(message) is not tuple or message[3] is not None or self.debug is not None or not self.started:
                    coro = self.handle(message)
                else:  # a cast: as in `handle`, without the call and without what is for answers, for storms are casts
                    if steps.hook is not None:
                        steps.hook("handle:taken", self)
                    if self.dead:
                        return None  # type: ignore[unreachable]  # by another thread
                    name, args, kwargs, _ = message
                    self.since = self.now()
                    self.handled += 1
                    try:
                        method = getattr(self.actor, name)
                        value = method(*args, **kwargs) if kwargs else method(*args)
                    except BaseException as error:
                        return self._crashed(error, message)
                    self.since = None
                    if value is None and not self.sysq:
                        budget -= 1
                        continue
                    coro = self._returned(message, value)
            if coro is not None:
                return coro
            if until is not None and until.done():
                return None
            budget -= 1
        return None

    @staticmethod
    def _overtaker(lane: deque[Any]) -> Any:
        """Take the next one out of the lane; HOLD stays there, and is never missing for those who look."""
        if lane[0] is HOLD and len(lane) > 1:
            lane.rotate(-1)
        return HOLD if lane[0] is HOLD else lane.popleft()

    def handle(self, message: Any) -> Coroutine[Any, Any, None] | None:
        """One message. A coroutine handler of a loop actor comes back as a coroutine to await."""
        if type(message) is not tuple:
            message = self._named(message)
            if message is None:
                return self.die(Normal(), None)
        name, args, kwargs, reply = message
        if reply is not None and reply._result is not UNSET:  # cancelled before it began
            return None
        if steps.hook is not None:
            steps.hook("handle:taken", self)
        self.cur = reply
        if self.dead:  # fenced after the message was taken out: it may have missed `cur`
            if reply is not None:
                reply.fail(self.died(False))
            return None
        self.since = self.now()
        self.handled += 1
        try:
            method = getattr(self.actor, name)
            value = method(*args, **kwargs) if kwargs else method(*args)
        except BaseException as error:
            return self._crashed(error, message)
        if self.started and not self.sysq:  # most ends, without another call
            if value is reply:  # deferred
                self.cur = self.since = None
                return None
            is_answer = type(value) is not CoroutineType and not isinstance(value, Reply)
            if is_answer and reply is not None and self.pending is None:
                reply.set(value)
                self.cur = self.since = None
                return None
        return self._returned(message, value)

    def _crashed(self, error: BaseException, message: Message) -> Coroutine[Any, Any, None] | None:
        """What a handler raised, whatever it is, ends this actor and no other.

        Arguments that do not fit are the slip of the caller, who is told; where nobody waits, they are a crash too.
        """
        if message[3] is not None and self.started and _never_began(error):
            message[3].fail(error)
            self.cur = self.since = None
            return None
        self.last = message
        return self.die(Crash(without_repeats(error)), message[3])

    def _returned(self, message: Message, value: Any) -> Coroutine[Any, Any, None] | None:
        if type(value) is CoroutineType and self.dispatcher.is_loop:
            return self._begin_handler(value, message)
        return self._conclude(message[3], value)

    def _begin_handler(self, coro: Coroutine[Any, Any, Any], message: Message) -> Coroutine[Any, Any, None] | None:
        """A coroutine handler: run it to where it first waits, which most never do. The rest is to be awaited."""
        loop: Any = self.dispatcher
        self.awaiting = True
        try:
            rest, value = loop.step(self, coro)
        except BaseException as error:
            return self._failed(error, message)
        if rest is not None:
            return self._await_handler(rest, message)
        self.awaiting = False
        return self._conclude(message[3], value)

    async def _await_handler(self, rest: Awaitable[Any], message: Message) -> None:
        try:
            value = await rest
        except BaseException as error:  # SystemExit too: it must not reach asyncio, which would re-raise it
            end = self._failed(error, message)
        else:
            self.awaiting = False
            end = self._conclude(message[3], value)
        if end is not None:
            await end

    def _failed(self, error: BaseException, message: Message) -> Coroutine[Any, Any, None] | None:
        """What a coroutine handler raised; as `_crashed`, but for a cancellation that somebody asked for."""
        self.awaiting = False
        if _get_running_loop() is None:  # not cancelled but thrown away, with its loop: nothing can be awaited
            self.finish(Crash(without_repeats(error)), message[3])
            return None
        exit = self._requested_exit() if isinstance(error, CancelledError) else None  # noqa: A001
        self.last = message
        return self.die(exit or Crash(without_repeats(error)), message[3])

    def _conclude(self, reply: Reply[Any] | None, value: Any) -> Coroutine[Any, Any, None] | None:
        """The handler returned."""
        if not self.started:
            if self.dead:  # fenced meanwhile: who did it fails `cur`, and nobody is to hear of a start
                return None
            if value is IGNORE:
                self.cur = None
                self.finish(Normal())
                if reply is not None:
                    reply.set(IGNORE)
                return None
            if value is not None:
                said = f"{self.kind.__qualname__}.init gave {type(value).__qualname__}; it may give nothing, or IGNORE"
                return self.die(Crash(TypeError(said)), reply)
            asked = self._requested_exit() if self.sysq else None
            if asked is not None:  # OTP's {stop, Reason}, or a signal meanwhile: a start that failed, whatever the exit
                return self.die(asked, reply)
            self.started = True
            value = self.ref
            self.home.telemetry.execute(("actor", "start"), {}, {"name": self.name, "ref": value, "class": self.kind})
        elif self.sysq and self._stops_itself():
            return self.die(self._requested_exit() or Normal(), reply)
        if reply is not None:
            if isinstance(value, Reply):
                if value is not reply:
                    self.defer(reply).follow(value)
            elif self.pending is None or reply not in self.pending:
                reply.set(value)
        self.cur = None
        self.since = None
        return None

    def defer(self, reply: Reply[Any]) -> Reply[Any]:
        """The reply outlives its handler: fail it if the actor ends first."""
        pending = self.pending
        if pending is None:
            pending = self.pending = {}
        if reply not in pending:
            reply.stay_in(pending)
            if self.dead:
                reply.fail(self.died(True))
        return reply

    # other messages

    def _urgent(self, message: Any) -> Coroutine[Any, Any, None] | None:
        if type(message) is ExitRequest:
            if not self.started:
                self.finish(message.exit, None)
                return None
            return self.die(message.exit, None)
        if type(message) is Pause:
            return message  # type: ignore[return-value]  # which only `activate` meets: it is for the pool
        if type(message) is tuple and is_held(self):
            self.q.appendleft(message)  # what comes first comes first when it is resumed
            return None
        return self.handle(message)

    def _named(self, envelope: Any) -> Message | None:
        """An envelope that pykka's ref made, as a message of ours; None for pykka's stop."""
        raw, reply = envelope.message, envelope.reply_to
        if type(envelope) is SystemMessage:
            return ("_on_system", (raw,), None, reply)
        if isinstance(raw, _ActorStop):
            if reply is not None:
                reply_to: Reply[None] = reply
                if not self.watch(reply, lambda _: reply_to.set(None)):
                    reply_to.set(None)
            return None
        proxied = isinstance(raw, (ProxyCall, ProxyGetAttr, ProxySetAttr))
        return ("_proxied" if proxied else "on_receive", (raw,), None, reply)


def _never_began(error: BaseException) -> bool:
    """Whether the call itself failed, with no frame of the method: nothing of the actor's was touched."""
    return type(error) is TypeError and error.__traceback__ is not None and error.__traceback__.tb_next is None
