"""What a test may leave behind: threads, sockets, child processes, tasks, actors; found by looking at the process."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_FDS, _TASKS = Path("/proc/self/fd"), Path("/proc/self/task")


def seen() -> Counter[str]:
    """Everything that could be left behind, each as a sentence for the report."""
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        found[f"thread {thread.name!r} ({thread.ident})"] += 1
    if _TASKS.exists():
        found["a native thread"] = len(os.listdir(_TASKS))
    found.update(_open_files())
    found.update(_children())
    found.update(_pending_tasks())
    found.update(_live_actors())
    return found


def _open_files() -> Iterator[str]:
    for name in os.listdir(_FDS) if _FDS.exists() else ():
        try:
            yield f"file descriptor {name} -> {(_FDS / name).readlink()}"
        except OSError:
            continue


def _children() -> Iterator[str]:
    for task in os.listdir(_TASKS) if _TASKS.exists() else ():
        try:
            pids = (_TASKS / task / "children").read_text().split()
        except OSError:
            continue
        yield from (f"child process {pid}" for pid in pids)


def _pending_tasks() -> Iterator[str]:
    """Tasks of any loop; the sets are private to asyncio and named differently from version to version."""
    for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        tasks: list[asyncio.Task[object]] = list(getattr(asyncio.tasks, name, ()))
        for task in tasks:
            if isinstance(task, asyncio.Task) and not task.done() and not task.get_loop().is_closed():
                yield f"asyncio task {task.get_name()} of {task.get_coro()!r}"


def _live_actors() -> Iterator[str]:
    """Actors of every kernel in the process, and those fenced with a thread still in their code."""
    for kernel in list(getattr(sys.modules.get("supervisors.kernel"), "_KERNELS", ())):
        yield from (f"actor {ref} of kernel {kernel.name!r}" for ref in kernel.live())
        yield from (f"zombie {number} of kernel {kernel.name!r}" for number in range(kernel.zombies))


def left(before: Counter[str], settling: float = 3.0) -> list[str]:
    """What is there beyond `before`, once it had `settling` seconds to end."""
    deadline = time.monotonic() + settling
    collected = False
    while rest := seen() - before:
        if not collected:
            collected = True
            gc.collect()  # what only a cycle keeps open is closed here, with its ResourceWarning in this test
        elif time.monotonic() > deadline:
            return sorted(rest)
        elif not _join_one(rest):
            threading.Event().wait(0.005)
    return []


def _join_one(left: Counter[str]) -> bool:
    """Wait a moment for one of the threads that are left, the way a thread's end is waited for."""
    for thread in threading.enumerate():
        if f"thread {thread.name!r} ({thread.ident})" in left and thread is not threading.current_thread():
            thread.join(0.02)
            return True
    return False
