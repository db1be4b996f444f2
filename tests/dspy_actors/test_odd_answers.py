"""Answers of gateways that are odd, though HTTP: what they say counts, over every transport and in a stream too."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from dspy_actors.errors import (
    LMAuthError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMTransportError,
    LMUnexpectedError,
)
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.providers.wire_stream import MAX_ANSWER
from dspy_actors.lm.transports.base import HTTPRequest, HTTPResponse, TransportFactory, TransportSettings
from dspy_actors.lm.transports.choose import choose
from dspy_actors.lm.verdicts import is_retryable
from dspy_actors.messages import LMRequest
from dspy_actors.testing.peer import Peer, Reaction, reply
from tests.dspy_actors.providing import TURNS, opened
from tests.dspy_actors.streaming import read_stream

ANSWER = json.dumps({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}).encode()
REQUEST = LMRequest("m", TURNS)


@pytest.fixture(params=["httpx", "aiohttp", "h11"])
def factory(request: pytest.FixtureRequest) -> TransportFactory:
    return choose(request.param)


def fetched(factory: TransportFactory, reaction: Reaction) -> HTTPResponse:
    async def once() -> HTTPResponse:
        async with Peer(reaction) as peer:
            transport = factory(peer.url, TransportSettings())
            try:
                return await transport.send(HTTPRequest("POST", peer.url, {}, b"{}"))
            finally:
                await transport.aclose()

    return asyncio.run(once())


def asked(reaction: Reaction, how: str, seconds: float | None = None) -> Any:
    """The answer to a request, or its error, after so many seconds at most; `how` is `whole` or `stream`."""

    async def once() -> Any:
        attempt = Attempt("c.1", deadline=None if seconds is None else asyncio.get_running_loop().time() + seconds)
        async with Peer(reaction) as peer:
            provider = opened("openai", peer.url)
            try:
                if how == "stream":
                    went = await read_stream(provider, REQUEST, attempt)
                    return went.error or went.answer
                return await provider.complete(REQUEST, attempt)
            except LMError as error:
                return error
            finally:
                await provider.aclose()

    return asyncio.run(once())


WAYS = pytest.mark.parametrize("how", ["whole", "stream"])


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_a_refusal_whose_body_cannot_be_read_keeps_its_status(factory: TransportFactory, encoding: str) -> None:
    answer = fetched(factory, reply(429, b"no such thing", f"Content-Encoding: {encoding}", "Retry-After: 3"))
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "3", b"")


@WAYS
@pytest.mark.parametrize(("status", "error"), [(401, LMAuthError), (429, LMRateLimitError)])
def test_a_refusal_that_came_packed_is_the_refusal(how: str, status: int, error: type[LMError]) -> None:
    """It was taken for a broken connection: asked again at once, and the key never set aside."""
    found = asked(reply(status, b"no such thing", "Content-Encoding: br", "Retry-After: 3"), how)
    assert (type(found), found.status, found.retry_after) == (error, status, 3.0)


@WAYS
@pytest.mark.parametrize("end", [Reaction(close=True), Reaction()], ids=["cut", "hung"])
@pytest.mark.parametrize(("status", "error"), [(401, LMAuthError), (429, LMRateLimitError), (503, LMServerError)])
def test_a_refusal_that_breaks_off_is_the_refusal(how: str, end: Reaction, status: int, error: type[LMError]) -> None:
    """It lost its status, and with that the wait that the provider asked for and the key that is to be set aside."""
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: 99\r\nRetry-After: 7\r\n\r\n".encode()
    found = asked(Reaction(head, then=Reaction(b'{"error"', then=end)), how, None if end.close else 0.3)
    assert (type(found), found.status, found.retry_after) == (error, status, 7.0)


def test_a_long_header_is_read(factory: TransportFactory) -> None:
    answer = fetched(factory, reply(200, b"ok", f"X-Policy: {'a' * 30_000}"))
    assert (answer.body, len(answer.headers["x-policy"])) == (b"ok", 30_000)


def test_an_address_that_aiohttp_takes_for_none_is_told_and_not_retried() -> None:
    async def once() -> None:
        transport = choose("aiohttp")("http://127.1/v1", TransportSettings())
        try:
            await transport.send(HTTPRequest("POST", "http://127.1/v1", {}, b"{}"))
        finally:
            await transport.aclose()

    with pytest.raises(LMTransportError, match="write an address in full") as caught:
        asyncio.run(once())
    assert (caught.value.provider_code, is_retryable(caught.value)) == ("url", False)


@WAYS
def test_an_answer_may_come_with_another_2xx(how: str) -> None:
    """Some gateways answer 201 to whatever is posted."""
    assert asked(reply(201, ANSWER), how).texts == ("ok",)


@WAYS
def test_no_content_is_no_answer(how: str) -> None:
    found = asked(Reaction(b"HTTP/1.1 204 Said\r\n\r\n"), how)
    assert (type(found), found.status) == (LMUnexpectedError, 204)


@WAYS
def test_an_error_inside_a_201_is_the_error(how: str) -> None:
    found = asked(reply(201, b'{"error":{"code":"rate_limit_exceeded","message":"slow down"}}'), how)
    assert (type(found), found.status) == (LMRateLimitError, 429)


@pytest.mark.parametrize("how", ["whole", "stream"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_refusal_above_the_bound_is_what_its_status_says(how: str, packed: bool) -> None:
    """It lost its status, and with that the wait that the provider asked for."""
    body = b" " * (MAX_ANSWER + 1_000_000)
    headers = ["Retry-After: 7", *(["Content-Encoding: gzip"] if packed else [])]
    error = asked(reply(429, gzip.compress(body, 1) if packed else body, *headers), how)

    assert (type(error), error.status, error.retry_after) == (LMRateLimitError, 429, 7.0)
