"""`Stopping`: what Ctrl-C, SIGTERM and the end of its terminal do to a job: it finishes the rows under way and ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self, TypeVar

from dspy_actors.cli.failures import BY_SIGNAL

T = TypeVar("T")

DRAIN_SECONDS = 10
"""For the rows under way, from the signal on."""

END_SECONDS = 15
"""For everything after them: closing files and connections and stopping the tree."""

LOOK_SECONDS = 0.1
"""How often a pause looks whether a signal has come."""

_NOTE = b"\ndspy-actors: finishing the rows under way; once more to stop at once\n"


class Hurry(BaseException):
    """Raised in the main thread: the job ends now, through its `finally` blocks."""


def _numbers() -> list[int]:
    """The signals that have a handler meanwhile."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM]
    hangup = getattr(signal, "SIGHUP", None)  # there is none on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return [int(number) for number in numbers]


class Stopping:
    """Installs handlers for SIGINT, SIGTERM and SIGHUP while the block runs; main thread only.

    A SIGHUP that is ignored already, as under `nohup`, stays so.

    A signal raises `Hurry` in the main thread, once. Inside `draining` the first one only asks the job to stop, and
    a second one, or ten seconds, raises it. After that signals are left alone: the job is on its way out, and where
    that takes longer than `END_SECONDS` the process ends there and then. `exit_code` is 0, 129, 130 or 143.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._drains = False
        self._held = False
        self._hurried = False
        self._ending = False
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.exit_code != 0

    def __enter__(self) -> Self:
        for number in _numbers():
            self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def draining(self) -> Iterator[None]:
        """The part of the job that a first signal lets finish its rows; what follows it is its way out."""
        self._drains = True
        try:
            yield
        finally:
            self._ending = True
            if self.asked:
                signal.alarm(END_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A few lines that `Hurry` must not cut in two: it is raised after them."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._hurried and not self._ending:
            self._hurry()

    def until(self, rows: Iterable[T]) -> Iterator[T]:
        """`rows`, ending early once a signal has come."""
        for row in rows:
            if self.asked:
                return
            yield row

    def pause(self, seconds: float) -> None:
        """Wait in the main thread, no longer than until a signal comes."""
        until = time.monotonic() + seconds
        while not self.asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))

    def _come(self, number: int, frame: FrameType | None) -> None:
        is_first = not self.asked
        if is_first:
            self.exit_code = BY_SIGNAL + number
        if self._ending:
            if number == signal.SIGALRM:
                os._exit(self.exit_code)
            if is_first:
                signal.alarm(END_SECONDS)
        elif is_first and self._drains:
            signal.alarm(DRAIN_SECONDS)
            with suppress(OSError):  # who read it has left, as `tee` does at the same Ctrl-C
                os.write(2, _NOTE)
        elif self._held:
            self._hurried = True
        else:
            self._hurry()

    def _hurry(self) -> None:
        self._ending = True
        signal.alarm(END_SECONDS)
        raise Hurry
