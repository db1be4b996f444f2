"""`SlottedTransport`: what the HTTP transports share: admission, the two ways to send, who hears of their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from dspy_actors.lm.transports.arriving import Arriving, Source
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    OnSent,
    TransportSettings,
    check_headers,
    transport_error,
)
from dspy_actors.lm.transports.observed import tell
from dspy_actors.lm.transports.slots import Slots
from dspy_actors.lm.transports.trip import Trip


class Head(NamedTuple):
    """The head of an answer, and where its body comes from."""

    source: Source
    status: int
    headers: Mapping[str, str]


class SlottedTransport:
    """`base.Transport` but for the connections: a kind of transport says how it asks on one (`_whole`, `_begun`)."""

    def __init__(self, settings: TransportSettings | None) -> None:
        self._settings = settings or TransportSettings()
        self._slots = Slots(self._settings.connections)
        self._arriving: set[Arriving] = set()
        self._closed = False

    async def send(
        self, request: HTTPRequest, *, deadline: float | None = None, on_sent: OnSent | None = None
    ) -> HTTPResponse:
        """See `base.Transport.send`."""
        self._check(request)
        with Trip(request.url, self._settings, deadline, on_sent) as trip:
            if not self._slots.take():
                trip.queue()
                await self._slots.wait()
            try:
                answer = await self._whole(request, trip)
            finally:
                self._slots.give_back()
        tell(answer.status, answer.headers)
        return answer

    async def open(
        self,
        request: HTTPRequest,
        *,
        deadline: float | None = None,
        on_sent: OnSent | None = None,
        first_byte: float | None = None,
        idle: float | None = None,
    ) -> Arriving:
        """See `base.Transport.open`."""
        self._check(request)
        with Trip(request.url, self._settings, deadline, on_sent, first_byte) as trip:
            if not self._slots.take():
                trip.queue()
                await self._slots.wait()
            try:
                head = await self._begun(request, trip)
            except BaseException:
                self._slots.give_back()
                raise
        arriving = Arriving(
            *head,
            url=request.url,
            deadline=deadline,
            idle=self._settings.body if idle is None else idle,
            on_end=self._ended,
        )
        self._arriving.add(arriving)
        tell(arriving.status, arriving.headers)
        return arriving

    def _whole(self, request: HTTPRequest, trip: Trip) -> Awaitable[HTTPResponse]:
        """Ask, and read the whole answer. A plain method that gives a coroutine: each frame of a call costs memory."""
        raise NotImplementedError

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        """Ask, and read only the head of the answer."""
        raise NotImplementedError

    async def _close_arriving(self) -> None:
        """For `aclose`: no more requests, and no more of the answers under way."""
        self._closed = True
        for arriving in list(self._arriving):
            await arriving.aclose()

    def _check(self, request: HTTPRequest) -> None:
        if self._closed:
            raise transport_error("the transport is closed", request.url, "closed")
        check_headers(request)

    def _ended(self, arriving: Arriving) -> None:
        self._arriving.discard(arriving)
        self._slots.give_back()
