"""Servers close by: no key, explicit sampling, a model that may still be loading."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspy_actors.errors import LMError, LMServerError, LMTransportError, LMUnsupportedFeatureError
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.providers.local import LocalProvider
from dspy_actors.lm.providers.servers import KEPT, Servers
from dspy_actors.lm.transports.observer import Observer
from dspy_actors.lm.verdicts import is_provider_failure, is_retryable
from dspy_actors.messages import ImagePart, LMRequest, LMResponse, Message
from dspy_actors.runtime import Runtime
from dspy_actors.secret import Secret
from dspy_actors.testing.peer import Peer, reply
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, qa
from tests.dspy_actors.providing import TURNS, ask, ask_in, opened, using
from tests.server.client import StubServer

LOADING = "status=503,message=Loading model,type=unavailable_error"
REQUEST = LMRequest("m", TURNS)


def test_of_many_servers_those_seen_last_are_remembered() -> None:
    clock = ManualClock()
    servers = Servers(clock.now)
    for number in range(KEPT + 5):
        clock.advance(1.0)
        servers.note(f"http://127.0.0.1:{number}/v1", "ready")
        servers.note("http://127.0.0.1:0/v1", "loading")
    assert len(servers.snapshot()) == KEPT
    assert servers.state("http://127.0.0.1:0/v1") == "loading"
    assert servers.state("http://127.0.0.1:5/v1") is None


def local(url: str | None) -> LocalProvider:
    provider = opened("local", url)
    assert isinstance(provider, LocalProvider)
    return provider


def patient(stub: StubServer, seconds: float = 5.0, **attempt: Any) -> LMResponse:
    async def use(provider: LocalProvider) -> LMResponse:
        until = asyncio.get_running_loop().time() + seconds
        return await provider.complete(REQUEST, Attempt("c.1", deadline=until, **attempt))

    return using(lambda: local(stub.base_url), use)


@pytest.mark.parametrize(
    ("base_url", "endpoint"),
    [
        (None, "http://localhost:8000/v1"),
        ("vllm", "http://localhost:8000/v1"),
        ("ollama", "http://localhost:11434/v1"),
        ("llama.cpp", "http://localhost:8080/v1"),
        ("http://gpu-1:9000/v1/", "http://gpu-1:9000/v1"),
    ],
)
def test_a_server_is_chosen_by_its_name_or_its_url(base_url: str | None, endpoint: str) -> None:
    async def use(provider: LocalProvider) -> str:
        return provider.endpoint

    assert using(lambda: local(base_url), use) == endpoint


def test_sampling_is_always_sent(stub: StubServer) -> None:
    ask_in("local", stub.base_url, temperature=None)
    assert stub.bodies()[0]["body"] == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello?"}],
        "temperature": 0.0,
        "top_p": 1.0,
    }


def test_the_requests_own_sampling_stands_above_the_default(stub: StubServer) -> None:
    ask_in("local", stub.base_url, temperature=0.7)
    assert stub.bodies()[0]["body"]["temperature"] == 0.7


def test_no_key_of_another_provider_is_sent(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you-0123")
    ask_in("local", stub.base_url)
    assert "authorization" not in stub.bodies()[0]["headers"]


def test_a_key_that_is_given_is_sent(stub: StubServer) -> None:
    stub.control(keys=["local-key"])
    assert ask_in("local", stub.base_url, key=Secret("local-key")).texts


def test_a_server_that_loads_its_model_is_waited_for(stub: StubServer) -> None:
    stub.control(plan=[{"times": 3, "fault": LOADING}])
    assert patient(stub).texts
    assert [seen["target"] for seen in stub.bodies()] == [
        "/v1/chat/completions",
        "/health",
        "/health",
        "/health",
        "/v1/chat/completions",
    ]


def test_the_time_of_an_attempt_counts_from_when_the_server_was_ready(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": LOADING}])
    told: list[str] = []

    class Told(Observer):
        def sent(self) -> None:
            told.append("sent")

        def again(self) -> None:
            told.append("again")

        def ready(self) -> None:
            told.append("ready")

    patient(stub, observer=Told())
    assert told == ["sent", "again", "ready", "sent"]


def test_a_server_that_loads_again_is_waited_for_again(stub: StubServer) -> None:
    async def use(provider: LocalProvider) -> list[str]:
        for _ in range(2):
            stub.control(plan=[{"times": 2, "fault": LOADING}])
            await provider.complete(REQUEST, Attempt("c.1"))
        return [seen["target"] for seen in stub.bodies()]

    seen = using(lambda: local(stub.base_url), use)
    assert seen == ["/v1/chat/completions", "/health", "/health", "/v1/chat/completions"]


def test_a_router_that_is_well_while_its_model_loads_is_asked_ever_later() -> None:
    """It was sent the prompt some twenty times a second, for as long as that took."""
    loading = reply(503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}')
    answer = reply(200, b'{"choices":[{"message":{"content":"ok"}}]}')

    async def once() -> float:
        async with Peer(*[loading, reply(200)] * 4, answer) as peer:
            provider = local(peer.url)
            began = asyncio.get_running_loop().time()
            assert (await provider.complete(REQUEST, Attempt("c.1"))).texts == ("ok",)
            await provider.aclose()
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(once()) >= 0.05 + 0.1 + 0.2 + 0.4


def test_many_calls_wait_for_a_loading_server_together(stub: StubServer) -> None:
    stub.control(plan=[{"times": 23, "fault": LOADING}])

    async def use(provider: LocalProvider) -> list[LMResponse]:
        return await asyncio.gather(*(provider.complete(REQUEST, Attempt(f"c.{n}")) for n in range(20)))

    assert len(using(lambda: local(stub.base_url), use)) == 20
    assert sum(seen["target"] == "/health" for seen in stub.bodies()) == 4


def test_a_server_that_stays_cold_is_no_failure_of_the_provider(stub: StubServer) -> None:
    stub.control(fault=LOADING)
    with pytest.raises(LMServerError) as caught:
        patient(stub, 0.2)
    error = caught.value
    assert (error.provider_code, is_retryable(error), is_provider_failure(error)) == ("not_ready", True, False)


def test_a_server_that_dies_while_it_loads_is_a_transport_error(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": LOADING}, {"fault": "drop"}])
    with pytest.raises(LMTransportError) as caught:
        patient(stub)
    assert (caught.value.provider, caught.value.model) == ("local", "m")


def test_a_busy_server_is_not_a_loading_one(stub: StubServer) -> None:
    with pytest.raises(LMServerError) as caught:
        ask_in("local", stub.at("status=503,message=server busy"))
    assert is_provider_failure(caught.value)


def test_an_error_that_is_a_plain_string_is_read() -> None:
    async def use() -> LMResponse:
        async with Peer(reply(503, b'{"error":"server busy, please try again"}')) as peer:
            provider = local(peer.url)
            try:
                return await provider.complete(REQUEST, Attempt("c.1"))
            finally:
                await provider.aclose()

    with pytest.raises(LMServerError, match="please try again"):
        asyncio.run(use())


@pytest.mark.parametrize(("fault", "health"), [("", "ready"), ("status=503", "loading")])
def test_health_is_ready_or_loading(stub: StubServer, fault: str, health: str) -> None:
    stub.control(fault=fault)
    assert using(lambda: local(stub.base_url), lambda provider: provider.health()) == health


def test_a_server_without_a_health_page_is_asked_for_its_models(stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=404"}])
    assert using(lambda: local(stub.base_url), lambda provider: provider.health()) == "ready"
    assert [seen["target"] for seen in stub.bodies()] == ["/health", "/v1/models"]


def test_a_server_that_is_neither_ready_nor_loading_is_an_error(stub: StubServer) -> None:
    stub.control(fault="status=500")
    with pytest.raises(LMServerError):
        using(lambda: local(stub.base_url), lambda provider: provider.health())


@pytest.mark.parametrize(
    ("turns", "options"),
    [
        (TURNS, {"n": 2}),
        (TURNS, {"tool_choice": "required"}),
        ((Message("user", (ImagePart("https://a/b.png"),)),), {}),
    ],
)
def test_what_ollama_would_not_heed_is_refused(turns: tuple[Message, ...], options: dict[str, Any]) -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="Ollama"):
        ask("local", "ollama", LMRequest("m", turns, options))


def test_fewer_choices_than_asked_for_are_an_error() -> None:
    async def use() -> LMResponse:
        async with Peer(reply(200, b'{"choices":[{"message":{"content":"a"}}]}')) as peer:
            provider = local(peer.url)
            try:
                return await provider.complete(LMRequest("m", TURNS, {"n": 2}), Attempt("c.1"))
            finally:
                await provider.aclose()

    with pytest.raises(LMError, match="1 of the 2 choices"):
        asyncio.run(use())


def test_a_cold_start_does_not_open_a_breaker(stub: StubServer) -> None:
    stub.control(plan=[{"times": 3, "fault": LOADING}])
    quick = BreakerSettings(minimum=1, slow_seconds=0.2)
    guarding = Guarding(breaker=quick, provider_breaker=quick)
    with Runtime(lm=LM("local/m", base_url=stub.base_url), guarding=guarding) as rt:
        assert qa()(question="a").answer
        states = [reading["state"] for reading in rt.health()["breakers"].values()]  # type: ignore[attr-defined]
    assert (states, stub.stats()["requests"]) == (["closed", "closed"], 5)


def seen(rt: Runtime) -> list[str]:
    servers: Any = rt.health()["servers"]
    return [server["state"] for server in servers.values()]


def test_what_a_server_was_last_seen_to_be_is_a_line_of_health(stub: StubServer) -> None:
    with Runtime(LM("local/m", base_url=stub.base_url, num_retries=0, cache=False), transport="aiohttp") as rt:
        program = rt.start(qa())
        assert seen(rt) == []
        program(question="blue")
        assert seen(rt) == ["ready"]
        stub.control(fault="reset")
        with pytest.raises(LMTransportError):
            program(question="blue")
        assert seen(rt) == ["unreachable"]
        stub.control(fault=LOADING)
        reply = program.submit(question="blue")
        wait_until(lambda: seen(rt) == ["loading"])
        stub.control(fault="")
        assert reply.get(PATIENCE).answer
        assert seen(rt) == ["ready"]
