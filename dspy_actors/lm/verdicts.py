"""What follows from an error of a model: is it worth a retry, does a breaker count it, what of the key. Pure."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from dspy_actors.errors import (
    LMAuthError,
    LMBillingError,
    LMError,
    LMServerError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
)

NOT_READY = "not_ready"
"""The `provider_code` of a server that still loads its model: it has not failed, it has not begun."""

KeyEffect: TypeAlias = Literal["none", "refused", "no_money"]
"""What an answer says of the key it was asked with."""

_NOBODY_THERE = frozenset({"refused", "connect", "cut"})
"""Codes of transport errors that may pass by themselves; a certificate or a URL that is wrong stays wrong."""

_EXPIRED = re.compile(
    r"\b(token|key|credentials?)\b.{0,60}\bexpired|\bexpired.{0,20}(token|key|credential)|"
    r"\binvalid (access|bearer|security) token",
    re.IGNORECASE,
)


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may do better a moment later. The class says most of it, status and code the rest."""
    if not isinstance(error, LMError):
        return False
    if isinstance(error, LMTransportError):
        return error.provider_code not in ("certificate", "too_large", "url", "closed", "encoding", "header")
    if isinstance(error, LMServerError):
        return error.status not in (501, 505)
    if isinstance(error, LMStreamAssemblyError):
        return not error.partial
    return error.retryable


def is_nobody_there(error: BaseException) -> bool:
    """Whether nobody answered, so that somebody may a while later."""
    if isinstance(error, LMTransportError):
        return error.provider_code in _NOBODY_THERE
    return isinstance(error, LMTimeoutError)


def is_provider_failure(error: BaseException) -> bool:
    """Whether a circuit breaker counts it against the provider: it failed or was silent, not "you are too fast"."""
    if isinstance(error, LMServerError):
        return error.status not in (409, 425) and error.provider_code != NOT_READY
    if isinstance(error, LMTimeoutError):
        return error.phase != "queue"
    return isinstance(error, (LMTransportError, LMUnexpectedError, LMStreamAssemblyError))


def key_effect(error: BaseException) -> KeyEffect:
    """Whether the key is wrong (401) or out of money.

    A 403 is about what the account may do, not about the key, but for one that says that a token has expired: so do
    AWS and Databricks, and a callable has the next one.
    """
    if isinstance(error, LMBillingError):
        return "no_money"
    if not isinstance(error, LMAuthError):
        return "none"
    return "refused" if error.status != 403 or _EXPIRED.search(error.message) else "none"
