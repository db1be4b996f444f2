"""The contract of `Provider` includes its attempts' observers: what they are not told of counts as never sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat

import pytest

from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.transports.observer import NOBODY
from dspy_actors.messages import LMRequest, LMResponse, Message
from dspy_actors.testing.providers import ScriptedProvider, check_provider
from dspy_actors.testing.scripted_stream import ScriptedStream

REQUEST = LMRequest("m", (Message.of("user", "two words"),))


class ToldBy(ScriptedProvider):
    """A provider that gives its transport, which the script stands for, what `given` makes of an attempt."""

    def __init__(self, given: Callable[[Attempt], Attempt], given_for_streams: Callable[[Attempt], Attempt]) -> None:
        super().__init__(repeat("yes"))
        self.given = given
        self.given_for_streams = given_for_streams

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        return await super().complete(request, self.given(attempt))

    async def stream(self, request: LMRequest, attempt: Attempt) -> ScriptedStream:
        return await super().stream(request, self.given_for_streams(attempt))


def as_it_is(attempt: Attempt) -> Attempt:
    return attempt


def without_observer(attempt: Attempt) -> Attempt:
    return replace(attempt, observer=NOBODY)


def told_twice(attempt: Attempt) -> Attempt:
    attempt.observer.sent()
    return attempt


class TheFirst:
    """Keeps an observer, and tells it of the attempts of others from the second one on, which is not its own."""

    def __init__(self) -> None:
        self.kept: list[Attempt] = []

    def __call__(self, attempt: Attempt) -> Attempt:
        self.kept.append(attempt)
        return replace(attempt, observer=self.kept[min(1, len(self.kept) - 1)].observer)


def check(whole: Callable[[Attempt], Attempt], streams: Callable[[Attempt], Attempt]) -> None:
    asyncio.run(check_provider(lambda: ToldBy(whole, streams), REQUEST))


def test_one_that_hands_the_observer_on_passes() -> None:
    check(as_it_is, as_it_is)


def test_one_that_never_tells_its_observer_is_told_to_hand_it_on() -> None:
    with pytest.raises(AssertionError, match=r"complete\(\) .* never told .* hand attempt\.observer to the transport"):
        check(without_observer, as_it_is)


def test_one_whose_streams_never_tell_it_is_found_too() -> None:
    with pytest.raises(AssertionError, match=r"stream\(\) .* never told .* call attempt\.observer\.sent\(\)"):
        check(as_it_is, without_observer)


def test_one_that_tells_it_twice_for_a_request_is_told_to_leave_it_to_the_transport() -> None:
    with pytest.raises(AssertionError, match=r"told the attempt's observer 2 times .* leave it to the transport"):
        check(told_twice, as_it_is)


def test_one_whose_streams_tell_it_twice_is_found_too() -> None:
    with pytest.raises(AssertionError, match=r"stream\(\) told the attempt's observer 2 times"):
        check(as_it_is, told_twice)


def test_one_that_tells_the_observer_of_another_attempt_is_found_where_many_are_asked_at_once() -> None:
    with pytest.raises(AssertionError, match=r"complete\(\), asked 20 times at once, .*observer"):
        check(TheFirst(), as_it_is)


def test_one_whose_streams_tell_that_of_another_is_found_too() -> None:
    with pytest.raises(AssertionError, match=r"stream\(\), asked 20 times at once, .*observer"):
        check(as_it_is, TheFirst())
