"""One request's way through the phases of HTTP, and the one timer that watches it."""

from __future__ import annotations

import asyncio
from contextvars import Context

from dspy_actors.errors import LMError, LMTimeoutError
from dspy_actors.lm.transports.base import TransportSettings, bare, transport_error
from dspy_actors.lm.transports.observer import Observer, ask_again

_WORDS = {
    "queue": "no connection became free",
    "connect": "the connection was not made",
    "write": "the request could not be written",
    "first_byte": "the server did not begin to answer",
    "body": "the answer stopped arriving",
}
_NEVER = float("inf")


class Trips:
    """The trips of one transport that are under way, and what they share. Belongs to one loop's thread."""

    __slots__ = ("_over", "context", "loop", "settings", "under_way")

    def __init__(self, settings: TransportSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.context = Context()
        """What the timers run in: they read no variable, and a copy of the task's own for each would be one more."""
        self.under_way: set[Trip] = set()
        self._over: asyncio.Future[None] | None = None

    async def end(self) -> None:
        """The transport was closed: end each trip with an error that says so, and wait until it has left."""
        while self.under_way:
            for trip in list(self.under_way):
                trip.interrupt(transport_error("the transport was closed", trip.url, "closed"))
            self._over = self._over or self.loop.create_future()
            await asyncio.shield(self._over)

    def left(self, trip: Trip) -> None:
        """`trip` is over."""
        self.under_way.discard(trip)
        if self._over is not None and not self.under_way:
            over, self._over = self._over, None
            over.set_result(None)


class Trip:
    """The phase a request is in, whether it was sent, and its timer. Made and used by the task that waits for it.

    A limit that passes, and `interrupt`, cancel that task; `reason` turns the cancellation into the error that says
    why. The timer is armed once for most requests: a later limit is only written down, and the timer looks at it when
    it goes off.

    ```python
    trip = Trip(trips, url, deadline, observer)
    try:
        ...
    except asyncio.CancelledError as cancelled:
        raise trip.reason(cancelled) from None
    finally:
        trip.stop()
    ```
    """

    __slots__ = (
        "_armed",
        "_cancelling",
        "_deadline",
        "_first_byte",
        "_observer",
        "_since",
        "_task",
        "_timer",
        "_trips",
        "_until",
        "_why",
        "fresh",
        "phase",
        "sent",
        "url",
    )

    def __init__(
        self,
        trips: Trips,
        url: str,
        deadline: float | None,
        observer: Observer,
        first_byte: float | None = None,
    ) -> None:
        """Raises `LMTimeoutError` where the deadline has passed."""
        self._trips = trips
        self._deadline = _NEVER if deadline is None else deadline
        self._observer = observer
        self._first_byte = trips.settings.first_byte if first_byte is None else first_byte
        self._since = trips.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = self._until = _NEVER
        self._why: LMError | None = None
        self.url = url
        self.phase = "queue"
        self.sent = False
        self.fresh = False
        """Whether the attempt under way made its own connection."""
        if self._deadline <= self._since:
            raise self._late()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        trips.under_way.add(self)

    def interrupt(self, why: LMError) -> None:
        """End the trip with this error. The first reason counts."""
        if self._why is None:
            self._why = why
            self._task.cancel()

    def reason(self, cancelled: asyncio.CancelledError) -> BaseException:
        """What the cancelled task raises: who cancelled it beside us is to hear of that, and not of our error."""
        why, self._why = self._why, None
        if why is None or self._task.uncancel() > self._cancelling:
            return cancelled
        return why

    def stop(self) -> None:
        """The trip is over, however it went."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = -_NEVER  # no other one: a request may be written to its end after its answer
        if self._why is not None:  # it came to its end although it was to be cancelled
            self._why = None
            self._task.uncancel()
        self._trips.left(self)

    def queue(self) -> None:
        """The request waits for a connection as long as its deadline lets it."""
        self._until = self._deadline
        if self._until < self._armed:
            self._arm()

    def enter(self, phase: str) -> None:
        """The request is in `phase` from now on and may stay there as long as the settings say."""
        self.phase = phase
        limit: float = self._first_byte if phase == "first_byte" else getattr(self._trips.settings, phase)
        self._until = until = min(self._trips.loop.time() + limit, self._deadline)
        if until < self._armed:
            self._arm()

    def attempt(self) -> None:
        """The request tries its luck on a connection; a second try is sent, and told, once more.

        Where the first one was sent too, and the attempt's observer has something against another, raises
        `LMTransportError`: the first one has failed.
        """
        if self.sent:
            ask_again(self._observer, transport_error("the connection broke before an answer came", self.url, "cut"))
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
            self._observer.sent()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = until = self._until
        self._timer = self._trips.loop.call_at(until, self, context=self._trips.context)

    def __call__(self) -> None:
        """The timer went off: has the limit passed, or was it moved?"""
        self._timer = None
        if self._trips.loop.time() < self._until:
            self._arm()
        else:
            self._armed = -_NEVER  # no other one: the cancellation is on its way
            self.interrupt(self._late())

    def _late(self) -> LMTimeoutError:
        """The error for a limit that passed now: of the phase, or `total` where it was the caller's deadline."""
        now = self._trips.loop.time()
        total = self._deadline <= now
        text = f"{bare(self.url)}: {_WORDS[self.phase]}; gave up after {now - self._since:.3g} s"
        if total:
            text += ": the time of the attempt was up (the LM's timeout or the call's deadline)"
        return LMTimeoutError(text, phase="total" if total and self.phase != "queue" else self.phase)
