"""What a reply holds that has no value: `UNSET`, a `Failure`, or the one that is `CANCELLED`."""

from __future__ import annotations

from concurrent.futures import CancelledError


class _Unset:
    """What a reply holds before it is settled; also the token that its first settler takes."""

    def __call__(self) -> None:
        """Never called; it shares a list with callables."""


class Failure:
    """A settled reply's exception, told apart from a value that happens to be one."""

    __slots__ = ("error", "traceback")

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.traceback = error.__traceback__


UNSET = _Unset()
CANCELLED = Failure(CancelledError("the reply was cancelled"))
