"""OpenAI's chat completions, at OpenAI or at any server that speaks them (vLLM, Ollama, llama.cpp, gateways).

Of such servers nothing is required that only OpenAI sends: `usage`, `refusal` and request ids may be missing, errors
may come in any shape that `classify.read_refusal` reads.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

from dspy_actors.errors import (
    LMAuthError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
)
from dspy_actors.lm.classify import classify
from dspy_actors.lm.providers.base import Attempt, LMConfig, OpenTransport, checked_base_url
from dspy_actors.lm.providers.keys import KeyRing
from dspy_actors.lm.transports.base import HTTPRequest, HTTPResponse, is_loopback
from dspy_actors.messages import ImagePart, LMRequest, LMResponse, Message, TextPart, Usage
from dspy_actors.secret import Secret

_HOME = "https://api.openai.com/v1"
_VARIABLE = "OPENAI_API_KEY"
_REASONING = re.compile(r"^(?:.*/)?(?:o\d|gpt-5)", re.IGNORECASE)
_OWN_WORDS = ("model", "messages")
_BIG = 1_000_000
"""Bytes of JSON above which it is read and written on a helper thread, not on the io loop."""


class OpenAIProvider:
    """`Provider` for `POST {base_url}/chat/completions`. Lives on the io loop."""

    name = "openai"

    def __init__(self, config: LMConfig, open_transport: OpenTransport) -> None:
        self.endpoint = checked_base_url(config, _HOME)
        self._config = config
        self._url = f"{self.endpoint}/chat/completions"
        self._keys = KeyRing(config, variable=_VARIABLE, required=not is_loopback(self.endpoint))
        self._transport = open_transport(self.endpoint)

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        """See `base.Provider.complete`."""
        key = await self._keys.current()
        body = await _encoded(request, self.name)
        try:
            return await self._ask(request, attempt, key, body)
        except LMAuthError as error:
            if error.status != 401 or not await self._keys.replaced(key):
                raise
        return await self._ask(request, attempt, await self._keys.current(), body)

    async def aclose(self) -> None:
        """See `base.Provider.aclose`."""
        await self._transport.aclose()

    async def _ask(self, request: LMRequest, attempt: Attempt, key: Secret | None, body: bytes) -> LMResponse:
        try:
            answer = await self._transport.send(
                HTTPRequest("POST", self._url, _headers(attempt, key), body),
                deadline=attempt.deadline,
                on_sent=attempt.on_sent,
            )
        except (LMTransportError, LMTimeoutError) as error:
            error.provider, error.model, error.request_id = self.name, request.model, attempt.request_id
            raise
        if answer.status != 200:
            raise self._refused(answer, request, key)
        big = len(answer.body) > _BIG
        data = await asyncio.to_thread(_loads, answer.body) if big else _loads(answer.body)
        if not isinstance(data, dict):
            raise self._unexpected("something that is no JSON object", answer, request)
        if data.get("error"):
            raise self._refused(answer, request, key, _status_in(data["error"]))
        return self._read(data, answer, request)

    def _read(self, data: Mapping[str, object], answer: HTTPResponse, request: LMRequest) -> LMResponse:
        choices = data.get("choices")
        if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
            raise self._unexpected("a completion without choices", answer, request)
        if len(choices) > 1:
            choices.sort(key=lambda one: _count(one.get("index")))
        texts: list[str] = []
        reasons: list[str] = []
        for choice in choices:
            reason = choice.get("finish_reason")
            reasons.append(reason if isinstance(reason, str) else "")
            texts.append(self._text(choice, answer, request))
        model = data.get("model")
        return LMResponse(
            tuple(texts),
            model if isinstance(model, str) and model else request.model,
            read_usage(data.get("usage")),
            tuple(reasons),
            answer.headers.get("x-request-id") or _text_or_none(data.get("id")),
        )

    def _text(self, choice: Mapping[str, object], answer: HTTPResponse, request: LMRequest) -> str:
        message = choice.get("message")
        if not isinstance(message, dict):
            raise self._unexpected("a choice without a message", answer, request)
        content = message.get("content")
        if isinstance(content, str) and content:
            return content
        if isinstance(content, list):
            parts = (part.get("text") for part in content if isinstance(part, dict))
            return "".join(part for part in parts if isinstance(part, str))
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            raise LMContentFilterError(f"the model refused: {refusal[:500]}", **self._about(answer, request, "refusal"))
        if choice.get("finish_reason") == "content_filter":
            msg = "the provider's content filter took the whole answer away"
            raise LMContentFilterError(msg, **self._about(answer, request, "content_filter"))
        if message.get("tool_calls"):
            msg = "the model answered with tool calls and no text; this provider reads text answers"
            raise LMUnsupportedFeatureError(msg, **self._about(answer, request, "tool_calls"))
        return ""

    def _refused(
        self, answer: HTTPResponse, request: LMRequest, key: Secret | None, status: int | None = None
    ) -> LMError:
        body = answer.body
        if key is not None:  # some servers repeat the key they refuse
            body = body.replace(key.reveal().encode(), b"[key]")
        return classify(status or answer.status, answer.headers, body, provider=self.name, model=request.model)

    def _unexpected(self, what: str, answer: HTTPResponse, request: LMRequest) -> LMUnexpectedError:
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        msg = f"{self.endpoint} answered {answer.status} with {what} ({kind}, {len(answer.body)} bytes)"
        return LMUnexpectedError(msg, **self._about(answer, request, None))

    def _about(self, answer: HTTPResponse, request: LMRequest, code: str | None) -> dict[str, object]:
        return {
            "provider": self.name,
            "model": request.model,
            "status": answer.status,
            "provider_code": code,
            "request_id": answer.headers.get("x-request-id"),
        }


def request_body(request: LMRequest) -> dict[str, object]:
    """The JSON object of a chat completion request.

    Options are sent as they are, `None` values left out; for OpenAI's reasoning models `max_tokens` goes out under its
    new name, since they refuse the old one. Raises `LMConfigurationError` and `LMUnsupportedFeatureError`.
    """
    body: dict[str, object] = {"model": request.model, "messages": [message_json(one) for one in request.messages]}
    for name, value in request.options.items():
        if name in _OWN_WORDS:
            msg = f"option {name!r} is a part of the request itself and cannot be set as an option"
            raise LMConfigurationError(msg, model=request.model)
        if value is not None:
            body[name] = value
    if body.get("stream"):
        msg = "stream=True: this provider answers with whole completions; leave the option out"
        raise LMUnsupportedFeatureError(msg, model=request.model)
    if "max_tokens" in body and _REASONING.match(request.model):
        body.setdefault("max_completion_tokens", body.pop("max_tokens"))
    return body


def message_json(message: Message) -> dict[str, object]:
    """One message; text alone goes as a plain string, which every server understands."""
    parts = message.parts
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return {"role": message.role, "content": parts[0].text}
    if all(isinstance(part, TextPart) for part in parts):
        return {"role": message.role, "content": message.text}
    content: list[dict[str, object]] = []
    for part in parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            image = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
            content.append({"type": "image_url", "image_url": image})
    return {"role": message.role, "content": content}


def read_usage(data: object) -> Usage | None:
    """Token counts as the server sent them; `None` where it sent none. Counts that are no numbers read as 0."""
    if not isinstance(data, dict):
        return None
    prompt, completion = data.get("prompt_tokens_details"), data.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_count(data.get("prompt_tokens")),
        completion_tokens=_count(data.get("completion_tokens")),
        cached_tokens=_count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0,
        reasoning_tokens=_count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else 0,
    )


async def _encoded(request: LMRequest, provider: str) -> bytes:
    body = request_body(request)
    if sum(len(getattr(part, "url", "")) for message in request.messages for part in message.parts) > _BIG:
        return await asyncio.to_thread(_dumps, body, provider, request.model)
    return _dumps(body, provider, request.model)


def _dumps(body: Mapping[str, object], provider: str, model: str) -> bytes:
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        wrong = next((name for name, value in body.items() if not _is_json(value)), "options")
        msg = f"option {wrong!r} cannot be sent as JSON: {error}"
        raise LMConfigurationError(msg, provider=provider, model=model) from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can escape it, UTF-8 cannot hold it
        return json.dumps(body, separators=(",", ":")).encode()


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _loads(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _headers(attempt: Attempt, key: Secret | None) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "user-agent": "dspy-actors",
        "x-request-id": attempt.request_id,
    }
    if key is not None:
        headers["authorization"] = f"Bearer {key.reveal()}"
    return headers


def _status_in(error: object) -> int | None:
    """The status that some gateways put into an error object they send with a 200."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
