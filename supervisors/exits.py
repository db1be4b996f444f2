"""Why an actor ended: a closed type of five cases.

Compare with `isinstance` or `match`; the values are frozen and may travel between threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Normal:
    """The actor was done, or was asked to stop in the ordinary way."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The actor was stopped by whoever is responsible for it. `detail` is free for the one who asks."""

    detail: object = None


@dataclass(frozen=True, slots=True)
class Crash:
    """A handler raised `error`; the state it left behind is gone with the actor."""

    error: BaseException

    def __post_init__(self) -> None:
        if not isinstance(self.error, BaseException):
            raise TypeError(f"a Crash has an exception, not a {type(self.error).__qualname__}")


@dataclass(frozen=True, slots=True)
class Killed:
    """The actor was fenced: declared dead while its code may still be running somewhere."""


@dataclass(frozen=True, slots=True)
class NoProc:
    """There was no actor to begin with: it had ended before the question was asked."""


Exit: TypeAlias = Normal | Shutdown | Crash | Killed | NoProc


EXITS = (Normal, Shutdown, Crash, Killed, NoProc)
"""The five cases."""


def is_clean(exit: Exit) -> bool:
    """True for `Normal` and `Shutdown`: nothing went wrong."""
    return isinstance(exit, (Normal, Shutdown))


def describe(exit: Exit) -> str:
    """One line for messages and logs."""
    match exit:
        case Normal():
            return "it ended normally"
        case Shutdown(None):
            return "it was shut down"
        case Shutdown(detail):
            return f"it was shut down ({said(detail)})"
        case Crash(error):
            return f"it crashed with {type(error).__name__}: {said(error)}"
        case Killed():
            return "it was fenced"
        case NoProc():
            return "it was not running"


def said(value: object) -> str:
    """`str(value)`, for messages; also of what cannot be put into words."""
    try:
        return str(value)
    except BaseException as error:  # a stranger's code, which must not keep an error or a report from being told
        return f"<{type(value).__qualname__}, whose str raised {type(error).__name__}>"


def shown(value: object) -> str:
    """`repr(value)`, for messages; also of an error that has none."""
    try:
        return repr(value)
    except BaseException as error:  # as above
        return f"<{type(value).__qualname__}, whose repr raised {type(error).__name__}>"
