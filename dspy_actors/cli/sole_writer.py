"""`sole_writer`: one run at a time writes a result file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from dspy_actors.errors import DataError


@contextmanager
def sole_writer(out: Path) -> Iterator[bool]:
    """Keep `out`, where it is a file already, from every other run until the block ends; whether it is one.

    Raises `DataError` where another run, one believed to be dead perhaps, is still writing it.
    """
    if not out.is_file():
        yield False
        return
    with ExitStack() as stack:
        with suppress(OSError):  # whether it can be written is seen with the first result
            keep_from_others(stack.enter_context(out.open("rb")), out)
        yield True


def keep_from_others(file: IO[bytes], out: Path) -> None:
    """Keep `out` from every other run until `file`, which it is, is closed or this process ends, in whatever way.

    Raises `DataError` as above. Does nothing for what is no regular file (a pipe, `/dev/null`), and where files cannot
    be locked (Windows, some networks' disks).
    """
    if os.name != "posix" or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"--out {out} is being written by another run: wait for its end or end it, or name another file"
        raise DataError(msg, path=str(out)) from None
    except OSError:
        return
