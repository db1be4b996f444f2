"""How published state gets into the log: `waker` calls an actor, which writes with `write_log`.

What a call does must not wait for the log, whose processors and handlers are the application's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Literal, TypeAlias

from supervisors.errors import SupervisorsError
from supervisors.registry import Registry
from supervisors.reports import logger
from supervisors.telemetry import Event, Telemetry

Level: TypeAlias = Literal["info", "warning"]

LOG_FAILED: Event = ("log", "failure")
"""Event of a line that the log did not take: measurements {}, metadata `event`, `error`, `fields`."""


def waker(registry: Registry, name: str, look: Callable[[Any], object]) -> Callable[[], object]:
    """What tells the actor called `name` to `look`: a message, from whatever thread, in nobody's name."""

    def wake() -> None:
        actor = registry.whereis(name)
        if actor is None:  # it is being restarted, and looks when it comes
            return
        try:
            Context().run(actor.cast, look)
        except SupervisorsError:  # the system has ended
            return

    return wake


def write_log(telemetry: Telemetry, failed: Event, level: Level, event: str, fields: Mapping[str, object]) -> None:
    """One line of the logger `dspy_actors`. Never raises: a log that fails is told of by the event `failed`."""
    try:
        getattr(logger("dspy_actors"), level)(event, **fields)
    except Exception as error:
        telemetry.execute(failed, {}, {"event": event, "error": error, "fields": fields})
