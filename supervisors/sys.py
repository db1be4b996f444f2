"""Looking into a running actor, after OTP's module of this name: state, status, suspension, statistics, traces.

    from supervisors import sys

    sys.get_state(ref)                        # {"value": 42}
    sys.replace_state(ref, lambda state: {**state, "value": 0})
    sys.suspend(ref)                          # from now on it answers these functions only
    sys.resume(ref)

Each is a message that the actor answers itself, at its turn in the queue; also while it is suspended. `address` is a
ref, or a name as a `Via` (`system.via("name")`). They block at most `timeout` seconds: 5, or what is left of the
caller's deadline; and raise CallTimeout, ActorDied, CallCycle as a call does, and SpecError for what is no address.
On a loop: `await sys.request(ref, "get_state")`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from supervisors import holding, reports
from supervisors.calls import seconds_for
from supervisors.cell import Cell
from supervisors.current import CURRENT
from supervisors.errors import ActorDied, CallTimeout, Fenced, SpecError
from supervisors.exits import NoProc
from supervisors.lastwords import HIDDEN, as_call, state_of, status_of
from supervisors.lineage import ancestors
from supervisors.reply import Reply
from supervisors.stopping import Address, holder
from supervisors.watched import Debug, Event, notes_of, tidy

State: TypeAlias = dict[str, Any]
"""An actor's attributes by name. The values are the actor's own: look, and change nothing."""

LOG_LENGTH: Final = 10
"""Events that `log` keeps unless it is told otherwise: OTP's number."""


def get_state(address: Address, timeout: float | None = None) -> State:
    """The actor's state as it is; nothing is hidden, see `get_status` for that."""
    state: State = _ask(address, _get_state, timeout)
    return state


def replace_state(
    address: Address, change: Callable[[State], Mapping[str, Any]], timeout: float | None = None
) -> State:
    """Give the actor the state `change(state)`; that state. `change` runs inside the actor.

    What `change` raises is raised here, and leaves the actor as it was. For tests and for repairs.
    """
    state: State = _ask(address, lambda cell: _replace_state(cell, change), timeout)
    return state


def get_status(address: Address, timeout: float | None = None) -> dict[str, Any]:
    """What may be seen of the actor: `name`, `class`, `incarnation`, `sys_state` ("running" or "suspended"),
    `ancestors`, `queue` (messages that wait), and `state` and `log` as its `format_status` lets them be seen.
    """
    status: dict[str, Any] = _ask(address, _get_status, timeout)
    return status


def suspend(address: Address, timeout: float | None = None) -> None:
    """Have the actor leave its messages in the queue until `resume`; calls to it time out. It can still be stopped."""
    _ask(address, holding.hold, timeout)


def resume(address: Address, timeout: float | None = None) -> None:
    """Have a suspended actor handle what has waited, in order."""
    _ask(address, holding.let_go, timeout)


def statistics(
    address: Address, flag: bool | Literal["get"] = "get", timeout: float | None = None
) -> dict[str, Any] | None:
    """True begins to count, anew if need be, False ends it; "get" gives what was counted since, None if nothing is.

    `start_time` and `current_time` (seconds of the system's clock), `messages_in`, `messages_out` (answers),
    `queue` (messages that wait), `busy` (seconds spent in handlers).
    """
    found: dict[str, Any] | None = _ask(address, lambda cell: _statistics(cell, flag), timeout)
    return found


def log(
    address: Address, flag: bool | int | Literal["get"] = "get", timeout: float | None = None
) -> list[Event] | None:
    """True keeps the last 10 events, a number that many, False none; "get" gives them, oldest first.

    What is kept is in crash reports too, as far as `format_status` lets it be seen.
    """
    found: list[Event] | None = _ask(address, lambda cell: _log(cell, flag), timeout)
    return found


def install(address: Address, function: Debug, timeout: float | None = None) -> None:
    """Have the actor call `function(event)` for every message that it begins to handle and every answer it gives.

    It runs where that happens: inside the actor, or in the thread that settles a deferred reply. It must not block;
    one that raises is taken off again, and told as the event ("sys", "debug", "failure").
    """
    _ask(address, lambda cell: notes_of(cell).functions.setdefault(function), timeout)


def remove(address: Address, function: Debug, timeout: float | None = None) -> None:
    """Take `install` back."""
    _ask(address, lambda cell: _remove(cell, function), timeout)


def trace(address: Address, flag: bool, timeout: float | None = None) -> None:
    """Have every event of the actor written as a report `actor.trace`; False: no longer."""
    _ask(address, lambda cell: _trace(cell, flag), timeout)


def request(address: Address, word: str, *args: Any) -> Reply[Any]:
    """The function `word` with these arguments (but a timeout) as a reply to come, for loops. Raises SpecError."""
    if word not in _WORDS:
        raise SpecError("word", word, ", ".join(sorted(_WORDS)))
    return _send(address, lambda cell: _WORDS[word](cell, *args))


# --- outside of the actor -----------------------------------------------------------------------------------------


def _ask(address: Address, question: Callable[[Cell], Any], timeout: float | None) -> Any:
    ref = holder(address)
    seconds = seconds_for(ref.mailbox, timeout)
    reply = _send(ref, question)
    if not reply.wait(seconds, ref.mailbox.home.clock):
        reply.cancel()
        raise CallTimeout(ref.name, seconds or 0.0, "timeout=")
    return reply.take()


def _send(address: Address, question: Callable[[Cell], Any]) -> Reply[Any]:
    me = CURRENT.get()
    if me is not None and me.fenced:
        raise Fenced(me.name)
    cell = holder(address).mailbox
    if cell.dead:
        raise ActorDied(cell.name, NoProc(), False, cell.incarnation)
    reply: Reply[Any] = Reply(cell)
    holding.send(cell, holding.SystemMessage(lambda cell: _guarded(cell, question, reply), reply))
    return reply


# --- inside of the actor ------------------------------------------------------------------------------------------


def _guarded(cell: Cell, question: Callable[[Cell], Any], reply: Reply[Any]) -> Any:
    try:
        return question(cell)
    except BaseException as error:  # whoever looks must not harm whom he looks at
        reply.fail(error)
        return None


def _get_state(cell: Cell) -> State:
    return state_of(cell.actor)


def _replace_state(cell: Cell, change: Callable[[State], Mapping[str, Any]]) -> State:
    actor = cell.actor
    new = dict(change(state_of(actor)))
    kept = {name: value for name, value in vars(actor).items() if name in HIDDEN}
    vars(actor).clear()
    vars(actor).update({**new, **kept})
    return new


def _get_status(cell: Cell) -> dict[str, Any]:
    status = status_of(cell.actor, None, None, kept(cell))
    return {
        "name": cell.name,
        "class": cell.kind.__qualname__,
        "incarnation": cell.incarnation,
        "sys_state": "suspended" if holding.is_held(cell) else "running",
        "ancestors": ancestors(cell),
        "queue": len(cell.q),
        "state": status["state"],
        "log": status["log"],
    }


def _statistics(cell: Cell, flag: bool | Literal["get"]) -> dict[str, Any] | None:
    if flag == "get":
        notes = cell.debug
        if notes is None or notes.since is None:
            return None
        return {
            "start_time": notes.since,
            "current_time": cell.now(),
            "messages_in": notes.messages_in,
            "messages_out": notes.messages_out,
            "queue": len(cell.q),
            "busy": notes.busy,
        }
    if not isinstance(flag, bool):
        raise SpecError("flag", flag, 'True, False or "get"')
    notes_of(cell).restart(cell.now() if flag else None)
    tidy(cell)
    return None


def _log(cell: Cell, flag: bool | int | Literal["get"]) -> list[Event] | None:
    if flag == "get":
        return kept(cell)
    if not isinstance(flag, int) or flag < 0:
        raise SpecError("flag", flag, 'True, False, a number of events or "get"')
    number = LOG_LENGTH if flag is True else int(flag)
    notes_of(cell).kept = deque(kept(cell), number) if number else None
    tidy(cell)
    return None


def kept(cell: Cell) -> list[Event]:
    """The events that the actor's log has kept."""
    return [] if cell.debug is None else list(cell.debug.kept or ())


def _remove(cell: Cell, function: Debug) -> None:
    if cell.debug is not None:
        cell.debug.functions.pop(function, None)
    tidy(cell)


def _trace(cell: Cell, flag: bool) -> None:
    for function in list(notes_of(cell).functions):
        if isinstance(function, _Tracer):
            _remove(cell, function)
    if flag:
        notes_of(cell).functions[_Tracer(cell)] = None
    tidy(cell)


class _Tracer:
    """The debug function of `trace`."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __call__(self, event: Event) -> None:
        said = as_call(event.message) if event.kind == "in" else repr(event.message)
        reports.trace(self._cell.home.telemetry, name=self._cell.name, kind=event.kind, message=said, peer=event.peer)


_WORDS: Final[Mapping[str, Callable[..., Any]]] = {
    "get_state": _get_state,
    "replace_state": _replace_state,
    "get_status": _get_status,
    "suspend": holding.hold,
    "resume": holding.let_go,
    "statistics": _statistics,
    "log": _log,
    "install": lambda cell, function: notes_of(cell).functions.setdefault(function),
    "remove": _remove,
    "trace": _trace,
}
