"""The aiohttp transport: our own admission, aiohttp's connector as the store of connections.

About a third of httpx's CPU a request. The `[fast]` extra installs aiohttp.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from multidict import CIMultiDict, istr
from yarl import URL

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.aiohttp_protocol import ChunkedHandler
from dspy_actors.lm.transports.arriving import poured
from dspy_actors.lm.transports.base import (
    HTTPRequest,
    Take,
    TransportSettings,
    pieces,
    proxy_from_environment,
    transport_error,
)
from dspy_actors.lm.transports.broken import Broken, check_head, untrusted
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip

_SKIPPED = ("User-Agent", "Accept", "Content-Type")
"""What aiohttp would add to a request that lacks it; `None` in its place spares every other request the search."""

_GIVEN = frozenset(name.lower() for name in _SKIPPED)
_PLAIN = istr("accept-encoding")

_UNTIMED = TimerNoop()
_NO_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""`Trip` times all phases."""

_FIELD = 64 * 1024
"""Bytes that one header of an answer may have, as the other transports have it; aiohttp takes 8190."""

_UNTRACED: list[Any] = []


class AiohttpTransport(SlottedTransport):
    """`Transport` on aiohttp. See `base.Transport` for the contract.

    It is aiohttp's client but for `ClientSession`: cookies, redirects, retries and timeouts of its own, none of which
    may happen here, would cost twenty objects and as many calls a request.
    """

    def __init__(self, base_url: str, settings: TransportSettings | None = None) -> None:
        super().__init__(base_url, settings)
        proxy = proxy_from_environment(base_url, self._settings)
        self._proxy = None if proxy is None else URL(proxy)
        self._urls = _URLs()
        self._names = _Names()
        self._connector = _Connector(
            limit=0,
            ssl=self._settings.trust.context(base_url),
            keepalive_timeout=self._settings.keepalive,
            resolver=aiohttp.ThreadedResolver(),
        )

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        await self._end_all()
        await self._connector.close()

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        """See `SlottedTransport`. A connection that the server had dropped while it was idle costs one second try.

        Errors of aiohttp hold the request's headers, so ours are raised where no `__context__` keeps them.
        """
        tried = False
        while True:
            try:
                asked = self._asked(request, trip)
                connection = await self._connector.connected(asked, trip, new=tried)
                answer, protocol = None, connection.protocol
                try:
                    answer = await asked.send(connection)
                    await answer.start(connection)
                    return _head(answer, trip)
                except BaseException:
                    _drop(answer, connection, protocol)
                    raise
            except (aiohttp.ClientError, OSError, Broken) as error:
                again = not tried and not trip.fresh and trip.phase in ("write", "first_byte") and _is_dropped(error)
                failure = _mapped(error, trip)
            if not again or self._closed:
                raise failure
            tried = True

    def _asked(self, request: HTTPRequest, trip: Trip) -> aiohttp.ClientRequest:
        trip.attempt()
        headers = {_PLAIN: "identity"}
        for name, value in request.headers.items():
            headers[self._names[name]] = value
        return aiohttp.ClientRequest(
            request.method,
            self._urls[request.url],
            data=_Body(request.body, trip),
            headers=headers,
            skip_auto_headers=None if headers.keys() >= _GIVEN else _SKIPPED,
            loop=self._trips.loop,
            timer=_UNTIMED,
            traces=_UNTRACED,
            proxy=self._proxy,
        )


class _URLs(dict[str, URL]):
    """URLs as aiohttp keeps them, parsed once and not for every request."""

    def __missing__(self, text: str) -> URL:
        try:
            url = URL(text).with_user(None)  # a name and password there would become a header
        except ValueError:
            raise Broken("this is no http(s) URL", "url") from None
        if len(self) > 64:
            self.clear()
        self[text] = url
        return url


class _Names(dict[str, istr]):
    """The names of headers as aiohttp keeps them, made once and not for every request."""

    def __missing__(self, name: str) -> istr:
        if len(self) > 64:
            self.clear()
        made = self[name] = istr(name)
        return made


class _Source:
    """`arriving.Source` of one answer."""

    __slots__ = ("_answer", "_body", "_endless", "_protocol", "_trip")

    def __init__(self, answer: aiohttp.ClientResponse, trip: Trip) -> None:
        self._answer = answer
        self._trip = trip
        self._protocol = None if answer.connection is None else answer.connection.protocol
        self._body = self._protocol.body if isinstance(self._protocol, ChunkedHandler) else None
        self._endless = "content-length" not in answer.headers and "transfer-encoding" not in answer.headers

    async def next(self) -> bytes:
        try:
            return await (self._piece() if self._body is None else self._body.next())
        except (aiohttp.ClientError, OSError, Broken) as error:
            failure = _mapped(error, self._trip)
        raise failure

    async def pour(self, take: Take) -> bool:
        if self._body is None:
            return await poured(self.next, take)
        try:
            return await self._body.pour(take)
        except Broken as error:
            failure = _mapped(error, self._trip)
        raise failure

    async def _piece(self) -> bytes:
        """`next` by aiohttp's own reader. What had arrived before a connection broke comes first."""
        content = self._answer.content
        while not content.at_eof():
            if content.exception() is not None and content._buffer:
                return content._read_nowait(-1)
            piece = await content.readany()
            if piece:
                return piece
        protocol = self._protocol
        if self._endless and protocol is not None and isinstance(protocol.exception(), aiohttp.ClientOSError):
            raise aiohttp.ClientPayloadError("reset")  # aiohttp takes it for the end of a body that has no length
        return b""

    async def release(self, clean: bool) -> None:
        body, protocol = self._body, self._protocol
        if body is not None and isinstance(protocol, ChunkedHandler):
            clean = clean and body.over
            protocol.end(clean)
        if clean:
            self._answer.release()
        else:
            self._answer.close()
        await self._answer.wait_for_close()  # an answer may come before the request was read to its end


class _Body(aiohttp.Payload):
    """The request's bytes; tells the trip when the socket has taken the last of them."""

    _encoding = _filename = None
    _headers = CIMultiDict({"content-type": "application/octet-stream"})

    def __init__(self, value: bytes, trip: Trip) -> None:  # `Payload`'s would make such headers for each request
        self._value = value
        self._size = len(value)
        self._trip = trip

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: Any) -> None:
        for piece in pieces(self._value):
            await writer.write(piece)
            await writer.drain()
        self._trip.written()

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await self.write(writer)


class _Connector(aiohttp.TCPConnector):
    """aiohttp's store of connections; tells the trip whether it got a new one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        protocol: type[ResponseHandler] = ChunkedHandler
        self._factory = partial(protocol, loop=self._loop)

    async def connected(self, asked: aiohttp.ClientRequest, trip: Trip, new: bool) -> Connection:
        """A connection that is ready for this request; `new`: those that were idle are not trusted any more."""
        while True:
            connection = await self.connect(asked, _UNTRACED, _NO_LIMITS)
            protocol = connection.protocol
            assert isinstance(protocol, ChunkedHandler)
            # A server that said something while the connection was idle: aiohttp would take it for the next answer.
            if not protocol.should_close and (protocol.fresh or not new):
                break
            connection.close()
        trip.fresh, protocol.fresh = protocol.fresh, False
        protocol.set_response_params(
            timer=_UNTIMED,
            skip_payload=asked.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            max_field_size=_FIELD,
        )
        if asked.method != "HEAD":
            protocol.expect()
        trip.enter("write")
        return connection


def _drop(answer: aiohttp.ClientResponse | None, connection: Connection, protocol: ResponseHandler | None) -> None:
    """Close a connection, also where its answer was all there and has given it back."""
    if answer is not None:
        answer.close()
    connection.close()
    if protocol is not None:
        protocol.close()


def _head(answer: aiohttp.ClientResponse, trip: Trip) -> Head:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    check_head(answer.status, headers, coded_twice=len(answer.headers.getall("transfer-encoding", ())) > 1)
    return Head(_Source(answer, trip), answer.status, headers)


def _is_dropped(error: Exception) -> bool:
    """Whether the connection ended with no byte of an answer; part of one stands where the message would be."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return isinstance(error, OSError)


def _mapped(error: Exception, trip: Trip) -> LMTransportError:
    """The same fault in our words; of aiohttp's texts only those without headers are repeated."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = untrusted(error.certificate_error)
    if isinstance(error, Broken):
        return transport_error(str(error), trip.url, error.code)
    if isinstance(error, aiohttp.InvalidURL):  # a host that it holds for none, as 127.1
        return transport_error("aiohttp takes this host for none; write an address in full", trip.url, "url")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return transport_error(f"no TLS connection: {error.os_error}", trip.url, "tls")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return transport_error(f"no connection to the proxy: {error.os_error}", trip.url, "proxy")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return transport_error(f"the proxy refused: {error.status} {error.message}", trip.url, "proxy")
    if isinstance(error, aiohttp.ClientConnectorError):
        code = "refused" if isinstance(error.os_error, ConnectionRefusedError) else "connect"
        return transport_error(f"no connection: {error.os_error}", trip.url, code)
    where = "before it answered" if trip.phase != "body" else "in the middle of its answer"
    return transport_error(f"the connection broke {where}: {type(error).__name__}", trip.url, "cut")
