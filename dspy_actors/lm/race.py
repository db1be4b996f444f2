"""`first_answer`: a request, and another one beside it where it is slow. Runs on the io loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dspy_actors.errors import LMError

R = TypeVar("R")


async def first_answer(
    one: Coroutine[Any, Any, R], wait: Coroutine[Any, Any, None], other: Callable[[], Coroutine[Any, Any, R] | None]
) -> R:
    """What `one` returns, or once `wait` is over, what comes first of that and of what `other` gives, if anything.

    An `LMError` of one of the two leaves it to the other; of both, the first one's is raised. Whatever else is raised
    ends both. Whoever has not answered is cancelled and over when this returns, also when this is cancelled.
    """
    first: asyncio.Task[R] = asyncio.create_task(one)
    timer = asyncio.create_task(wait)
    tasks: list[asyncio.Task[Any]] = [first, timer]
    try:
        await asyncio.wait((first, timer), return_when=asyncio.FIRST_COMPLETED)
        made = None if first.done() else other()
        if made is None:
            return await first
        second: asyncio.Task[R] = asyncio.create_task(made)
        tasks.append(second)
        return await _either(first, second)
    finally:
        await _over(tasks)


async def _either(first: asyncio.Task[R], second: asyncio.Task[R]) -> R:
    racing = {first, second}
    while racing:
        await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        for task in (first, second):
            if task in racing and task.done():
                racing.discard(task)
                if task.cancelled() or not isinstance(task.exception(), LMError):
                    return task.result()
    return first.result()


async def _over(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel what is not over, and wait until it is."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
