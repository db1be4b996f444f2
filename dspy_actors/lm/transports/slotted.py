"""`SlottedTransport`: what the HTTP transports share: admission, the two ways to send, who hears of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from dspy_actors.errors import LMError, LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.arriving import Arriving, Source
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    TransportSettings,
    check_headers,
    check_url,
    decoded,
    too_large,
    transport_error,
)
from dspy_actors.lm.transports.observer import NOBODY, Observer
from dspy_actors.lm.transports.refusal import REFUSED, RefusalBody
from dspy_actors.lm.transports.slots import Slots
from dspy_actors.lm.transports.trip import Trip, Trips


class Head(NamedTuple):
    """The head of an answer, and where its body comes from."""

    source: Source
    status: int
    headers: Mapping[str, str]


class SlottedTransport:
    """`base.Transport` but for the connections: a kind of transport says how it asks on one (`_begun`)."""

    def __init__(self, base_url: str, settings: TransportSettings | None) -> None:
        """Raises `LMTransportError` (`url`) for a base URL that no transport can ask."""
        check_url(base_url)
        self._settings = settings or TransportSettings()
        self._slots = Slots(self._settings.connections)
        self._trips = Trips(self._settings)
        self._arriving: set[Arriving] = set()
        self._closed = False

    async def send(
        self, request: HTTPRequest, *, deadline: float | None = None, observer: Observer = NOBODY
    ) -> HTTPResponse:
        """See `base.Transport.send`."""
        self._check(request)
        trip = Trip(self._trips, request.url, deadline, observer)
        try:
            if not self._slots.take():
                trip.queue()
                await self._slots.wait()
            try:
                head = await self._asked_or_told(request, trip)
                body = await self._body(head, trip)
            finally:
                self._slots.give_back()
        except asyncio.CancelledError as cancelled:
            raise trip.reason(cancelled) from None
        finally:
            trip.stop()
        observer.heard(head.status, head.headers)
        return HTTPResponse(head.status, head.headers, body)

    async def open(
        self,
        request: HTTPRequest,
        *,
        deadline: float | None = None,
        observer: Observer = NOBODY,
        first_byte: float | None = None,
        idle: float | None = None,
    ) -> Arriving:
        """See `base.Transport.open`."""
        self._check(request)
        trip = Trip(self._trips, request.url, deadline, observer, first_byte)
        try:
            if not self._slots.take():
                trip.queue()
                await self._slots.wait()
            try:
                head = await self._asked_or_told(request, trip)
            except BaseException:
                self._slots.give_back()
                raise
            arriving = self._arrives(head, trip, deadline, idle)
        except asyncio.CancelledError as cancelled:
            raise trip.reason(cancelled) from None
        finally:
            trip.stop()
        observer.heard(head.status, head.headers)
        return arriving

    async def _asked_or_told(self, request: HTTPRequest, trip: Trip) -> Head:
        """`_begun`, and the last net below `check_url` and `check_headers`.

        What a client's codec says of a host or a header is no error of ours: it would end the worker, and with it the
        calls of others. It may hold the header, so ours is raised where no `__context__` keeps it; it is not retried.
        """
        try:
            head = await self._begun(request, trip)
        except LMError:  # some are `ValueError`s too
            raise
        except ValueError as error:  # a `UnicodeError` is one
            kind = type(error).__name__
        else:
            return head if head.status < REFUSED else _refusal(head, self._settings.max_body)
        if trip.sent:
            raise transport_error(f"the answer could not be read: {kind}", trip.url, "encoding")
        raise transport_error(f"the client could not write this request: {kind}", trip.url, "url")

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        """Ask, and read only the head of the answer."""
        raise NotImplementedError

    async def _body(self, head: Head, trip: Trip) -> bytes:
        """The whole body, decompressed. The connection is kept only where its end was read.

        Of a refusal's body that ends too early there is what came, of one that cannot be read nothing: what it is says
        its status, which must not be lost.
        """
        source, bound = head.source, self._settings.max_body
        pieces: list[bytes] = []
        size = 0
        clean = False
        try:
            trip.enter("body")
            while piece := await source.next():
                pieces.append(piece)
                size += len(piece)
                if size > bound:
                    raise too_large(bound, trip.url)
                trip.enter("body")
            clean = True
        except asyncio.CancelledError as cancelled:
            reason = trip.reason(cancelled)
            if head.status < REFUSED or not isinstance(reason, LMTimeoutError):
                raise reason from None
        finally:
            await source.release(clean)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            return decoded(body, head.headers.get("content-encoding", "").strip().lower(), bound, trip.url)
        except LMTransportError:
            if head.status < REFUSED:
                raise
            return b""

    def _arrives(self, head: Head, trip: Trip, deadline: float | None, idle: float | None) -> Arriving:
        trip.phase = "body"
        arriving = Arriving(
            *head,
            url=trip.url,
            deadline=deadline,
            idle=self._settings.body if idle is None else idle,
            on_end=self._ended,
        )
        self._arriving.add(arriving)
        return arriving

    async def _end_all(self) -> None:
        """For `aclose`: no more requests; those under way, and the answers under way, end with an error."""
        self._closed = True
        await self._trips.end()
        for arriving in list(self._arriving):
            await arriving.aclose()

    def _check(self, request: HTTPRequest) -> None:
        if self._closed:
            raise transport_error("the transport is closed", request.url, "closed")
        check_url(request.url)
        check_headers(request)

    def _ended(self, arriving: Arriving) -> None:
        self._arriving.discard(arriving)
        self._slots.give_back()


def _refusal(head: Head, bound: int) -> Head:
    """A head whose status says what the answer is, whatever becomes of its body."""
    return Head(RefusalBody(head.source, bound), head.status, head.headers)
