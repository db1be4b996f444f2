"""What every call carries: `Envelope` (plain data) and `Scope` (the live side of the same call)."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import length_hint
from typing import Literal, Protocol, TypeAlias

from dspy_actors.messages import Truncation, Usage
from supervisors.published_lock import PublishedLock, free_after_fork

Priority: TypeAlias = Literal["interactive", "batch", "optimizer"]

CLASSES: tuple[Priority, ...] = ("interactive", "batch", "optimizer")
"""What calls are for, the most urgent first."""

_PREFIX = ""
_NUMBERS = itertools.count(1)


def _new_prefix() -> None:
    global _PREFIX
    _PREFIX = os.urandom(4).hex()


_new_prefix()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_prefix)

_FROM_ONE = range(1, sys.maxsize)
"""1, 2, 3, …: an iterator of it is nothing that the garbage collector has to visit, as each `itertools.count` is."""

_ALL = len(_FROM_ONE)

_LOCK = free_after_fork(PublishedLock())
"""One for all scopes, as it is held for a moment and there are thousands of them at once."""


def new_call_id() -> str:
    """A call id, unique in this process and, by its random prefix, across processes, forked ones too."""
    return f"{_PREFIX}-{next(_NUMBERS):x}"


@dataclass(slots=True)
class Envelope:
    """What a call tells everyone who works for it. Plain data, fit for the wire.

    Nobody changes one; it is not frozen because one is made for every call, and that would cost microseconds.

    `path` names the modules from the outermost inwards. `deadline` is an instant of the runtime's clock, in seconds,
    never a duration: queueing, backoff and attempts all use up the same time. `sample` tells repeated sampling of
    one input apart (DSPy's `rollout_id`). `numbers` counts the requests made for the call, whichever model they go to,
    so that no two have one id; a copy on another machine counts anew.
    """

    call_id: str
    path: tuple[str, ...] = ()
    deadline: float | None = None
    tenant: str = ""
    priority: Priority = "interactive"
    sample: int = 0
    session: str = ""
    numbers: Iterator[int] = field(default_factory=_FROM_ONE.__iter__, compare=False, repr=False)

    @property
    def requests(self) -> int:
        """How many requests were made for the call so far, failed ones and those of fallbacks and hedges too."""
        return _ALL - length_hint(self.numbers)


class Cancellable(Protocol):
    """What a scope cancels: a reply that someone still waits for, or the scope of a call within the call."""

    def cancel(self) -> bool: ...


class Scope:
    """The live side of one call: its cancellation, what it has cost so far, and the faults it met on the way.

    Shared by everything that works for the call, on whatever thread; every method is safe from any thread.

    `fault` remembers the last failure of the infrastructure (an outage, a rate limit), so that an evaluation can
    tell it from a wrong answer even when the program wrapped it in an error of its own. `truncated` remembers what cut
    off the first answer that was: what the call makes rests on it, however many others were whole. Not so where none of
    it was used, for another of its choices could not be read and it was asked for again.

    A call made through a handle from inside of another call has that one's scope as its `parent`: it is cancelled with
    it, and its costs and faults are the parent's too. `attempts` counts the requests behind the answers, `inner` all
    those of calls within the call that have ended. `closed` says that the call has ended.
    """

    __slots__ = (
        "_later",
        "_wait",
        "attempts",
        "cached",
        "cancelled",
        "closed",
        "fault",
        "inner",
        "lm_calls",
        "model",
        "parent",
        "trace",
        "truncated",
        "usage",
    )

    def __init__(
        self, trace: list[tuple[object, dict[str, object], object]] | None = None, parent: Scope | None = None
    ) -> None:
        self._wait: Cancellable | None = None
        self._later: dict[Cancellable, None] | None = None
        """What it waits for, in order, as a request comes before the wait for it: most have one at a time, if any."""
        self.cancelled = False
        self.closed = False
        self.fault: BaseException | None = None
        self.lm_calls = 0
        self.attempts = 0
        self.inner = 0
        self.cached = 0
        self.usage: Usage | None = None
        self.model: str | None = None
        self.truncated: Truncation | None = None
        self.trace = trace
        self.parent = parent
        if parent is not None:
            parent.enter(self)

    def close(self, envelope: Envelope) -> None:
        """The call of `envelope` has ended: its parent need not cancel it any more."""
        self.closed = True
        parent = self.parent
        if parent is not None:
            parent.leave(self)
            with _LOCK:
                parent.inner += envelope.requests + self.inner

    def enter(self, reply: Cancellable) -> None:
        """Note what the call waits for; a scope that is cancelled already cancels it at once."""
        with _LOCK:
            if self._wait is None and not self._later:
                self._wait = reply
            else:
                if self._later is None:
                    self._later = {}
                self._later[reply] = None
        if self.cancelled:  # then look: who cancels looks the other way round
            self.leave(reply)
            reply.cancel()

    def leave(self, reply: Cancellable) -> None:
        """The wait is over."""
        later = self._later  # one look: who cancels, on another thread, takes it away
        if self._wait is reply:
            self._wait = None
        elif later is not None:
            later.pop(reply, None)

    def waiting(self) -> tuple[Cancellable, ...]:
        """What the call waits for now, in order."""
        first, later = self._wait, tuple(self._later or ())
        return later if first is None else (first, *later)

    def cancel(self) -> bool:
        """Cancel every wait of the call, now and to come; False where that was done before."""
        with _LOCK:
            first, self.cancelled = not self.cancelled, True
            waiting = self.waiting()
            self._wait = self._later = None
        for reply in waiting:
            reply.cancel()
        return first

    def met(self, fault: BaseException) -> None:
        """Remember a failure of the infrastructure."""
        self.fault = fault
        if self.parent is not None:
            self.parent.met(fault)

    def note_truncated(self, reason: Truncation) -> None:
        """Remember that an answer was cut off, if it is the first."""
        self.truncated = self.truncated or reason
        if self.parent is not None:
            self.parent.note_truncated(reason)

    def book(self, model: str, *, attempts: int, cached: bool, usage: Usage | None) -> None:
        """Add one LM call to what the whole call has cost."""
        with _LOCK:
            self.lm_calls += 1
            self.model = model
            self.attempts += attempts
            self.cached += cached
            while usage is not None:
                before = self.usage
                total = usage if before is None else before + usage
                if self.usage is before:  # not so where a dropped call was ended, and booked, as the sum was made
                    self.usage = total
                    break
        if self.parent is not None:
            self.parent.book(model, attempts=attempts, cached=cached, usage=usage)
