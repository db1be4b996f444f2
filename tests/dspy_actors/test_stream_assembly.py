"""However an answer is cut into deltas and those into reads, it joins to what the answer in one piece reads as."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_actors.errors import LMError, LMRateLimitError, LMServerError, LMStreamAssemblyError, LMUnexpectedError
from dspy_actors.lm.providers.anthropic import Messages
from dspy_actors.lm.providers.chat import ChatCompletions
from dspy_actors.lm.providers.dialect import Dialect
from dspy_actors.lm.providers.responses import Responses
from dspy_actors.lm.sse import Event, EventReader
from dspy_actors.messages import LMRequest, LMResponse, Message, ToolCall
from dspy_actors.pieces import Piece, TextPiece
from tests.server import streams

REQUEST = LMRequest("m", (Message.of("user", "hi"),))
ERROR = {"type": "error", "error": {"code": "x", "message": "m", "param": None}}
CUT_CHAT = "the stream ended before the answer was whole: with [DONE], but no finish_reason for every choice"
BARE_CHAT = "the stream ended before the answer was whole: without [DONE], and no finish_reason for every choice"
CHAT, RESPONSES, MESSAGES = ChatCompletions(), Responses(), Messages()

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
NAME = st.sampled_from(["f", "get_weather", "x"])
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), TEXT, st.lists(st.none())), max_size=3)
FEW = st.integers(0, 2)
TOKENS = st.integers(0, 10_000)


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """A chat completion in one piece: one to three choices with texts and calls."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        calls = [
            {
                "id": f"c{n}",
                "type": "function",
                "function": {"name": draw(NAME), "arguments": json.dumps(draw(ARGUMENTS))},
            }
            for n in range(draw(st.integers(0, 2)))
        ]
        message: dict[str, Any] = {"role": "assistant", "content": draw(TEXT)}
        if calls:
            message["tool_calls"] = calls
        finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choices.append({"index": index, "message": message, "finish_reason": finish})
    usage = {"prompt_tokens": draw(TOKENS), "completion_tokens": draw(TOKENS)}
    return {"id": "chatcmpl-1", "created": 1, "model": "m-1", "choices": choices, "usage": usage}


@st.composite
def responses(draw: st.DrawFn) -> dict[str, Any]:
    """A response in one piece: reasoning, messages of several parts, calls."""
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    for number in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            parts = [
                {"type": "output_text", "text": draw(TEXT), "annotations": []} for _ in range(draw(st.integers(1, 2)))
            ]
            output.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "content": parts})
        else:
            call = {"call_id": f"call_{number}", "name": draw(NAME), "arguments": json.dumps(draw(ARGUMENTS))}
            output.append({"type": "function_call", "id": f"fc_{number}", **call})
    cut = draw(st.sampled_from([None, "max_output_tokens", "content_filter"]))
    return {
        "id": "resp_1",
        "model": "m-1",
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "output": output,
        "usage": {"input_tokens": draw(TOKENS), "output_tokens": draw(TOKENS)},
    }


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A message of Anthropic's in one piece: thinking, texts, uses of tools."""
    content: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "tool_use"]))
        if kind == "tool_use":
            content.append({"type": kind, "id": f"toolu_{number}", "name": draw(NAME), "input": draw(ARGUMENTS)})
        else:
            content.append({"type": kind, kind: draw(TEXT)})
    reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence"]))
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    usage = {name: draw(TOKENS) for name in names}
    return {"id": "msg_1", "model": "m-1", "content": content, "stop_reason": reason, "usage": usage}


def whole(dialect: Dialect, answer: Mapping[str, Any]) -> LMResponse | tuple[type, str]:
    """What the answer in one piece is read as: a response, or the error."""
    try:
        return dialect.read(answer, REQUEST, None)
    except LMError as error:
        return type(error), error.message


def joined(dialect: Dialect, reads: Sequence[bytes]) -> tuple[LMResponse | tuple[type, str], list[Piece], str]:
    """What the stream in these reads is put together to, its pieces, and the text so far."""
    reader, assembler = EventReader(), dialect.assembler(REQUEST)
    pieces: list[Piece] = []
    for data in reads:
        for event in reader.feed(data):
            pieces += assembler.take(event)
    assert assembler.size == sum(len(p.text if isinstance(p, TextPiece) else p.arguments) for p in pieces)
    try:
        return assembler.response(None), pieces, assembler.text
    except LMError as error:
        return (type(error), error.message), pieces, assembler.text


def cut(draw: st.DataObject, score: streams.Score) -> list[bytes]:
    """The stream's bytes in reads that begin anywhere, with signs of life between its events."""
    events = [*score.begin, *score.pieces, *score.end]
    pings = draw.draw(st.lists(st.integers(0, len(events)), max_size=3))
    for at in sorted(pings, reverse=True):
        events.insert(at, score.ping)
    text = b"".join(event + b"\n\n" for event in events)
    places = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def check_pieces(answer: LMResponse, pieces: list[Piece], text: str) -> None:
    texts = [""] * len(answer.texts)
    calls: list[dict[int, ToolCall]] = [{} for _ in answer.texts]
    for piece in pieces:
        if isinstance(piece, TextPiece):
            texts[piece.choice] += piece.text
        else:
            begun = calls[piece.choice].get(piece.number, ToolCall(piece.id, piece.name, ""))
            calls[piece.choice][piece.number] = ToolCall(begun.id, begun.name, begun.arguments + piece.arguments)
    assert tuple(texts) == answer.texts
    assert text == answer.texts[0]
    told = [(call.id, call.name, call.read()) for choice in answer.tool_calls for call in choice]
    assert [(call.id, call.name, call.read()) for found in calls for call in found.values()] == told


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chats(), st.integers(1, 9), st.data())
def test_a_chat_joins(answer: dict[str, Any], count: int, draw: st.DataObject) -> None:
    body = {"stream_options": {"include_usage": True}}
    score = streams.chat(body, answer, {"pieces": str(count)}, ERROR)
    check(CHAT, answer, score, draw)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(responses(), st.integers(1, 9), st.data())
def test_a_response_joins(answer: dict[str, Any], count: int, draw: st.DataObject) -> None:
    check(RESPONSES, answer, streams.responses({}, answer, {"pieces": str(count)}, ERROR), draw)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages(), st.integers(1, 9), st.data())
def test_a_message_joins(answer: dict[str, Any], count: int, draw: st.DataObject) -> None:
    check(MESSAGES, answer, streams.messages({}, answer, {"pieces": str(count)}, ERROR), draw)


def check(dialect: Dialect, answer: dict[str, Any], score: streams.Score, draw: st.DataObject) -> None:
    expected = whole(dialect, answer)
    found, pieces, text = joined(dialect, cut(draw, score))
    assert found == expected
    if isinstance(found, LMResponse):
        check_pieces(found, pieces, text)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chats(), responses(), messages(), st.data())
def test_a_stream_that_was_cut_is_never_a_shorter_answer(
    chat: dict[str, Any], response: dict[str, Any], message: dict[str, Any], draw: st.DataObject
) -> None:
    """Cut before its finish reasons, whatever it was, and ended in good order, by a relay with a last word even."""
    stop = b'data: {"type": "message_stop"}'
    for dialect, score, last in (
        (CHAT, streams.chat({}, chat, {}, ERROR), b"data: [DONE]"),
        (RESPONSES, streams.responses({}, response, {}, ERROR), b"data: [DONE]"),
        (MESSAGES, streams.messages({}, message, {}, ERROR), stop),
    ):
        events = [*score.begin, *score.pieces]
        kept = events[: draw.draw(st.integers(0, len(events)))]
        kept += draw.draw(st.sampled_from([[], [last]]))
        found, _, _ = joined(dialect, [event + b"\n\n" for event in kept])
        assert isinstance(found, tuple)
        assert found[0] is LMStreamAssemblyError


def test_fewer_choices_than_were_asked_for_are_told_after_the_last_word() -> None:
    assembler = CHAT.assembler(LMRequest("m", REQUEST.messages, {"n": 2}))
    one = {"choices": [{"index": 0, "delta": {"content": "all"}, "finish_reason": "stop"}]}
    assembler.take(Event("", json.dumps(one)))
    with pytest.raises(LMStreamAssemblyError):
        assembler.response(None)
    assembler.take(Event("", "[DONE]"))
    with pytest.raises(LMUnexpectedError, match="1 of the 2 choices"):
        assembler.response(None)


def test_a_choice_that_has_not_ended_keeps_the_others_from_being_an_answer() -> None:
    choices = [
        {"index": index, "delta": {"content": "a"}, "finish_reason": end} for index, end in ((0, "stop"), (1, None))
    ]
    found, _, text = joined(CHAT, [f"data: {json.dumps({'choices': choices})}\n\ndata: [DONE]\n\n".encode()])
    assert (found, text) == ((LMStreamAssemblyError, CUT_CHAT), "a")
    found, _, text = joined(CHAT, [f"data: {json.dumps({'choices': choices})}\n\n".encode()])
    assert (found, text) == ((LMStreamAssemblyError, BARE_CHAT), "a")


def read(dialect: Dialect, *events: dict[str, Any]) -> tuple[LMResponse | tuple[type, str], list[Piece], str]:
    return joined(dialect, [f"data: {json.dumps(event)}\n\n".encode() for event in events])


def completed(*output: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"status": "completed", "output": list(output), "model": "m"}}


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'}


@pytest.mark.parametrize(
    "before",
    [
        [],
        [{"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}],
        [{"type": "response.output_text.delta", "output_index": 0, "delta": "hel"}],
        [{"type": "response.output_text.delta", "output_index": 0, "delta": "hello"}],
    ],
)
def test_what_a_responses_server_did_not_stream_is_told_at_the_end(before: list[dict[str, Any]]) -> None:
    found, pieces, text = read(RESPONSES, *before, completed(MESSAGE, CALL))
    assert isinstance(found, LMResponse)
    assert (found.texts, found.tool_calls) == (("hello",), ((ToolCall("c", "f", '{"a":1}'),),))
    check_pieces(found, pieces, text)


def test_a_responses_server_may_leave_the_output_out_at_the_end() -> None:
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "hello"}
    found, _, _ = read(RESPONSES, delta, completed())
    assert isinstance(found, LMResponse)
    assert found.texts == ("hello",)


def test_arguments_that_a_message_left_unfinished_stay_as_they_were_written() -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}}
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"a": [1'},
    }
    stop = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
    found, _, _ = read(MESSAGES, block, delta, stop, {"type": "message_stop"})
    assert isinstance(found, LMResponse)
    assert (found.tool_calls, found.finish_reasons) == (((ToolCall("t", "f", '{"a": [1'),),), ("length",))


def test_an_input_that_came_whole_with_its_block_is_told() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    block = {"type": "content_block_start", "index": 0, "content_block": tool}
    stop = {"type": "content_block_stop", "index": 0}
    found, pieces, text = read(MESSAGES, block, stop, STOPPED, {"type": "message_stop"})
    assert isinstance(found, LMResponse)
    check_pieces(found, pieces, text)


def test_what_a_server_does_itself_is_no_text() -> None:
    tool = {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}
    block = {"type": "content_block_start", "index": 0, "content_block": tool}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}}
    found, pieces, _ = read(MESSAGES, block, delta, {"type": "surprise"}, STOPPED)
    assert (pieces, isinstance(found, LMResponse)) == ([], True)


def test_the_last_count_of_each_kind_of_token_counts() -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 3}}}
    one, two = ({"type": "message_delta", "delta": {}, "usage": {"output_tokens": n}} for n in (4, 9))
    assembler = MESSAGES.assembler(REQUEST)
    reader = EventReader()
    for event in (start, one, two):
        for found in reader.feed(f"data: {json.dumps(event)}\n\n".encode()):
            assembler.take(found)
    assert assembler.usage is not None
    assert (assembler.usage.prompt_tokens, assembler.usage.cached_tokens, assembler.usage.completion_tokens) == (
        8,
        3,
        9,
    )


def test_arguments_that_a_server_sends_as_an_object_are_kept() -> None:
    """As Hugging Face's server does."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = CHAT.read({"choices": [{"message": message, "finish_reason": "tool_calls"}]}, REQUEST, None)
    assert answer.tool_calls == ((ToolCall("c", "f", '{"a": 1}'),),)
    found, pieces, text = read(CHAT, {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    assert isinstance(found, LMResponse)
    assert found.tool_calls == answer.tool_calls
    check_pieces(found, pieces, text)


def test_content_that_is_no_text_is_no_empty_answer() -> None:
    with pytest.raises(LMUnexpectedError, match="neither text nor"):
        read(CHAT, {"choices": [{"delta": {"content": {"answer": "ok"}}, "finish_reason": "stop"}]})


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, MESSAGES], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("sign", [b"data:\n\n", b"data: \n\n", b"event: heartbeat\ndata: \n\n"])
def test_an_event_without_data_is_a_sign_of_life(dialect: Dialect, sign: bytes) -> None:
    found, pieces, _ = joined(dialect, [sign, sign])
    assert (pieces, found[0] if isinstance(found, tuple) else found) == ([], LMStreamAssemblyError)


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_emoji_that_is_cut_in_two_between_pieces_is_one(cut: int) -> None:
    """Servers that count in UTF-16 do that; its halves would be two characters, which nobody can print or send."""
    units = "a\U0001f600b\U0001f680\U0001f680".encode("utf-16-le")
    texts = [part.decode("utf-16-le", "surrogatepass") for part in (units[: 2 * cut], units[2 * cut :]) if part]
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    found, pieces, text = read(CHAT, *chunks, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert isinstance(found, LMResponse)
    assert found.texts == ("a\U0001f600b\U0001f680\U0001f680",)
    check_pieces(found, pieces, text)
    assert all(piece.text.encode() for piece in pieces if isinstance(piece, TextPiece))


def test_half_an_emoji_at_the_end_is_told_at_the_end() -> None:
    chunks = [{"choices": [{"delta": {"content": "a\ud83d"}}]}, {"choices": [{"delta": {}, "finish_reason": "length"}]}]
    found, pieces, text = read(CHAT, *chunks)
    assert isinstance(found, LMResponse)
    assert found.texts == ("a\ud83d",)
    check_pieces(found, pieces, text)


@pytest.mark.parametrize("last", [[{"type": "message_stop"}], []])
def test_another_dialect_s_last_word_behind_a_message_says_nothing(last: list[dict[str, Any]]) -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "all of it"}}
    events = b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in (block, STOPPED, *last))
    found, _, _ = joined(MESSAGES, [events + b"data: [DONE]\n\n"])
    assert isinstance(found, LMResponse)
    assert found.texts == ("all of it",)


def test_arguments_of_a_responses_server_may_be_an_object_too() -> None:
    call = {**CALL, "arguments": {"a": 1}}
    done = {"type": "response.output_item.done", "output_index": 0, "item": call}
    for events in ([done, completed(call)], [done, completed()], [completed(call)]):
        found, pieces, text = read(RESPONSES, *events)
        assert isinstance(found, LMResponse)
        assert found.tool_calls == ((ToolCall("c", "f", '{"a": 1}'),),)
        check_pieces(found, pieces, text)


@pytest.mark.parametrize("more", [{}, {"error": {"code": 429, "message": "slow down"}}])
def test_a_choice_that_ends_in_an_error_is_no_answer(more: dict[str, Any]) -> None:
    """As OpenRouter tells of a provider that failed in the middle; it was taken for the whole answer, and kept."""
    choices = [{"delta": {"content": "so f"}}, {"delta": {"content": ""}, "finish_reason": "error", **more}]
    assembler = CHAT.assembler(REQUEST)
    assembler.take(Event("", json.dumps({"choices": choices[:1]})))
    with pytest.raises(LMRateLimitError if more else LMServerError):
        assembler.take(Event("", json.dumps({"choices": choices[1:]})))
    assert assembler.text == "so f"
