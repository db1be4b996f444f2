"""`ChunkedHandler`: aiohttp's protocol, but for the chunks of an answer."""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp.client_proto import ResponseHandler

from dspy_actors.lm.transports.base import keep_alive_options
from dspy_actors.lm.transports.chunked_body import ChunkedBody

_HEAD = 64 * 1024
"""Bytes to look for the end of a head in; aiohttp takes none that is so long."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)")
_IN_CHUNKS = re.compile(
    rb"(?i)HTTP/1\.1 (?!204|304)[2-5]\d\d\b(?!.*\ncontent-length:).*\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.S
)
_TWICE = re.compile(rb"(?i)\ntransfer-encoding:.*\ntransfer-encoding:", re.S)

_LAST_CHUNK = b"0\r\n\r\n"


class ChunkedHandler(ResponseHandler):
    """Gives heads to aiohttp's parser, and reads the chunks behind the one that is expected itself.

    aiohttp's way from the socket to a reader costs several calls and a turn of the loop for each chunk, and a streamed
    answer has one for each of its events. What is not plainly in chunks takes that way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.fresh = True
        """Whether the connection carried no request yet."""
        self.body: ChunkedBody | None = None
        """The body of the answer under way, where it comes in chunks that were expected."""
        self._expects = False
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket = transport.get_extra_info("socket")
        for option in keep_alive_options() if socket is not None else ():
            socket.setsockopt(*option)

    def expect(self) -> None:
        """A request is about to be sent."""
        self.body, self._expects, self._begun = None, True, b""

    def end(self, clean: bool) -> None:
        """Nobody reads the body any more; `clean`: its end was read, and aiohttp may use the connection again."""
        body, self.body = self.body, None
        if body is not None and clean:
            body.let_in()
            super().data_received(_LAST_CHUNK)

    def data_received(self, data: bytes) -> None:
        if self.body is not None:
            self.body.received(data)
        elif self._expects and data:
            self._seek(self._begun + data)
        else:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        begun, self._begun = self._begun, b""
        if begun:  # a part of a head is no silence
            super().data_received(begun)
        if self.body is not None:
            self.body.lost()
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """What came is no HTTP: aiohttp tells who waits for a head; who waits for a body is told here."""
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("what came is no HTTP"))

    def _seek(self, data: bytes) -> None:
        """Look for the head of the answer."""
        self._begun = b""
        while (blank := _BLANK_LINE.search(data)) is not None and _INTERIM.match(data) is not None:
            super().data_received(data[: blank.end()])
            data = data[blank.end() :]
        if blank is None and len(data) <= _HEAD:
            self._begun = data
            return
        self._expects = False
        head = b"" if blank is None else data[: blank.end()]
        if _IN_CHUNKS.match(head) is None or _TWICE.search(head) is not None:
            super().data_received(data)
            return
        super().data_received(head)
        if isinstance(self.transport, asyncio.Transport) and self.exception() is None:
            self.body = ChunkedBody(self.transport)
            if len(data) > len(head):
                self.body.received(data[len(head) :])
