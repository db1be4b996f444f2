"""Supervision and crash reports, in OTP's words, through structlog.

structlog is imported when the first report is written, not before: a program in which nothing goes wrong never
loads it. A program that has not configured structlog gets its reports on stderr, so that they never mix with what
it prints. Reports are written in the thread of the actor that reports; clean exits write nothing. Every crash and every
restart is told, as often as the supervisor's budget of restarts lets them happen; none is dropped as in OTP's logger.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from supervisors.brief import brief
from supervisors.errors import StartFailed
from supervisors.exits import Crash
from supervisors.telemetry import Telemetry

CHILD_TERMINATED = "child_terminated"
START_ERROR = "start_error"
SHUTDOWN_ERROR = "shutdown_error"
SHUTDOWN = "shutdown"
"""OTP's error contexts: a child ended by itself; a start failed; a child did not stop cleanly; we gave up."""
GIVEN_UP = "given_up"
"""Beyond OTP: the child's budget is used up, and it is stopped for good."""

FRAMES = 40
"""Lines of a traceback that a report shows. An exception that is raised again and again grows without end."""


def supervisor_report(
    telemetry: Telemetry,
    context: str,
    *,
    supervisor: str,
    reason: object,
    offender: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Write `supervisor.<context>` with OTP's four keys, at level error.

    `offender` is the child as JSON-able values, `about` what is known of its end: ancestors and callers, and after
    a crash its last message and state. Never raises: a failing logger becomes the event
    ("supervisor", "report", "failure").
    """
    error = _error_of(reason)
    fields: dict[str, Any] = {
        "supervisor": supervisor,
        "error_context": context,
        "reason": describe(reason),
        "offender": dict(offender),
        **about,
    }
    if error is not None:
        fields["traceback"] = render(error)
    _write(telemetry, f"supervisor.{context}", fields)


def unexpected_message(telemetry: Telemetry, *, supervisor: str, message: object) -> None:
    """Write that `supervisor` ignored `message`. Never raises."""
    fields = {"supervisor": supervisor, "message": f"a {type(message).__qualname__}"}
    _write(telemetry, "supervisor.unexpected_message", fields)


def crash_report(
    telemetry: Telemetry, *, name: str, reason: object, actor: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write `actor.crash` for an actor that ended in an error; `about` as above. Never raises."""
    error = _error_of(reason)
    fields = {"name": name, "reason": describe(reason), "actor": dict(actor), **about}
    if error is not None:
        fields["traceback"] = render(error)
    _write(telemetry, "actor.crash", fields)


def trace(telemetry: Telemetry, *, name: str, kind: str, message: str | None, peer: str | None) -> None:
    """Write `actor.trace`, at level info, for one event of an actor that is traced. Never raises."""
    _write(telemetry, "actor.trace", {"name": name, "kind": kind, "message": message, "peer": peer}, "info")


def describe(reason: object) -> str:
    """`reason` (an exit, an error or a word) in one line."""
    if isinstance(reason, Crash):
        reason = reason.error
    if isinstance(reason, StartFailed):
        return f"start of {brief(reason.id)} failed: {describe(reason.cause)}"
    if isinstance(reason, BaseException):
        return "".join(traceback.format_exception_only(reason)).strip()
    return reason if isinstance(reason, str) else brief(reason)


def render(error: BaseException) -> str:
    """The traceback of `error` as text, without the values of local variables; of a long one the last `FRAMES`."""
    lines = traceback.format_exception(type(error), error, _last(error.__traceback__), limit=-FRAMES)
    return "".join(lines).rstrip()


def _last(tb: TracebackType | None) -> TracebackType | None:
    """The last `FRAMES` of a traceback. Found by hand: the standard library looks at the text of every line first."""
    last = deque[TracebackType](maxlen=FRAMES)
    while tb is not None:
        last.append(tb)
        tb = tb.tb_next
    return last[0] if last else None


def _error_of(reason: object) -> BaseException | None:
    if isinstance(reason, Crash):
        return reason.error
    return reason if isinstance(reason, BaseException) else None


def _write(telemetry: Telemetry, event: str, fields: dict[str, Any], level: str = "error") -> None:
    # Processors and sinks of the log are the application's code, which must not be able to end a supervisor.
    try:
        getattr(logger("supervisors"), level)(event, **fields)
    except BaseException as error:
        telemetry.execute(("supervisor", "report", "failure"), {}, {"event": event, "error": error, "fields": fields})


def logger(name: str) -> Any:
    """structlog's logger of that name, as the application configured it; on stderr where it did not."""
    import structlog

    if structlog.is_configured():
        return structlog.get_logger(name)
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
