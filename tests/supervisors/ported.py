"""Functions that the tests of ports run in another process."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable

CALLS: list[str] = []


def note(name: str) -> list[str]:
    """Remember `name`; all that were remembered in this process."""
    CALLS.append(name)
    return list(CALLS)


def echo(*args: object, **kwargs: object) -> list[object]:
    return [list(args), kwargs]


def spin() -> None:
    """Work without end, as a loop that nobody can stop."""
    while True:
        pass


def wait(seconds: float | None = None) -> None:
    threading.Event().wait(seconds)


def say(words: str, code: int) -> None:
    """Print to stdout and to stderr, and end the process."""
    print(f"out {words}")
    print(f"err {words}", file=sys.stderr)
    os._exit(code)


def fill(size: int) -> bytes:
    return bytes(size)


def start_another() -> int:
    """Start a process that never ends by itself; its id."""
    command = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    return subprocess.Popen(command).pid


def write_nonsense() -> None:
    """Write what is no frame to wherever frames go."""
    for fd in range(3, 32):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY:
                os.write(fd, b"\xff" * 16)
        except OSError:
            continue
    spin()


def local() -> Callable[[], None]:
    """A function that cannot be found by its name."""

    def inner() -> None:
        return None

    return inner
