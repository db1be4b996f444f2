"""`dspy-actors lm health`: a model's server, key and name, looked at as a program would find them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.checkup import check
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.listing import Listing
from dspy_actors.lm.providers.opening import opener
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.secret import Secret
from dspy_actors.testing.peer import Peer, reply
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.command import Ended, dspy_actors, inside
from tests.server.client import StubServer

KEY = "sk-marker-0123456789abcdef"


def with_key(stub: StubServer, tmp_path: Path, model: str, *more: str, fault: str = "") -> Ended:
    """In a process of its own, with a key in its environment."""
    name = f"{model.partition('/')[0].upper()}_API_KEY"
    url = stub.at(fault) if fault else stub.base_url
    ended = dspy_actors("lm", "health", model, "--base-url", url, *more, cwd=tmp_path, **{name: KEY})
    assert KEY not in ended.out + ended.err
    return ended


@pytest.fixture
def health(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """In this process, without a key: a server on this machine needs none."""

    def run(model: str, *more: str, fault: str = "") -> Ended:
        url = stub.at(fault) if fault else stub.base_url
        return inside(capsys, "lm", "health", model, "--base-url", url, *more)

    return run


@pytest.mark.parametrize("model", ["openai/stub", "anthropic/stub", "local/stub"])
def test_a_model_that_can_be_asked_is_ready(stub: StubServer, tmp_path: Path, model: str) -> None:
    ended = with_key(stub, tmp_path, model)
    key = "no key" if model.startswith("local") else f"key {Secret(KEY).key_id}"
    state, took, shown = ended.out.strip().split("  ")[1:]
    assert (ended.code, state, shown) == (0, "ready", key)
    assert took.endswith(" ms")
    assert {entry["target"] for entry in stub.bodies()} <= {"/v1/models", "/health"}


def test_it_costs_no_tokens_and_says_all_as_json(stub: StubServer, tmp_path: Path) -> None:
    ended = with_key(stub, tmp_path, "openai/stub", "--json")
    said = json.loads(ended.out)
    assert said.pop("milliseconds") > 0
    assert said == {
        "model": "openai/stub",
        "endpoint": stub.base_url,
        "state": "ready",
        "listed": True,
        "key": Secret(KEY).key_id,
        "error": None,
    }


@pytest.mark.parametrize("fault", ["status=500", "status=429", "drop", "delay=60000"])
@pytest.mark.parametrize("model", ["openai/stub", "anthropic/stub"])
def test_the_key_that_was_sent_to_a_server_that_failed_is_shown(
    stub: StubServer, tmp_path: Path, model: str, fault: str
) -> None:
    ended = with_key(stub, tmp_path, model, "--timeout", "1", fault=fault)
    assert (ended.code, f"  key {Secret(KEY).key_id}  " in ended.out, "no key" in ended.out) == (1, True, False)


def test_the_key_that_was_sent_to_a_server_that_failed_stands_in_the_json(stub: StubServer, tmp_path: Path) -> None:
    said = with_key(stub, tmp_path, "openai/stub", "--json", fault="status=500").summary
    assert (said["state"], said["key"]) == ("failed", Secret(KEY).key_id)


def test_the_key_that_a_loading_server_was_sent_is_shown(stub: StubServer) -> None:
    lm = LM("local/stub", base_url=stub.at("status=503"), api_key=KEY)
    found = asyncio.run(check(lm, opener("auto", SetAside()), 1.0))
    assert (found.state, found.key_id) == ("loading", Secret(KEY).key_id)


def test_the_key_that_a_server_refused_is_shown(stub: StubServer) -> None:
    stub.control(keys=["another"])
    lm = LM("openai/stub", base_url=stub.base_url, api_key=["sk-first-0123456789", KEY])
    found = asyncio.run(check(lm, opener("auto", SetAside()), 1.0))
    assert (found.state, found.key_id) == ("failed", Secret(KEY).key_id)


def test_the_embedded_model_says_that_it_has_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    ended = inside(capsys, "lm", "health", "embedded/knn")
    assert (ended.code, ended.out) == (0, "embedded/knn  ready  runs in this process: no server, no key\n")


def test_a_model_that_the_server_does_not_list_is_1(health: Callable[..., Ended]) -> None:
    ended = health("openai/another")
    assert ended.code == 1
    assert "the server does not list this model" in ended.out


@pytest.mark.parametrize(("listed", "code"), [(["stub-2026-11-01"], 0), (["stub:latest"], 0), (["stub-mini"], 1)])
def test_a_date_or_a_tag_of_a_model_is_the_model(
    stub: StubServer, health: Callable[..., Ended], listed: list[str], code: int
) -> None:
    stub.control(models=listed)
    assert health("openai/stub").code == code


def test_a_server_without_a_list_may_be_another_kind_of_server(health: Callable[..., Ended]) -> None:
    ended = health("openai/stub", fault="status=404")
    assert (ended.code, ended.out.split("  ")[1]) == (1, "reachable")


def test_a_base_url_without_its_v1_is_not_said_to_be_ready(
    stub: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = inside(capsys, "lm", "health", "openai/stub", "--base-url", stub.base_url.removesuffix("/v1"))
    assert (ended.code, ended.out.split("  ")[1]) == (1, "reachable")
    assert "check --base-url" in ended.out


def test_the_help_names_all_that_ends_in_1(capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(inside(capsys, "lm", "health", "--help").out.split())
    _, _, of_one = said.partition("1: ")
    for why in ("nobody answers", "loading or fails", "does not list the model", "no list of models"):
        assert why in of_one.partition("2: ")[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_would_not_answer_now_is_1(health: Callable[..., Ended], status: int) -> None:
    ended = health("openai/stub", fault=f"status={status}")
    assert (ended.code, ended.out.split("  ")[1]) == (1, "failed")


def test_a_local_server_that_loads_its_model_is_1(health: Callable[..., Ended]) -> None:
    ended = health("local/stub", fault="status=503")
    assert (ended.code, ended.out.split("  ")[1]) == (1, "loading")


def test_a_refused_key_is_2_and_one_line(stub: StubServer, health: Callable[..., Ended]) -> None:
    stub.control(keys=["another"])
    assert "check the key" in health("openai/stub").complaint


def test_no_key_is_2_and_one_line(tmp_path: Path) -> None:
    assert "OPENAI_API_KEY" in dspy_actors("lm", "health", "openai/m", cwd=tmp_path).complaint


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["m"], "write the provider before the model"),
        (["x/m"], "provider 'x' is not known"),
        (["embedded/gpt"], "embedded"),
        (["embedded/knn", "--base-url", "http://127.0.0.1:9/v1"], "runs in this process"),
        (["openai/m", "--base-url", "ftp://x"], "is no http"),
    ],
)
def test_what_is_wrong_from_the_start_is_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert why in inside(capsys, "lm", "health", *arguments).complaint


@pytest.mark.parametrize("model", ["openai/m", "local/m", "anthropic/m"])
def test_a_server_that_is_not_running_is_1_and_says_what_to_look_at(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    ended = inside(capsys, "lm", "health", model, "--base-url", "http://127.0.0.1:9/v1")
    assert (ended.code, ended.out.split("  ")[1], ended.err) == (1, "unreachable", "")
    assert "no connection" in ended.out
    assert "check --base-url and that the server is running" in ended.out


def test_a_server_that_is_not_running_is_told_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    ended = inside(capsys, "lm", "health", "openai/m", "--base-url", "http://127.0.0.1:9/v1", "--json")
    assert (ended.code, ended.summary["state"], ended.summary["listed"]) == (1, "unreachable", None)
    assert ended.summary["error"]["kind"] == "lm_transport"


@pytest.mark.parametrize("model", ["openai/stub", "local/stub"])
def test_a_server_that_never_answers_is_1_at_the_timeout(health: Callable[..., Ended], model: str) -> None:
    ended = health(model, "--timeout", "0.3", fault="delay=60000")
    assert (ended.code, ended.out.split("  ")[1]) == (1, "unreachable")


@pytest.mark.parametrize("fault", ["reset", "drop"])
def test_a_server_that_breaks_the_connection_is_1(health: Callable[..., Ended], fault: str) -> None:
    ended = health("openai/stub", fault=fault)
    assert (ended.code, ended.out.split("  ")[1]) == (1, "unreachable")


def test_what_speaks_something_else_is_2_and_one_line(health: Callable[..., Ended]) -> None:
    assert "it should end in /v1" in health("openai/stub", fault="html").complaint


class Broken(ScriptedProvider):
    """Its list of models ends in an error of the transport."""

    def __init__(self, code: str) -> None:
        super().__init__([])
        self.code = code

    @property
    def key_id(self) -> str | None:
        return None

    async def listing(self, deadline: float | None = None) -> Listing:
        raise LMTransportError("broken by the test", provider_code=self.code)


@pytest.mark.parametrize("code", ["certificate", "tls", "proxy", "refused", "connect", "cut"])
def test_a_certificate_or_a_proxy_that_is_wrong_is_not_nobody_there(code: str) -> None:
    found = asyncio.run(check(LM("scripted/m"), lambda config: Broken(code), 1.0))
    assert found.state == ("failed" if code in ("certificate", "tls", "proxy") else "unreachable")


def test_the_id_of_a_key_is_no_part_of_it() -> None:
    assert Secret(KEY).key_id not in KEY
    assert len(Secret(KEY).key_id) == hashlib.sha256().digest_size // 4


def test_what_no_encoding_holds_is_told_all_the_same(tmp_path: Path) -> None:
    """A server's words with half an emoji in them ended in a traceback."""

    async def once() -> Ended:
        async with Peer(reply(500, b'{"error":{"message":"down \\ud83d"}}')) as peer:
            return await asyncio.to_thread(
                dspy_actors, "lm", "health", "local/m", "--base-url", f"{peer.url}/v1", cwd=tmp_path
            )

    ended = asyncio.run(once())
    assert (ended.code, ended.err, "down \\ud83d" in ended.out) == (1, "", True)
