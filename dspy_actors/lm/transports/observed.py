"""`HEARD`: who wants to hear of a task's answers; `tell` tells of one, refusals included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias

Heard: TypeAlias = Callable[[int, Mapping[str, str]], None]

HEARD: ContextVar[Heard | None] = ContextVar("dspy_actors_heard", default=None)
"""Who wants to hear status and headers of the request made in this task; set by the worker around an attempt.

It is called on the loop and must not raise.
"""


def tell(status: int, headers: Mapping[str, str]) -> None:
    """The head of an answer is there, or all of it; called by the transport in the task that asked."""
    heard = HEARD.get()
    if heard is not None:
        heard(status, headers)
