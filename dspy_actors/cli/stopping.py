"""`Stopping`: what Ctrl-C and SIGTERM do to a job: stop taking rows, finish those under way, then end."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Self, TypeVar

from dspy_actors.cli.failures import INTERRUPTED, TERMINATED

T = TypeVar("T")

DRAIN_SECONDS = 10


class Hurry(BaseException):
    """Raised in the main thread: the drain took too long, or the signal came a second time."""


class Stopping:
    """Installs handlers for SIGINT and SIGTERM while the block runs; main thread only.

    The first signal asks the job to stop; a second one, or ten seconds, raises `Hurry` in the main thread. With
    `drains=False` the first signal raises at once. `exit_code` is 0, 130 or 143.
    """

    def __init__(self, *, drains: bool = True) -> None:
        self.exit_code = 0
        self._drains = drains
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.exit_code != 0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def until(self, rows: Iterable[T]) -> Iterator[T]:
        """`rows`, ending early once a signal has come."""
        for row in rows:
            if self.asked:
                return
            yield row

    def _come(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM or self.asked:
            raise Hurry
        self.exit_code = INTERRUPTED if number == signal.SIGINT else TERMINATED
        if not self._drains:
            raise Hurry
        signal.alarm(DRAIN_SECONDS)
