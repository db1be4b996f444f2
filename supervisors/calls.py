"""How a call is made: in the caller's place where that is allowed, else as a message and a wait.

In place is allowed for a class that says `inline = True` (its handlers never block), when nobody runs the actor,
not too deep, and not on the main thread: there Ctrl-C would land inside the actor. A system that replaced the
signal handlers by ones that only set a flag lifts the last rule (`kernel.main_thread_inline`).
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import _get_running_loop
from collections.abc import Callable
from threading import get_ident, main_thread
from typing import Any

from supervisors import steps
from supervisors.cell import Cell
from supervisors.current import BESIDE, CURRENT
from supervisors.cycles import check_cycle
from supervisors.deadline import current_deadline
from supervisors.errors import ActorDied, BlockingCallOnLoop, CallCycle, CallTimeout, Fenced, UnknownMessage
from supervisors.exits import NoProc
from supervisors.mailbox import Mailbox
from supervisors.reply import Reply
from supervisors.unsettled import UNSET

CALL_TIMEOUT = 5.0
"""Seconds a call waits unless `within` or the caller's deadline says otherwise."""
MAX_DEPTH = 24
"""Inline calls within inline calls; a deeper one goes through the mailbox, so that no stack overflows."""
NO_LIMIT = float("inf")

_ALL = 1 << 30
_MAIN = main_thread().ident


def call(cell: Cell, method: Callable[..., Any], args: Any, kwargs: Any, within: float | None) -> Any:
    """Blocking call. `within`: seconds, `NO_LIMIT`, or None for the default."""
    reply: Reply[Any] = Reply(cell)
    message = (cell.table.get(method) or method_name(cell, method), args, kwargs or None, reply)
    if cell.inline and _run_here(cell, message, reply):
        if reply._result is not UNSET:
            return reply.take()
        seconds = seconds_for(cell, within)
    elif _get_running_loop() is not None:
        raise BlockingCallOnLoop(cell.name)
    else:
        seconds = _send(cell, message, within)
    try:
        answered = reply.wait(seconds, cell.home.clock)
    except CallCycle:
        reply.cancel()  # nobody waits for it now, so it need not be handled
        raise
    if not answered:
        _count_when_late(cell, reply)
        raise CallTimeout(cell.name, seconds or 0.0)
    return reply.take()


async def acall(cell: Cell, method: Callable[..., Any], args: Any, kwargs: Any, within: float | None) -> Any:
    """As `call`, awaiting."""
    reply: Reply[Any] = Reply(cell)
    message = (cell.table.get(method) or method_name(cell, method), args, kwargs or None, reply)
    if cell.inline and _run_here(cell, message, reply):
        if reply._result is not UNSET:
            return reply.take()
        seconds = seconds_for(cell, within)
    else:
        seconds = _send(cell, message, within)
    me = _handler_here()
    if me is not None:
        before, me.waiting = me.waiting, reply
    try:
        if me is not None:
            check_cycle(me, reply)
        return await reply.aget(seconds, cell.home.clock)
    except CallTimeout:
        if not reply.done():
            _count_when_late(cell, reply)
        raise
    except CallCycle:
        reply.cancel()
        raise
    finally:
        if me is not None:
            me.waiting = before


def _handler_here() -> Any:
    """The actor whose coroutine handler this is: while it awaits, its actor is as busy as one that blocks.

    None for tasks beside its mailbox, and for those that a handler has started: what they wait for is not all that
    the handler waits for.
    """
    me: Any = CURRENT.get()
    if me is None or me.work is None or BESIDE.get() or asyncio.current_task() is not me.work:
        return None
    return me


def _count_when_late(cell: Cell, reply: Reply[Any]) -> None:
    """The caller has given up: an answer that still comes is dropped, and counted. A death is no answer."""

    def settled(done: Reply[Any]) -> None:
        if not done.cancelled() and not isinstance(done.exception(), ActorDied):
            cell.home.count_late(cell.name)

    reply.add_done_callback(settled)


def _send(cell: Cell, message: Any, within: float | None) -> float | None:
    """Put the message, unless waiting for its answer makes no sense; the seconds to wait."""
    if cell.dead and cell.home.refuse is None:
        raise ActorDied(cell.name, NoProc(), False, cell.incarnation)
    me: Any = CURRENT.get()
    seconds = seconds_for(cell, within)
    if seconds is not None and seconds <= 0:  # too late to send: certainly not handled, but time is what ran out
        raise CallTimeout(cell.name, seconds)
    if me is not None:
        message[3]._caller = me
    cell.put(message)
    return seconds


def seconds_for(cell: Cell, within: float | None) -> float | None:
    """How long a call to `cell` may take; None for ever."""
    if within is not None:
        return None if within == NO_LIMIT else within
    deadline = current_deadline()
    return CALL_TIMEOUT if deadline is None else min(CALL_TIMEOUT, deadline - cell.home.clock.now())


def _run_here(cell: Cell, message: Any, reply: Reply[Any]) -> bool:
    """Run the handler in this thread. False: not allowed, or somebody is at it; nothing was sent."""
    me = CURRENT.get()
    depth = 1
    if me is not None:
        if me.fenced:
            raise Fenced(me.name)
        depth = me.depth + 1
        if depth > MAX_DEPTH:
            return False
    home = cell.home
    if (get_ident() == _MAIN and not home.main_thread_inline) or home.refuse is not None or cell.dead:
        return False
    if not cell.own.acquire(False):
        return False
    if me is None:
        heir = _run_owned(cell, message, reply, depth)
        if heir is not None:
            _run_heir(*heir, depth)
    else:
        reply._caller = me
        before, me.waiting = me.waiting, reply
        try:
            heir = _run_owned(cell, message, reply, depth)
            if heir is not None:
                me.waiting = Reply(heir[0])
                _run_heir(*heir, depth)
        finally:
            me.waiting = before
    return True


def _run_heir(heir: Mailbox, is_quick: Callable[[], bool], depth: int) -> None:
    """The actor ended in the caller's place; its supervisor restarts it there too, if that takes no time.

    Only that one message, and only where it cannot block: everything else is for the pool.
    """
    if len(heir.q) != 1 or heir.sysq or _get_running_loop() is not None or not heir.own.acquire(False):
        heir.dispatcher.submit(heir)
        return
    heir.sched = False
    heir.depth = depth
    try:
        if is_quick():
            heir.ctx.run(heir.drain, 1)
    finally:
        if steps.hook is not None:
            steps.hook("own:releasing", heir)
        heir.own.release()
        if heir.released() and not heir.sched:
            heir.sched = True
            heir.dispatcher.submit(heir)


def _run_owned(cell: Cell, message: Any, reply: Reply[Any], depth: int) -> tuple[Mailbox, Callable[[], bool]] | None:
    """Run the handler here. If the actor ended in it: its heir, who is to be run next."""
    heir = None
    cell.depth = depth
    try:
        if cell.q or cell.sysq:
            cell.q.append(message)  # in order: what others sent before runs first, here
            cell.ctx.run(cell.drain, _ALL, reply)
        else:
            cell.ctx.run(cell.handle, message)
    finally:
        if cell.heir is not None:
            heir = cell.take_heir()
        if steps.hook is not None:
            steps.hook("own:releasing", cell)
        cell.own.release()
        if cell.released() and not cell.sched:
            cell.sched = True
            cell.dispatcher.submit(cell)
    return heir


def method_name(cell: Cell, method: Callable[..., Any]) -> str:
    """Under which name `method` is on the actor's class; UnknownMessage if it is not."""
    for base in cell.kind.__mro__:
        for name, value in vars(base).items():
            if value is method and inspect.isfunction(value):
                cell.table[method] = name
                return name
    raise UnknownMessage(cell.name, getattr(method, "__qualname__", repr(method)))
