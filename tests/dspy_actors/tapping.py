"""A provider whose streams the test feeds by hand, piece by piece."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dspy_actors.channel import Channel
from dspy_actors.errors import LMError, LMUnexpectedError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse, ToolCall, Usage
from dspy_actors.pieces import Piece, TextPiece
from dspy_actors.runtime import Runtime
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE

LONG = 600.0
"""Seconds of a deadline that is not what ends the stream of a test."""


class Tap:
    """One stream of the provider's. `reads` counts how often the worker came for more."""

    def __init__(self, request: LMRequest, attempt: Attempt) -> None:
        self.request = request
        self.attempt = attempt
        self.text = ""
        self.usage: Usage | None = None
        self.reads = 0
        self.closed = threading.Event()
        self._said: Channel[Piece] = Channel()
        self._response = LMResponse(("",), request.model)

    def say(self, *texts: str) -> None:
        """The model writes these pieces; they arrive together."""
        self._said.put([TextPiece(text) for text in texts])

    def put(self, *pieces: Piece) -> None:
        """The model writes these pieces, of whatever kind."""
        self._said.put(pieces)

    def end(self, finish: str = "stop", usage: Usage | None = None, calls: tuple[ToolCall, ...] = ()) -> None:
        """A clean end."""
        self.usage = usage or self.usage
        self._response = LMResponse(
            ("",), self.request.model, self.usage, (finish,), tool_calls=(calls,) if calls else ()
        )
        self._said.finish()

    def fail(self, error: LMError) -> None:
        """The stream breaks."""
        self._said.fail(error)

    async def read(self) -> Sequence[Piece]:
        self.reads += 1
        try:
            pieces = await self._said.take() or ()
        except LMError as error:
            error.partial = self.text
            raise
        self.text += "".join(piece.text for piece in pieces if isinstance(piece, TextPiece) and piece.choice == 0)
        return pieces

    def response(self) -> LMResponse:
        made = self._response
        return LMResponse((self.text,), made.model, made.usage, made.finish_reasons, tool_calls=made.tool_calls)

    async def aclose(self) -> None:
        self.closed.set()


class Taps:
    """A provider. Of its `refusals` each request takes one: what it raises instead of giving a stream, or `None`."""

    name = "scripted"
    endpoint = "scripted:"

    def __init__(self, *refusals: LMError | None) -> None:
        self.all: list[Tap] = []
        self._refusals = deque(refusals)
        self._arrived = threading.Semaphore(0)
        self._taken = 0

    async def stream(self, request: LMRequest, attempt: Attempt) -> Tap:
        attempt.observer.sent()
        tap = Tap(request, attempt)
        self.all.append(tap)
        refusal = self._refusals.popleft() if self._refusals else None
        self._arrived.release()
        if refusal is not None:
            raise refusal
        return tap

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        raise LMUnexpectedError("these tests stream")

    async def aclose(self) -> None:
        """Nothing is open."""

    def next(self) -> Tap:
        """The next request's stream, refused ones included, once it has arrived."""
        assert self._arrived.acquire(timeout=PATIENCE), "no request reached the provider"
        self._taken += 1
        return self.all[self._taken - 1]


@contextmanager
def tapped(
    *refusals: LMError | None, lm: dict[str, Any] | None = None, **options: Any
) -> Iterator[tuple[Runtime, Taps]]:
    """A running runtime whose one model streams what the test says. Options of its LM are in `lm`."""
    taps = Taps(*refusals)
    model = LM("scripted/m", **{"num_retries": 0, **(lm or {})})
    with Runtime(model, open_provider=lambda config: taps, **{"deadline": LONG, **options}) as rt:
        yield rt, taps


def some(stream: LMStream) -> list[str]:
    """The texts of what is there, or comes next."""
    pieces = stream.take().get(PATIENCE)
    return [piece.text for piece in pieces or () if isinstance(piece, TextPiece)]


def rest(stream: LMStream) -> str:
    """The text of all that still comes; raises what the stream ends with."""
    text = ""
    while (pieces := stream.take().get(PATIENCE)) is not None:
        text += "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    return text


def over(stream: LMStream) -> BaseException | None:
    """What the call behind the stream ended with, once it has; `None` for an answer."""
    ended: list[Any] = []
    stream.add_done_callback(ended.append)
    wait_until(lambda: ended, PATIENCE)
    error: BaseException | None = ended[0].exception()
    return error
