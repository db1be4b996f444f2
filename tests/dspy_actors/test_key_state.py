"""What is known of a model's keys before anything is sent, and that a runtime without a usable one is not ready."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors import LM, LMError, Predict, Runtime
from dspy_actors.errors import LMAuthError
from dspy_actors.lm.providers.key_state import key_state
from dspy_actors.lm.providers.set_aside import SetAside
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.server.client import StubServer

HOME = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def state(model: str, set_aside: SetAside | None = None, **options: Any) -> str:
    return key_state(LM(model, **options).config, set_aside or SetAside())


@pytest.mark.parametrize(
    ("model", "options", "found"),
    [
        ("openai/m", {}, "missing"),
        ("anthropic/m", {}, "missing"),
        ("openai/m", {"api_key": "sk-1"}, "given"),
        ("openai/m", {"api_key": lambda: "sk-1"}, "unknown"),
        ("openai/m", {"base_url": "http://127.0.0.1:9/v1"}, "not needed"),
        ("openai/m", {"base_url": "https://gateway.example/v1"}, "missing"),
        ("local/m", {}, "not needed"),
        ("local/m", {"base_url": "ollama", "api_key": "one"}, "given"),
        ("embedded/knn", {}, "not needed"),
        ("nobody/m", {}, "unusable"),
    ],
)
def test_the_state_of_a_key_is_told_without_sending_it(model: str, options: dict[str, Any], found: str) -> None:
    assert state(model, **options) == found


def test_a_key_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert state("openai/m") == "given"


def test_a_key_of_the_environment_that_no_header_can_hold_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00fc")
    assert state("openai/m") == "unusable"


def test_keys_are_set_aside_once_all_of_them_are() -> None:
    aside, keys = SetAside(), LM("openai/m", api_key=["sk-1", "sk-2"]).config.api_key
    assert isinstance(keys, tuple)
    found = []
    for key in keys:
        aside.add(HOME, key.key_id, LMAuthError("no"))
        found.append(state("openai/m", aside, api_key=["sk-1", "sk-2"]))
    assert found == ["given", "set aside"]


def test_a_runtime_whose_model_has_no_key_is_not_ready_and_its_health_says_so() -> None:
    with Runtime("openai/m") as rt:
        health: Any = rt.health()
        wait_until(lambda: rt.health()["loop_lag_seconds"] is not None)
        assert not rt.ready()
    assert health["keys"] == {"openai/m": "missing"}


def test_a_fallback_with_a_key_keeps_a_runtime_ready() -> None:
    with Runtime(LM("openai/m", fallbacks=["embedded/knn"])) as rt:
        wait_until(rt.ready)
        assert rt.health()["keys"] == {"openai/m": "missing", "embedded/knn": "not needed"}


def test_a_runtime_whose_only_key_was_refused_is_not_ready_while_it_is_set_aside(stub: StubServer) -> None:
    stub.control(plan=[{"times": 2, "fault": "status=401"}])
    with Runtime(LM("openai/m", base_url=stub.base_url, api_key="sk-wrong", num_retries=0)) as rt:
        wait_until(rt.ready)
        with pytest.raises(LMError):
            Predict("question -> answer")(question="blue")
        assert not rt.ready()


def test_a_runtime_whose_callable_gave_a_refused_key_is_not_ready_while_that_is_set_aside(stub: StubServer) -> None:
    """It was always ready."""
    stub.control(keys=["sk-new"])
    with Runtime(LM("openai/m", base_url=stub.base_url, api_key=lambda: "sk-old")) as rt:
        wait_until(rt.ready)
        assert rt.health()["keys"] == {"openai/m": "unknown"}
        with pytest.raises(LMAuthError):
            Predict("question -> answer")(question="blue")
        assert (rt.ready(), rt.health()["keys"]) == (False, {"openai/m": "set aside"})


def test_a_callable_that_gives_another_key_than_the_refused_one_makes_its_runtime_ready(stub: StubServer) -> None:
    stub.control(keys=["sk-new"])
    keys, clock = ["sk-old"], ManualClock()
    lm = LM("openai/m", base_url=stub.base_url, api_key=lambda: keys[0])
    with Runtime(lm, clock=clock) as rt:
        program = rt.start(Predict("question -> answer"))
        assert isinstance(program.safe_call(question="?").error, LMAuthError)
        assert rt.health()["keys"] == {"openai/m": "set aside"}
        keys[0] = "sk-new"
        clock.advance(1.0)
        assert program.safe_call(question="?").ok
        assert rt.health()["keys"] == {"openai/m": "unknown"}
