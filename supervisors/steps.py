"""A seam for tests: named steps between the two halves of a hand-over.

The kernel hands work over by "store, then look again". Whether both halves are there cannot be shown by
traffic: the window is a few instructions wide. So each half passes a named step, and a test may install one
function that is called there with the step's name and the object it is about; it can park the thread.

Nothing is installed in production; a step then costs one comparison with None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Step: TypeAlias = Callable[[str, object], object]

hook: Step | None = None


@contextmanager
def installed(step: Step) -> Iterator[None]:
    """Call `step(name, subject)` at every step passed by any thread while the block runs. For tests only."""
    global hook
    if hook is not None:
        raise RuntimeError("steps are being watched already; one test at a time")
    hook = step
    try:
        yield
    finally:
        hook = None
