"""`stop`: end an actor or a tree and wait until that is done."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from supervisors.calls import NO_LIMIT, seconds_for
from supervisors.current import CURRENT, refuse_fenced
from supervisors.errors import ActorDied, CallTimeout, SpecError, check_exit
from supervisors.exits import Exit, NoProc, Normal
from supervisors.lineage import refuse_from_below
from supervisors.ref import Ref
from supervisors.reply import Reply


class Named(Protocol):
    """A name; `Via` is one."""

    def whereis(self) -> Ref[Any] | None:
        """The living holder."""

    @property
    def label(self) -> str:
        """The name, for messages."""


Address: TypeAlias = Ref[Any] | Named
"""One incarnation, or whoever holds a name now."""


def holder(address: Address) -> Ref[Any]:
    """The ref behind an address. Raises ActorDied(NoProc) for a name that nobody holds, SpecError for no address."""
    if not isinstance(address, Ref) and not hasattr(address, "whereis"):
        raise SpecError("address", address, 'a ref, or a Via, as system.via("name") gives it')
    ref = address if isinstance(address, Ref) else address.whereis()
    if ref is None:
        raise ActorDied(getattr(address, "label", "nobody"), NoProc(), False)
    return ref


def stop(address: Address, exit: Exit = Normal(), timeout: float | None = None) -> None:  # noqa: B008 - a frozen value
    """End an actor with `exit` and block until it is dead; a supervisor has stopped its children by then.

    OTP's `gen_server:stop` and `supervisor:stop`. `timeout` in seconds (`INFINITY` waits as long as it takes): 5, or
    what is left of the caller's deadline. Raises `CallTimeout`, and then the stop goes on; `ActorDied` if there was
    nobody, or if the actor ended with another exit than this one; `StopFromBelow` at once if the caller belongs to
    the actor; `Fenced`, and `SpecError` for what is no exit or no address. Its own supervisor restarts
    it as after any other end: to have it stay down, use `terminate_child`.
    """
    ref, down, seconds = _begin(address, exit, timeout)
    if not down.wait(seconds, ref.mailbox.home.clock):
        ref.mailbox.unwatch(down)
        raise CallTimeout(ref.name, seconds or 0.0, "timeout=")
    _end(ref, down, exit)


async def astop(address: Address, exit: Exit = Normal(), timeout: float | None = None) -> None:  # noqa: B008
    """As `stop`, on a loop."""
    ref, down, seconds = _begin(address, exit, timeout)
    try:
        await down.aget(seconds, ref.mailbox.home.clock)
    except CallTimeout:
        ref.mailbox.unwatch(down)
        raise CallTimeout(ref.name, seconds or 0.0, "timeout=") from None
    _end(ref, down, exit)


def _begin(address: Address, exit: Exit, timeout: float | None) -> tuple[Ref[Any], Reply[Exit], float | None]:
    check_exit(exit)
    refuse_fenced()
    ref = holder(address)
    cell = ref.mailbox
    if cell.dead:
        raise ActorDied(cell.name, NoProc(), False, cell.incarnation)
    refuse_from_below(CURRENT.get(), cell)
    down = ref.down()
    cell.request_exit(exit)
    return ref, down, seconds_for(cell, NO_LIMIT if timeout == NO_LIMIT else timeout)


def _end(ref: Ref[Any], down: Reply[Exit], exit: Exit) -> None:
    ended = down.take()
    if ended != exit:
        raise ActorDied(ref.name, ended, True, ref.incarnation)
