"""What runs in the process behind a port: reads calls from stdin, runs them one by one, writes the answers.

Started by path, it imports nothing of its package, so that a process is up in a few hundredths of a second. The
first frame it writes is empty and says that it is ready.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

HEADER = 4
"""Bytes before each frame: its length, big end first."""

ANSWER, RAISED, TOO_LARGE, UNFIT = "answer", "raised", "too large", "unfit"
"""What an answer is: a value; kind, message and traceback; a size; what it is that no frame can carry."""


def main() -> None:
    """Serve until stdin ends. Arguments: bytes of the largest frame, a lifeline, the import path, modules to import."""
    bound, lifeline, path, *modules = sys.argv[1:]
    source, sink = _take_pipes()
    _die_with_the_parent(int(lifeline))
    faulthandler.enable()
    theirs = path.split(os.pathsep)
    sys.path[:] = [*theirs, *(each for each in sys.path if each not in theirs)]  # PYTHONPATH may have given some more
    codec = importlib.import_module("msgpack")
    for module in modules:
        importlib.import_module(module)
    os.write(sink, bytes(HEADER))
    while (frame := read(source)) is not None:
        write(sink, answer(frame, int(bound), codec))


def answer(frame: bytes, bound: int, codec: ModuleType) -> bytes:
    """Run the call in `frame`; its answer as a frame, at most `bound` bytes long. `codec` is msgpack."""
    name, args, kwargs = codec.unpackb(frame, strict_map_key=False)
    try:
        value = resolve(name)(*args, **kwargs)
    except Exception as error:
        said: tuple[Any, ...] = (RAISED, type(error).__name__, str(error), traceback.format_exc())
    else:
        said = (ANSWER, value)
    try:
        packed: bytes = codec.packb(said)
    except (TypeError, ValueError, OverflowError) as error:
        packed = codec.packb((UNFIT, str(error)))
    return packed if len(packed) <= bound else bytes(codec.packb((TOO_LARGE, len(packed))))


def resolve(name: str) -> Callable[..., Any]:
    """The function called "module:name". Raises what the import raises, or AttributeError."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


def read(source: BinaryIO) -> bytes | None:
    """The next frame; None at the end."""
    header = source.read(HEADER)
    if len(header) < HEADER:
        return None
    length = int.from_bytes(header, "big")
    frame = source.read(length)
    return frame if len(frame) == length else None


def write(sink: int, frame: bytes) -> None:
    """Write a frame."""
    left = memoryview(len(frame).to_bytes(HEADER, "big") + frame)
    while left:
        left = left[os.write(sink, left) :]


def _take_pipes() -> tuple[BinaryIO, int]:
    """Keep the pipes for frames, and give the code that runs here an empty stdin and stderr for a stdout."""
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return os.fdopen(source, "rb", buffering=1 << 16), sink


def _die_with_the_parent(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of the pipe `lifeline` is closed, whatever runs here.

    Where the system cannot (it is not Linux), the end of stdin is noticed between two calls.
    """
    import fcntl

    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # look again: it may have been closed before
        sys.exit("the parent process is gone")


if __name__ == "__main__":
    main()
