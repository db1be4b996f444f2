"""The dialect of OpenAI's chat completions, which vLLM, Ollama, llama.cpp and most gateways speak too.

Of such servers nothing is required that only OpenAI sends: `usage`, `refusal` and ids may be missing. Our options have
this API's names, so they go out as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.chat_stream import ChatAssembler
from dspy_actors.lm.providers.dialect import (
    JSONObject,
    check_choice,
    count,
    count_in,
    counted,
    objects,
    options_of,
    text_or,
    tool_call,
    unexpected,
    withheld,
)
from dspy_actors.lm.providers.surrogates import joined
from dspy_actors.messages import (
    ImagePart,
    LMRequest,
    LMResponse,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
)

_REASONS = {"model_length": "length", "max_tokens": "length"}
"""OpenAI's word for those that others have: Mistral where its context is full, gateways that hand Anthropic's on."""

_REASONING = re.compile(r"^(?:.*/)?(?:o\d|gpt-5)", re.IGNORECASE)


class ChatCompletions:
    """`POST /chat/completions`."""

    path = "/chat/completions"

    def body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.body`. OpenAI's reasoning models get `max_tokens` under its new name: they refuse the old."""
        turns: list[JSONObject] = []
        for message in request.messages:
            write_message(message, turns)
        body: JSONObject = {"model": request.model, "messages": turns}
        if request.options:
            body.update(options_of(request, ("model", "messages")))
        if "max_tokens" in body and _REASONING.match(request.model):
            body.setdefault("max_completion_tokens", body.pop("max_tokens"))
        return body

    def read(self, data: Mapping[str, object], request: LMRequest, request_id: str | None) -> LMResponse:
        """See `Dialect.read`."""
        choices = objects(data.get("choices"))
        if not choices:
            raise unexpected("a completion without choices")
        if len(choices) > 1:
            choices = sorted(choices, key=lambda one: count(one.get("index")))
        wanted = request.options.get("n")
        if wanted is not None and len(choices) < count(wanted):  # Ollama and others take `n` and do not heed it
            raise unexpected(f"{len(choices)} of the {wanted} choices that n asked for")
        texts: list[str] = []
        reasons: list[str] = []
        calls: list[tuple[ToolCall, ...]] = []
        for choice in choices:
            check_choice(choice)
            message = choice.get("message")
            if not isinstance(message, dict):
                raise unexpected("a choice without a message")
            reason = text_or(choice.get("finish_reason"), "")
            reason = _REASONS.get(reason, reason)
            tools = message.get("tool_calls")
            asked = _calls(tools) if tools else ()
            texts.append(_text(message, reason, asked))
            reasons.append(reason)
            calls.append(asked)
        return LMResponse(
            tuple(texts),
            text_or(data.get("model"), request.model),
            read_usage(data.get("usage")),
            tuple(reasons),
            request_id or text_or(data.get("id"), "") or None,
            tuple(calls) if any(calls) else (),
        )

    def stream_body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.stream_body`. The count of tokens is asked for; without that no server sends one."""
        body = self.body(request)
        given = body.get("stream_options")
        if given is not None and not isinstance(given, Mapping):
            msg = f"option 'stream_options' is a mapping, not a {type(given).__name__}"
            raise LMConfigurationError(msg)
        return {**body, "stream": True, "stream_options": {"include_usage": True, **(given or {})}}

    def assembler(self, request: LMRequest) -> ChatAssembler:
        """See `Dialect.assembler`."""
        return ChatAssembler(request, self.read, read_usage)


def write_message(message: Message, turns: list[JSONObject]) -> None:
    """Add one message as chat completions have it; each result of a `tool` turn is a message of its own."""
    parts = message.parts
    if message.role == "tool":
        results = (part for part in parts if isinstance(part, ToolResult))
        turns.extend({"role": "tool", "tool_call_id": one.call_id, "content": one.text} for one in results)
    elif len(parts) == 1 and isinstance(parts[0], TextPart):  # most
        turns.append({"role": message.role, "content": parts[0].text})
    else:
        turn: JSONObject = {"role": message.role, "content": _content_json(message)}
        calls = [_call_json(part) for part in parts if isinstance(part, ToolCall)]
        if calls:
            turn["content"] = turn["content"] or None
            turn["tool_calls"] = calls
        turns.append(turn)


def _content_json(message: Message) -> str | list[JSONObject]:
    """The content of a turn; text alone goes as a plain string, which every server understands."""
    parts = message.parts
    if not any(isinstance(part, ImagePart) for part in parts):
        return message.text
    content: list[JSONObject] = []
    for part in parts:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            image = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
            content.append({"type": "image_url", "image_url": image})
    return content


def read_usage(data: object) -> Usage | None:
    """Token counts as the server sent them; `None` where it sent none. Counts that are no numbers read as 0."""
    if not isinstance(data, dict):
        return None
    return counted(
        Usage(
            count(data.get("prompt_tokens")),
            count(data.get("completion_tokens")),
            count_in(data.get("prompt_tokens_details"), "cached_tokens"),
            count_in(data.get("completion_tokens_details"), "reasoning_tokens"),
        ),
        count(data.get("total_tokens")),
    )


def _call_json(call: ToolCall) -> JSONObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _calls(asked: object) -> tuple[ToolCall, ...]:
    found = objects(asked)
    if found is None:
        raise unexpected("tool calls that are no list of objects")
    return tuple(_read_call(one) for one in found)


def _read_call(one: Mapping[str, object]) -> ToolCall:
    function = one.get("function")
    if not isinstance(function, dict):
        raise unexpected("a tool call that names no tool")
    return tool_call(one.get("id"), function.get("name"), function.get("arguments"))


def _text(message: Mapping[str, object], reason: str, calls: tuple[ToolCall, ...]) -> str:
    content = message.get("content")
    if type(content) is str and content:  # most
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = joined([part for part in parts if isinstance(part, str)])
    elif content is not None and not isinstance(content, str):
        raise unexpected("a message whose content is neither text nor a list of parts")
    if isinstance(content, str) and content:
        return content
    if calls:
        return ""
    refusal = text_or(message.get("refusal"), "")
    if refusal:
        raise withheld(f"the model refused: {refusal[:500]}", "refusal")
    if reason == "content_filter":
        raise withheld("the provider's content filter took the whole answer away", "content_filter")
    return ""
