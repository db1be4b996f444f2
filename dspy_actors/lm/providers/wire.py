"""`Wire`: HTTP, JSON and keys between a provider and its endpoint, the same for every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from dspy_actors.errors import (
    LMConfigurationError,
    LMError,
    LMProviderError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
)
from dspy_actors.lm.classify import classify, is_answer
from dspy_actors.lm.providers.base import Attempt
from dspy_actors.lm.providers.dialect import Dialect, JSONObject
from dspy_actors.lm.providers.json_text import is_json, is_plain, parsed, written
from dspy_actors.lm.providers.keys import KeyRing
from dspy_actors.lm.providers.wire_stream import WireStream, request_id_of, whole_body
from dspy_actors.lm.transports.base import HTTPRequest, HTTPResponse, Incoming, Transport
from dspy_actors.lm.transports.observer import ask_again
from dspy_actors.messages import ImagePart, LMRequest, LMResponse
from dspy_actors.secret import Secret, may_blot

_BIG = 1_000_000
"""Bytes of JSON above which it is read and written on a helper thread, not on the io loop."""

KeyHeaders: TypeAlias = Callable[[str], Mapping[str, str]]
"""The headers that carry a key."""


class Wire:
    """What a provider speaks through. Lives on the io loop; `name` is the provider's.

    `key_headers` writes a key into headers, `headers` are what every request has besides.
    """

    __slots__ = ("_for_key", "_key", "_urls", "endpoint", "headers", "key_headers", "keys", "name", "transport")

    def __init__(
        self,
        name: str,
        endpoint: str,
        transport: Transport,
        keys: KeyRing,
        key_headers: KeyHeaders,
        headers: Mapping[str, str],
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.transport = transport
        self.keys = keys
        self.key_headers = key_headers
        self.headers = headers
        self._key: Secret | None = None
        self._for_key = headers
        """The headers with `_key` among them."""
        self._urls: dict[str, str] = {}

    async def complete(self, dialect: Dialect, request: LMRequest, attempt: Attempt) -> LMResponse:
        """Ask in `dialect`. A refused key is replaced where there is another one.

        Raises an `LMError` with provider, model and, of an answer, status and request id. All is done in this one
        coroutine: each frame of a call costs memory while thousands wait.
        """
        keys, model = self.keys, request.model
        plain = is_plain(request)
        if plain or not _is_large(request):
            body = self._body(dialect.body, request, plain)
        else:
            body = await asyncio.to_thread(self._body, dialect.body, request, plain)
        tries = keys.tries
        while True:
            tries -= 1
            key = keys.at_hand or await keys.current()
            try:
                sent = self._request(dialect.path, body, attempt, key)
                answer = await self.transport.send(sent, deadline=attempt.deadline, observer=attempt.observer)
            except (LMTransportError, LMTimeoutError) as error:
                error.provider, error.model, error.request_id = self.name, model, attempt.request_id
                raise
            data = await asyncio.to_thread(_loads, answer) if len(answer.body) > _BIG else _loads(answer)
            if isinstance(data, dict) and not data.get("error"):
                try:
                    return dialect.read(data, request, request_id_of(answer))
                except LMError as error:
                    raise self.placed(_without(error, key), model, answer) from None
            refusal = self.refusal(answer, data, model, key)
            if not await keys.refused(key, refusal) or tries <= 0:
                raise refusal
            ask_again(attempt.observer, refusal)

    async def stream(self, dialect: Dialect, request: LMRequest, attempt: Attempt) -> WireStream:
        """Ask in `dialect` for an answer in pieces; returns when it has begun. Raises as `complete` does."""
        plain = is_plain(request)
        if plain or not _is_large(request):
            body = self._body(dialect.stream_body, request, plain)
        else:
            body = await asyncio.to_thread(self._body, dialect.stream_body, request, plain)
        tries = self.keys.tries
        while True:
            tries -= 1
            key = await self.keys.current()
            incoming = await self._open(dialect.path, body, attempt, request.model, key)
            if is_answer(incoming.status):
                refused = partial(self.keys.refused, key)
                own_id = attempt.request_id
                return WireStream(self, dialect, request, incoming, request_id=own_id, key=key, refused=refused)
            refusal = await self._refused(incoming, attempt, request.model, key)
            if not await self.keys.refused(key, refusal) or tries <= 0:
                raise refusal
            ask_again(attempt.observer, refusal)

    async def get(self, url: str, deadline: float | None, model: str) -> HTTPResponse:
        """Fetch `url`, whatever the status of the answer. No key that is set aside is sent."""
        key = await self.keys.current()
        headers = self.headers if key is None else {**self.headers, **self.key_headers(key.reveal())}
        try:
            return await self.transport.send(HTTPRequest("GET", url, headers), deadline=deadline)
        except (LMTransportError, LMTimeoutError) as error:
            error.provider, error.model = self.name, model
            raise

    def _body(self, body: Callable[[LMRequest], JSONObject], request: LMRequest, plain: bool) -> bytes:
        """The `body` that a dialect makes of the request, in bytes."""
        try:
            data = body(request)
        except LMError as error:
            raise self.placed(error, request.model) from None
        try:
            return written(data, plain=plain)
        except (TypeError, ValueError) as error:
            wrong = next((name for name, value in data.items() if not is_json(value)), "options")
            msg = f"option {wrong!r} cannot be sent as JSON: {error}"
            raise LMConfigurationError(msg, provider=self.name, model=request.model) from None

    async def _open(self, path: str, body: bytes, attempt: Attempt, model: str, key: Secret | None) -> Incoming:
        request = self._request(path, body, attempt, key, accept="text/event-stream")
        try:
            return await self.transport.open(
                request,
                deadline=attempt.deadline,
                observer=attempt.observer,
                first_byte=attempt.first_byte,
                idle=attempt.idle,
            )
        except (LMTransportError, LMTimeoutError) as error:
            error.provider, error.model, error.request_id = self.name, model, attempt.request_id
            raise

    def _request(self, path: str, body: bytes, attempt: Attempt, key: Secret | None, **more: str) -> HTTPRequest:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self.endpoint + path
        if key is not self._key:
            self._for_key = self.headers if key is None else {**self.headers, **self.key_headers(key.reveal())}
            self._key = key
        return HTTPRequest("POST", url, {**self._for_key, "x-request-id": attempt.request_id, **more}, body)

    async def _refused(self, incoming: Incoming, attempt: Attempt, model: str, key: Secret | None) -> LMError:
        """What a stream was refused with; the body of the refusal is read to its end, if it can be read."""
        try:
            body = await whole_body(incoming, refused=True)
        except LMTransportError as error:
            error.provider, error.model, error.request_id = self.name, model, attempt.request_id
            raise
        return self.refusal(HTTPResponse(incoming.status, incoming.headers, body), None, model, key)

    def refusal(self, answer: HTTPResponse, data: object, model: str, key: Secret | None) -> LMError:
        """The error that an answer stands for; `data` is what the body of a 200 holds."""
        status = answer.status
        if key is not None:  # some servers repeat the key they refuse
            answer = _blotted(answer, key.reveal())
        if is_answer(status) and not isinstance(data, dict):
            return self.placed(LMUnexpectedError("something that is no JSON object"), model, answer)
        return classify(status, answer.headers, answer.body, provider=self.name, model=model, endpoint=self.endpoint)

    def placed(self, error: LMError, model: str, answer: HTTPResponse | Incoming | None = None) -> LMError:
        """The error with where it happened written into it."""
        error.provider, error.model = self.name, model
        if answer is not None:
            error.status = error.status or answer.status
            error.request_id = request_id_of(answer)
            if isinstance(error, LMUnexpectedError):
                kind = answer.headers.get("content-type", "no content type").partition(";")[0]
                size = f", {len(answer.body)} bytes" if isinstance(answer, HTTPResponse) else ""
                said = f"{self.endpoint} answered {answer.status} with {error.message}"
                error.message = f"{said} ({kind}{size})"
            elif isinstance(error, (LMProviderError, LMStreamAssemblyError)) and self.endpoint not in error.message:
                error.message = f"{self.endpoint}: {error.message}"
        return error


JSON_HEADERS: Mapping[str, str] = {
    "content-type": "application/json",
    "accept": "application/json",
    "user-agent": "dspy-actors",
}


def _blotted(answer: HTTPResponse, key: str) -> HTTPResponse:
    """The answer without the key, wherever the server has written it, where the key has at least 8 characters."""
    if not may_blot(key):
        return answer
    headers = {name: value.replace(key, "[key]") for name, value in answer.headers.items()}
    return HTTPResponse(answer.status, headers, answer.body.replace(key.encode(), b"[key]"))


def _without(error: LMError, key: Secret | None) -> LMError:
    """The error without the key, which a server may have repeated in what it is made of."""
    if key is not None and may_blot(key.reveal()) and key.reveal() in error.message:
        error.message = error.message.replace(key.reveal(), "[key]")
    return error


def _loads(answer: HTTPResponse) -> object:
    """What the body of an answer holds, `None` for what is no JSON; a refusal is read where it is classified."""
    if not is_answer(answer.status):
        return None
    try:
        return parsed(answer.body)
    except (ValueError, RecursionError):
        return None


def _is_large(request: LMRequest) -> bool:
    size = 0
    for turn in request.messages:
        for part in turn.parts:
            if isinstance(part, ImagePart):
                size += len(part.url)
    return size > _BIG
