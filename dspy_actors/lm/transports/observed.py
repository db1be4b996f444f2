"""`OBSERVER`: who follows the requests of a task. It is told of their answers and asked before one is sent again."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol


class Observer(Protocol):
    """Follows the requests of one attempt; called on the loop, in the task that sends them."""

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer has come, of a refusal too. Must not raise."""
        ...

    def again(self) -> None:
        """What was sent came to nothing and is to be sent once more; raises what forbids that."""
        ...


OBSERVER: ContextVar[Observer | None] = ContextVar("dspy_actors_observer", default=None)
"""Who follows the requests made in this task; set by the worker around an attempt."""


def tell(status: int, headers: Mapping[str, str]) -> None:
    """The head of an answer is there, or all of it; called by the transport in the task that asked."""
    observer = OBSERVER.get()
    if observer is not None:
        observer.heard(status, headers)


def ask_again() -> None:
    """May the request be sent once more? Called by whoever would, transport or provider; raises what forbids it."""
    observer = OBSERVER.get()
    if observer is not None:
        observer.again()
