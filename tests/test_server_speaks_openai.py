"""The test server itself: it refuses what OpenAI refuses, counts what it saw and fails as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.client import StubServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LAYOUT = """Your input fields are:
1. `question` (str):
Your output fields are:
1. `kind` (Literal['a b', 'c']):
2. `size` (int):
3. `why` (str):

[[ ## question ## ]]
{question}

[[ ## kind ## ]]
{kind}        # note: exactly one of: a b; c

[[ ## size ## ]]
{size}

[[ ## why ## ]]
{why}

[[ ## completed ## ]]"""
TURN = (
    "[[ ## question ## ]]\nhi\n\nAnswer with `[[ ## kind ## ]]`, `[[ ## size ## ]]`, `[[ ## why ## ]]`, then the end."
)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client


def ask(http: httpx.Client, base_url: str, **changes: Any) -> httpx.Response:
    return http.post(f"{base_url}/chat/completions", json=ASK | changes)


def said(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def prompt() -> list[dict[str, str]]:
    return [{"role": "system", "content": LAYOUT}, {"role": "user", "content": TURN}]


def test_an_answer_has_the_shape_of_a_chat_completion(stub: StubServer, http: httpx.Client) -> None:
    answer = ask(http, stub.base_url, n=2).json()
    assert answer["object"] == "chat.completion"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"model": None}, "model"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "hi", "mood": "good"}]}, "messages[0]"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"rollout_id": 1}, "rollout_id"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "messages"),
    ],
)
def test_a_wrong_body_is_refused_and_names_the_parameter(
    stub: StubServer, http: httpx.Client, changes: dict[str, Any], param: str
) -> None:
    response = ask(http, stub.base_url, **changes)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_body_that_is_not_json_is_refused(stub: StubServer, http: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    response = http.post(f"{stub.base_url}/chat/completions", content=b"{", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


def test_a_wrong_key_is_refused_when_keys_are_known(stub: StubServer, http: httpx.Client) -> None:
    stub.control(keys=["sk-right"])
    http.headers["authorization"] = "Bearer sk-wrong"
    assert ask(http, stub.base_url).json()["error"]["code"] == "invalid_api_key"
    http.headers["authorization"] = "Bearer sk-right"
    assert ask(http, stub.base_url).status_code == 200


def test_an_unknown_model_is_refused_when_models_are_known(stub: StubServer, http: httpx.Client) -> None:
    stub.control(models=["good"])
    assert ask(http, stub.base_url).json()["error"]["code"] == "model_not_found"
    assert http.get(f"{stub.base_url}/models").json()["data"][0]["id"] == "good"


def test_the_layout_is_answered_by_type(stub: StubServer, http: httpx.Client) -> None:
    expected = "[[ ## kind ## ]]\na b\n\n[[ ## size ## ]]\n1\n\n[[ ## why ## ]]\ntext\n\n[[ ## completed ## ]]"
    assert said(ask(http, stub.base_url, messages=prompt())) == expected


def test_a_map_answers_by_what_the_input_holds(stub: StubServer, http: httpx.Client) -> None:
    stub.control(answer={"mode": "map", "map": {"hi": {"kind": "c", "why": "seen"}}})
    assert "[[ ## kind ## ]]\nc\n" in said(ask(http, stub.base_url, messages=prompt()))


def test_a_fixed_text_may_count(stub: StubServer, http: httpx.Client) -> None:
    stub.control(answer={"mode": "fixed", "text": "answer {n}"})
    assert [said(ask(http, stub.base_url)) for _ in range(2)] == ["answer 1", "answer 2"]


def test_echo_says_the_last_user_turn(stub: StubServer, http: httpx.Client) -> None:
    stub.control(answer={"mode": "echo"})
    assert said(ask(http, stub.base_url)) == "hi"


def test_a_plan_is_used_up_in_order(stub: StubServer, http: httpx.Client) -> None:
    stub.control(plan=[{"times": 2, "fault": "status=429,retry_after=1"}, {"match": "poison", "fault": "status=500"}])
    poison = [{"role": "user", "content": "poison"}]
    statuses = [ask(http, stub.base_url).status_code for _ in range(3)]
    assert [*statuses, ask(http, stub.base_url, messages=poison).status_code] == [429, 429, 200, 500]


def test_a_refusal_carries_its_headers_and_code(stub: StubServer, http: httpx.Client) -> None:
    response = ask(http, stub.at("status=429,retry_after=7,code=insufficient_quota,h.x-ratelimit-limit-requests=5"))
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-ratelimit-limit-requests"] == "5"
    assert response.json()["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize("fault", ["reset", "drop", "cut=10", "chunked,cut=10"])
def test_a_broken_connection_is_an_error_of_the_client(stub: StubServer, http: httpx.Client, fault: str) -> None:
    with pytest.raises(httpx.TransportError):
        ask(http, stub.at(fault))


@pytest.mark.parametrize("fault", ["hang", "hang=body", "dribble=50", "hold"])
def test_a_silent_answer_lasts_until_the_client_leaves(stub: StubServer, http: httpx.Client, fault: str) -> None:
    with (
        pytest.raises(httpx.ReadTimeout),
        http.stream("POST", f"{stub.at(fault)}/chat/completions", json=ASK, timeout=0.03) as response,
    ):
        response.read()
    assert stub.wait("aborted==1", "in_flight==0")["answered"] == 0


@pytest.mark.parametrize("fault", ["malformed", "empty", "html"])
def test_a_200_may_hold_no_json(stub: StubServer, http: httpx.Client, fault: str) -> None:
    response = ask(http, stub.at(fault))
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_a_200_may_hold_an_error(stub: StubServer, http: httpx.Client) -> None:
    response = ask(http, stub.at("error,code=server_error"))
    assert (response.status_code, response.json()["error"]["code"]) == (200, "server_error")


def test_parts_of_the_answer_may_be_missing(stub: StubServer, http: httpx.Client) -> None:
    answer = ask(http, stub.at("no_usage,no_choices")).json()
    assert "usage" not in answer
    assert answer["choices"] == []


def test_a_fault_may_come_as_header_or_query(stub: StubServer, http: httpx.Client) -> None:
    assert http.post(f"{stub.base_url}/chat/completions?status=503", json=ASK).status_code == 503
    headers = {"x-stub": "status=502"}
    assert http.post(f"{stub.base_url}/chat/completions", json=ASK, headers=headers).status_code == 502


def test_an_unknown_fault_is_refused(stub: StubServer, http: httpx.Client) -> None:
    assert ask(http, stub.at("explode")).json()["error"]["param"] == "fault"
    with pytest.raises(ValueError, match="explode"):
        stub.control(fault="explode")


def test_an_announced_close_is_a_whole_answer(stub: StubServer, http: httpx.Client) -> None:
    assert said(ask(http, stub.at("close,chunked"))) == "text"
    assert stub.wait("open==0")["answered"] == 1


def test_held_requests_are_counted_at_once_and_released(stub: StubServer, http: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, http, stub.at("hold")) for _ in range(8)]
        assert stub.wait("held==8")["peak"] == 8
        stub.release()
        assert [answer.result().status_code for answer in answers] == [200] * 8


def test_a_kept_connection_is_reused(stub: StubServer, http: httpx.Client) -> None:
    for _ in range(3):
        ask(http, stub.base_url)
    stats = stub.stats()
    assert (stats["requests"], stats["accepted"], stats["reused"]) == (3, 1, 2)


def test_the_last_bodies_are_kept(stub: StubServer, http: httpx.Client) -> None:
    ask(http, stub.base_url, temperature=0.5)
    assert stub.bodies()[0]["body"] == ASK | {"temperature": 0.5}


def test_a_reset_drops_what_is_under_way(stub: StubServer, http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, http, stub.at("hang"))
        stub.wait("in_flight==1")
        stub.reset()
        assert isinstance(answer.exception(), httpx.TransportError)
    assert stub.stats()["requests"] == 0


def test_a_wait_in_vain_says_what_was_seen(stub: StubServer) -> None:
    with pytest.raises(TimeoutError, match="'requests': 0"):
        stub.wait("requests>=1", timeout=0.01)
