"""How the command line fails: one clear line on standard error and exit code 2 or 75, never a traceback."""

from __future__ import annotations

from dspy_actors.errors import CircuitOpen, DspyActorsError, LMError, LMServerError
from dspy_actors.lm.verdicts import is_nobody_there, is_retryable
from supervisors.errors import StartFailed, SupervisorsError

USAGE = 2
NOT_NOW = 75
"""`EX_TEMPFAIL` of sysexits.h: nothing is wrong with the command, and later it may do."""

BY_SIGNAL = 128
"""And the signal's number: 129 where the terminal was closed, 130 after Ctrl-C, 143 after SIGTERM."""

INTERRUPTED = 130
BROKEN_PIPE = 141

HOPELESS = frozenset({"lm_auth", "lm_billing", "lm_configuration", "lm_not_configured", "lm_unsupported_model"})
"""Kinds of error that the next row would meet as well: a job that begins with one does not begin."""

UNREACHABLE = frozenset({"circuit_open", "lm_transport", "lm_timeout", "lm_unexpected"})

DOWN = UNREACHABLE | {"lm_server"}

REMEDIES = {
    "lm_auth": "check the key in OPENAI_API_KEY",
    "lm_billing": "the account has no money or quota left",
    "lm_not_configured": "or use the model embedded/knn, which needs no key",
    "circuit_open": "check --base-url and that the server is running",
    "lm_transport": "check --base-url and that the server is running",
    "lm_server": "the server is there but cannot answer; try again later",
    "lm_timeout": "check --base-url and that the server answers in time",
    "lm_unexpected": "check --base-url: it should end in /v1 and speak OpenAI's chat completions",
    "lm_unsupported_model": "check the model's name in --lm",
}


def is_hopeless(error: BaseException | None) -> bool:
    """Whether every row would end in `error`."""
    return isinstance(error, DspyActorsError) and error.kind in HOPELESS


def is_unreachable(error: BaseException | None) -> bool:
    """Whether `error` says that no model answered."""
    return isinstance(error, DspyActorsError) and error.kind in UNREACHABLE


def is_down(error: BaseException | None) -> bool:
    """Whether `error` says that no model answered, or that its server could not."""
    return isinstance(error, DspyActorsError) and error.kind in DOWN


def is_temporary(error: BaseException | None) -> bool:
    """Whether `error` says that the model's server could not answer now, and nothing that is wrong for good."""
    if isinstance(error, LMServerError):
        return is_retryable(error)
    return error is not None and (isinstance(error, CircuitOpen) or is_nobody_there(error))


def one_line(error: BaseException) -> str:
    """`error` as a single line that names the thing and, where there is one, the remedy."""
    while isinstance(error, StartFailed) and isinstance(error.cause, BaseException):
        error = error.cause
    if isinstance(error, DspyActorsError):
        text = " ".join(error.message.split())
        remedy = REMEDIES.get(error.kind)
        return f"{text} ({remedy})" if remedy and isinstance(error, LMError) else text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


EXPECTED: tuple[type[Exception], ...] = (DspyActorsError, OSError, SupervisorsError)
"""What a wrong file, signature, name, key or server raises. Anything else is a bug and shows its traceback."""
