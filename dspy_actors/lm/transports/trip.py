"""One request's way through the phases of HTTP, and the one timer that watches it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from dspy_actors.errors import LMTimeoutError
from dspy_actors.lm.transports.base import OnSent, TransportSettings, bare
from dspy_actors.lm.transports.observed import ask_again

_WORDS = {
    "queue": "no connection became free",
    "connect": "the connection was not made",
    "write": "the request could not be written",
    "first_byte": "the server did not begin to answer",
    "body": "the answer stopped arriving",
}
_NEVER = float("inf")


class Trip:
    """The phase a request is in, whether it was sent, and its timer. `with` it around all the request waits for.

    A limit that passes cancels the task that stands inside and comes out as `LMTimeoutError`. The timer is armed once
    for most requests: a later limit is only written down, and the timer looks at it when it goes off.
    """

    __slots__ = (
        "_armed",
        "_cancelling",
        "_deadline",
        "_expired",
        "_first_byte",
        "_loop",
        "_on_sent",
        "_settings",
        "_since",
        "_task",
        "_timer",
        "_until",
        "fresh",
        "phase",
        "sent",
        "url",
    )

    def __init__(
        self,
        url: str,
        settings: TransportSettings,
        deadline: float | None,
        on_sent: OnSent | None,
        first_byte: float | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._deadline = _NEVER if deadline is None else deadline
        self._on_sent = on_sent
        self._first_byte = settings.first_byte if first_byte is None else first_byte
        self._since = self._loop.time()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = self._until = _NEVER
        self.url = url
        self.phase = "queue"
        self.sent = False
        self.fresh = False
        """Whether the attempt under way made its own connection."""

    def __enter__(self) -> Self:
        if self._deadline <= self._since:
            raise self._late()
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expired:  # who cancelled the task beside us is to hear of it, and not of the limit
            assert task is not None
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise self._late()

    def queue(self) -> None:
        """The request waits for a connection as long as its deadline lets it."""
        self._until = self._deadline
        if self._until < self._armed:
            self._arm()

    def enter(self, phase: str) -> None:
        """The request is in `phase` from now on and may stay there as long as the settings say."""
        self.phase = phase
        limit: float = self._first_byte if phase == "first_byte" else getattr(self._settings, phase)
        self._until = until = min(self._loop.time() + limit, self._deadline)
        if until < self._armed:
            self._arm()

    def attempt(self) -> None:
        """The request tries its luck on a connection; a second try is sent, and told, once more.

        Where the first one was sent too, raises what the attempt's observer has against another.
        """
        if self.sent:
            ask_again()
        self.fresh = False
        self.sent = False
        self.enter("connect")

    def written(self) -> None:
        """The whole request is with the socket; tells the caller, once a try, and waits for the first byte."""
        self.enter("first_byte")
        self.tell()

    def tell(self) -> None:
        """Tell the caller, once a try, that the request was sent."""
        if not self.sent:
            self.sent = True
            if self._on_sent is not None:
                self._on_sent()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._until
        self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        """The timer went off: has the limit passed, or was it moved?"""
        self._timer = None
        if self._loop.time() < self._until:
            self._arm()
        elif self._task is not None:
            self._expired = True
            self._armed = -_NEVER  # no other one: the cancellation is on its way
            self._task.cancel()

    def _late(self) -> LMTimeoutError:
        """The error for a limit that passed now: of the phase, or `total` where it was the caller's deadline."""
        now = self._loop.time()
        total = self._deadline <= now
        text = f"{bare(self.url)}: {_WORDS[self.phase]}; gave up after {now - self._since:.3g} s"
        if total:
            text += ": the time of the attempt was up (the LM's timeout or the call's deadline)"
        return LMTimeoutError(text, phase="total" if total and self.phase != "queue" else self.phase)
