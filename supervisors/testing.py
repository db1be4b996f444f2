"""What a test of supervised code needs: an event log, a probe, a wait, a check for leaks, a contract for strategies.

Nothing here sleeps for a guess: every wait ends when its condition holds, and fails with what was seen instead.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from supervisors.actor import Actor
from supervisors.monitors import Down
from supervisors.ref import Ref
from supervisors.strategies import Strategy, plan


def wait_until(predicate: Callable[[], object], timeout: float = 5.0) -> None:
    """Return once `predicate()` is true; raise AssertionError after `timeout` seconds of real time.

    Blocks the calling thread and looks every millisecond; prefer a call, a `Log` or `ref.down()` where there is one.
    """
    until = time.monotonic() + timeout
    pause = threading.Event()
    while not predicate():
        if time.monotonic() > until:
            raise AssertionError(f"{predicate} was still false after {timeout:g} s")
        pause.wait(0.001)


class Log:
    """A list of events that many threads append to and a test compares with `==`."""

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._changed = threading.Condition()

    def add(self, *event: Any) -> None:
        """Append `event` (alone if it is one value, else as a tuple)."""
        with self._changed:
            self._events.append(event[0] if len(event) == 1 else event)
            self._changed.notify_all()

    @property
    def events(self) -> list[Any]:
        """A copy of what happened so far."""
        with self._changed:
            return list(self._events)

    def wait_for(self, event: Any, timeout: float = 5.0) -> None:
        """Return once `event` is in the log; raise AssertionError with the log after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: event in self._events, timeout):
                raise AssertionError(f"{event!r} did not happen within {timeout:g} s; seen: {self._events}")

    def clear(self) -> None:
        with self._changed:
            self._events.clear()

    def __eq__(self, other: object) -> bool:
        return self.events == (other.events if isinstance(other, Log) else other)

    __hash__ = None  # type: ignore[assignment]  # a log changes

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"Log({self.events!r})"


class Probe(Actor):
    """An actor that writes down what it is sent: `Down`s of those it watches, and every raw message.

    `watch(ref)` monitors; `init(log)` takes the `Log` to write to.
    """

    def init(self, log: Log) -> None:
        self.log = log

    def watch(self, ref: Ref[Any]) -> None:
        self.monitor(ref)

    def note(self, event: Any) -> None:
        self.log.add(event)

    def on_info(self, message: object) -> None:
        if isinstance(message, Down):
            self.log.add("down", message.ref, message.exit)
        else:
            self.log.add(message)


@contextmanager
def no_leaks(timeout: float = 3.0) -> Iterator[None]:
    """Fail if threads that were started inside the block are still there `timeout` seconds after it."""
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + timeout
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, until - time.monotonic()))
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    if left:
        raise AssertionError(f"threads left behind: {', '.join(sorted(left))}")


def check_strategy(strategy: Strategy, rounds: int = 100) -> None:
    """The contract of `plan`: raise AssertionError if `strategy` breaks it for some list of children.

    The child that ended is started again and never stopped (it is down); whoever is stopped is started again;
    starts are in start order, stops in the reverse of it; nobody else is touched.
    """
    rng = random.Random(strategy.value)
    for _ in range(rounds):
        ids = [f"c{n}" for n in range(rng.randint(1, 8))]
        failed = rng.choice(ids)
        made = plan(strategy, ids, failed)
        told = f"{strategy}, {ids}, {failed} failed: {made}"
        if failed in made.stop or failed not in made.start:
            raise AssertionError(f"the child that ended must be started and not stopped: {told}")
        if set(made.stop) | {failed} != set(made.start):
            raise AssertionError(f"who is stopped must be started again, and nobody else: {told}")
        if list(made.start) != [each for each in ids if each in made.start]:
            raise AssertionError(f"starts must be in start order: {told}")
        if list(made.stop) != [each for each in reversed(ids) if each in made.stop]:
            raise AssertionError(f"stops must be in reverse start order: {told}")
