"""The test server's other APIs: each refuses what its provider refuses, in that provider's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.client import StubServer

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "parameters": {"type": "object"}}
CHAT_TOOL = {"type": "function", "function": TOOL}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "1"}

GOOD: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "m", "messages": [USER]},
    "responses": {"model": "m", "input": [USER]},
    "messages": {"model": "m", "max_tokens": 5, "messages": [USER]},
    "embeddings": {"model": "m", "input": ["a"]},
}

WRONG: dict[str, list[dict[str, Any]]] = {
    "chat/completions": [
        {"tools": [TOOL]},
        {"tools": [{**CHAT_TOOL, "strict": True}]},
        {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"messages": [USER, {"role": "tool", "tool_call_id": "c", "content": "1"}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, USER]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": "f"}]}]},
    ],
    "responses": [
        {"input": None},
        {"input": []},
        {"messages": [USER]},
        {"max_tokens": 20},
        {"max_output_tokens": 3},
        {"response_format": {"type": "text"}},
        {"text": {"format": {"type": "json_schema", "json_schema": {}}}},
        {"text": {"format": {"type": "json_schema", "name": "no good", "schema": {}}}},
        {"tools": [CHAT_TOOL]},
        {"tools": [{"type": "function", **TOOL}]},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"input": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "https://a"}}]}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "1"}]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]},
    ],
    "messages": [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"messages": [{"role": "assistant", "content": "hi"}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "!"}}]}]},
        {"messages": [{"role": "user", "content": [RESULT]}]},
        {"messages": [USER, {"role": "assistant", "content": [USE]}, USER]},
        {"messages": [USER, {"role": "assistant", "content": [{**USE, "input": "{}"}]}]},
        {
            "messages": [
                USER,
                {"role": "assistant", "content": [USE]},
                {"role": "user", "content": [{"type": "text", "text": "first"}, RESULT]},
            ]
        },
        {"temperature": 1.5},
        {"stop": ["a"]},
        {"n": 2},
        {"tools": [CHAT_TOOL]},
        {"tools": [{"name": "f", "input_schema": {"type": "string"}}]},
        {"tool_choice": {"type": "auto"}},
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": "auto"},
        {"output_config": {"format": {"type": "json_object"}}},
        {"response_format": {"type": "text"}},
    ],
    "embeddings": [{"input": []}, {"input": [""]}, {"input": ["a"] * 2049}, {"encoding_format": "hex"}, {"top_p": 1}],
}


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False, headers={"anthropic-version": "2023-06-01"}) as client:
        yield client


@pytest.mark.parametrize("path", GOOD)
def test_a_good_body_is_answered(stub: StubServer, http: httpx.Client, path: str) -> None:
    assert http.post(f"{stub.base_url}/{path}", json=GOOD[path]).status_code == 200


@pytest.mark.parametrize(("path", "change"), [(path, change) for path, changes in WRONG.items() for change in changes])
def test_a_wrong_body_is_refused(stub: StubServer, http: httpx.Client, path: str, change: dict[str, Any]) -> None:
    response = http.post(f"{stub.base_url}/{path}", json=GOOD[path] | change)
    assert (response.status_code, stub.stats()["invalid"]) == (400, 1)


def test_anthropic_refuses_in_its_own_words(stub: StubServer, http: httpx.Client) -> None:
    response = http.post(f"{stub.base_url}/messages", json={"model": "m"})
    error = response.json()
    assert (error["type"], error["error"]["type"], "request-id" in response.headers) == (
        "error",
        "invalid_request_error",
        True,
    )


def test_anthropic_wants_its_version(stub: StubServer, http: httpx.Client) -> None:
    del http.headers["anthropic-version"]
    assert http.post(f"{stub.base_url}/messages", json=GOOD["messages"]).status_code == 400


def test_anthropic_looks_for_the_key_in_its_own_header(stub: StubServer, http: httpx.Client) -> None:
    stub.control(keys=["k"])
    http.headers["authorization"] = "Bearer k"
    assert http.post(f"{stub.base_url}/messages", json=GOOD["messages"]).status_code == 401
    http.headers["x-api-key"] = "k"
    assert http.post(f"{stub.base_url}/messages", json=GOOD["messages"]).status_code == 200


def test_health_says_that_all_is_well(stub: StubServer, http: httpx.Client) -> None:
    assert http.get(f"{stub.url}/health").json() == {"status": "ok"}
