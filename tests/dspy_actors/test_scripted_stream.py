"""The provider that tests script streams with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dspy_actors.errors import LMError, LMServerError, LMTimeoutError, LMTransportError
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse, Message, ToolCall, Usage
from dspy_actors.pieces import Piece, TextPiece, ToolCallPiece
from dspy_actors.testing.providers import ScriptedProvider

REQUEST = LMRequest("m", (Message.of("user", "two words"),))


async def all_of(stream: Any) -> list[Piece]:
    pieces: list[Piece] = []
    while more := await stream.read():
        pieces += more
    return pieces


def streamed(*answers: Any) -> tuple[list[Piece], LMResponse, ScriptedProvider]:
    async def once() -> tuple[list[Piece], LMResponse, ScriptedProvider]:
        provider = ScriptedProvider(answers)
        stream = await provider.stream(REQUEST, Attempt("c.1"))
        return await all_of(stream), stream.response(), provider

    return asyncio.run(once())


def test_a_list_is_said_line_by_line_and_joined() -> None:
    pieces, response, provider = streamed(["a ", "b", ToolCallPiece(0, "c1", "f", "{"), ToolCallPiece(0, "", "", "}")])
    assert pieces[:2] == [TextPiece("a "), TextPiece("b")]
    assert (response.texts, response.tool_calls) == (("a b",), ((ToolCall("c1", "f", "{}"),),))
    assert (response.usage, provider.open, provider.streams[0].closed) == (Usage(2, 2), 0, True)


def test_a_text_and_a_whole_answer_come_in_one_piece() -> None:
    whole = LMResponse(("x", "y"), "m", Usage(1, 2), ("stop", "length"))
    assert streamed("hello")[0] == [TextPiece("hello")]
    assert streamed(whole)[:2] == ([TextPiece("x"), TextPiece("y", 1)], whole)


def test_an_error_between_the_lines_carries_what_came_before() -> None:
    async def once() -> tuple[LMError, int]:
        provider = ScriptedProvider([["a", "b", LMServerError("over")]])
        stream = await provider.stream(REQUEST, Attempt("c.1"))
        with pytest.raises(LMServerError) as caught:
            await all_of(stream)
        return caught.value, provider.open

    error, still_open = asyncio.run(once())
    assert (error.partial, error.provider, error.model, still_open) == ("ab", "scripted", "m", 0)


def test_a_line_may_be_waited_for() -> None:
    async def once() -> list[Piece]:
        gate = asyncio.Event()
        provider = ScriptedProvider([["a", gate, "b"]])
        stream = await provider.stream(REQUEST, Attempt("c.1"))
        first = await stream.read()
        rest = asyncio.create_task(all_of(stream))
        await asyncio.sleep(0)
        assert not rest.done()
        gate.set()
        return [*first, *await rest]

    assert asyncio.run(once()) == [TextPiece("a"), TextPiece("b")]


@pytest.mark.parametrize(("limits", "phase"), [({"idle": 0.01}, "idle"), ({"deadline": 0.01}, "total")])
def test_a_line_is_waited_for_no_longer_than_the_attempt_allows(limits: dict[str, float], phase: str) -> None:
    async def once() -> LMTimeoutError:
        now = asyncio.get_running_loop().time()
        attempt = Attempt("c.1", idle=limits.get("idle"), deadline=now + 0.01 if "deadline" in limits else None)
        stream = await ScriptedProvider([["a", asyncio.Event()]]).stream(REQUEST, attempt)
        with pytest.raises(LMTimeoutError) as caught:
            await all_of(stream)
        return caught.value

    error = asyncio.run(once())
    assert (error.phase, error.partial) == (phase, "a")


def test_a_closed_stream_says_nothing_more() -> None:
    async def once() -> tuple[Sequence[Piece], int, int]:
        provider = ScriptedProvider([["a", "b"]])
        stream = await provider.stream(REQUEST, Attempt("c.1"))
        first = await stream.read()
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(LMTransportError, match="closed"):
            await stream.read()
        return first, stream.taken, provider.open

    assert asyncio.run(once()) == ((TextPiece("a"),), 1, 0)


def test_a_list_asked_for_whole_is_joined() -> None:
    answer = asyncio.run(ScriptedProvider([["a", "b"]]).complete(REQUEST, Attempt("c.1")))
    assert answer.texts == ("ab",)
