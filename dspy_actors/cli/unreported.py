"""`unreported`: log lines that a command leaves out, because it shows or says itself what they tell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from dspy_actors.lm.outages import EVENTS


@contextmanager
def unreported(is_known: Callable[[Mapping[str, Any]], bool]) -> Iterator[None]:
    """Leave out the lines of which `is_known` says so.

    The others go where the application sends its log, or to standard error where it has set up none.
    """
    import structlog

    def drop(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if is_known(event):
            raise structlog.DropEvent
        return event

    is_set_up, before = structlog.is_configured(), structlog.get_config()
    structlog.configure(processors=[drop, *before["processors"]])
    if not is_set_up:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        yield
    finally:
        if is_set_up:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()


def is_outage(event: Mapping[str, Any]) -> bool:
    """Whether the line tells of a provider's bad day, of which a job's summary or its complaint tells."""
    return event.get("event") in EVENTS
