"""What the checks of transports share: a transport to a peer, a request, how sending fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, Transport, TransportFactory, TransportSettings
from dspy_actors.testing.peer import Peer

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
    on_sent: Callable[[], None] | None = None,
) -> LMTransportError | LMTimeoutError:
    """The error that sending must end in; `AssertionError` where it ends in an answer."""
    try:
        answer = await transport.send(request, deadline=deadline, on_sent=on_sent)
    except (LMTransportError, LMTimeoutError) as error:
        return error
    msg = f"an error was due, not {answer}"
    raise AssertionError(msg)


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them all and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
