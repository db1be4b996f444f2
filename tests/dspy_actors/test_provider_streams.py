"""Streams of every dialect over every transport: what comes of them in good health and with every fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from dspy_actors.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)
from dspy_actors.lm.providers.base import Attempt, LMConfig
from dspy_actors.lm.providers.table import provider_for
from dspy_actors.lm.providers.wire_stream import MAX_ANSWER
from dspy_actors.lm.transports.choose import choose
from dspy_actors.messages import LMRequest, Message, ToolCall
from dspy_actors.pieces import TextPiece, ToolCallPiece
from dspy_actors.secret import Secret
from dspy_actors.testing.peer import SILENCE, Peer, Reaction
from tests.dspy_actors.embedded import prompt
from tests.dspy_actors.providing import TURNS, ask_in, opened
from tests.dspy_actors.streaming import CHUNKED, POURS, Streamed, read_stream, stream_in, streamed_from
from tests.server.client import StubServer

DIALECT = pytest.mark.parametrize("dialect", ["chat", "responses", "messages", "local"])
THREE = pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
TRANSPORT = pytest.mark.parametrize("transport", ["httpx", "aiohttp", "h11"])
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(*chunks: Any, done: bool = True) -> bytes:
    """A chat's stream of these chunks."""
    lines = [json.dumps(chunk) for chunk in chunks] + (["[DONE]"] if done else [])
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def said(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


@pytest.fixture(autouse=True, params=["read", "poured"])
def how(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is true of a stream that is read is true of one that is poured."""
    token = POURS.set(request.param == "poured")
    yield
    POURS.reset(token)


# -- in good health ---------------------------------------------------------------------------------------------------


@TRANSPORT
@DIALECT
@pytest.mark.parametrize("fault", ["", "split", "crlf", "unframed", "thinking=hm hm", "pieces=1", "pieces=100"])
def test_a_stream_joins_to_the_answer_in_one_piece(stub: StubServer, dialect: str, transport: str, fault: str) -> None:
    url = stub.at(f"text=Grüße: one two 😀,{fault}")
    whole, streamed = ask_in(dialect, url), stream_in(dialect, url, transport=transport)
    assert streamed.error is None
    assert streamed.answer is not None
    assert streamed.text == streamed.answer.texts[0] == whole.texts[0]
    assert (streamed.answer.usage, streamed.answer.finish_reasons) == (whole.usage, whole.finish_reasons)
    assert len(streamed.pieces) >= (1 if "pieces=1" in fault else 4)


@TRANSPORT
@DIALECT
def test_a_tool_call_joins_to_the_one_in_one_piece(stub: StubServer, dialect: str, transport: str) -> None:
    url = stub.at('call=f,arguments={"a": [1%2C "é"]},pieces=5')
    whole, streamed = ask_in(dialect, url, tools=[TOOL]), stream_in(dialect, url, transport=transport, tools=[TOOL])
    assert streamed.error is None
    assert streamed.answer is not None
    assert [(c.name, c.read()) for c in streamed.answer.tool_calls[0]] == [
        (c.name, c.read()) for c in whole.tool_calls[0]
    ]
    first, *rest = [piece for piece in streamed.pieces if isinstance(piece, ToolCallPiece)]
    assert (first.name, bool(first.id), first.number) == ("f", True, 0)
    assert [(piece.number, piece.name, piece.id) for piece in rest] == [(0, "", "")] * len(rest)
    assert json.loads(first.arguments + "".join(piece.arguments for piece in rest)) == {"a": [1, "é"]}


@THREE
def test_each_stream_is_asked_for_as_its_api_wants_it(stub: StubServer, dialect: str) -> None:
    stream_in(dialect, stub.base_url, temperature=0.5)
    (seen,) = stub.bodies()
    assert (seen["body"]["stream"], stub.stats()["invalid"]) == (True, 0)
    assert seen["headers"]["accept"] == "text/event-stream"
    assert ("stream_options" in seen["body"]) == (dialect == "chat")


def test_stream_options_of_the_user_are_kept(stub: StubServer) -> None:
    went = stream_in("chat", stub.base_url, stream_options={"include_obfuscation": False})
    assert stub.bodies()[0]["body"]["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert isinstance(stream_in("chat", stub.base_url, stream_options=True).error, LMConfigurationError)
    assert went.error is None


@THREE
def test_thinking_is_not_shown_as_text(stub: StubServer, dialect: str) -> None:
    assert stream_in(dialect, stub.at("text=answer,thinking=secret thoughts")).pieces == [TextPiece("answer")]


@TRANSPORT
def test_connections_are_kept_after_streams_that_ended_well(stub: StubServer, transport: str) -> None:
    async def three() -> None:
        provider = opened("openai", stub.base_url, transport=transport)
        for _ in range(3):
            stream = await provider.stream(LMRequest("m", TURNS), Attempt("c.1"))
            while await stream.read():
                pass
            await stream.aclose()
        await provider.aclose()

    asyncio.run(three())
    assert (stub.stats()["accepted"], stub.stats()["answered"]) == (1, 3)


def test_choices_are_told_apart_by_their_index(stub: StubServer) -> None:
    went = stream_in("chat", stub.at("text=one two"), n=3)
    assert went.answer is not None
    assert (went.answer.texts, went.answer.finish_reasons) == (("one two",) * 3, ("stop",) * 3)
    assert {piece.choice for piece in went.pieces} == {0, 1, 2}


@THREE
def test_a_server_that_answers_in_one_piece_is_read_as_one(stub: StubServer, dialect: str) -> None:
    url = stub.at("text=all at once,whole")
    went = stream_in(dialect, url)
    assert went.pieces == [TextPiece("all at once")]
    assert went.answer is not None
    assert went.answer.texts == ("all at once",)
    assert went.usage == went.answer.usage == ask_in(dialect, url).usage


@THREE
def test_a_server_that_counts_no_tokens_leaves_the_usage_out(stub: StubServer, dialect: str) -> None:
    went = stream_in(dialect, stub.at("no_usage"))
    assert (went.error, went.usage) == (None, None)


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_chat_ends_with_its_finish_reason_where_no_done_comes(stub: StubServer, finish: str) -> None:
    went = stream_in("chat", stub.at(f"text=a b,no_done,finish={finish}"))
    assert went.answer is not None
    assert went.answer.finish_reasons == (finish,)


@pytest.mark.parametrize("end", [Reaction(close=True), Reaction(reset=True), SILENCE])
@pytest.mark.parametrize("done", [True, False])
def test_an_answer_that_is_whole_survives_what_its_connection_does_then(end: Reaction, done: bool) -> None:
    """Its last word was said, or all its choices have ended: the body has not."""
    body = chat(said("all of it", "stop"), done=done)

    async def once() -> Streamed:
        async with Peer(Reaction(CHUNKED + b"%x\r\n%b\r\n" % (len(body), body), then=end)) as peer:
            provider = opened("openai", peer.url)
            went = await read_stream(provider, LMRequest("m", TURNS), Attempt("c.1", idle=0.05))
            await peer.until(open_connections=0)
            await provider.aclose()
            return went

    went = asyncio.run(once())
    assert went.answer is not None
    assert went.answer.texts == ("all of it",)


# -- with faults ------------------------------------------------------------------------------------------------------

FAULTS: list[tuple[str, type[LMError], str | None]] = [
    ("cut_after=2", LMTransportError, "cut"),
    ("reset_after=2", LMTransportError, "cut"),
    ("cut_after=2,unframed", LMStreamAssemblyError, None),
    ("no_done,no_finish", LMStreamAssemblyError, None),
    ("malformed=2", LMUnexpectedError, None),
    ("bad_utf8=2", LMUnexpectedError, None),
    ("error_after=2,code=529,type=overloaded_error", LMServerError, None),
    ("error_after=2,code=429,type=rate_limit_error", LMRateLimitError, None),
    ("stall=2", LMTimeoutError, None),
]


@TRANSPORT
@THREE
@pytest.mark.parametrize(("fault", "kind", "code"), FAULTS, ids=[fault for fault, *_ in FAULTS])
def test_a_fault_in_a_stream_is_a_typed_error_with_what_had_come(
    stub: StubServer, dialect: str, transport: str, fault: str, kind: type[LMError], code: str | None
) -> None:
    went = stream_in(dialect, stub.at(f"text=one two three,{fault}"), transport=transport, limits={"idle": 0.2})
    error = went.error
    assert type(error) is kind, repr(error)
    expected = "one two three" if fault.startswith("no_") else "one two "
    if fault != "reset_after=2":  # a reset throws away what the client has not taken
        assert went.text == error.partial == expected
    assert (error.provider, error.model) == ({"messages": "anthropic"}.get(dialect, "openai"), "m")
    assert (error.request_id, code in (None, error.provider_code)) == ("req-1", True)
    stub.wait("open==0" if fault not in ("no_done,no_finish",) and "error" not in fault else "open<=1")


@pytest.mark.parametrize("dialect", ["chat", "messages", "local"])
def test_a_last_word_without_a_reason_to_end_makes_no_answer(stub: StubServer, dialect: str) -> None:
    """A relay says it behind whatever it got; its connection is as good as any."""
    went = stream_in(dialect, stub.at("text=one two three,no_finish"))
    assert isinstance(went.error, LMStreamAssemblyError)
    assert went.error.partial == "one two three"
    assert stub.stats()["open"] <= 1


def test_a_done_ends_a_stream_of_responses_at_once_and_completes_nothing() -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "hello"}
    body = f"data: {json.dumps(delta)}\n\ndata: [DONE]\n\n".encode()

    async def once() -> Streamed:
        async with Peer(Reaction(CHUNKED + b"%x\r\n%b\r\n" % (len(body), body), then=SILENCE)) as peer:
            provider = opened("openai", peer.url)
            request = LMRequest("m", TURNS, {"model_type": "responses"})
            went = await read_stream(provider, request, Attempt("c.1", idle=10.0))
            await provider.aclose()
            return went

    went = asyncio.run(once())
    assert isinstance(went.error, LMStreamAssemblyError)
    assert (went.text, went.error.partial) == ("hello", "hello")


@THREE
def test_a_silence_before_the_first_piece_has_a_phase(stub: StubServer, dialect: str) -> None:
    for fault, limits, phase in (
        ("hang=headers", {"first_byte": 0.05}, "first_byte"),
        ("stall=0", {"idle": 0.05}, "idle"),
        ("pings", {"deadline": 0.2}, "total"),
        ("endless", {"deadline": 0.2}, "total"),
    ):
        went = stream_in(dialect, stub.at(fault), limits=limits)
        assert isinstance(went.error, LMTimeoutError), repr(went.error)
        assert (went.error.phase, went.error.partial is None) == (phase, fault != "endless")
        stub.wait("open==0", "in_flight==0")
    assert stub.stats()["aborted"] == 4


@DIALECT
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("html", LMUnexpectedError),
        ("empty", LMUnexpectedError),
        ("no_choices", None),
        ("error,message=broken", LMServerError),
        ("status=429,retry_after=7", LMRateLimitError),
        ("status=503", LMServerError),
        ("status=401,code=invalid_api_key", LMAuthError),
        ("status=400,code=context_length_exceeded", ContextWindowExceededError),
        ("reset", LMTransportError),
    ],
)
def test_what_a_stream_is_refused_with_is_what_a_call_is(
    stub: StubServer, dialect: str, fault: str, kind: type[LMError] | None
) -> None:
    try:
        ask_in(dialect, stub.at(fault))
    except LMError as error:
        expected: LMError | None = error
    else:
        expected = None
    went = stream_in(dialect, stub.at(fault))
    assert (kind is None) or isinstance(went.error, kind)
    assert type(went.error) is type(expected)
    if went.error is not None and expected is not None:
        assert (went.error.status, went.error.retry_after) == (expected.status, expected.retry_after)
        assert went.error.message == expected.message


@pytest.mark.parametrize(("dialect", "fault"), [("responses", "bare"), ("responses", "")])
def test_both_kinds_of_errors_of_responses_are_read(stub: StubServer, dialect: str, fault: str) -> None:
    went = stream_in(dialect, stub.at(f"error_after=0,code=rate_limit_exceeded,message=slow,{fault}"))
    assert isinstance(went.error, LMRateLimitError)
    assert "slow" in went.error.message


def test_an_error_event_is_classified_by_its_code_or_its_type() -> None:
    for error, kind in (
        ({"code": "insufficient_quota", "message": "m"}, LMBillingError),
        ({"type": "invalid_request_error", "message": "maximum context length is 5"}, ContextWindowExceededError),
        ({"code": 502, "message": "bad gateway"}, LMServerError),
        ("plain words", LMServerError),
    ):
        went = streamed_from("chat", chat(said("a"), {"error": error}))
        assert type(went.error) is kind, repr(went.error)
        assert (went.text, went.error.partial) == ("a", "a")


def test_an_error_that_stands_at_the_top_is_read() -> None:
    """Some servers send it so, or as an event of that name."""
    went = streamed_from("chat", chat({"object": "error", "message": "m", "code": 400}))
    named = streamed_from("chat", b'event: error\ndata: {"message": "m", "code": 503}\n\n')
    assert (went.error and went.error.status, named.error and named.error.status) == (400, 503)


def test_a_refusal_and_a_filter_are_errors_as_in_a_call() -> None:
    refused = {"choices": [{"index": 0, "delta": {"refusal": "I will not"}, "finish_reason": "stop"}]}
    filtered = {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}
    for chunk in (refused, filtered):
        assert isinstance(streamed_from("chat", chat(chunk)).error, LMContentFilterError)
    went = streamed_from("chat", chat(said("a b"), filtered))
    assert went.answer is not None
    assert went.answer.finish_reasons == ("content_filter",)


def test_a_key_that_a_server_repeats_is_not_in_the_error() -> None:
    async def once() -> LMError:
        body = chat({"error": {"code": 500, "message": "who sent sk-marker-123?"}})
        async with Peer(Reaction(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))) as peer:
            provider = opened("openai", peer.url, Secret("sk-marker-123"))
            went = await read_stream(provider, LMRequest("m", TURNS), Attempt("c.1"))
            await provider.aclose()
        assert went.error is not None
        return went.error

    error = asyncio.run(once())
    assert "marker" not in f"{error!r} {error.to_wire()} {error.__cause__!r} {error.__context__!r}"


def test_a_refused_key_is_replaced_before_the_stream_begins(stub: StubServer) -> None:
    stub.control(keys=["good"])
    went = stream_in("chat", stub.base_url, key=(Secret("bad"), Secret("good")))
    assert went.error is None
    assert stub.stats()["statuses"] == {"200": 1, "401": 1}


def test_what_comes_behind_the_last_word_is_no_part_of_the_answer() -> None:
    """It was one where it came in the same read."""
    went = streamed_from("chat", chat(said("all of it", "stop")) + chat(said(" and more", "stop")))
    assert went.answer is not None
    assert (went.text, went.answer.texts) == ("all of it", ("all of it",))


def test_an_event_above_the_bound_is_refused_before_it_ends() -> None:
    went = streamed_from("chat", chat(said("a"), done=False) + b"data: " + b"x" * 1_200_000)
    assert isinstance(went.error, LMUnexpectedError)
    assert "1048576" in went.error.message
    assert went.error.partial == "a"


def test_an_answer_without_an_end_is_refused_above_the_bound_and_carries_what_had_come() -> None:
    piece = "x" * 1_000_000
    went = streamed_from("chat", chat(*[said(piece)] * 40, done=False))
    assert isinstance(went.error, LMTransportError)
    assert went.error.provider_code == "too_large"
    bound = len(went.text)
    assert MAX_ANSWER < bound <= MAX_ANSWER + 2 * len(piece)
    assert went.error.partial == went.text


def test_vectors_are_not_streamed(stub: StubServer) -> None:
    went = stream_in("chat", stub.base_url, model_type="embeddings")
    assert isinstance(went.error, LMUnsupportedFeatureError)
    assert stub.stats()["requests"] == 0


# -- leaving ----------------------------------------------------------------------------------------------------------


@TRANSPORT
@pytest.mark.parametrize("fault", ["stall=1", "endless", "hold_after=1", "pings"])
@pytest.mark.parametrize("how", ["cancel", "close", "close while read"])
def test_the_server_sees_a_client_that_leaves(stub: StubServer, transport: str, fault: str, how: str) -> None:
    async def leave() -> None:
        provider = opened("openai", stub.at(f"text=a b c,{fault}"), transport=transport)
        stream = await provider.stream(LMRequest("m", TURNS), Attempt("c.1"))

        async def read() -> None:
            while await stream.read():
                pass

        reading = asyncio.create_task(read())
        await asyncio.to_thread(stub.wait, "streams==1")
        if how == "close while read":
            await stream.aclose()
        else:
            reading.cancel()
        (end,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(end, LMTransportError if how == "close while read" else asyncio.CancelledError)
        if how == "close":
            await stream.aclose()
        await asyncio.to_thread(stub.wait, "aborted==1", "open==0")
        await stream.aclose()
        await provider.aclose()

    asyncio.run(leave())


@TRANSPORT
def test_a_reader_that_stops_stops_the_server_and_may_go_on(stub: StubServer, transport: str) -> None:
    async def slowly() -> tuple[int, int]:
        provider = opened("openai", stub.at("pad=10000000,pieces=5000"), transport=transport)
        stream = await provider.stream(LMRequest("m", TURNS), Attempt("c.1", idle=0.2))
        size = sum(len(piece.text) for piece in await stream.read() if isinstance(piece, TextPiece))
        counts = [0, (await asyncio.to_thread(stub.stats))["written"]]
        while counts[-1] != counts[-2]:
            counts.append((await asyncio.to_thread(stub.stats))["written"])
        while pieces := await stream.read():
            size += sum(len(piece.text) for piece in pieces if isinstance(piece, TextPiece))
        await stream.aclose()
        await provider.aclose()
        return counts[-1], size

    stopped, size = asyncio.run(slowly())
    assert (stopped < 9_500_000, size) == (True, 10_000_000)
    assert stub.stats()["answered"] == 1


@TRANSPORT
def test_what_had_arrived_but_was_not_read_is_gone_once_it_is_closed(stub: StubServer, transport: str) -> None:
    async def once() -> None:
        provider = opened("openai", stub.at("pad=200000,pieces=2000,hold_after=1900"), transport=transport)
        stream = await provider.stream(LMRequest("m", TURNS), Attempt("c.1"))
        await stream.read()
        await stream.read()
        await stream.aclose()
        for _ in range(2):
            with pytest.raises(LMTransportError, match="closed"):
                await stream.read()
        await provider.aclose()

    asyncio.run(once())


# -- what one server does and another does not ------------------------------------------------------------------------


def call(index: int | None, call_id: str | None = None, name: str | None = None, said: str | None = None) -> Any:
    one: dict[str, Any] = {}
    one.update({key: value for key, value in (("index", index), ("id", call_id)) if value is not None})
    function = {key: value for key, value in (("name", name), ("arguments", said)) if value is not None}
    one["function"] = function
    return {"choices": [{"index": 0, "delta": {"tool_calls": [one]}, "finish_reason": None}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, "a", "f", ""), call(0, None, None, '{"x"'), call(1, "b", "g", "{}"), call(0, None, None, ":1}")],
        [call(0, "a", "f", '{"x":1}'), call(1, "b", "g", "{}")],
        [call(0, "a", "f", '{"x"'), call(0, "a", "f", ":1}"), call(1, "b", "g", "{}")],
        [call(None, "a", "f", '{"x"'), call(None, None, None, ":1}"), call(None, "b", "g", "{}")],
        [call(3, "a", "f", '{"x":1}'), call(5, "b", "g", None)],
    ],
    ids=["side by side", "whole", "repeated ids", "no index", "other numbers, no arguments"],
)
def test_deltas_of_tool_calls_are_joined(deltas: list[Any]) -> None:
    went = streamed_from("chat", chat(*deltas, END))
    assert went.answer is not None
    assert went.answer.tool_calls == ((ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}")),)


def test_a_call_that_names_no_tool_is_refused() -> None:
    assert isinstance(streamed_from("chat", chat(call(0, "a", None, "{}"), END)).error, LMUnexpectedError)


def test_fewer_choices_than_asked_for_are_refused() -> None:
    assert isinstance(streamed_from("chat", chat(said("a", "stop")), n=2).error, LMUnexpectedError)
    assert isinstance(streamed_from("chat", chat(said("a", "stop"), done=False), n=2).error, LMStreamAssemblyError)


def test_a_local_server_that_loads_is_waited_for(stub: StubServer) -> None:
    loading = "status=503,message=Loading model,type=unavailable_error"
    stub.control(plan=[{"times": 1, "fault": loading}])
    went = stream_in("local", stub.base_url)
    assert (went.error, stub.stats()["statuses"]) == (None, {"200": 2, "503": 1})


def test_the_embedded_model_streams_word_by_word() -> None:
    async def once() -> Any:
        provider = provider_for(LMConfig("embedded", "knn"), choose("aiohttp"))
        turns = prompt("question -> answer: Literal['yes', 'no']", question="Is it?")
        try:
            return await read_stream(provider, LMRequest("knn", turns), Attempt("c.1"))
        finally:
            await provider.aclose()

    went = asyncio.run(once())
    assert went.answer is not None
    assert went.text == went.answer.texts[0]
    assert len(went.pieces) > 2


def test_a_turn_that_cannot_be_sent_is_refused_before_anything_is(stub: StubServer) -> None:
    went = stream_in("messages", stub.base_url, turns=(Message.of("user", "hi"),), n=2)
    assert isinstance(went.error, LMUnsupportedFeatureError)
    assert (went.error.provider, stub.stats()["requests"]) == ("anthropic", 0)
