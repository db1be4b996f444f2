"""One request's way through the phases of HTTP, with one timer that always stands at the nearest limit."""

from __future__ import annotations

import asyncio

from dspy_actors.errors import LMTimeoutError
from dspy_actors.lm.transports.base import OnSent, TransportSettings, bare

_WORDS = {
    "queue": "no connection became free",
    "connect": "the connection was not made",
    "write": "the request could not be written",
    "first_byte": "the server did not begin to answer",
    "body": "the answer stopped arriving",
}


class Trip:
    """The phase a request is in, whether it was sent, and its timer. One object a request, on the loop's thread."""

    __slots__ = ("_deadline", "_loop", "_on_sent", "_settings", "_since", "_timer", "fresh", "phase", "sent", "url")

    def __init__(self, url: str, settings: TransportSettings, deadline: float | None, on_sent: OnSent | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._deadline = deadline
        self._on_sent = on_sent
        self._since = self._loop.time()
        self.url = url
        self.phase = "queue"
        self.sent = False
        self.fresh = False
        """Whether the attempt under way made its own connection."""
        if deadline is not None and deadline <= self._since:
            raise self.late()
        self._timer = asyncio.timeout_at(deadline)

    @property
    def timer(self) -> asyncio.Timeout:
        """The context manager that everything the request waits for stands in."""
        return self._timer

    def enter(self, phase: str) -> None:
        """The request is in `phase` from now on and may stay there as long as the settings say."""
        if self._timer.expired():
            return  # the cancellation is on its way to the task; what arrived in the same turn cannot stop it
        self.phase = phase
        limit: float = getattr(self._settings, phase)
        when = self._loop.time() + limit
        deadline = self._deadline
        if deadline is not None and deadline <= when:
            if self._timer.when() == deadline:
                return
            when = deadline
        self._timer.reschedule(when)

    def connecting(self) -> None:
        """A new connection is being made for this attempt."""
        self.fresh = True
        self.enter("connect")

    def written(self) -> None:
        """The whole request is with the socket; tells the caller, once, and waits for the first byte."""
        self.enter("first_byte")
        if not self.sent:
            self.sent = True
            if self._on_sent is not None:
                self._on_sent()

    def late(self) -> LMTimeoutError:
        """The error for a limit that passed now: of the phase, or `total` where it was the caller's deadline."""
        now = self._loop.time()
        spent = now - self._since
        total = self._deadline is not None and self._deadline <= now and self.phase != "queue"
        words = _WORDS[self.phase]
        text = f"{bare(self.url)}: {words}; gave up after {spent:.3g} s"
        if total:
            text += " because the call's deadline passed"
        return LMTimeoutError(text, phase="total" if total else self.phase)
