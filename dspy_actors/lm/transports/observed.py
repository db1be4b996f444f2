"""`Observed`: a transport whose answers' headers are told to whoever made the attempt, refusals included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias

from dspy_actors.lm.transports.base import (
    HTTPRequest,
    HTTPResponse,
    Incoming,
    OnSent,
    Transport,
    TransportFactory,
    TransportSettings,
)

Heard: TypeAlias = Callable[[int, Mapping[str, str]], None]

HEARD: ContextVar[Heard | None] = ContextVar("dspy_actors_heard", default=None)
"""Who wants to hear status and headers of the request made in this task; set by the worker around an attempt."""


class Observed:
    """Passes everything through; after an answer, calls what `HEARD` holds, on the loop. It must not raise."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(
        self, request: HTTPRequest, *, deadline: float | None = None, on_sent: OnSent | None = None
    ) -> HTTPResponse:
        """See `base.Transport.send`."""
        answer = await self._inner.send(request, deadline=deadline, on_sent=on_sent)
        _tell(answer)
        return answer

    async def open(
        self,
        request: HTTPRequest,
        *,
        deadline: float | None = None,
        on_sent: OnSent | None = None,
        first_byte: float | None = None,
        idle: float | None = None,
    ) -> Incoming:
        """See `base.Transport.open`; told when the head is there."""
        answer = await self._inner.open(request, deadline=deadline, on_sent=on_sent, first_byte=first_byte, idle=idle)
        _tell(answer)
        return answer

    async def aclose(self) -> None:
        """See `base.Transport.aclose`."""
        await self._inner.aclose()


def _tell(answer: HTTPResponse | Incoming) -> None:
    heard = HEARD.get()
    if heard is not None:
        heard(answer.status, answer.headers)


def observed(factory: TransportFactory) -> TransportFactory:
    """A factory of observed transports."""

    def open_transport(base_url: str, settings: TransportSettings) -> Transport:
        return Observed(factory(base_url, settings))

    return open_transport
