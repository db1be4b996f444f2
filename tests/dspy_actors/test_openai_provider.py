"""The OpenAI provider against the test server, and against answers that only bytes can show."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dspy_actors.errors import (
    LMAuthError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMNotConfiguredError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)
from dspy_actors.lm.providers.base import Attempt, KeySource, LMConfig, Provider
from dspy_actors.lm.providers.chat import ChatCompletions
from dspy_actors.lm.providers.openai import OpenAIProvider
from dspy_actors.lm.providers.table import factory_of, provider_for
from dspy_actors.lm.transports.choose import choose
from dspy_actors.messages import ImagePart, LMRequest, LMResponse, Message, TextPart, Usage
from dspy_actors.secret import Secret
from dspy_actors.testing.peer import Peer, reply
from dspy_actors.testing.providers import check_provider
from tests.server.client import StubServer

KEY = "sk-marker-0123456789abcdef"
REQUEST = LMRequest("gpt-4o-mini", (Message.of("system", "Be short."), Message.of("user", "Hello?")))


def opened(base_url: str, api_key: KeySource = None, transport: str = "aiohttp") -> Provider:
    return provider_for(LMConfig("openai", "gpt-4o-mini", base_url, api_key), choose(transport))


def ask(base_url: str, request: LMRequest = REQUEST, api_key: KeySource = None, **attempt: Any) -> LMResponse:
    async def once() -> LMResponse:
        provider = opened(base_url, api_key)
        try:
            return await provider.complete(request, Attempt("call.1", **attempt))
        finally:
            await provider.aclose()

    return asyncio.run(once())


def said(body: bytes, request: LMRequest = REQUEST, api_key: KeySource = None, status: int = 200) -> LMResponse:
    """What the provider makes of `body`."""

    async def once() -> LMResponse:
        async with Peer(reply(status, body)) as peer:
            provider = opened(peer.url, api_key)
            try:
                return await provider.complete(request, Attempt("call.1"))
            finally:
                await provider.aclose()

    return asyncio.run(once())


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("transport", ["httpx", "aiohttp", "h11"])
def test_the_provider_keeps_its_contract(stub: StubServer, transport: str) -> None:
    asyncio.run(check_provider(lambda: opened(stub.base_url, transport=transport), REQUEST))


def test_an_answer_comes_with_text_usage_reason_and_id(stub: StubServer) -> None:
    stub.control(fault="text=Hi")
    answer = ask(stub.base_url)
    assert (answer.texts, answer.finish_reasons, answer.request_id) == (("Hi",), ("stop",), "req-1")
    assert answer.usage == Usage(prompt_tokens=4, completion_tokens=1)


def test_the_request_goes_out_as_chat_completions_have_it(stub: StubServer) -> None:
    ask(stub.base_url, replace(REQUEST, options={"temperature": 0.0, "stop": ["\n"], "seed": None}))
    assert stub.bodies()[0]["body"] == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello?"}],
        "temperature": 0.0,
        "stop": ["\n"],
    }


def test_the_attempts_id_is_sent(stub: StubServer) -> None:
    ask(stub.base_url)
    assert stub.bodies()[0]["headers"]["x-request-id"] == "call.1"


def test_n_choices_come_in_the_order_of_their_index() -> None:
    body = b'{"choices":[{"index":1,"message":{"content":"b"}},{"index":0,"message":{"content":"a"}}]}'
    assert said(body).texts == ("a", "b")


def test_cached_and_reasoning_tokens_are_counted() -> None:
    body = (
        b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":9,"completion_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}'
    )
    assert said(body).usage == Usage(9, 5, 4, 3)


def test_a_server_that_counts_no_tokens_gives_no_usage(stub: StubServer) -> None:
    assert ask(stub.at("no_usage")).usage is None


@pytest.mark.parametrize("usage", ["{}", '{"prompt_tokens":0,"completion_tokens":0}', '{"prompt_tokens":"many"}'])
def test_a_count_of_nothing_is_no_count(usage: str) -> None:
    """No prompt has 0 tokens: what it took is estimated, or no budget would ever bound it."""
    assert said(f'{{"choices":[{{"message":{{"content":"ok"}}}}],"usage":{usage}}}'.encode()).usage is None


def test_a_count_may_be_written_as_a_float() -> None:
    body = b'{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":9.0,"completion_tokens":5.0}}'
    assert said(body).usage == Usage(9, 5)


@pytest.mark.parametrize("reason", ["length", "model_length", "max_tokens"])
def test_an_answer_that_was_cut_off_is_one_by_whatever_word(reason: str) -> None:
    body = f'{{"choices":[{{"message":{{"content":"ok"}},"finish_reason":"{reason}"}}]}}'
    assert said(body.encode()).truncated == "length"


def test_text_in_parts_is_joined() -> None:
    assert said(b'{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"text":"b"}]}}]}').texts == ("ab",)


def test_an_answer_cut_at_its_length_keeps_its_empty_text() -> None:
    answer = said(b'{"choices":[{"message":{"content":null},"finish_reason":"length"}]}')
    assert (answer.texts, answer.finish_reasons) == (("",), ("length",))


def test_text_alone_is_sent_as_a_string_and_an_image_as_a_part() -> None:
    picture = Message("user", (TextPart("What?"), ImagePart("https://a/b.png", "low")))
    pieces = Message("user", (TextPart("a"), TextPart("b")))
    messages = ChatCompletions().body(LMRequest("m", (pieces, picture)))["messages"]
    assert messages == [
        {"role": "user", "content": "ab"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-4o-mini", "max_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("openai/gpt-5-mini", "max_completion_tokens"),
        ("olmo-2", "max_tokens"),
    ],
)
def test_reasoning_models_get_max_tokens_under_its_new_name(model: str, sent: str) -> None:
    body = ChatCompletions().body(LMRequest(model, (), {"max_tokens": 5}))
    assert [name for name in body if name.startswith("max")] == [sent]


def test_max_completion_tokens_is_sent_as_it_is() -> None:
    assert ChatCompletions().body(LMRequest("gpt-4o", (), {"max_completion_tokens": 5}))["max_completion_tokens"] == 5


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stream": True}, LMUnsupportedFeatureError),
        ({"model": "x"}, LMConfigurationError),
        ({"messages": []}, LMConfigurationError),
        ({"stop": object()}, LMConfigurationError),
        ({"temperature": float("nan")}, LMConfigurationError),
    ],
)
def test_an_option_that_cannot_be_sent_is_refused_before_it_is(options: Any, error: type[LMError]) -> None:
    with pytest.raises(error):
        said(b"{}", replace(REQUEST, options=options))


def test_a_lone_surrogate_in_a_prompt_is_escaped() -> None:
    body = b'{"choices":[{"message":{"content":"ok"}}]}'
    assert said(body, LMRequest("m", (Message.of("user", "a\ud800"),))).texts == ("ok",)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status=429,retry_after=3", LMRateLimitError),
        ("status=503", LMServerError),
        ("error", LMServerError),
        ("reset", LMTransportError),
        ("drop", LMTransportError),
        ("cut=10", LMTransportError),
        ("html", LMUnexpectedError),
        ("malformed", LMUnexpectedError),
        ("empty", LMUnexpectedError),
        ("no_choices", LMUnexpectedError),
    ],
)
def test_every_fault_of_a_server_has_its_error(stub: StubServer, fault: str, error: type[LMError]) -> None:
    with pytest.raises(error) as caught:
        ask(stub.at(fault))
    assert (caught.value.provider, caught.value.model) == ("openai", "gpt-4o-mini")


def test_the_deadline_ends_the_attempt(stub: StubServer) -> None:
    async def once() -> None:
        provider = opened(stub.at("hang"))
        try:
            await provider.complete(REQUEST, Attempt("call.1", deadline=asyncio.get_running_loop().time() + 0.05))
        finally:
            await provider.aclose()

    with pytest.raises(LMTimeoutError) as caught:
        asyncio.run(once())
    assert (caught.value.phase, caught.value.request_id) == ("total", "call.1")


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        (b'{"choices":[{"message":{"refusal":"No."}}]}', LMContentFilterError, "refusal"),
        (
            b'{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}',
            LMContentFilterError,
            "content_filter",
        ),
        (b'{"choices":[{"message":{"tool_calls":[{}]}}]}', LMUnexpectedError, None),
        (b'{"choices":[{"message":{"tool_calls":"f"}}]}', LMUnexpectedError, None),
        (
            b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":[1]}}]}}]}',
            LMUnexpectedError,
            None,
        ),
        (b'{"choices":[{"message":{"content":{"answer":"ok"}}}]}', LMUnexpectedError, None),
        (b'{"choices":[{"message":{"content":"so f"},"error":{"code":502,"message":"gone"}}]}', LMServerError, "502"),
        (b'{"choices":[{"message":{"content":"so f"},"finish_reason":"error"}]}', LMServerError, "api_error"),
        (b'{"choices":[{}]}', LMUnexpectedError, None),
        (b'{"choices":["a"]}', LMUnexpectedError, None),
        (b"[1]", LMUnexpectedError, None),
        (b'{"error":{"code":429,"message":"slow down"}}', LMRateLimitError, "429"),
        (b'{"error":"busy"}', LMServerError, None),
    ],
)
def test_a_200_without_an_answer_is_an_error(body: bytes, error: type[LMError], code: str | None) -> None:
    with pytest.raises(error) as caught:
        said(body)
    assert caught.value.provider_code == code


def test_a_large_answer_is_read_whole(stub: StubServer) -> None:
    assert len(ask(stub.at("pad=2000000")).texts[0]) == 2_000_000


def test_a_large_image_is_sent_whole(stub: StubServer) -> None:
    image = ImagePart("data:image/png;base64," + "A" * 2_000_000)
    ask(stub.base_url, LMRequest("m", (Message("user", (image,)),)))
    assert stub.bodies()[0]["body"]["messages"][0]["content"][0]["image_url"]["url"] == image.url


def test_the_key_is_sent_as_a_bearer_token(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    assert ask(stub.base_url, api_key=Secret(KEY)).texts


def test_the_key_of_the_environment_is_used(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    stub.control(keys=[KEY])
    assert ask(stub.base_url).texts


def test_a_server_on_this_machine_needs_no_key(stub: StubServer) -> None:
    ask(stub.base_url)
    assert "authorization" not in stub.bodies()[0]["headers"]


def test_any_other_server_needs_a_key() -> None:
    with pytest.raises(LMNotConfiguredError, match="OPENAI_API_KEY"):
        ask("https://api.example.com/v1")


def test_a_key_that_was_rotated_is_read_again_once(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    keys = iter(["old-key", KEY])
    assert ask(stub.base_url, api_key=lambda: next(keys)).texts
    assert stub.stats()["requests"] == 2


def test_a_key_that_stays_wrong_is_tried_once(stub: StubServer) -> None:
    stub.control(keys=[KEY])
    with pytest.raises(LMAuthError):
        ask(stub.base_url, api_key=lambda: "old-key")
    assert stub.stats()["requests"] == 1


def broken() -> str:
    raise OSError(KEY)


def leaves() -> str:
    sys.exit(3)  # as a function of a command-line helper does


def number() -> str:
    return 7  # type: ignore[return-value]


@pytest.mark.parametrize("source", [broken, leaves, number, lambda: KEY + "\n\nx", lambda: "é" + KEY, lambda: ""])
def test_a_source_without_a_usable_key_is_a_configuration_error(source: Callable[[], str]) -> None:
    with pytest.raises(LMConfigurationError) as caught:
        ask("https://api.example.com/v1", api_key=source)
    assert "marker" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"


@pytest.mark.parametrize("where", ['"error":{"message":"who sent %s?"}', '"message":{"refusal":"who sent %s?"}'])
def test_a_key_that_a_server_repeats_inside_an_answer_is_in_no_error(where: str) -> None:
    key = "marker-0123456789abcdef"
    with pytest.raises(LMError) as caught:
        said(f'{{"choices":[{{{where % key}}}]}}'.encode(), api_key=Secret(key))
    assert "marker" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_that_a_server_repeats_is_in_no_error(status: int) -> None:
    body = b'{"error":{"message":"Incorrect API key provided: %s. You sent Bearer %s"}}' % (KEY.encode(), KEY.encode())
    with pytest.raises(LMError) as caught:
        said(body, api_key=Secret(KEY), status=status)
    error = caught.value
    assert b"marker" not in f"{error} {error!r} {error.to_wire()} {error.__context__!r}".encode() + pickle.dumps(error)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://a/b", "http://", "http://user:secret@host/v1", "https://a/v1?key=secret"]
)
def test_a_base_url_that_cannot_work_is_refused_without_being_shown_whole(url: str) -> None:
    with pytest.raises(LMConfigurationError) as caught:
        ask(url)
    assert "secret" not in str(caught.value)


def test_an_unknown_provider_names_the_known_ones() -> None:
    with pytest.raises(LMConfigurationError, match="openai"):
        factory_of("opnai")


def test_two_base_urls_are_two_endpoints(stub: StubServer) -> None:
    async def endpoints() -> list[str]:
        providers = [opened(stub.base_url + "/"), opened(stub.at("drop"))]
        for provider in providers:
            await provider.aclose()
        return [provider.endpoint for provider in providers]

    assert asyncio.run(endpoints()) == [stub.base_url, stub.at("drop")]


def test_the_name_openai_opens_the_openai_provider() -> None:
    assert factory_of("openai") is OpenAIProvider
