"""Links: two actors that end together; and exit signals, which go from one actor to another.

    an actor                     gets a signal (from a linked actor that ended, or from `exit`)
    ──────────────────────────   ──────────────────────────────────────────────────────────────────────────────
    that traps exits             as a message: `on_info(ExitSignal(ref, exit))`; from its parent it ends with it
    that does not                `Normal`: ignored; any other: it ends with the same exit
    any                          `Killed` sent with `exit`: it is fenced

A class traps exits with `trap_exit = True`; an actor may also set `self.trap_exit` while it runs. Supervisors trap
exits and ignore them, so that only their parent, `stop` and `ref.exit` end them. These are OTP's `link`, `unlink`
and `exit`; `ref.exit` is no signal but the order to end, and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.cell import Cell
from supervisors.current import CURRENT, refuse_fenced
from supervisors.errors import check_exit
from supervisors.exits import Exit, Killed, NoProc, Normal
from supervisors.mailbox import Mailbox
from supervisors.ref import Ref


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """A linked actor ended with `exit`, or `ref` (None: no actor) sent it with `exit`. Comes to `on_info`."""

    ref: Ref[Any] | None
    exit: Exit


def link(a: Ref[Any], b: Ref[Any]) -> None:
    """Let the end of each be a signal to the other. Again: nothing. A dead one is a signal of `NoProc` at once.

    Raises Fenced.
    """
    refuse_fenced()
    if a is not b:
        _tie(a.mailbox, b.mailbox)
        _tie(b.mailbox, a.mailbox)


def unlink(a: Ref[Any], b: Ref[Any]) -> None:
    """Let the end of one be nothing to the other any more; no error where they were not linked. Raises Fenced."""
    refuse_fenced()
    a.mailbox.unwatch(("link", b.mailbox))
    b.mailbox.unwatch(("link", a.mailbox))


def exit(ref: Ref[Any], exit: Exit) -> None:  # noqa: A001 - OTP's word
    """Send an exit signal from the calling actor, or from nobody. Does not wait; to the dead it is nothing.

    An actor that sends one to itself ends with it, also with `Normal`. Raises Fenced and SpecError.
    """
    check_exit(exit)
    refuse_fenced()
    me: Any = CURRENT.get()
    target = ref.mailbox
    if isinstance(exit, Killed):
        target.fence()
    elif me is target and not _traps(target):
        target.request_exit(exit)
    else:
        _signal(target, None if me is None else me.ref, exit)


def _tie(one: Cell, other: Cell) -> None:
    def ended(life: Mailbox) -> None:
        other.unwatch(("link", one))
        _signal(other, one.ref, life.exit or Killed())

    if one.dead or not one.watch(("link", other), ended):
        other.unwatch(("link", one))
        _signal(other, one.ref, NoProc())


def _signal(target: Cell, sender: Ref[Any] | None, exit: Exit) -> None:
    if _traps(target) and not _is_child_of(target, sender):
        target.post(("on_info", (ExitSignal(sender, exit),), None, None))
    elif _traps(target) or not isinstance(exit, Normal):
        target.request_exit(exit)


def _traps(target: Cell) -> bool:
    return bool(getattr(target.actor, "trap_exit", False))


def _is_child_of(target: Cell, sender: Ref[Any] | None) -> bool:
    return sender is not None and target.above is not None and target.above.incarnation == sender.incarnation
