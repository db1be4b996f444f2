"""`Pool`: a few threads for all actors that have none of their own.

Small (two threads), because under the GIL more only fight. Elastic, because handlers block: a worker that says
it blocks (`block_enter`, every wait for a `Reply`) is made up for at once, and a watchman thread finds those
that do not say so: work waits, nobody is idle, and nothing was finished since its last look.
A blocked worker never runs other actors: their waits could depend on what is buried below on its own stack.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread, get_ident
from time import monotonic
from typing import Any

from supervisors import steps
from supervisors.blocking import BLOCKERS
from supervisors.dispatchers.base import BUDGET, Runnable
from supervisors.errors import SpecError, SystemStopped
from supervisors.published_lock import PublishedLock

TICK = 0.005
"""Seconds between two looks of the watchman while work waits."""
SURPLUS_IDLE = 2.0
"""Seconds that a thread beyond the pool's size waits for work before it goes."""


class _Worker:
    """One thread of the pool: `abandoned` while it sits in a fenced actor, and is made up for."""

    __slots__ = ("abandoned", "following", "pool", "thread")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.abandoned = False
        self.following: Any = None  # what this thread runs next, before anything else
        self.thread: Thread

    def inherit(self, heir: Any) -> None:
        """Run the heir of an actor that this thread has just finished, before anything else."""
        if heir is not None:
            if heir[0].dispatcher is self.pool:
                self.following = heir[0]
            else:
                heir[0].hand_on(heir)


class Pool:
    """Runs actors on `size` threads, more while some of them block. Threads are daemons and start on demand.

    Raises SpecError for a size below 1.
    """

    is_loop = False

    def __init__(self, name: str = "pool", size: int = 2, surplus_idle: float = SURPLUS_IDLE) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise SpecError("pool_size", size, "an int >= 1")
        self.name = name
        self._size = size
        self._surplus_idle = surplus_idle
        self._queue: SimpleQueue[Runnable | None] = SimpleQueue()
        self._lock = PublishedLock()  # guards _workers, _blocked, _stopped and each worker's `abandoned`
        self._workers: dict[_Worker, None] = {}
        self._idle: dict[_Worker, None] = {}  # each worker sets and removes itself; read without the lock
        self._blocked = 0
        self._finished = 0  # activations; only compared with an older value of itself
        self._numbers = count(1)
        self._stopped = False
        self._parked = False
        self._knock: SimpleQueue[None] = SimpleQueue()
        self._watchman: Thread | None = None

    # the dispatcher's side

    def submit(self, cell: Runnable) -> None:
        self._queue.put(cell)
        if not self._idle:
            self._call_for_help()

    def attach(self, cell: Runnable) -> None:
        if self._stopped:
            raise SystemStopped(self.name)

    def detach(self, cell: Runnable) -> None:
        """Nothing is kept for an actor here."""

    def abandon(self, cell: Runnable) -> None:
        worker = cell.host
        if worker is None:  # it runs in its caller's place
            return
        with self._lock:
            if worker not in self._workers or worker.abandoned:
                return
            worker.abandoned = True
            self._blocked += 1
            if cell.host is not worker:  # then look: it has come back, perhaps without having seen that
                self._regain(worker)
                return
        self._make_up()

    def _regain(self, worker: _Worker) -> None:
        """Under the lock: its thread is out of the fenced actor, and runs others."""
        if worker.abandoned:
            worker.abandoned = False
            self._blocked -= 1

    def stop(self, timeout: float) -> bool:
        with self._lock:
            self._stopped = True
            threads = [worker.thread for worker in self._workers if not worker.abandoned]
            watchman = self._watchman
        for _ in threads:
            self._queue.put(None)
        self._knock.put(None)
        until = monotonic() + timeout
        here = get_ident()
        for thread in [*threads, *([watchman] if watchman else [])]:
            if thread.ident != here:
                thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in threads if thread.ident != here)

    def threads(self) -> int:
        """How many threads the pool has now, the watchman not counted."""
        return len(self._workers)

    # managed blocking

    def block_enter(self) -> None:
        with self._lock:
            self._blocked += 1
        self._make_up()

    def block_exit(self) -> None:
        with self._lock:
            self._blocked -= 1

    def _make_up(self) -> None:
        if not self._idle and not self._queue.empty():
            self._grow(1, self._size)

    # growing and shrinking

    def _grow(self, by: int, unblocked: int) -> None:
        """Start up to `by` threads while fewer than `unblocked` of them are not blocked.

        Under the lock, so that `stop` finds none that is about to start. A new thread needs the lock only to end.
        """
        for _ in range(by):
            with self._lock:
                if self._stopped or len(self._workers) - self._blocked >= unblocked:
                    return
                worker = _Worker(self)
                worker.thread = self._thread(self._work, str(next(self._numbers)), worker)
                self._workers[worker] = None
                if steps.hook is not None:
                    steps.hook("pool:starting", self)
                try:
                    worker.thread.start()
                    if self._watchman is None:
                        watchman = self._thread(self._watch, "watch")
                        watchman.start()
                        self._watchman = watchman
                except RuntimeError:  # no thread to be had: the work waits for those there are
                    if worker.thread.ident is None:
                        del self._workers[worker]
                    if not self._workers:
                        raise
                    return

    def _thread(self, target: Callable[..., None], name: str, *args: Any) -> Thread:
        return Thread(target=target, args=args, name=f"supervisors-{self.name}-{name}", daemon=True)

    def _work(self, worker: _Worker) -> None:
        ident = get_ident()
        BLOCKERS[ident] = self
        try:
            self._serve(worker, self._queue, self._idle, self._workers)
        finally:
            del BLOCKERS[ident]
            with self._lock:
                self._workers.pop(worker, None)

    def _serve(
        self,
        worker: _Worker,
        queue: SimpleQueue[Runnable | None],
        idle: dict[_Worker, None],
        workers: dict[_Worker, None],
    ) -> None:
        """Run one actor after the other until this thread is to end. Written flat: every line costs every ask."""
        while True:
            cell = None  # what the last one held must not stay while this thread waits
            if worker.following is not None:
                cell, worker.following = worker.following, None
            elif queue.empty():
                if self._stopped:  # a thread that `stop` took for lost has come back
                    return
                idle[worker] = None
                try:
                    if len(workers) - self._blocked > self._size:
                        cell = queue.get(True, self._surplus_idle)
                    else:
                        cell = queue.get()
                except Empty:
                    if steps.hook is not None:
                        steps.hook("pool:retiring", self)
                    del idle[worker]
                    if self._retire(worker):
                        return
                    continue
                del idle[worker]
            else:  # may still find it empty; then it waits without being listed as idle, which costs little
                cell = queue.get()
            if cell is None:
                return
            if not idle and not queue.empty():
                self._call_for_help()
            try:
                if cell.activate(BUDGET, worker) and not cell.sched:
                    cell.sched = True
                    queue.put(cell)
            except BaseException as error:  # the kernel itself failed; the pool must outlive that
                _report(cell, error)
            self._finished += 1
            if worker.abandoned:
                with self._lock:
                    self._regain(worker)
                    if self._stopped:  # `stop` left no word for it in the queue: it must not take another's
                        return

    def _call_for_help(self) -> None:
        """Work waits and nobody is idle: start a thread if that is within the size, else have the watchman look."""
        if len(self._workers) - self._blocked < self._size:
            self._grow(1, self._size)
        elif self._parked:
            self._wake_watchman()

    def _retire(self, worker: _Worker) -> bool:
        with self._lock:
            if len(self._workers) - self._blocked <= self._size:
                return False
            del self._workers[worker]
        if self._queue.empty():  # look again: a submit may have counted on this thread
            return True
        with self._lock:
            self._workers[worker] = None
        return False

    # the watchman

    def _wake_watchman(self) -> None:
        self._parked = False
        self._knock.put(None)

    def _watch(self) -> None:
        step, seen = 1, self._finished
        while not self._stopped:
            if self._queue.empty():
                if steps.hook is not None:
                    steps.hook("watch:parking", self)
                self._parked = True
                if self._queue.empty():  # look again: a submit may have seen the watchman awake
                    self._knock.get()
                self._parked = False
                step, seen = 1, self._finished
            with suppress(Empty):
                self._knock.get(timeout=TICK)
                continue
            if self._idle or self._queue.empty() or self._finished != seen:
                step, seen = 1, self._finished
                continue
            self._grow(step, len(self._workers) + step)
            step, seen = min(step * 2, 16), self._finished


def _report(cell: Runnable, error: BaseException) -> None:
    cell.fence()
    raised = (type(error), error, error.__traceback__, threading.current_thread())
    threading.excepthook(threading.ExceptHookArgs(raised))
