"""Events: `execute(event, measurements, metadata)` calls every handler attached to that event.

An event is a tuple of words, as `("actor", "exit")`. Handlers run in the thread that executes the event, one
after the other; one that raises is detached and reported as `("telemetry", "handler", "failure")`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from supervisors.published_lock import PublishedLock

Event: TypeAlias = tuple[str, ...]
Handler: TypeAlias = Callable[[Event, Mapping[str, Any], Mapping[str, Any]], object]

FAILURE: Event = ("telemetry", "handler", "failure")
_NOTHING: Mapping[str, Any] = {}


class Telemetry:
    """A table of handlers. Reading takes no lock; `attach` and `detach` replace the entry they change.

    `handlers` is the table itself, for a look and nothing else: `event in telemetry.handlers` is `attached(event)`
    where every microsecond counts.
    """

    __slots__ = ("_lock", "handlers")

    def __init__(self) -> None:
        self.handlers: dict[Event, tuple[tuple[str, Handler], ...]] = {}
        self._lock = PublishedLock()

    def attach(self, handler_id: str, event: Event | Sequence[Event], handler: Handler) -> None:
        """Call `handler(event, measurements, metadata)` for one event or each of a list.

        Raises ValueError when the id is attached to one of the events already.
        """
        events = _as_list(event)
        with self._lock:
            for each in events:
                if any(known == handler_id for known, _ in self.handlers.get(each, ())):
                    raise ValueError(f"handler {handler_id!r} is attached to {each} already; detach it first")
            for each in events:
                self.handlers[each] = (*self.handlers.get(each, ()), (handler_id, handler))

    def detach(self, handler_id: str, event: Event | Sequence[Event] | None = None) -> bool:
        """Forget the handler for these events (default: all). True if it was attached."""
        found = False
        with self._lock:
            for each in _as_list(event) if event is not None else list(self.handlers):
                old = self.handlers.get(each, ())
                rest = tuple(pair for pair in old if pair[0] != handler_id)
                found = found or len(rest) != len(old)
                if rest:
                    self.handlers[each] = rest
                else:
                    self.handlers.pop(each, None)
        return found

    def execute(
        self,
        event: Event,
        measurements: Mapping[str, Any] = _NOTHING,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Call the handlers of `event` in the order they were attached. Never raises."""
        handlers = self.handlers.get(event)
        if handlers is None:
            return
        for handler_id, handler in handlers:
            try:
                handler(event, measurements, metadata)
            except BaseException as error:
                self.detach(handler_id)
                if event != FAILURE:
                    self.execute(FAILURE, {}, {"handler_id": handler_id, "event": event, "error": error})

    def attached(self, event: Event) -> bool:
        """Whether anybody listens; lets a caller skip work that only serves the metadata."""
        return event in self.handlers

    @contextmanager
    def span(self, event: Event, metadata: Mapping[str, Any] = _NOTHING) -> Iterator[dict[str, Any]]:
        """Execute `event + ("start",)`, then `("stop",)` or `("exception",)` with `duration` in seconds.

        Yields a dict; what the body puts there is added to the metadata of the second event.
        """
        extra: dict[str, Any] = {}
        began = time.monotonic()
        self.execute((*event, "start"), {"monotonic_time": began}, metadata)
        try:
            yield extra
        except BaseException as error:
            duration = time.monotonic() - began
            self.execute((*event, "exception"), {"duration": duration}, {**metadata, **extra, "error": error})
            raise
        self.execute((*event, "stop"), {"duration": time.monotonic() - began}, {**metadata, **extra})


def _as_list(event: Event | Sequence[Event]) -> list[Event]:
    if isinstance(event, tuple) and all(isinstance(word, str) for word in event):
        return [event]
    return [tuple(each) for each in event]
