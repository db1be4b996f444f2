"""Calling through a port, with the caller's deadline."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from supervisors.deadline import current_deadline
from supervisors.errors import CallTimeout, SpecError
from supervisors.kernel import Kernel
from supervisors.ports.child import resolve
from supervisors.ports.port import Port
from supervisors.ref import Ref
from supervisors.via import Via

MARGIN = 2.0
"""Seconds beyond a call's own time that its caller waits, to hear that the process was killed and what it said."""


def call(
    port: Ref[Any] | Via, function: str | Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any
) -> Any:
    """Run `function(*args, **kwargs)` in the process of `port`, and block until it is done.

    `function` is "module:function", or a function that can be found so. It is killed after `timeout` seconds, or when
    the caller's deadline has come; left out, the port's own limit holds. Raises CallFailed, FrameTooLarge, SpecError,
    MailboxFull, and ActorDied with the port's exit when the process ended or was killed.
    """
    seconds = _seconds(port, timeout)
    within = port.within(None if seconds is None else seconds + MARGIN)
    return within.call(Port.run, path_of(function), args, kwargs, seconds)


async def acall(
    port: Ref[Any] | Via, function: str | Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any
) -> Any:
    """As `call`, from an asyncio loop. A call that is cancelled before it has begun is not made."""
    seconds = _seconds(port, timeout)
    within = port.within(None if seconds is None else seconds + MARGIN)
    return await within.acall(Port.run, path_of(function), args, kwargs, seconds)


def path_of(function: str | Callable[..., Any]) -> str:
    """ "module:function" for a function at the top of an importable module. Raises SpecError for any other."""
    if isinstance(function, str):
        return function
    path = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
    if function.__module__ != "__main__" and "<" not in path:
        try:
            if inspect.unwrap(resolve(path)) is inspect.unwrap(function):
                return path
        except AttributeError:
            pass
    raise SpecError(
        "function", function, 'one at the top of a module that the process can import, or "module:function"'
    )


def _seconds(port: Ref[Any] | Via, timeout: float | None) -> float | None:
    """The time that is left: `timeout`, but not beyond the caller's deadline."""
    deadline = current_deadline()
    if deadline is None:
        return timeout
    ref = port.addressee() if isinstance(port, Via) else port
    home = ref.mailbox.home if ref is not None else None
    if not isinstance(home, Kernel):
        return timeout
    left = deadline - home.clock.now()
    if left <= 0:
        raise CallTimeout(str(ref), left)
    return left if timeout is None else min(timeout, left)
