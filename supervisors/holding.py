"""System messages, and how a suspended actor answers nothing else.

A system message is a function that the actor runs on itself, at its turn in the queue as in OTP. An actor is
suspended by a marker in its system lane, which stays there: whoever runs the actor meets it, and leaves the ordinary
queue alone. While it lies there system messages go into that lane too. So an actor that nobody ever suspended pays
nothing for this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from supervisors.reply import Reply


class _Hold:
    """The type of `HOLD`."""

    def __repr__(self) -> str:
        return "HOLD"


HOLD = _Hold()
"""In the system lane: the actor is suspended."""


class SystemMessage:
    """`message(cell)` is to run inside the actor; its value is the answer. Looks like pykka's envelopes."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: Callable[[Any], Any], reply_to: Reply[Any]) -> None:
        self.message, self.reply_to = message, reply_to


class Holdable(Protocol):
    """A mailbox, as this file sees it."""

    q: deque[Any]
    sysq: deque[Any] | None
    dead: bool

    def post(self, message: Any) -> None:
        """Leave a message."""

    def post_first(self, message: Any) -> None:
        """Leave a message that overtakes."""

    def died(self, maybe_handled: bool) -> Exception:
        """What is told to those who ask a dead actor."""


def is_held(life: Holdable) -> bool:
    """Whether the actor is suspended."""
    return bool(life.sysq) and HOLD in (life.sysq or ())


def hold(life: Holdable) -> None:
    """Suspend it. Owner only."""
    if is_held(life):
        return
    life.post_first(HOLD)
    for message in list(life.q):
        if type(message) is SystemMessage:
            _overtake(life, message)


def let_go(life: Holdable) -> None:
    """Resume it. Owner only."""
    if is_held(life) and life.sysq is not None:
        life.sysq.remove(HOLD)


def send(life: Holdable, message: SystemMessage) -> None:
    """Leave a system message, from any thread. Never refused; the dead answer with their exit."""
    life.post(message)
    if is_held(life):  # look again: `hold` may have missed it
        _overtake(life, message)
    if life.dead:
        message.reply_to.fail(life.died(False))


def _overtake(life: Holdable, message: SystemMessage) -> None:
    try:
        life.q.remove(message)  # one C call: the sender and the owner may both try
    except ValueError:
        return
    life.post_first(message)
