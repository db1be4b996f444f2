"""What a test may leave behind, found by looking at the process: threads, actors, zombies, timers.

A look gives one sentence for each thing that is there. What is there after a test and was not there before it was
left behind, unless it ends within a moment.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from supervisors.clock import waiting_timers
from supervisors.kernel import kernels

Look: TypeAlias = Callable[[], Iterable[str]]

SETTLING: Final = 3.0
"""Seconds of real time that something has to end after a test."""
COLLECTING: Final = 0.03
"""Seconds of them before garbage is collected, which takes far longer than a thread does to end."""


def threads() -> Iterator[str]:
    """Every thread, by name and number."""
    yield from (_named(thread) for thread in threading.enumerate())


def actors() -> Iterator[str]:
    """The actors of every kernel in the process, and those fenced with a thread still in their code."""
    for kernel in kernels():
        yield from (f"actor {ref} of kernel {kernel.name!r}" for ref in kernel.live())
        yield from (f"zombie {number} of kernel {kernel.name!r}" for number in range(kernel.zombies))


def timers() -> Iterator[str]:
    """The timers that wait in any clock, by what they are to call."""
    yield from (f"timer for {_called(fn)}" for fn in waiting_timers())


LOOKS: Final[tuple[Look, ...]] = (threads, actors, timers)


def seen(looks: Iterable[Look] = LOOKS) -> Counter[str]:
    """Everything that could be left behind."""
    return Counter(said for look in looks for said in look())


def left(before: Counter[str], looks: Iterable[Look] = LOOKS, settling: float = SETTLING) -> list[str]:
    """What is there beyond `before`, once it had `settling` seconds to end. Blocks the calling thread."""
    looks = tuple(looks)
    began = time.monotonic()
    collected = False
    while rest := seen(looks) - before:
        passed = time.monotonic() - began
        if not collected and passed >= min(COLLECTING, settling):
            collected = True
            gc.collect()  # what only a cycle keeps open is closed here, with its ResourceWarning in this test
        elif passed > settling:
            return sorted(rest)
        elif not _join_one(rest):
            threading.Event().wait(0.005)
    return []


def _join_one(rest: Counter[str]) -> bool:
    """Wait a moment for one of the threads that are left, the way a thread's end is waited for."""
    for thread in threading.enumerate():
        if _named(thread) in rest and thread is not threading.current_thread():
            thread.join(0.02)
            return True
    return False


def _named(thread: threading.Thread) -> str:
    return f"thread {thread.name!r} ({thread.ident})"


def _called(fn: object) -> str:
    """A function as it can be found in the source; of a message timer, the message."""
    fn = getattr(fn, "func", fn)
    owner = getattr(fn, "__self__", None)
    name = getattr(fn, "__qualname__", None) or repr(fn)
    return name if owner is None else f"{name} of {owner!r}"
