"""A character that a server has cut in two, which counts in UTF-16, is one again wherever it stands in an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from dspy_actors.lm.providers.anthropic import Messages
from dspy_actors.lm.providers.chat import ChatCompletions
from dspy_actors.lm.providers.dialect import Dialect
from dspy_actors.lm.providers.responses import Responses
from dspy_actors.lm.sse import Event
from dspy_actors.messages import LMRequest, LMResponse, Message
from dspy_actors.pieces import Piece, TextPiece

REQUEST = LMRequest("m", (Message.of("user", "hi"),))
CHAT, RESPONSES, MESSAGES = ChatCompletions(), Responses(), Messages()
WHOLE = '{"a": "\U0001f600b\U0001f680\U0001f680"}'

Events: TypeAlias = Callable[[list[str]], list[dict[str, Any]]]


def halves(cut: int) -> list[str]:
    units = WHOLE.encode("utf-16-le")
    return [part.decode("utf-16-le", "surrogatepass") for part in (units[: 2 * cut], units[2 * cut :])]


def chat_text(texts: list[str]) -> list[dict[str, Any]]:
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    return [*chunks, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]


def chat_call(texts: list[str]) -> list[dict[str, Any]]:
    functions = [{"arguments": text} for text in texts]
    functions[0]["name"] = "f"
    calls = [{"tool_calls": [{"index": 0, "id": "c", "function": function}]} for function in functions]
    chunks = [{"choices": [{"delta": call}]} for call in calls]
    return [*chunks, {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}]


def completed(*output: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.completed", "response": {"status": "completed", "output": list(output)}}


def response_text(texts: list[str]) -> list[dict[str, Any]]:
    deltas = [{"type": "response.output_text.delta", "output_index": 0, "delta": text} for text in texts]
    return [*deltas, completed()]


def response_text_told_again(texts: list[str]) -> list[dict[str, Any]]:
    item = {"type": "message", "content": [{"type": "output_text", "text": "".join(texts)}]}
    *deltas, _ = response_text(texts[:1])
    return [*deltas, completed(json.loads(json.dumps(item)))]


def response_call(texts: list[str]) -> list[dict[str, Any]]:
    kind = "response.function_call_arguments.delta"
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
    deltas = [{"type": kind, "output_index": 0, "delta": text} for text in texts]
    return [{"type": "response.output_item.added", "output_index": 0, "item": item}, *deltas, completed()]


def message_block(block: dict[str, Any], deltas: list[dict[str, Any]], *, closed: bool) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        *([{"type": "content_block_stop", "index": 0}] if closed else []),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ]


def message_text(texts: list[str]) -> list[dict[str, Any]]:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return message_block({"type": "text", "text": ""}, deltas, closed=False)


def message_call(texts: list[str]) -> list[dict[str, Any]]:
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in texts]
    return message_block({"type": "tool_use", "id": "t", "name": "f", "input": {}}, deltas, closed=True)


def streamed(dialect: Dialect, events: list[dict[str, Any]]) -> tuple[LMResponse, str]:
    """The answer, and what its pieces join to."""
    assembler = dialect.assembler(REQUEST)
    pieces: list[Piece] = []
    for event in events:
        pieces += assembler.take(Event("message", json.dumps(event)))
    shown = [piece.text if isinstance(piece, TextPiece) else piece.arguments for piece in pieces]
    assert assembler.size == sum(map(len, shown))
    return assembler.response(None), "".join(shown)


def content(answer: LMResponse) -> str:
    return answer.tool_calls[0][0].arguments if answer.tool_calls else answer.texts[0]


KINDS = [
    pytest.param(CHAT, chat_text, id="chat-text"),
    pytest.param(CHAT, chat_call, id="chat-call"),
    pytest.param(RESPONSES, response_text, id="responses-text"),
    pytest.param(RESPONSES, response_call, id="responses-call"),
    pytest.param(MESSAGES, message_text, id="messages-text"),
    pytest.param(MESSAGES, message_call, id="messages-call"),
]


@pytest.mark.parametrize("cut", [8, 11, 13])
@pytest.mark.parametrize(
    ("dialect", "events"), [*KINDS, pytest.param(RESPONSES, response_text_told_again, id="responses-told-again")]
)
def test_an_emoji_that_is_cut_in_two_between_pieces_is_one(dialect: Dialect, events: Events, cut: int) -> None:
    answer, shown = streamed(dialect, events(halves(cut)))

    assert (content(answer), shown) == (WHOLE, WHOLE)


@pytest.mark.parametrize(("dialect", "events"), KINDS)
def test_half_an_emoji_at_the_end_is_told_at_the_end(dialect: Dialect, events: Events) -> None:
    answer, shown = streamed(dialect, events(['{"a": "', "b\ud83d"]))

    assert (content(answer), shown) == ('{"a": "b\ud83d', '{"a": "b\ud83d')


CUT = ("a\ud83d", "\ude00")


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (CHAT, {"choices": [{"message": {"content": [{"text": text} for text in CUT]}, "finish_reason": "stop"}]}),
        (RESPONSES, {"output": [{"type": "message", "content": [{"text": text} for text in CUT]}]}),
        (RESPONSES, {"output": [{"type": "message", "content": [{"text": text}]} for text in CUT]}),
        (MESSAGES, {"content": [{"type": "text", "text": text} for text in CUT], "stop_reason": "end_turn"}),
    ],
)
def test_an_emoji_that_is_cut_in_two_between_the_parts_of_an_answer_is_one(
    dialect: Dialect, answer: dict[str, Any]
) -> None:
    assert dialect.read(answer, REQUEST, None).texts == ("a\U0001f600",)


def test_a_message_of_the_responses_api_may_have_a_plain_text_as_its_content() -> None:
    item = {"type": "message", "role": "assistant", "content": "hello"}

    assert RESPONSES.read({"status": "completed", "output": [item]}, REQUEST, None).texts == ("hello",)
    for events in ([completed(item)], [{"type": "response.output_item.done", "item": item}, completed()]):
        answer, shown = streamed(RESPONSES, events)
        assert (answer.texts, shown) == (("hello",), "hello")
