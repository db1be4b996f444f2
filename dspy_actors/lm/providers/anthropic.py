"""Anthropic's messages: `LM("anthropic/...")`, the key in `ANTHROPIC_API_KEY`.

Options keep the names they have for OpenAI's chat completions and are written in this API's words; an option of its
own, such as `thinking`, goes out as it is. What the API has no word for is refused, never dropped. `temperature` and
`top_p` are for the models that still take them (up to Claude 4.6); the others' refusal is `LMUnsupportedFeatureError`.
Sources: Anthropic's API reference (messages, errors, structured outputs) and the types of its Python package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Coroutine, Mapping
from typing import Any

from dspy_actors.errors import AdapterParseError, LMConfigurationError, LMUnsupportedFeatureError
from dspy_actors.lm.providers.anthropic_stream import MessageAssembler
from dspy_actors.lm.providers.base import Attempt, LMConfig, Opening, ProviderStream, checked_base_url
from dspy_actors.lm.providers.dialect import (
    JSONObject,
    chosen_tool,
    count,
    count_in,
    counted,
    function_of,
    objects,
    options_of,
    refuse_options,
    schema_of,
    text_or,
    tool_call,
    tools_of,
    unexpected,
    withheld,
)
from dspy_actors.lm.providers.keys import KeyRing
from dspy_actors.lm.providers.listing import Listing, list_models
from dspy_actors.lm.providers.surrogates import joined
from dspy_actors.lm.providers.wire import JSON_HEADERS, Wire
from dspy_actors.lm.transports.base import is_loopback
from dspy_actors.messages import (
    ImagePart,
    LMRequest,
    LMResponse,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    TurnPart,
    Usage,
)

_HOME = "https://api.anthropic.com/v1"
_VARIABLE = "ANTHROPIC_API_KEY"
_VERSION = "2023-06-01"

DEFAULT_MAX_TOKENS = 8192
"""`max_tokens` where none is given: the API requires it, every current model can write so much, and newer ones think
within it before they answer."""

_OWN = ("model", "messages", "system")
_UNKNOWN = ("n", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "verbosity")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.IGNORECASE)


class AnthropicProvider:
    """`Provider` for the messages API. Lives on the io loop."""

    name = "anthropic"
    key_variable = _VARIABLE

    def __init__(self, config: LMConfig, opening: Opening) -> None:
        self.endpoint = self.endpoint_of(config)
        self._model = config.model
        keys = KeyRing(
            config, self.endpoint, opening.set_aside, variable=_VARIABLE, required=not is_loopback(self.endpoint)
        )
        headers = {**JSON_HEADERS, "anthropic-version": _VERSION}
        transport = opening.transport(self.endpoint)
        self._wire = Wire(self.name, self.endpoint, transport, keys, lambda key: {"x-api-key": key}, headers)
        self._dialect = Messages()

    @staticmethod
    def endpoint_of(config: LMConfig) -> str:
        """Where a provider for `config` sends its requests. Raises `LMConfigurationError`."""
        return checked_base_url(config, _HOME)

    def complete(self, request: LMRequest, attempt: Attempt) -> Coroutine[Any, Any, LMResponse]:
        """See `base.Provider.complete`."""
        return self._wire.complete(self._dialect, request, attempt)

    def stream(self, request: LMRequest, attempt: Attempt) -> Coroutine[Any, Any, ProviderStream]:
        """See `base.Provider.stream`."""
        return self._wire.stream(self._dialect, request, attempt)

    @property
    def key_id(self) -> str | None:
        """See `listing.Lists`."""
        return self._wire.keys.key_id

    async def listing(self, deadline: float | None = None) -> Listing:
        """See `listing.Lists`."""
        return await list_models(self._wire, "/models", deadline, self._model)

    async def aclose(self) -> None:
        """See `base.Provider.aclose`."""
        await self._wire.transport.aclose()


class Messages:
    """`POST /messages`."""

    path = "/messages"

    def body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.body`. `max_tokens` is `DEFAULT_MAX_TOKENS` where the request has none."""
        kind = request.options.get("model_type")
        if kind == "embeddings":
            raise LMConfigurationError("Anthropic has no embeddings; write Embedder('openai/MODEL') or 'local/MODEL'")
        if kind not in (None, "chat"):
            raise LMConfigurationError("Anthropic has one API; leave model_type out")
        options = options_of(request, _OWN)
        refuse_options(options, _UNKNOWN, "Anthropic's messages API")
        if options.get("temperature") == 1:  # the API's own default, and newer models refuse even that by name
            del options["temperature"]
        longest = options.pop("max_completion_tokens", None)
        body: JSONObject = {
            "model": request.model,
            "max_tokens": options.pop("max_tokens", longest or DEFAULT_MAX_TOKENS),
            "messages": _turns(request.messages),
        }
        system = "\n\n".join(message.text for message in request.messages if message.role == "system")
        if system:
            body["system"] = system
        if "stop" in options:
            stop = options.pop("stop")
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if "user" in options:
            body["metadata"] = {"user_id": options.pop("user")}
        tools = [_tool(one) for one in tools_of(options)]
        if tools:
            body["tools"] = tools
        choice = _tool_choice(options, bool(tools))
        if choice:
            body["tool_choice"] = choice
        config = _output_config(options)
        if config:
            body["output_config"] = config
        return body | options

    def read(self, data: Mapping[str, object], request: LMRequest, request_id: str | None) -> LMResponse:
        """See `Dialect.read`. Thinking is left out of the text."""
        blocks = objects(data.get("content"))
        if blocks is None:
            raise unexpected("a message without content")
        text = joined([text_or(block.get("text"), "") for block in blocks if block.get("type") == "text"])
        calls = tuple(
            tool_call(block.get("id"), block.get("name"), _written(block.get("input")))
            for block in blocks
            if block.get("type") == "tool_use"
        )
        stopped = text_or(data.get("stop_reason"), "")
        if stopped == "refusal" and not text and not calls:
            raise withheld("the model refused to answer", "refusal")
        return LMResponse(
            (text,),
            text_or(data.get("model"), request.model),
            read_usage(data.get("usage")),
            (_REASONS.get(stopped, stopped),),
            request_id or text_or(data.get("id"), "") or None,
            (calls,) if calls else (),
        )

    def stream_body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.stream_body`."""
        return {**self.body(request), "stream": True}

    def assembler(self, request: LMRequest) -> MessageAssembler:
        """See `Dialect.assembler`."""
        return MessageAssembler(request, self.read, read_usage)


def read_usage(data: object) -> Usage | None:
    """Token counts; `input_tokens` leaves out what was written to or read from the cache, and our sum does not."""
    if not isinstance(data, dict):
        return None
    cached = count(data.get("cache_read_input_tokens"))
    return counted(
        Usage(
            prompt_tokens=count(data.get("input_tokens")) + count(data.get("cache_creation_input_tokens")) + cached,
            completion_tokens=count(data.get("output_tokens")),
            cached_tokens=cached,
            reasoning_tokens=count_in(data.get("output_tokens_details"), "thinking_tokens"),
        )
    )


def _turns(messages: tuple[Message, ...]) -> list[JSONObject]:
    """The conversation without its system turns; results of tools are the user's, neighbours of one role are one."""
    turns: list[tuple[str, list[TurnPart]]] = []
    for message in messages:
        if message.role == "system":
            if any(not isinstance(part, TextPart) for part in message.parts):
                raise LMUnsupportedFeatureError("Anthropic's system prompt is text; put images into a user turn")
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend(_joined(message))
    return [{"role": role, "content": _content(parts)} for role, parts in turns]


def _joined(message: Message) -> tuple[TurnPart, ...]:
    """The message's parts; text alone is one."""
    if len(message.parts) > 1 and all(isinstance(part, TextPart) for part in message.parts):
        return (TextPart(message.text),)
    return message.parts


def _content(parts: list[TurnPart]) -> str | list[JSONObject]:
    """One text as a string; else blocks, of which the API refuses empty ones, results of tools first."""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    ordered = sorted(parts, key=lambda part: not isinstance(part, ToolResult))
    return [_block(part) for part in ordered if not (isinstance(part, TextPart) and not part.text)]


def _block(part: TurnPart) -> JSONObject:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart):
        return {"type": "image", "source": _source(part.url)}
    if isinstance(part, ToolCall):
        try:
            arguments = part.read()
        except AdapterParseError as error:
            raise LMConfigurationError(f"Anthropic takes arguments as JSON only: {error.message}") from None
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    result: JSONObject = {"type": "tool_result", "tool_use_id": part.call_id, "content": part.text}
    return {**result, "is_error": True} if part.error else result


def _source(url: str) -> JSONObject:
    found = _DATA_URL.match(url)
    if found:
        return {"type": "base64", "media_type": found.group(1).lower(), "data": url[found.end() :]}
    if url.startswith("data:"):
        raise LMConfigurationError("an image's data: URI is written 'data:image/png;base64,...'")
    return {"type": "url", "url": url}


def _tool(tool: object) -> object:
    function = function_of(tool)
    if function is None:
        return tool
    made: JSONObject = {"name": function["name"]}
    if function.get("description"):
        made["description"] = function["description"]
    made["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict"):
        made["strict"] = True
    return made


def _tool_choice(options: JSONObject, tools: bool) -> JSONObject:
    """`tool_choice` and `parallel_tool_calls` as one object; one that is Anthropic's own goes out as it is."""
    choice = options.pop("tool_choice", None)
    alone = options.pop("parallel_tool_calls", None) is False and tools
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        return dict(choice)
    made: JSONObject = {}
    if choice is not None:
        name = chosen_tool(choice)
        made = {"type": _CHOICES[str(choice)]} if name is None else {"type": "tool", "name": name}
    if alone and made.get("type") != "none":
        made = {"type": "auto", **made, "disable_parallel_tool_use": True}
    return made


def _output_config(options: JSONObject) -> JSONObject:
    """`output_config`, with the schema and the effort that chat completions have beside it."""
    given = options.pop("output_config", None) or {}
    if not isinstance(given, Mapping):
        raise LMConfigurationError(f"output_config is a mapping, not a {type(given).__name__}")
    config = dict(given)
    if "reasoning_effort" in options:
        config["effort"] = options.pop("reasoning_effort")
    wanted = options.pop("response_format", None)
    if wanted is not None:
        schema = schema_of(wanted)
        if schema is not None:
            config["format"] = {"type": "json_schema", "schema": schema["schema"]}
        elif isinstance(wanted, Mapping) and wanted.get("type") == "json_object":
            raise LMUnsupportedFeatureError(
                "Anthropic writes JSON by a schema only; give response_format a json_schema"
            )
    return config


def _written(arguments: object) -> str:
    """The arguments as JSON text, which is what a `ToolCall` holds."""
    if not isinstance(arguments, dict):
        raise unexpected("a tool call whose input is no object")
    return json.dumps(arguments, ensure_ascii=False)
