"""What the checks of transports share: a transport to a peer, a request, how sending fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, Incoming, Transport, TransportFactory, TransportSettings
from dspy_actors.lm.transports.observer import NOBODY, Observer
from dspy_actors.testing.peer import Peer

_HEAD = b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n"

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a body in chunks."""

Check: TypeAlias = Callable[[TransportFactory], Awaitable[None]]


@asynccontextmanager
async def opened(
    factory: TransportFactory, peer: Peer, settings: TransportSettings | None = None
) -> AsyncIterator[Transport]:
    """A transport to `peer`, closed afterwards."""
    transport = factory(peer.url, settings or TransportSettings())
    try:
        yield transport
    finally:
        await transport.aclose()


def request_to(peer: Peer) -> HTTPRequest:
    """A small request."""
    return HTTPRequest("POST", f"{peer.url}/v1/chat/completions", {"content-type": "application/json"}, b"{}")


def soon(seconds: float) -> float:
    """The instant so many seconds from now."""
    return asyncio.get_running_loop().time() + seconds


async def failure(
    transport: Transport,
    request: HTTPRequest,
    deadline: float | None = None,
    observer: Observer = NOBODY,
) -> LMTransportError | LMTimeoutError:
    """The error that sending must end in; `AssertionError` where it ends in an answer."""
    try:
        answer = await transport.send(request, deadline=deadline, observer=observer)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {answer}"
    raise AssertionError(msg)


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them all and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def chunked_head(*headers: str) -> bytes:
    """The head of an answer whose body comes in chunks."""
    return _HEAD + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body; none for no data."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def rest_of(answer: Incoming) -> bytes:
    """What is left of an answer's body."""
    body = b""
    while data := await answer.read():
        body += data
    return body


async def read_failure(answer: Incoming) -> LMTransportError | LMTimeoutError:
    """The error that reading ends in; `AssertionError` where it ends well."""
    try:
        body = await rest_of(answer)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {body!r}"
    raise AssertionError(msg)


async def open_failure(
    transport: Transport, peer: Peer, deadline: float | None = None, first_byte: float | None = None
) -> LMTransportError | LMTimeoutError:
    """The error that opening ends in; `AssertionError` where it ends well."""
    try:
        answer = await transport.open(request_to(peer), deadline=deadline, first_byte=first_byte)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {answer}"
    raise AssertionError(msg)
