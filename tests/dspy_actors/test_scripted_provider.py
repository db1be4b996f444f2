"""The scripted provider of `dspy_actors.testing`."""

from __future__ import annotations

import asyncio
from itertools import repeat

import pytest

from dspy_actors.errors import LMRateLimitError, LMTimeoutError, LMUnexpectedError
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.messages import LMRequest, LMResponse, Message
from dspy_actors.testing.providers import Script, ScriptedProvider, check_provider

REQUEST = LMRequest("m", (Message.of("user", "two words"),))


def ask(provider: ScriptedProvider, deadline: float | None = None) -> LMResponse:
    return asyncio.run(provider.complete(REQUEST, Attempt("a.1", deadline=deadline)))


def test_a_list_is_said_item_by_item() -> None:
    provider = ScriptedProvider(["a", "b"])
    assert [ask(provider).texts for _ in range(2)] == [("a",), ("b",)]


def test_a_list_that_is_over_is_an_error() -> None:
    with pytest.raises(LMUnexpectedError, match="request 1"):
        ask(ScriptedProvider([]))


def test_a_function_answers_from_the_request() -> None:
    assert ask(ScriptedProvider(lambda request: request.messages[0].text)).texts == ("two words",)


def test_a_scripted_error_is_raised_afresh() -> None:
    error = LMRateLimitError("slow", retry_after=1.0)
    with pytest.raises(LMRateLimitError) as caught:
        ask(ScriptedProvider([error]))
    assert caught.value is not error
    assert caught.value.retry_after == 1.0


def test_what_was_asked_is_remembered() -> None:
    provider = ScriptedProvider(repeat("a"))
    ask(provider)
    assert (provider.requests, provider.attempts[0].request_id, provider.open) == ([REQUEST], "a.1", 0)


def test_a_script_that_waits_ends_at_the_deadline() -> None:
    async def for_ever(request: LMRequest) -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(LMTimeoutError):
        ask(ScriptedProvider(for_ever), deadline=0.0)


@pytest.mark.parametrize("script", [repeat("yes"), lambda request: "yes"], ids=["iterator", "function"])
def test_the_scripted_provider_keeps_the_contract(script: Script) -> None:
    asyncio.run(check_provider(lambda: ScriptedProvider(script), REQUEST))
