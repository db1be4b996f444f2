"""Each row of the providers' error tables, and each shape a body comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
from dspy_actors.lm.classify import classify, judge, retry_after
from dspy_actors.lm.verdicts import is_provider_failure, is_retryable, key_effect


def openai(status: int, code: str | None, kind: str = "", message: str = "") -> LMError:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return classify(status, {}, json.dumps({"error": error}).encode(), provider="openai", model="m")


def anthropic(status: int, kind: str, message: str = "", **error: Any) -> LMError:
    body = {"type": "error", "error": {"type": kind, "message": message, **error}, "request_id": "r"}
    return classify(status, {}, json.dumps(body).encode(), provider="anthropic", model="m")


def plain(status: int, body: bytes) -> LMError:
    return classify(status, {}, body, provider="openai", model="m")


NO_MONEY = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
]

ROWS: list[tuple[LMError, type[LMError], bool, bool]] = [
    # error, class, retried, a failure of the provider
    (openai(400, None, "invalid_request_error"), LMInvalidRequestError, False, False),
    (openai(400, "context_length_exceeded", "invalid_request_error"), ContextWindowExceededError, False, False),
    (openai(400, "content_policy_violation"), LMContentFilterError, False, False),
    (openai(400, "content_filter"), LMContentFilterError, False, False),
    (openai(400, "unsupported_parameter", "invalid_request_error"), LMUnsupportedFeatureError, False, False),
    (openai(400, "unsupported_value", "invalid_request_error"), LMUnsupportedFeatureError, False, False),
    (openai(401, "invalid_api_key", "invalid_request_error"), LMAuthError, False, False),
    (openai(401, None), LMAuthError, False, False),
    (openai(402, None), LMBillingError, False, False),
    (openai(403, "unsupported_country_region_territory"), LMAuthError, False, False),
    (openai(403, None), LMAuthError, False, False),
    (openai(403, None, "", "Please check your plan and billing details"), LMBillingError, False, False),
    (openai(404, "model_not_found"), LMUnsupportedModelError, False, False),
    (openai(404, None), LMConfigurationError, False, False),
    (openai(408, None), LMTimeoutError, True, True),
    (openai(409, None), LMServerError, True, False),
    (openai(413, None), LMInvalidRequestError, False, False),
    (openai(413, "rate_limit_exceeded", "tokens"), LMInvalidRequestError, False, False),
    (openai(422, None), LMInvalidRequestError, False, False),
    (openai(425, None), LMServerError, True, False),
    (openai(429, "rate_limit_exceeded", "tokens"), LMRateLimitError, True, False),
    (openai(429, "rate_limit_exceeded", "requests"), LMRateLimitError, True, False),
    (openai(429, "slow_down", "rate_limit_error"), LMRateLimitError, True, False),
    (openai(429, None), LMRateLimitError, True, False),
    *[(openai(429, code), LMBillingError, False, False) for code in NO_MONEY],
    (openai(429, None, "insufficient_quota"), LMBillingError, False, False),
    (openai(500, None, "server_error"), LMServerError, True, True),
    (openai(501, None), LMServerError, False, True),
    (openai(502, None), LMServerError, True, True),
    (openai(503, "server_is_overloaded"), LMServerError, True, True),
    (openai(503, "slow_down", "rate_limit_error"), LMServerError, True, True),
    (openai(504, None), LMServerError, True, True),
    (openai(418, None), LMInvalidRequestError, False, False),
    (openai(301, None), LMConfigurationError, False, False),
    (anthropic(400, "invalid_request_error"), LMInvalidRequestError, False, False),
    (
        anthropic(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        ContextWindowExceededError,
        False,
        False,
    ),
    (
        anthropic(400, "invalid_request_error", "Your credit balance is too low to access the API"),
        LMBillingError,
        False,
        False,
    ),
    (
        anthropic(400, "invalid_request_error", "You have reached your specified API usage limits. You will regain"),
        LMBillingError,
        False,
        False,
    ),
    (
        anthropic(400, "invalid_request_error", "`temperature` is deprecated for this model."),
        LMUnsupportedFeatureError,
        False,
        False,
    ),
    (
        openai(400, "400", "None", "litellm.UnsupportedParamsError: m doesn't support `reasoning.effort`"),
        LMUnsupportedFeatureError,
        False,
        False,
    ),
    (
        openai(400, "400", "None", "/chat/completions: Invalid model name passed in model=m"),
        LMUnsupportedModelError,
        False,
        False,
    ),
    (anthropic(401, "authentication_error"), LMAuthError, False, False),
    (anthropic(402, "billing_error"), LMBillingError, False, False),
    (anthropic(403, "permission_error"), LMAuthError, False, False),
    (anthropic(404, "not_found_error", "model: claude-9"), LMUnsupportedModelError, False, False),
    (anthropic(409, "conflict_error"), LMServerError, True, False),
    (anthropic(413, "request_too_large"), LMInvalidRequestError, False, False),
    (anthropic(429, "rate_limit_error"), LMRateLimitError, True, False),
    (
        anthropic(429, "rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        LMBillingError,
        False,
        False,
    ),
    (
        anthropic(429, "rate_limit_error", details={"error_code": "ramp_limit_exceeded"}),
        LMRateLimitError,
        True,
        False,
    ),
    (
        anthropic(403, "permission_error", details={"error_code": "organization_on_hold"}),
        LMAuthError,
        False,
        False,
    ),
    (openai(200, "server_error"), LMServerError, True, True),
    (openai(200, "rate_limit_exceeded"), LMRateLimitError, True, False),
    (openai(200, "invalid_prompt"), LMInvalidRequestError, False, False),
    (openai(200, "image_content_policy_violation"), LMContentFilterError, False, False),
    (openai(200, "data_residency_mismatch"), LMConfigurationError, False, False),
    (anthropic(500, "api_error"), LMServerError, True, True),
    (anthropic(504, "timeout_error"), LMTimeoutError, True, True),
    (anthropic(529, "overloaded_error"), LMServerError, True, True),
    (
        plain(503, b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'),
        LMServerError,
        True,
        True,
    ),
    (
        plain(503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'),
        LMServerError,
        True,
        False,  # not ready is not broken
    ),
    (
        plain(404, b'{"error":{"message":"model \\"x\\" not found, try pulling it first"}}'),
        LMUnsupportedModelError,
        False,
        False,
    ),
    (
        plain(404, b'{"object":"error","message":"The model `x` does not exist.","code":404}'),
        LMUnsupportedModelError,
        False,
        False,
    ),
    (
        plain(400, b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens"}'),
        ContextWindowExceededError,
        False,
        False,
    ),
    (
        plain(400, b'{"error":{"code":400,"message":"the request exceeds the available context size"}}'),
        ContextWindowExceededError,
        False,
        False,
    ),
    (plain(400, b'{"error":{"message":"llama2 does not support tools"}}'), LMUnsupportedFeatureError, False, False),
    (
        plain(400, b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]'),
        LMAuthError,
        False,
        False,
    ),
    (plain(400, b'{"detail":"Not Found"}'), LMInvalidRequestError, False, False),
    (plain(502, b"<html><h1>Bad Gateway</h1></html>"), LMServerError, True, True),
    (plain(500, b""), LMServerError, True, True),
    (plain(429, b"\xff\xfe"), LMRateLimitError, True, False),
    (plain(404, b"404 page not found"), LMConfigurationError, False, False),
    (plain(405, b"<html><h1>405 Not Allowed</h1></html>"), LMConfigurationError, False, False),
    (plain(407, b""), LMConfigurationError, False, False),
    (plain(424, b'{"error":"Request failed during generation","error_type":"generation"}'), LMServerError, True, True),
    (plain(499, b'{"error":{"code":499,"status":"CANCELLED"}}'), LMServerError, True, True),
    (plain(200, b"<html>"), LMUnexpectedError, False, True),
    (plain(200, b'{"error":{"message":"boom"}}'), LMServerError, True, True),
    (plain(200, b'{"type":"error","error":{"type":"overloaded_error"}}'), LMServerError, True, True),
    (plain(200, b'{"error":"server busy, please try again"}'), LMServerError, True, True),
]

INSIDE_200: list[tuple[dict[str, Any], int]] = [
    # an error object, and the status that it comes with elsewhere
    ({"type": "invalid_request_error"}, 400),
    ({"type": "invalid_request_error", "message": "maximum context length is 5"}, 400),
    ({"type": "authentication_error"}, 401),
    ({"code": "invalid_api_key", "type": "invalid_request_error"}, 401),
    ({"type": "billing_error"}, 402),
    ({"type": "permission_error"}, 403),
    ({"type": "not_found_error", "message": "model: claude-9"}, 404),
    ({"code": "model_not_found", "type": "invalid_request_error"}, 404),
    ({"type": "conflict_error"}, 409),
    ({"type": "request_too_large"}, 413),
    ({"code": "rate_limit_exceeded"}, 429),
    ({"code": "rate_limit_exceeded", "type": "server_error"}, 429),
    ({"type": "rate_limit_error"}, 429),
    ({"code": "slow_down"}, 429),
    ({"code": "insufficient_quota"}, 429),
    ({"type": "insufficient_quota"}, 429),
    ({"type": "server_error"}, 500),
    ({"type": "api_error"}, 500),
    ({"code": "server_is_overloaded"}, 503),
    ({"code": 503, "message": "Loading model", "type": "unavailable_error"}, 503),
    ({"type": "timeout_error"}, 504),
    ({"type": "overloaded_error"}, 529),
    ({"code": 429, "message": "slow"}, 429),
    ({"code": "502", "message": "bad gateway"}, 502),
]


@pytest.mark.parametrize(("error", "status"), INSIDE_200, ids=lambda value: str(value)[:60])
def test_an_error_inside_a_200_has_the_consequences_that_it_has_with_its_status(
    error: dict[str, Any], status: int
) -> None:
    body = json.dumps({"error": error}).encode()
    inside, outside = judge(200, {}, body), judge(status, {}, body)
    assert (type(inside.error), inside.error.status) == (type(outside.error), status)
    assert (inside.retryable, inside.provider_failure, inside.key) == (
        outside.retryable,
        outside.provider_failure,
        outside.key,
    )


@pytest.mark.parametrize("code", ["0429", "99999999", "399", "600", "-429", "4e2", "\u0664\u0662\u0669"])
def test_a_number_that_is_no_status_of_an_error_is_none(code: str) -> None:
    assert classify(200, {}, json.dumps({"error": {"code": code, "message": "x"}}).encode()).status == 200


@pytest.mark.parametrize(("error", "kind", "retried", "failure"), ROWS, ids=lambda value: str(value)[:60])
def test_a_refusal_has_its_class_and_its_consequences(
    error: LMError, kind: type[LMError], retried: bool, failure: bool
) -> None:
    assert type(error) is kind
    assert is_retryable(error) is retried
    assert is_provider_failure(error) is failure


@pytest.mark.parametrize(
    ("code", "retried"),
    [("refused", True), ("cut", True), ("connect", True), ("certificate", False), ("too_large", False)],
)
def test_a_transport_error_is_retried_unless_it_would_come_again(code: str, retried: bool) -> None:
    assert is_retryable(LMTransportError("x", provider_code=code)) is retried


def test_waiting_in_our_own_queue_is_no_failure_of_the_provider() -> None:
    assert not is_provider_failure(LMTimeoutError("x", phase="queue"))


def test_an_error_says_who_refused_what_and_why() -> None:
    body = b'{"error":{"message":"Too many","code":"rate_limit_exceeded"}}'
    error = classify(429, {"x-request-id": "r-1", "retry-after": "2"}, body, provider="openai", model="gpt-4o")
    assert (error.provider, error.model, error.status, error.request_id) == ("openai", "gpt-4o", 429, "r-1")
    assert (error.provider_code, error.retry_after) == ("rate_limit_exceeded", 2.0)
    assert str(error) == "openai answered 429 rate_limit_exceeded: Too many"


@pytest.mark.parametrize(
    ("error", "name", "words"),
    [
        ({"code": "400", "type": "no_db_connection"}, "no_db_connection", "400 no_db_connection: m"),
        ({"code": 400, "type": "BadRequestError"}, "BadRequestError", "400 BadRequestError: m"),
        ({"code": 400, "status": "INVALID_ARGUMENT"}, "INVALID_ARGUMENT", "400 INVALID_ARGUMENT: m"),
        ({"code": "400", "type": None}, "400", "400: m"),
        ({"code": 422}, "422", "400 422: m"),
        ({"code": 1234, "type": "odd"}, "1234", "400 1234: m"),
    ],
    ids=["litellm", "vllm", "google", "alone", "another", "no status"],
)
def test_a_code_that_is_a_status_gives_way_to_the_word_beside_it(error: Any, name: str, words: str) -> None:
    found = classify(400, {}, json.dumps({"error": {"message": "m", **error}}).encode(), provider="p")
    assert (found.provider_code, str(found)) == (name, f"p answered {words}")


def test_a_wrong_path_points_at_the_base_url() -> None:
    assert "base_url" in str(plain(404, b"not found"))


def test_a_redirect_says_where_to_without_its_query_and_its_user() -> None:
    error = classify(308, {"location": "https://me:secret@b/v1?key=secret"}, b"")
    assert "https://b/v1" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "text", ["sk-abcdefghijkl", "Bearer abcdefghijkl", "api key: abcdefghijkl", "?key=abcdefghijkl"]
)
def test_what_looks_like_a_key_is_blotted_out(text: str) -> None:
    assert "abcdefghijkl" not in str(openai(401, None, "", f"wrong: {text} is not known"))


def test_a_long_message_is_cut() -> None:
    assert len(str(openai(400, None, "", "x" * 10_000))) < 700


def test_a_code_is_one_short_line() -> None:
    error = openai(500, "over\nloaded" + "x" * 5000)
    assert error.provider_code is not None
    assert error.provider_code.startswith("over loadedx")
    assert max(len(error.provider_code), len(error.message) - 100) <= 100


@given(st.integers(100, 599), st.binary(max_size=200))
def test_every_status_and_every_body_is_some_error(status: int, body: bytes) -> None:
    assert isinstance(classify(status, {}, body), LMError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "details", "error_code"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from([200, 400, 404, 429, 500]), JSON)
def test_every_json_body_is_some_error(status: int, data: object) -> None:
    assert isinstance(classify(status, {}, json.dumps(data).encode()), LMError)


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "banana"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT", "date": DATE}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": "yesterday"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 -0000", "date": DATE}, None),
    ],
)
def test_retry_after_is_seconds_or_nothing(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("error", "effect"),
    [
        (openai(401, "invalid_api_key"), "refused"),
        (anthropic(401, "authentication_error"), "refused"),
        (openai(403, None), "none"),
        (openai(403, None, "", "Project `x` does not have access to model `m`, your token budget is spent"), "none"),
        (plain(403, b'{"message":"The security token included in the request is expired"}'), "refused"),
        (plain(403, b'{"error_code":"403","message":"Invalid access token."}'), "refused"),
        (plain(403, b'{"error":{"message":"ExpiredTokenException: token expired"}}'), "refused"),
        (openai(429, "insufficient_quota"), "no_money"),
        (anthropic(402, "billing_error"), "no_money"),
        (anthropic(429, "rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), "no_money"),
        (openai(429, "rate_limit_exceeded"), "none"),
        (openai(500, None), "none"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_refusal_says_what_becomes_of_the_key(error: LMError, effect: str) -> None:
    assert key_effect(error) == effect


def test_the_verdict_holds_all_that_follows_from_an_answer() -> None:
    verdict = judge(429, {"retry-after": "3"}, b'{"error":{"code":"insufficient_quota"}}', provider="openai")
    assert (type(verdict.error), verdict.retryable, verdict.provider_failure, verdict.key) == (
        LMBillingError,
        False,
        False,
        "no_money",
    )
