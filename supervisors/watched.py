"""A cell that notes what passes: statistics, the last messages, debug functions.

A cell becomes `Watched` when somebody asks for one of these, and a plain `Cell` again when nobody does, so that the
others pay nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Literal, TypeAlias

from supervisors.cell import Cell
from supervisors.holding import SystemMessage
from supervisors.reply import Reply


@dataclass(frozen=True, slots=True)
class Event:
    """What a debug function is told, and `log` keeps.

    `kind` "in": the actor begins to handle `message`, (method, arguments, keyword arguments), for `peer`; "out": it
    answered `peer` with `message`, or with this exception. `peer` is the name of the calling actor, None where that
    is no actor. `at` in seconds of the system's clock.
    """

    kind: Literal["in", "out"]
    message: Any
    peer: str | None
    at: float


Debug: TypeAlias = Callable[[Event], object]


class Notes:
    """What is noted of one actor. The owner writes; answers come from any thread."""

    __slots__ = ("_lock", "busy", "functions", "kept", "messages_in", "messages_out", "since")

    def __init__(self) -> None:
        self._lock = Lock()  # guards the numbers
        self.kept: deque[Event] | None = None
        self.functions: dict[Debug, None] = {}
        self.since: float | None = None  # when the statistics were switched on
        self.messages_in = self.messages_out = 0
        self.busy = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody reads them."""
        return self.kept is not None or bool(self.functions) or self.since is not None

    def restart(self, now: float | None) -> None:
        """Begin the statistics anew; None: stop them."""
        with self._lock:
            self.since, self.messages_in, self.messages_out, self.busy = now, 0, 0, 0.0

    def worked(self, seconds: float) -> None:
        with self._lock:
            self.busy += seconds

    def note(self, cell: Cell, event: Event) -> None:
        with self._lock:
            if event.kind == "in":
                self.messages_in += 1
            else:
                self.messages_out += 1
        if self.kept is not None:
            self.kept.append(event)
        for function in list(self.functions):
            try:
                function(event)
            except BaseException as error:  # as in OTP: it is taken off, and the actor goes on
                self.functions.pop(function, None)
                about = {"name": cell.name, "error": error, "function": function}
                cell.home.telemetry.execute(("sys", "debug", "failure"), {}, about)


class Watched(Cell):
    """A cell with `debug` set."""

    __slots__ = ()

    def handle(self, message: Any) -> Coroutine[Any, Any, None] | None:
        notes = self.debug
        if notes is None or type(message) is SystemMessage:
            return super().handle(message)
        began = self.now()
        reply = self._came(notes, message, began)
        work = super().handle(message)
        if reply is not None:
            reply.add_done_callback(partial(self._went, notes))
        if work is not None:
            return self._timed(notes, work, began)
        notes.worked(self.now() - began)
        return None

    def _came(self, notes: Notes, message: Any, now: float) -> Reply[Any] | None:
        if type(message) is tuple:
            method, args, kwargs, reply = message
            said = (method, args, kwargs or {})
        else:
            said, reply = ("on_receive", (message.message,), {}), message.reply_to
        caller = getattr(reply, "_caller", None)
        notes.note(self, Event("in", said, None if caller is None else caller.name, now))
        return reply if isinstance(reply, Reply) else None

    def _went(self, notes: Notes, reply: Reply[Any]) -> None:
        caller = getattr(reply, "_caller", None)
        error = reply.exception()
        said = reply.take() if error is None else error
        notes.note(self, Event("out", said, None if caller is None else caller.name, self.now()))

    async def _timed(self, notes: Notes, work: Coroutine[Any, Any, None], began: float) -> None:
        try:
            await work
        finally:
            notes.worked(self.now() - began)


def notes_of(cell: Cell) -> Notes:
    """The notes on `cell`, which is watched from now on. Owner only."""
    notes: Notes | None = cell.debug
    if notes is None:
        notes = cell.debug = Notes()
        cell.__class__ = Watched
    return notes


def tidy(cell: Cell) -> None:
    """Watch no longer if nobody reads the notes. Owner only."""
    if cell.debug is not None and not cell.debug.wanted:
        cell.debug = None
        cell.__class__ = Cell
