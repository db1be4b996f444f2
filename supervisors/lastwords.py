"""What is there to say of an actor: its state, its last message, who started it and who asked.

Gathered as references, in the thread in which the actor dies, which costs next to nothing; put into words when
they are read. The actor's `format_status` decides what is shown of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisors.brief import brief
from supervisors.lineage import Ancestor, callers
from supervisors.mailbox import Mailbox

HIDDEN = frozenset({"_cell"})
"""Attributes of every actor that belong to the kernel and not to its state."""


@dataclass(slots=True)
class LastWords:
    """A crashed actor, until its report is written."""

    actor: Any
    message: tuple[str, tuple[Any, ...], Mapping[str, Any]] | None
    """Method, arguments and keyword arguments of what it crashed in."""
    above: Ancestor | None
    callers: list[str]
    log: list[Any] = field(default_factory=list)

    def in_words(self, reason: object) -> dict[str, Any]:
        """`reason`, `last_message`, `state`, `ancestors`, `callers`, and `log` if there is one; all but the reason
        JSON-able."""
        status = status_of(self.actor, self.message, reason, self.log)
        words = {
            "reason": status["reason"],
            "last_message": as_call(status["message"]),
            "state": in_brief(status["state"]),
            "ancestors": [each.name for each in self.above or ()],
            "callers": self.callers,
        }
        return words | {"log": [brief(each) for each in status["log"]]} if self.log else words


def gather(life: Mailbox) -> LastWords:
    """For whoever is told of the death of `life`, in that moment."""
    message = None if life.last is None else (*life.last[:2], life.last[2] or {})
    notes: Any = getattr(life, "debug", None)
    log = [] if notes is None else list(notes.kept or ())
    return LastWords(life.actor, message, life.above, callers(life), log)


def state_of(actor: Any) -> dict[str, Any]:
    """The actor's attributes: a copy of the table, not of the values."""
    return {name: value for name, value in list(vars(actor).items()) if name not in HIDDEN}


def status_of(actor: Any, message: object, reason: object, log: list[Any]) -> dict[str, Any]:
    """What the actor's `format_status` lets be seen."""
    if actor is None:  # dead for longer: there is nothing left of it
        return {"state": {}, "message": message, "reason": reason, "log": log}
    status = {"state": state_of(actor), "message": message, "reason": reason, "log": log}
    try:
        shown = actor.format_status(dict(status))
        return {key: shown[key] for key in status}
    except BaseException as error:  # it was to hide something: so nothing is shown
        said = f"<format_status of {type(actor).__qualname__} raised {type(error).__name__}>"
        return status | {"state": said, "message": said, "log": []}


def as_call(message: object) -> str | None:
    """A message as the call it was."""
    if not (isinstance(message, tuple) and len(message) == 3):
        return message if message is None or isinstance(message, str) else brief(message)
    method, args, kwargs = message
    words = [*map(brief, args), *(f"{name}={brief(value)}" for name, value in kwargs.items())]
    return f"{method}({', '.join(words)})"


def in_brief(state: object) -> object:
    """A state as JSON-able values."""
    if isinstance(state, Mapping):
        return {str(name): brief(value) for name, value in state.items()}
    return state if isinstance(state, str) else brief(state)
