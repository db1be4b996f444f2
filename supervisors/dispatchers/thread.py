"""`ThreadPerActor`: each actor has a thread of its own, for foreign code that blocks or must keep to one thread."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Lock, Thread, get_ident
from time import monotonic

from supervisors import steps
from supervisors.dispatchers.base import Runnable
from supervisors.errors import SystemStopped


class ThreadPerActor:
    """A daemon thread for each actor, from its start to its death."""

    is_loop = False

    def __init__(self, name: str = "thread") -> None:
        self.name = name
        self._lock = Lock()
        self._wakes: dict[Runnable, SimpleQueue[bool]] = {}
        self._threads: dict[Thread, Runnable] = {}
        self._stopped = False

    def submit(self, cell: Runnable) -> None:
        wake = self._wakes.get(cell)
        if wake is not None:
            wake.put(True)

    def attach(self, cell: Runnable) -> None:
        wake: SimpleQueue[bool] = SimpleQueue()
        thread = Thread(target=self._work, args=(cell, wake), name=f"supervisors-{cell.name}", daemon=True)
        with self._lock:
            if self._stopped:
                raise SystemStopped(self.name)
            if steps.hook is not None:
                steps.hook("thread:starting", self)
            thread.start()  # under the lock, so that `stop` finds none that is about to start
            self._wakes[cell] = wake
            self._threads[thread] = cell

    def detach(self, cell: Runnable) -> None:
        wake = self._wakes.pop(cell, None)
        if wake is not None:
            wake.put(False)

    def abandon(self, cell: Runnable) -> None:
        """Its thread is its own: nobody else lacks it."""

    def stop(self, timeout: float) -> bool:
        with self._lock:
            self._stopped = True
            threads = [thread for thread, cell in self._threads.items() if not cell.fenced or cell.own.acquire(False)]
        until = monotonic() + timeout
        for wake in list(self._wakes.values()):
            wake.put(False)
        for thread in threads:
            if thread.ident != get_ident():
                thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in threads if thread.ident != get_ident())

    def _work(self, cell: Runnable, wake: SimpleQueue[bool]) -> None:
        try:
            while wake.get():
                while cell.activate():
                    pass
        finally:
            with self._lock:
                self._threads = {thread: each for thread, each in self._threads.items() if each is not cell}
