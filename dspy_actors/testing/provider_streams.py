"""What every provider's streams must do: a part of `providers.check_provider`."""

from __future__ import annotations

import asyncio

from dspy_actors.errors import LMError, LMTimeoutError
from dspy_actors.lm.providers.base import Attempt, Provider, ProviderStream
from dspy_actors.messages import LMRequest, LMResponse, ToolCall
from dspy_actors.pieces import Piece, TextPiece
from dspy_actors.testing.sent_count import SentCount


async def check_streams(provider: Provider, request: LMRequest) -> None:
    """Check the streams of a provider that can answer `request`. Raises `AssertionError` at the first breach."""
    await _check_answer(provider, request)
    await _check_many_at_once(provider, request)
    await _check_close(provider, request)
    await _check_deadline(provider, request)
    await _check_cancel(provider, request)


async def _check_answer(provider: Provider, request: LMRequest) -> None:
    sent = SentCount()
    stream = await provider.stream(request, Attempt("check.stream", observer=sent))
    sent.check("stream()")
    pieces = await _read_all(stream)
    sent.check("a stream")
    response = stream.response()
    assert list(await stream.read()) == [], "read() after the end gives () again"
    await stream.aclose()
    await stream.aclose()
    assert isinstance(response, LMResponse), f"response() returned a {type(response).__name__}"
    assert response.model, "an answer names its model"
    assert stream.response() == response, "the answer stays when the stream is closed"
    assert stream.usage == response.usage, "after the end, usage is the answer's"
    assert stream.text == response.texts[0], "text is the first choice's"
    _check_join(pieces, response)


def _check_join(pieces: list[Piece], response: LMResponse) -> None:
    """The pieces are the answer."""
    texts = [""] * len(response.texts)
    calls: list[dict[int, ToolCall]] = [{} for _ in response.texts]
    for piece in pieces:
        if isinstance(piece, TextPiece):
            assert piece.text, "a piece holds something"
            texts[piece.choice] += piece.text
        else:
            begun = calls[piece.choice].get(piece.number, ToolCall(piece.id, piece.name, ""))
            calls[piece.choice][piece.number] = ToolCall(begun.id, begun.name, begun.arguments + piece.arguments)
    assert tuple(texts) == response.texts, "the pieces join to the answer's texts"
    asked = [(call.id, call.name) for choice in response.tool_calls for call in choice]
    assert [(call.id, call.name) for found in calls for call in found.values()] == asked, "and to its tool calls"


async def _check_many_at_once(provider: Provider, request: LMRequest) -> None:
    async def one(number: int) -> int:
        sent = SentCount()
        stream = await provider.stream(request, Attempt(f"check.streams.{number}", observer=sent))
        sent.check("stream(), asked 20 times at once,")
        try:
            return len(await _read_all(stream))
        finally:
            await stream.aclose()

    assert len(set(await asyncio.gather(*map(one, range(20))))) > 0


async def _check_close(provider: Provider, request: LMRequest) -> None:
    """Closed before its end, a stream gives an error and no answer, and the provider goes on."""
    stream = await provider.stream(request, Attempt("check.close"))
    await stream.aclose()
    (end,) = await asyncio.gather(stream.read(), return_exceptions=True)
    assert isinstance(end, LMError), f"read() of a closed stream ended in {end!r}"
    try:
        stream.response()
    except RuntimeError:
        return
    raise AssertionError("response() gave an answer that was never read")


async def _check_deadline(provider: Provider, request: LMRequest) -> None:
    """A deadline that has passed ends in `LMTimeoutError`, or in an answer that needed no waiting."""
    passed = asyncio.get_running_loop().time() - 1.0
    (end,) = await asyncio.gather(
        _stream_and_read(provider, request, Attempt("check.late", deadline=passed)), return_exceptions=True
    )
    if isinstance(end, list):
        return
    assert isinstance(end, LMTimeoutError), f"a deadline that passed ended in {end!r}"
    assert end.provider == provider.name, "an error names its provider"
    assert end.model == request.model, "an error names its model"


async def _check_cancel(provider: Provider, request: LMRequest) -> None:
    """Cancelled before or while it is read, a stream is over, and the provider goes on."""
    for turns in range(4):
        task = asyncio.create_task(_stream_and_read(provider, request, Attempt(f"check.cancel.{turns}")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, (list, asyncio.CancelledError)), f"a cancelled stream ended in {end!r}"
    await _stream_and_read(provider, request, Attempt("check.after"))


async def _stream_and_read(provider: Provider, request: LMRequest, attempt: Attempt) -> list[Piece]:
    stream = await provider.stream(request, attempt)
    try:
        return await _read_all(stream)
    finally:
        await stream.aclose()


async def _read_all(stream: ProviderStream) -> list[Piece]:
    pieces: list[Piece] = []
    while more := await stream.read():
        pieces += more
    return pieces
