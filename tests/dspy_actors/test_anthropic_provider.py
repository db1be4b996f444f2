"""Anthropic's messages: what goes out, and what is made of each kind of answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspy_actors.errors import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
from dspy_actors.lm.providers.anthropic import DEFAULT_MAX_TOKENS, Messages
from dspy_actors.lm.verdicts import is_provider_failure, is_retryable
from dspy_actors.messages import ImagePart, LMRequest, LMResponse, Message, TextPart, Usage
from dspy_actors.secret import Secret
from tests.dspy_actors.providing import TURNS, ask_in, said_in
from tests.server.client import StubServer

KEY = "sk-ant-marker-0123456789"


def body(turns: tuple[Message, ...] = TURNS, **options: Any) -> dict[str, Any]:
    return Messages().body(LMRequest("m", turns, options))


def said(**data: Any) -> LMResponse:
    return said_in("messages", json.dumps(data).encode())


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def test_an_answer_comes_with_text_usage_reason_and_id(stub: StubServer) -> None:
    stub.control(fault="text=Hi")
    answer = ask_in("messages", stub.base_url)
    assert (answer.texts, answer.finish_reasons, answer.request_id) == (("Hi",), ("stop",), "req-1")
    assert answer.usage == Usage(prompt_tokens=4, completion_tokens=1)


def test_the_request_goes_out_as_the_api_has_it(stub: StubServer) -> None:
    ask_in("messages", stub.base_url, temperature=0.5, max_tokens=50, stop="END", user="u", reasoning_effort="low")
    assert (stub.bodies()[0]["target"], stub.bodies()[0]["body"]) == (
        "/v1/messages",
        {
            "model": "m",
            "system": "Be short.",
            "messages": [{"role": "user", "content": "Hello?"}],
            "temperature": 0.5,
            "max_tokens": 50,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "low"},
        },
    )


def test_max_tokens_has_a_default_because_the_api_requires_it() -> None:
    assert (body()["max_tokens"], DEFAULT_MAX_TOKENS) == (8192, 8192)


@pytest.mark.parametrize(("temperature", "sent"), [(1.0, None), (1, None), (0.0, 0.0), (0.5, 0.5)])
def test_a_temperature_of_1_is_the_default_and_not_sent_to_models_that_refuse_the_word(
    temperature: float, sent: float | None
) -> None:
    assert body(temperature=temperature).get("temperature") == sent


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_max_tokens_are_understood(name: str) -> None:
    sent = body(**{name: 7})
    assert (sent["max_tokens"], "max_completion_tokens" in sent) == (7, False)


def test_an_option_of_its_own_goes_out_as_it_is(stub: StubServer) -> None:
    ask_in("messages", stub.base_url, top_k=5, thinking={"type": "disabled"}, n=1)
    sent = stub.bodies()[0]["body"]
    assert (sent["top_k"], sent["thinking"], "n" in sent) == (5, {"type": "disabled"}, False)


@pytest.mark.parametrize(
    "options",
    [{"n": 2}, {"seed": 1}, {"logprobs": True}, {"stream": True}, {"response_format": {"type": "json_object"}}],
)
def test_an_option_it_has_no_word_for_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LMUnsupportedFeatureError):
        body(**options)


@pytest.mark.parametrize(
    "options", [{"system": "x"}, {"messages": []}, {"model_type": "responses"}, {"output_config": 3}, {"tools": {}}]
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError):
        body(**options)


def test_system_turns_are_one_prompt_of_their_own() -> None:
    sent = body((Message.of("system", "a"), Message.of("user", "b"), Message.of("system", "c")))
    assert (sent["system"], sent["messages"]) == ("a\n\nc", [{"role": "user", "content": "b"}])


def test_an_image_in_a_system_turn_is_refused() -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="system prompt"):
        body((Message("system", (ImagePart("https://a/b.png"),)),))


def test_neighbouring_turns_of_one_role_are_one() -> None:
    turns = (Message.of("user", "a"), Message.of("user", "b"), Message("user", (TextPart("c"), TextPart("d"))))
    assert body(turns)["messages"] == [{"role": "user", "content": [text("a"), text("b"), text("cd")]}]


def test_an_empty_text_beside_others_is_left_out() -> None:
    turn = Message("user", (TextPart(""), ImagePart("https://a/b.png")))
    assert [block["type"] for block in body((turn,))["messages"][0]["content"]] == ["image"]


def test_a_data_uri_that_is_no_base64_is_refused() -> None:
    with pytest.raises(LMConfigurationError, match="base64"):
        body((Message("user", (ImagePart("data:image/png,abc"),)),))


def test_cached_tokens_are_a_part_of_the_prompt() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert said(content=[text("a")], usage=usage).usage == Usage(60, 5, 30, 2)


def test_tokens_of_a_cache_that_is_not_used_may_be_null() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None}
    assert said(content=[text("a")], usage=usage).usage == Usage(1, 2)


def test_thinking_is_no_part_of_the_text() -> None:
    assert said(content=[{"type": "thinking", "thinking": "hm"}, text("a"), text("b")]).texts == ("ab",)


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, ""),
    ],
)
def test_a_stop_reason_is_told_in_openais_words(stopped: str | None, reason: str) -> None:
    assert said(content=[text("a")], stop_reason=stopped).finish_reasons == (reason,)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"content": [], "stop_reason": "refusal"}, LMContentFilterError),
        ({"content": None}, LMUnexpectedError),
        ({"choices": []}, LMUnexpectedError),
        ({"content": [{"type": "tool_use", "input": {}}]}, LMUnexpectedError),
        ({"content": [{"type": "tool_use", "name": "f", "input": "x"}]}, LMUnexpectedError),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, LMServerError),
    ],
)
def test_a_200_without_an_answer_is_an_error(data: dict[str, Any], kind: type[LMError]) -> None:
    with pytest.raises(kind) as caught:
        said(**data)
    assert (type(caught.value), caught.value.provider, caught.value.model) == (kind, "anthropic", "m")


@pytest.mark.parametrize(
    ("fault", "kind", "retried", "failure"),
    [
        ("status=400", LMInvalidRequestError, False, False),
        ("status=401", LMAuthError, False, False),
        ("status=402", LMBillingError, False, False),
        ("status=403", LMAuthError, False, False),
        ("status=404,message=model: m", LMUnsupportedModelError, False, False),
        ("status=413", LMInvalidRequestError, False, False),
        ("status=429,retry_after=3", LMRateLimitError, True, False),
        ("status=429,code=enforced_spend_limit_reached", LMBillingError, False, False),
        (
            "status=400,message=You have reached your specified API usage limits. You will regain",
            LMBillingError,
            False,
            False,
        ),
        ("status=500", LMServerError, True, True),
        ("status=504", LMTimeoutError, True, True),
        ("status=529", LMServerError, True, True),
        ("error", LMServerError, True, True),
    ],
)
def test_every_refusal_has_its_error(
    stub: StubServer, fault: str, kind: type[LMError], retried: bool, failure: bool
) -> None:
    with pytest.raises(kind) as caught:
        ask_in("messages", stub.at(fault))
    error = caught.value
    assert (type(error), is_retryable(error), is_provider_failure(error)) == (kind, retried, failure)


def test_an_error_names_the_request_by_the_servers_id(stub: StubServer) -> None:
    with pytest.raises(LMServerError) as caught:
        ask_in("messages", stub.at("status=500"))
    assert (caught.value.request_id, caught.value.provider_code) == ("req-1", "api_error")


def test_the_key_goes_out_in_its_own_header(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    ask_in("messages", stub.base_url, key=Secret(KEY))
    headers = stub.bodies()[0]["headers"]
    assert (headers["x-api-key"], headers["anthropic-version"], "authorization" in headers) == (
        KEY,
        "2023-06-01",
        False,
    )


def test_the_key_of_the_environment_is_used(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    stub.control(keys=[KEY])
    assert ask_in("messages", stub.base_url).texts


def test_anthropic_itself_needs_a_key() -> None:
    with pytest.raises(LMNotConfiguredError, match="ANTHROPIC_API_KEY"):
        ask_in("messages", "https://api.example.com/v1")
