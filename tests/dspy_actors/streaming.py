"""Asks providers for streams and reads them to their end, for the tests of what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from dspy_actors.errors import LMError
from dspy_actors.lm.providers.base import Attempt, KeySource
from dspy_actors.messages import LMRequest, LMResponse, Message, Usage
from dspy_actors.pieces import Piece, TextPiece
from dspy_actors.testing.peer import Peer, Reaction
from tests.dspy_actors.providing import DIALECTS, TURNS, opened

POURS: ContextVar[bool] = ContextVar("POURS", default=False)
"""Whether streams are poured, where they can be, after their first pieces."""

CHUNKED = b"HTTP/1.1 200 Said\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Streamed:
    """How a stream went: its pieces, and the answer or the error that it ended in."""

    pieces: list[Piece] = field(default_factory=list)
    answer: LMResponse | None = None
    error: LMError | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if isinstance(piece, TextPiece) and not piece.choice)


async def read_stream(provider: Any, request: LMRequest, attempt: Attempt) -> Streamed:
    """One stream, read to its end, whatever that is."""
    went = Streamed()
    try:
        stream = await provider.stream(request, attempt)
    except LMError as error:
        went.error = error
        return went
    try:
        while more := await stream.read():
            went.pieces += more
            if POURS.get() and hasattr(stream, "pour"):
                await poured(stream, went.pieces)
        went.answer = stream.response()
    except LMError as error:
        went.error = error
    finally:
        went.usage = stream.usage
        await stream.aclose()
    return went


async def poured(stream: Any, into: list[Piece]) -> None:
    """Pour the rest of a stream, to somebody who has no room for more after every second piece."""
    told = 0
    full = False

    def write(pieces: Sequence[Piece]) -> bool:
        nonlocal told, full
        assert pieces, "nothing is written"
        assert not full, "it went on though there was no room"
        told += 1
        into.extend(pieces)
        full = told % 2 == 0
        return not full

    while await stream.pour(write):
        assert full, "it stopped though there was room"
        full = False


def stream_in(
    dialect: str,
    base_url: str,
    *,
    turns: tuple[Message, ...] = TURNS,
    key: KeySource = None,
    transport: str = "aiohttp",
    limits: dict[str, float] | None = None,
    model: str = "m",
    **options: Any,
) -> Streamed:
    """A stream asked for in one of `DIALECTS`; `limits` are the attempt's, its deadline in seconds from now."""
    name, choosing = DIALECTS[dialect]

    async def once() -> Streamed:
        bounds: dict[str, Any] = dict(limits or {})
        if "deadline" in bounds:
            bounds["deadline"] += asyncio.get_running_loop().time()
        provider = opened(name, base_url, key, transport)
        try:
            request = LMRequest(model, turns, {**choosing, **options})
            return await read_stream(provider, request, Attempt("c.1", **bounds))
        finally:
            await provider.aclose()

    return asyncio.run(once())


def streamed_from(dialect: str, body: bytes, **options: Any) -> Streamed:
    """What is made of a stream whose body is `body`."""
    whole = CHUNKED + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"

    async def once() -> Streamed:
        name, choosing = DIALECTS[dialect]
        async with Peer(Reaction(whole)) as peer:
            provider = opened(name, peer.url)
            try:
                return await read_stream(provider, LMRequest("m", TURNS, {**choosing, **options}), Attempt("c.1"))
            finally:
                await provider.aclose()

    return asyncio.run(once())
