"""An output or a prompt that an answer's usage lacks, or has 0 for, is estimated: budgets and limiters hold it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dspy_actors.envelope import Envelope
from dspy_actors.lm.attempts import Attempts, Tries
from dspy_actors.lm.exchange import Whole
from dspy_actors.lm.gatehouse import Gatehouse
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.usage_log import UsageLog
from dspy_actors.lm.work import Answer, Work
from dspy_actors.messages import LMRequest, LMResponse, Message, ToolCall, Usage
from dspy_actors.modules.embedder import Embedder
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from dspy_actors.testing.peer import Peer, reply
from dspy_actors.testing.providers import ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry
from tests.dspy_actors.programs import qa

TEXT = "[[ ## answer ## ]]\n" + 21 * "x"
"""40 characters."""

COUNTS: dict[str, dict[str, Any]] = {"missing": {}, "nothing": {"output": 0}, "null": {"output": None}}


def usage(dialect: str, output: dict[str, Any]) -> dict[str, Any]:
    """A prompt of 11 tokens, and `output` by the dialect's name for it."""
    given, made = ("prompt", "completion") if dialect == "chat" else ("input", "output")
    return {f"{given}_tokens": 11, **{f"{made}_tokens": value for value in output.values()}}


def whole(dialect: str, counts: dict[str, Any], text: str = TEXT) -> object:
    if dialect == "chat":
        return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": counts}
    if dialect == "responses":
        message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
        return {"status": "completed", "output": [message], "usage": counts}
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": counts}


def streamed(dialect: str, counts: dict[str, Any]) -> list[object]:
    if dialect == "chat":
        return [
            {"choices": [{"delta": {"content": TEXT}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": counts},
        ]
    if dialect == "responses":
        return [
            {"type": "response.output_text.delta", "delta": TEXT},
            {"type": "response.completed", "response": {"status": "completed", "output": [], "usage": counts}},
        ]
    return [
        {"type": "message_start", "message": {"usage": counts}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": TEXT}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts},
        {"type": "message_stop"},
    ]


def model(dialect: str, url: str) -> LM:
    options: dict[str, Any] = {"model_type": "responses"} if dialect == "responses" else {}
    provider = "anthropic" if dialect == "anthropic" else "openai"
    return LM(f"{provider}/m", base_url=url, api_key="key-0123456789", cache=False, **options)


async def asked(program: Program, *, stream: bool) -> None:
    if not stream:
        assert (await program.acall(question="why?")).answer == TEXT[19:]
        return
    pieces = program.stream(question="why?")
    async for _ in pieces:
        pass


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("told", COUNTS)
@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
def test_an_output_that_nobody_counted_is_booked_by_its_length(dialect: str, told: str, stream: bool) -> None:
    counts = usage(dialect, COUNTS[told])
    assert booked(dialect, counts, stream=stream) == Usage(11, 10, estimated=True)


TOTALS: dict[str, tuple[dict[str, int], Usage]] = {
    "the prompt": ({"completion": 5, "total": 16}, Usage(11, 5)),
    "the output": ({"prompt": 11, "total": 16}, Usage(11, 5)),
    "what was thought": ({"prompt": 11, "completion": 5, "total": 76}, Usage(11, 65)),
    "nothing": ({"prompt": 11, "completion": 5, "total": 16}, Usage(11, 5)),
    "sense": ({"prompt": 11, "completion": 5, "total": 3}, Usage(11, 5)),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lacks", TOTALS)
@pytest.mark.parametrize("dialect", ["chat", "responses"])
def test_what_a_count_lacks_of_its_total_is_booked(dialect: str, lacks: str, stream: bool) -> None:
    """The prompt was free, and so was what models of Google and xAI think."""
    told, counted = TOTALS[lacks]
    names = {"prompt": "input", "completion": "output"} if dialect == "responses" else {}
    counts = {f"{names.get(name, name)}_tokens": value for name, value in told.items()}
    assert booked(dialect, counts, stream=stream) == counted


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
def test_a_prompt_that_nobody_counted_is_booked_by_its_length(dialect: str, stream: bool) -> None:
    """It was free."""
    counts = {"completion_tokens" if dialect == "chat" else "output_tokens": 7}
    found = booked(dialect, counts, stream=stream)
    assert (found.completion_tokens, found.estimated) == (7, True)
    assert found.prompt_tokens > 30


def booked(dialect: str, counts: dict[str, Any], *, stream: bool) -> Usage:
    """What is booked for an answer with these counts."""
    events = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in streamed(dialect, counts))
    body = events if stream else json.dumps(whole(dialect, counts)).encode()

    async def once() -> Usage:
        async with Peer(reply(200, body)) as peer, Runtime(lm=model(dialect, peer.url)) as rt:
            await asked(rt.start(qa()), stream=stream)
            assert rt._layer is not None
            (row,) = rt._layer.usage.records()
            assert row.usage is not None
            assert rt.usage().tokens == rt.numbers().tokens == row.usage.total_tokens
            return row.usage

    return asyncio.run(once())


@pytest.mark.parametrize("name", ["prompt_tokens", "total_tokens"])
def test_vectors_have_no_output(name: str) -> None:
    body = json.dumps({"data": [{"embedding": [0.5, 0.25]}], "usage": {name: 11}}).encode()

    async def once() -> None:
        async with Peer(reply(200, body)) as peer, Runtime() as rt:
            embedder = Embedder("openai/m", base_url=peer.url, api_key="key-0123456789", cache=False)
            assert await embedder.acall(["a text"]) == [[0.5, 0.25]]
            assert rt._layer is not None
            (row,) = rt._layer.usage.records()
            assert row.usage == Usage(11, 0)

    asyncio.run(once())


CALL = ToolCall("1", "look", '{"for": "x"}')


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (LMResponse((40 * "x",), "m", Usage(11)), Usage(11, 10, estimated=True)),
        (LMResponse((40 * "x", "yes"), "m", Usage(11)), Usage(11, 11, estimated=True)),
        (LMResponse(("",), "m", Usage(11), tool_calls=((CALL,),)), Usage(11, 4, estimated=True)),
        (LMResponse((40 * "x",), "m", Usage(11, 3)), Usage(11, 3)),
        (LMResponse((40 * "x",), "m", Usage(0, 3)), Usage(1, 3, estimated=True)),
        (LMResponse(("",), "m", Usage(11)), Usage(11)),
    ],
    ids=["text", "choices", "call", "counted", "no prompt", "nothing"],
)
def test_the_caller_and_the_limiter_are_told_the_same(answer: LMResponse, counted: Usage) -> None:
    lm, clock = LM("scripted/m"), ManualClock()
    guarding = Guarding(limiter=LimiterSettings(tokens_per_minute=1000))
    gates = Gatehouse(guarding, clock, Telemetry()).gates(lm.config)
    work = Work(lm, LMRequest("m", (Message.of("user", "hi"),)), Envelope("c"))
    attempts = Attempts(lm.config, gates, LMCounters(), UsageLog({}), clock)
    reply: Reply[Answer] = Reply()
    asyncio.run(attempts.answer(work, Whole(ScriptedProvider([answer])), Tries(reply)))
    assert reply.get(0).response.usage == counted
    assert gates.line.reading(clock.now())["tokens_left"] == 1000 - counted.total_tokens
