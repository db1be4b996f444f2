"""Tools, images and schemas: written in each dialect so that a strict server takes them, and read back the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspy_actors.errors import AdapterParseError, LMConfigurationError, LMUnexpectedError
from dspy_actors.lm.providers.anthropic import Messages
from dspy_actors.lm.providers.chat import ChatCompletions
from dspy_actors.lm.providers.responses import Responses
from dspy_actors.messages import ImagePart, LMRequest, Message, TextPart, ToolCall, ToolResult
from tests.dspy_actors.providing import DIALECTS, TURNS, ask_in, said_in
from tests.server.client import StubServer

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ADD = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA, "strict": True}}
CALLS = (ToolCall("call_a", "add", '{"a": 1}'), ToolCall("call_b", "add", '{"a": 2}'))
CONVERSATION = (
    Message.of("user", "Add them."),
    Message("assistant", (TextPart("I will."), *CALLS)),
    Message.results(ToolResult("call_a", "1"), ToolResult("call_b", "no", error=True)),
    Message.of("user", "And now?"),
)
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def valid(stub: StubServer) -> bool:
    counts = stub.stats()
    return bool(counts["requests"] > 0 and counts["invalid"] == 0)


def test_a_tool_call_is_read(stub: StubServer, dialect: str) -> None:
    stub.control(fault='call=add,arguments={"a":1}')
    answer = ask_in(dialect, stub.base_url, tools=[ADD])
    ((call,),) = answer.tool_calls
    assert (call.name, call.read(), bool(call.id), answer.texts, answer.finish_reasons) == (
        "add",
        {"a": 1},
        True,
        ("",),
        ("tool_calls",),
    )


def test_an_answer_without_calls_has_none(stub: StubServer, dialect: str) -> None:
    assert ask_in(dialect, stub.base_url, tools=[ADD]).tool_calls == ()


def test_the_conversation_goes_on_after_a_call(stub: StubServer, dialect: str) -> None:
    stub.control(plan=[{"times": 1, "fault": 'call=add,arguments={"a":1}'}])
    answer = ask_in(dialect, stub.base_url, tools=[ADD])
    ((call,),) = answer.tool_calls
    turns = (*TURNS, answer.turn(), Message.results(ToolResult(call.id, "1")))
    assert ask_in(dialect, stub.base_url, turns, tools=[ADD]).texts
    assert valid(stub)


def test_calls_and_results_in_one_conversation_are_valid(stub: StubServer, dialect: str) -> None:
    ask_in(dialect, stub.base_url, CONVERSATION, tools=[ADD])
    assert valid(stub)


@pytest.mark.parametrize(
    "choice", ["auto", "none", "required", {"type": "function", "function": {"name": "add"}}], ids=str
)
def test_every_tool_choice_is_valid(stub: StubServer, dialect: str, choice: Any) -> None:
    ask_in(dialect, stub.base_url, tools=[ADD], tool_choice=choice, parallel_tool_calls=False)
    assert valid(stub)


@pytest.mark.parametrize("url", ["https://a/b.png", PNG])
def test_an_image_is_valid(stub: StubServer, dialect: str, url: str) -> None:
    ask_in(dialect, stub.base_url, (Message("user", (TextPart("What?"), ImagePart(url, "low"))),))
    assert valid(stub)


def test_an_answer_follows_its_schema(stub: StubServer, dialect: str) -> None:
    answer = ask_in(dialect, stub.base_url, response_format=FORMAT)
    assert (json.loads(answer.texts[0]), valid(stub)) == ({"a": 1, "b": "x"}, True)


def test_text_is_a_format_too(stub: StubServer, dialect: str) -> None:
    assert ask_in(dialect, stub.base_url, response_format={"type": "text"}).texts


def test_chat_completions_write_a_message_for_each_result() -> None:
    messages = ChatCompletions().body(LMRequest("m", CONVERSATION))["messages"]
    assert isinstance(messages, list)
    assert messages[1:4] == [
        {
            "role": "assistant",
            "content": "I will.",
            "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
                {"id": "call_b", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "1"},
        {"role": "tool", "tool_call_id": "call_b", "content": "no"},
    ]


def test_a_turn_of_calls_alone_has_no_content_in_chat_completions() -> None:
    (turn,) = ChatCompletions().body(LMRequest("m", (Message("assistant", CALLS),)))["messages"]  # type: ignore[misc]
    assert turn["content"] is None


def test_responses_write_calls_and_results_as_items() -> None:
    items = Responses().body(LMRequest("m", CONVERSATION))["input"]
    assert isinstance(items, list)
    assert items[1:5] == [
        {"role": "assistant", "content": "I will."},
        {"type": "function_call", "call_id": "call_a", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "call_b", "name": "add", "arguments": '{"a": 2}'},
        {"type": "function_call_output", "call_id": "call_a", "output": "1"},
    ]


def test_responses_write_tools_flat_and_not_strict_unless_asked() -> None:
    assert Responses().body(LMRequest("m", TURNS, {"tools": [ADD]}))["tools"] == [
        {"type": "function", "name": "add", "description": "Add.", "parameters": SCHEMA, "strict": False}
    ]


def test_anthropic_gets_results_first_and_in_one_turn_with_what_follows() -> None:
    turns = Messages().body(LMRequest("m", CONVERSATION))["messages"]
    assert isinstance(turns, list)
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "no", "is_error": True},
        {"type": "text", "text": "And now?"},
    ]


def test_anthropic_gets_results_first_also_where_something_was_said_before_them(stub: StubServer) -> None:
    turns = (CONVERSATION[0], CONVERSATION[1], Message.of("user", "Wait."), CONVERSATION[2])
    ask_in("messages", stub.base_url, turns, tools=[ADD])
    assert valid(stub)


def test_a_turn_of_calls_alone_is_nothing_but_items_in_responses() -> None:
    items = Responses().body(LMRequest("m", (Message("assistant", CALLS),)))["input"]
    assert isinstance(items, list)
    assert [item["type"] for item in items] == ["function_call", "function_call"]


def test_anthropic_gets_no_choice_of_tools_without_tools() -> None:
    assert "tool_choice" not in Messages().body(LMRequest("m", TURNS, {"parallel_tool_calls": False}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": {"type": "any"}}, {"type": "any"}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_anthropic_has_one_object_for_both_options_of_choosing(options: dict[str, Any], expected: object) -> None:
    assert Messages().body(LMRequest("m", TURNS, {"tools": [ADD], **options})).get("tool_choice") == expected


def test_a_tool_the_provider_runs_itself_goes_out_as_it_is() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    assert Messages().body(LMRequest("m", TURNS, {"tools": [own, ADD]}))["tools"] == [
        own,
        {"name": "add", "description": "Add.", "input_schema": SCHEMA},
    ]


@pytest.mark.parametrize("written", ["", "{}"])
def test_a_call_without_arguments_has_none(written: str) -> None:
    function = {"name": "now", "arguments": written}
    body = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c", "function": function}]}}]}
    ((call,),) = said_in("chat", json.dumps(body).encode()).tool_calls
    assert call.read() == {}


@pytest.mark.parametrize("written", ['{"a": 1', "[1]", "no"])
def test_arguments_that_are_no_json_are_an_error_when_they_are_read(written: str) -> None:
    with pytest.raises(AdapterParseError, match="'add'"):
        ToolCall("c", "add", written).read()


def test_arguments_that_are_no_json_cannot_go_to_anthropic() -> None:
    with pytest.raises(LMConfigurationError):
        Messages().body(LMRequest("m", (Message("assistant", (ToolCall("c", "add", "no"),)),)))


def test_a_text_beside_a_call_is_kept() -> None:
    function = {"name": "add", "arguments": "{}"}
    body = {"choices": [{"message": {"content": "Wait.", "tool_calls": [{"id": "c", "function": function}]}}]}
    answer = said_in("chat", json.dumps(body).encode())
    assert (answer.texts, len(answer.tool_calls[0])) == (("Wait.",), 1)


@pytest.mark.parametrize("call", [{}, {"function": "add"}, {"function": {"name": ""}}])
def test_a_call_that_names_no_tool_is_no_answer(call: dict[str, Any]) -> None:
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    with pytest.raises(LMUnexpectedError):
        said_in("chat", json.dumps(body).encode())
