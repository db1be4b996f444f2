"""`wait_after`: whether what the infrastructure failed is tried again, and after how long."""

from __future__ import annotations

from dspy_actors.errors import Busy, CallCancelled, CircuitOpen, DspyActorsError, LMError
from dspy_actors.lm.verdicts import is_retryable

RETRY_WAITS = (0.5, 2.0)
"""Seconds after which a row that the infrastructure failed is tried again, first and second time."""


def wait_after(fault: DspyActorsError | None, tries: int) -> float | None:
    """Seconds from the failure `fault` to the next try of a row that was tried again `tries` times.

    `None` where there is none: the failure is not the infrastructure's, does not pass, or was the last that counts.
    """
    if fault is None or tries >= len(RETRY_WAITS) or not passes(fault):
        return None
    asked = fault.retry_after if isinstance(fault, LMError) else None
    return max(RETRY_WAITS[tries], asked or 0.0)


def passes(fault: DspyActorsError) -> bool:
    """Whether a failure of the infrastructure may be over after a while."""
    if isinstance(fault, LMError):
        return is_retryable(fault) or isinstance(fault, CircuitOpen)
    return isinstance(fault, (Busy, CallCancelled))
