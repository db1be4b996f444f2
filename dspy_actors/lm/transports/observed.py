"""`observed`: who follows the requests of a task. It is told of their answers and asked before one is sent again.

The context of a task holds only its name: a connection that waits for its next request keeps the context of its last
one, and would keep all that the call had asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

from dspy_actors.errors import LMError


class Observer(Protocol):
    """Follows the requests of one attempt; called on the loop, in the task that sends them."""

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer has come, of a refusal too. Must not raise."""
        ...

    def again(self) -> None:
        """What was sent came to nothing and is to be sent once more; raises what forbids that."""
        ...


_NAME: ContextVar[str] = ContextVar("dspy_actors_observed", default="")
_OBSERVERS: dict[str, Observer] = {}


def follow(name: str, observer: Observer) -> None:
    """Have `observer` follow the requests that this task and its children make from now on, until `leave`.

    `name` is told from all others in this process. The worker does it around an attempt.
    """
    _NAME.set(name)
    _OBSERVERS[name] = observer


def leave(name: str) -> None:
    """The observer of that name follows no more."""
    _OBSERVERS.pop(name, None)


def tell(status: int, headers: Mapping[str, str]) -> None:
    """The head of an answer is there, or all of it; called by the transport in the task that asked."""
    observer = _OBSERVERS.get(_NAME.get())
    if observer is not None:
        observer.heard(status, headers)


def ask_again(failed: LMError | None = None) -> None:
    """May the request be sent once more? Called by whoever would, transport or provider; raises what forbids it.

    Where it is told how the request `failed` that was sent before, it raises that, with what forbids another as its
    cause and its note: what the provider did says more than that it is not asked again.
    """
    observer = _OBSERVERS.get(_NAME.get())
    if observer is None:
        return
    try:
        observer.again()
    except LMError as refusal:
        if failed is None:
            raise
        failed.add_note(f"not sent again: {refusal.message}")
        raise failed from refusal
