"""The responses API: what goes out, and what is made of each kind of answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspy_actors.errors import (
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.responses import Responses
from dspy_actors.messages import LMRequest, LMResponse, Usage
from tests.dspy_actors.providing import TURNS, ask_in, said_in
from tests.server.client import StubServer


def body(**options: Any) -> dict[str, Any]:
    return Responses().body(LMRequest("m", TURNS, options))


def said(**data: Any) -> LMResponse:
    return said_in("responses", json.dumps(data).encode())


def message(text: str, **part: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text, **part}]}


def test_an_answer_comes_with_text_usage_reason_and_id(stub: StubServer) -> None:
    stub.control(fault="text=Hi")
    answer = ask_in("responses", stub.base_url)
    assert (answer.texts, answer.finish_reasons, answer.request_id) == (("Hi",), ("stop",), "req-1")
    assert answer.usage == Usage(prompt_tokens=4, completion_tokens=1)


def test_the_request_goes_out_as_the_api_has_it(stub: StubServer) -> None:
    ask_in("responses", stub.base_url, temperature=0.5, max_tokens=50, reasoning_effort="low", verbosity="low")
    assert (stub.bodies()[0]["target"], stub.bodies()[0]["body"]) == (
        "/v1/responses",
        {
            "model": "m",
            "input": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello?"}],
            "temperature": 0.5,
            "max_output_tokens": 50,
            "reasoning": {"effort": "low"},
            "text": {"verbosity": "low"},
        },
    )


def test_an_option_of_its_own_goes_out_as_it_is(stub: StubServer) -> None:
    ask_in("responses", stub.base_url, store=False, truncation="auto", text={"verbosity": "low"}, n=1)
    sent = stub.bodies()[0]["body"]
    assert (sent["store"], sent["truncation"], sent["text"], "n" in sent) == (
        False,
        "auto",
        {"verbosity": "low"},
        False,
    )


@pytest.mark.parametrize(
    "options", [{"n": 2}, {"stop": ["a"]}, {"seed": 1}, {"logit_bias": {}}, {"background": True}, {"stream": True}]
)
def test_an_option_it_has_no_word_for_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LMUnsupportedFeatureError):
        body(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"input": "x"},
        {"text": 3},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema", "schema": {}}},
        {"tools": "add"},
        {"tools": [{"type": "function", "name": "flat"}]},
        {"tool_choice": "any"},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError):
        body(**options)


@pytest.mark.parametrize("kind", ["text", 7, ["chat"]])
def test_an_unknown_model_type_names_the_known_ones(stub: StubServer, kind: object) -> None:
    with pytest.raises(LMConfigurationError, match="'chat', 'responses' or 'embeddings'"):
        ask_in("chat", stub.base_url, model_type=kind)


def test_cached_and_reasoning_tokens_are_counted() -> None:
    usage = {
        "input_tokens": 9,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    assert said(status="completed", output=[message("a")], usage=usage).usage == Usage(9, 5, 4, 3)


def test_the_texts_of_several_messages_are_joined_and_reasoning_is_left_out() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "no"}]}
    assert said(status="completed", output=[thought, message("a"), message("b")]).texts == ("ab",)


def test_an_incomplete_answer_keeps_its_text_and_says_why() -> None:
    cut = said(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, output=[message("a")])
    assert (cut.texts, cut.finish_reasons) == (("a",), ("length",))


def test_an_incomplete_answer_of_thoughts_only_is_an_empty_one() -> None:
    cut = said(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, output=[{"type": "reasoning"}])
    assert (cut.texts, cut.finish_reasons) == (("",), ("length",))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "server_error", "message": "x"}, LMServerError),
        ({"code": "rate_limit_exceeded", "message": "x"}, LMRateLimitError),
        ({"code": "invalid_prompt", "message": "x"}, LMInvalidRequestError),
        ({"code": "bio_policy", "message": "x"}, LMContentFilterError),
    ],
)
def test_a_failure_inside_a_200_is_the_error_it_names(error: dict[str, str], kind: type[LMError]) -> None:
    with pytest.raises(kind) as caught:
        said(status="failed", error=error, output=[])
    assert (type(caught.value), caught.value.provider_code) == (kind, error["code"])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"status": "failed", "error": None, "output": []}, LMUnexpectedError),
        ({"status": "in_progress", "output": []}, LMUnexpectedError),
        ({"status": "queued", "output": [message("a")]}, LMUnexpectedError),
        ({"status": "cancelled", "output": [message("a")]}, LMUnexpectedError),
        ({"status": "completed"}, LMUnexpectedError),
        ({"status": "completed", "output": []}, LMUnexpectedError),
        ({"status": "completed", "output": ["a"]}, LMUnexpectedError),
        ({"status": "completed", "output": [{"type": "function_call"}]}, LMUnexpectedError),
        (
            {"status": "completed", "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}]},
            LMContentFilterError,
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []},
            LMContentFilterError,
        ),
    ],
)
def test_a_200_without_an_answer_is_an_error(data: dict[str, Any], kind: type[LMError]) -> None:
    with pytest.raises(kind) as caught:
        said(**data)
    assert (type(caught.value), caught.value.provider, caught.value.model) == (kind, "openai", "m")


def test_model_type_is_dspys_word_for_it_and_stays_in_a_saved_program() -> None:
    assert LM("openai/gpt-5", model_type="responses").to_state() == {
        "model": "openai/gpt-5",
        "cache": True,
        "num_retries": 3,
        "model_type": "responses",
    }
