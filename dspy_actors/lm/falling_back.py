"""Which errors of one model another one may answer: `falls_back`. Pure.

Yes where the fault lies with the provider, the way to it, or the account there. Never where it is the request's own (it
would be refused again, or worse, not), where nothing may be spent, or where the LM as written cannot work; and what is
no `LMError`, as a deadline or a cancellation, ends the call anyway.
"""

from __future__ import annotations

from typing import TypeAlias

from dspy_actors.error_root import error_class
from dspy_actors.errors import (
    BudgetExceeded,
    CircuitOpen,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

Kinds: TypeAlias = tuple[type[LMError], ...]

MAY_ANSWER: Kinds = (
    CircuitOpen,
    LMTransportError,
    LMServerError,
    LMTimeoutError,
    LMRateLimitError,
    LMUnexpectedError,
    LMAuthError,
    LMBillingError,
    LMUnsupportedModelError,
    LMUnsupportedFeatureError,
)
"""What falls back where nothing else is said. `ContextWindowExceededError` is not in it: a larger model costs more."""

_NEVER: Kinds = (BudgetExceeded, LMConfigurationError)
_OWN_FAULT_BUT_NOT_EVERYWHERE: Kinds = (ContextWindowExceededError, LMUnsupportedModelError)
"""Of the invalid requests, those that may be valid elsewhere. A content filter's is not among them."""


def falls_back(error: BaseException, on: Kinds) -> bool:
    """Whether another model is asked after `error`, for the kinds of error that its owner named."""
    return isinstance(error, on) and isinstance(error, LMError) and not _never(type(error))


def checked_kinds(on: object) -> Kinds:
    """The kinds of error given as a class, a name, or several. Raises `LMConfigurationError` where none makes sense."""
    several = tuple(on) if isinstance(on, (tuple, list, set, frozenset)) else (on,)
    if not several:
        msg = "Fallback(on=()): name at least one class of errors"
        raise LMConfigurationError(msg)
    return tuple(map(_checked_kind, several))


def _checked_kind(given: object) -> type[LMError]:
    kind = error_class(given, LMError) if isinstance(given, str) else given
    if not isinstance(kind, type) or not issubclass(kind, LMError):
        kinds: Kinds = (LMError, *MAY_ANSWER)
        names = ", ".join(each.__name__ for each in kinds)
        msg = f"Fallback(on={given!r}): the classes of errors are {names} and ContextWindowExceededError"
        raise LMConfigurationError(msg)
    if _never(kind):
        msg = f"Fallback(on={kind.__name__}): after that no other model is asked: it is no fault of the provider"
        raise LMConfigurationError(msg)
    return kind


def _never(kind: type[LMError]) -> bool:
    if issubclass(kind, LMInvalidRequestError):
        return not issubclass(kind, _OWN_FAULT_BUT_NOT_EVERYWHERE)
    return issubclass(kind, _NEVER)
