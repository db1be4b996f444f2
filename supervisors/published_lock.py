"""`PublishedLock`: guards what is published: tables and numbers that any thread reads and writes for a moment.

The same thread may take it again. Wherever Python code runs, also under a lock, the garbage collector may end a
coroutine that somebody has dropped, and what a call does at its end (free its place, take back its timer, settle its
permit) comes in between. With a plain lock that thread would wait for itself for ever. So what is guarded has to be
whole whenever a function is called or an object made.
"""

import os
from threading import RLock
from typing import Any, TypeVar

L = TypeVar("L", bound=Any)

PublishedLock = RLock


def free_after_fork(lock: L) -> L:
    """`lock`, one that all of a process share: in a forked child it is free.

    There the thread is gone that held it in the middle of the fork, and everything would wait for that for ever. What
    it guards is the parent's, and not used in the child.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # as the standard library does with its own
    return lock
