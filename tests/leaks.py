"""What a test may leave behind: threads, sockets, child processes, tasks, actors; found by looking at the process."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from supervisors import leaks
from supervisors.leaks import SETTLING, actors, threads

_FDS, _TASKS = Path("/proc/self/fd"), Path("/proc/self/task")


def _native_threads() -> Iterator[str]:
    for _ in os.listdir(_TASKS) if _TASKS.exists() else ():
        yield "a native thread"


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


LOOKS = (threads, _native_threads, _open_files, _children, _pending_tasks, actors)


def seen() -> Counter[str]:
    """Everything that could be left behind, each as a sentence for the report."""
    return leaks.seen(LOOKS)


def left(before: Counter[str], settling: float = SETTLING) -> list[str]:
    """What is there beyond `before`, once it had `settling` seconds to end."""
    return leaks.left(before, LOOKS, settling)
