"""`fault_reason`: which failures of a call speak against its input. Pure.

Only what would happen again with the same input counts: a refusal of the request itself, an answer that cannot be read
though it was asked for anew, an exception of the program's own code. What passes by itself (timeouts, rate limits,
outages, a full queue) never does, also where the program wrapped it in an error of its own: an hour of outage would
otherwise set every input of the hour aside. Nor does what the cache gives again: a refusal that is remembered, or an
answer that cannot be read; nobody was asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError

from dspy_actors.error_root import is_remembered
from dspy_actors.errors import (
    AdapterParseError,
    DspyActorsError,
    LMInvalidRequestError,
    LMUnsupportedModelError,
    ProgramError,
    QuarantinedInput,
)
from supervisors.errors import ActorDied, SupervisorsError
from supervisors.exits import Crash

CRASH = "crash"
"""The reason of a fault that is the program's own exception, or the death of what ran its code."""

_PASSING = (OSError, MemoryError, CancelledError)
"""Exceptions of the machine and the network, timeouts among them, which say nothing of the input."""

_ENDINGS = (KeyboardInterrupt.__name__, CancelledError.__name__)
"""What ended the program's code by the will of somebody else."""


def fault_reason(
    error: BaseException, *, fault: BaseException | None = None, attempts: int = 0, breakers_closed: bool = True
) -> str | None:
    """The kind of fault that `error` is, if it speaks against the input of its call; `None` if it does not.

    `fault` is the infrastructure's failure that the call met, `attempts` how many answers were made for it (an answer
    from the cache was not), `breakers_closed` whether the models it asks are in good standing.
    """
    if fault is not None or not breakers_closed:
        return None
    if isinstance(error, SystemExit):
        return CRASH
    if not isinstance(error, Exception):
        return None
    if isinstance(error, DspyActorsError):
        return _of_ours(error, attempts)
    return None if any(_passes(each) for each in _chain(error)) else CRASH


def _of_ours(error: DspyActorsError, attempts: int) -> str | None:
    if isinstance(error, LMInvalidRequestError) and not isinstance(error, LMUnsupportedModelError):
        return None if is_remembered(error) else error.kind
    if isinstance(error, AdapterParseError):  # the same answer from the cache is no further evidence
        return error.kind if attempts > 0 else None
    if isinstance(error, ProgramError):
        return None if error.error_type in _ENDINGS else CRASH
    return None


def _passes(error: BaseException) -> bool:
    if isinstance(error, DspyActorsError):
        return error.infrastructure or isinstance(error, QuarantinedInput) or is_remembered(error)
    if isinstance(error, ActorDied):  # an actor that crashed over the call's message is a crash over the call
        return not (error.maybe_handled and isinstance(error.exit, Crash))
    return isinstance(error, (SupervisorsError, *_PASSING)) or not isinstance(error, Exception)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
