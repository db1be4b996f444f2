"""The embedded model behind the provider protocol."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dspy_actors.errors import (
    LMConfigurationError,
    LMInvalidRequestError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
from dspy_actors.lm.embedded.provider import EmbeddedProvider
from dspy_actors.lm.providers.base import Attempt, LMConfig
from dspy_actors.lm.providers.table import factory_of
from dspy_actors.lm.transports.observer import WhenSent
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.testing.providers import check_provider
from tests.dspy_actors.embedded import prompt

CONFIG = LMConfig("embedded", "knn")
MESSAGES = prompt("ticket -> team: Literal['billing', 'shipping']", ticket="Where is my shipment?")
ANSWER = "[[ ## team ## ]]\nshipping\n\n[[ ## completed ## ]]"


def ask(model: str = "knn", attempt: Attempt | None = None, **options: Any) -> LMResponse:
    async def once() -> LMResponse:
        provider = EmbeddedProvider(CONFIG)
        try:
            return await provider.complete(LMRequest(model, MESSAGES, options), attempt or Attempt("call.1"))
        finally:
            await provider.aclose()

    return asyncio.run(once())


def test_the_embedded_provider_keeps_the_contract() -> None:
    asyncio.run(check_provider(lambda: EmbeddedProvider(CONFIG), LMRequest("knn", MESSAGES)))


def test_it_is_in_the_table_of_providers() -> None:
    assert factory_of("embedded") is EmbeddedProvider


def test_it_answers_in_the_adapters_format() -> None:
    response = ask()

    assert (response.texts, response.model, response.finish_reasons) == ((ANSWER,), "knn", ("stop",))


def test_its_usage_is_an_estimate_and_says_so() -> None:
    usage = ask().usage

    assert usage is not None
    assert usage.estimated
    assert usage.prompt_tokens > usage.completion_tokens > 0


def test_several_choices_are_the_same_text() -> None:
    assert ask(n=3).texts == (ANSWER,) * 3


def test_the_answer_ends_at_max_tokens() -> None:
    assert ask(max_tokens=7).finish_reasons == ("length",)


def test_the_answer_ends_before_a_stop_sequence() -> None:
    assert ask(stop=["[[ ## completed"]).texts == ("[[ ## team ## ]]\nshipping\n\n",)


def test_options_of_sampling_change_nothing() -> None:
    assert ask(temperature=1.3, seed=7, top_p=0.5).texts == (ANSWER,)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_schema"}},
        {"logprobs": True},
        {"stream": True},
        {"modalities": ["audio"]},
    ],
)
def test_options_it_cannot_honour_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="nearest-neighbour learner"):
        ask(**options)


@pytest.mark.parametrize("n", [0, 129, "3"])
def test_a_number_of_choices_that_no_model_accepts_is_an_invalid_request(n: object) -> None:
    with pytest.raises(LMInvalidRequestError, match="whole number from 1 to 128"):
        ask(n=n)


def test_an_unknown_model_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LMUnsupportedModelError, match="embedded/knn"):
        ask("gpt-9")


def test_a_provider_of_an_unknown_model_does_not_open() -> None:
    with pytest.raises(LMUnsupportedModelError, match="embedded/knn"):
        EmbeddedProvider(LMConfig("embedded", "gpt-9"))


def test_it_has_no_server_to_point_a_base_url_at() -> None:
    with pytest.raises(LMConfigurationError, match="base_url"):
        EmbeddedProvider(LMConfig("embedded", "knn", base_url="http://localhost:1"))


def test_the_work_is_announced_once_and_on_the_loop() -> None:
    threads: list[int] = []
    ask(attempt=Attempt("call.1", observer=WhenSent(lambda: threads.append(threading.get_ident()))))

    assert threads == [threading.get_ident()]


def test_a_deadline_that_passed_is_not_worked_on() -> None:
    with pytest.raises(LMTimeoutError) as caught:
        ask(attempt=Attempt("call.1", deadline=0.0))
    assert caught.value.phase == "queue"


def test_a_closed_provider_says_so() -> None:
    async def after_closing() -> LMResponse:
        provider = EmbeddedProvider(CONFIG)
        await provider.aclose()
        return await provider.complete(LMRequest("knn", MESSAGES), Attempt("call.1"))

    with pytest.raises(LMTransportError, match="closed"):
        asyncio.run(after_closing())


def test_the_loop_goes_on_while_it_works() -> None:
    async def both() -> list[str]:
        provider = EmbeddedProvider(CONFIG)
        events: list[str] = []
        work = asyncio.ensure_future(provider.complete(LMRequest("knn", MESSAGES), Attempt("call.1")))
        work.add_done_callback(lambda _: events.append("answer"))
        await asyncio.sleep(0)
        events.append("loop")
        await work
        await asyncio.sleep(0)
        await provider.aclose()
        return events

    assert asyncio.run(both()) == ["loop", "answer"]
