"""Waiting for many tasks at once: one timeout for the whole set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from supervisors.errors import CallTimeout, SpecError
from supervisors.reply import Reply
from supervisors.tasks import Outcome, Task


def await_many(tasks: Iterable[Task[Any]], timeout: float | None = None) -> list[Any]:
    """All values, in the order of `tasks`, within one `timeout` (seconds) for the whole set.

    Raises the first failure as soon as there is one, and `CallTimeout`; the other tasks go on.
    """
    tasks = list(tasks)
    gate = _Gate(tasks, len(tasks), fail_fast=True)
    if tasks:
        seconds = tasks[0]._seconds(timeout)
        if not gate.opened.wait(seconds, tasks[0]._clock):
            raise CallTimeout(_unfinished(tasks), seconds, "timeout=")
    return _values(tasks)


async def aawait_many(tasks: Iterable[Task[Any]], timeout: float | None = None) -> list[Any]:
    """As `await_many`, on a loop."""
    tasks = list(tasks)
    gate = _Gate(tasks, len(tasks), fail_fast=True)
    if tasks:
        seconds = tasks[0]._seconds(timeout)
        if not await gate.opened.settles(seconds, tasks[0]._clock):
            raise CallTimeout(_unfinished(tasks), seconds, "timeout=")
    return _values(tasks)


def yield_many(
    tasks: Iterable[Task[Any]],
    timeout: float | None = None,
    *,
    on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
    limit: int | None = None,
) -> list[tuple[Task[Any], Outcome[Any] | None]]:
    """Each task with its outcome, None for those which are not done within one `timeout` for the whole set.

    With a `limit` it returns as soon as so many are done. `on_timeout` says what becomes of the others: they go on
    and may be waited for again ("nothing"), go on uncared for ("ignore"), or are abandoned ("kill_task"). Raises
    `SpecError`.
    """
    if on_timeout not in ("nothing", "ignore", "kill_task"):
        raise SpecError("on_timeout", on_timeout, "'nothing', 'ignore' or 'kill_task'")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SpecError("limit", limit, "an int >= 1 or None")
    tasks = list(tasks)
    gate = _Gate(tasks, len(tasks) if limit is None else min(limit, len(tasks)), fail_fast=False)
    if tasks:
        gate.opened.wait(tasks[0]._seconds(timeout), tasks[0]._clock)
    found = [(task, task.outcome() if task.done() else None) for task in tasks]
    for task, outcome in found:
        if outcome is None and on_timeout == "kill_task":
            task.abandon()
    return found


class _Gate:
    """Opens when `enough` tasks are done; with `fail_fast` also at the first failure."""

    def __init__(self, tasks: Sequence[Task[Any]], enough: int, fail_fast: bool) -> None:
        self.opened: Reply[None] = Reply()
        self._fail_fast = fail_fast
        self._left = [None] * enough
        for task in tasks:
            task.reply.add_done_callback(self._one)

    def _one(self, reply: Reply[Any]) -> None:
        try:
            self._left.pop()
        except IndexError:  # more than enough
            return
        if not self._left or (self._fail_fast and reply.exception() is not None):
            self.opened.set(None)


def _values(tasks: Sequence[Task[Any]]) -> list[Any]:
    for task in tasks:
        if task.done() and task.reply.exception() is not None:
            task.reply.take()
    return [task.reply.take() for task in tasks]


def _unfinished(tasks: Sequence[Task[Any]]) -> str:
    return f"{sum(not task.done() for task in tasks)} of {len(tasks)} tasks"
