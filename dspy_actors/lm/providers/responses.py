"""The dialect of OpenAI's responses API: `LM("openai/...", model_type="responses")`.

Options keep the names they have for chat completions and are written in this API's words; an option of its own, such as
`truncation` or `store`, goes out as it is. What the API has no word for is refused, never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dspy_actors.errors import LMConfigurationError, LMUnsupportedFeatureError
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
from dspy_actors.lm.providers.responses_stream import ResponsesAssembler, said_in
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

_OWN = ("model", "input", "messages")
_UNKNOWN = ("n", "stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs")


class Responses:
    """`POST /responses`."""

    path = "/responses"

    def body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.body`."""
        options = options_of(request, _OWN)
        refuse_options(options, _UNKNOWN, "the responses API")
        if options.get("background"):
            msg = "background=True: this provider waits for the answer; leave the option out"
            raise LMUnsupportedFeatureError(msg)
        body: JSONObject = {
            "model": request.model,
            "input": [item for message in request.messages for item in _items(message)],
        }
        _move(options, "max_tokens", "max_output_tokens")
        _move(options, "max_completion_tokens", "max_output_tokens")
        tools = [_tool(one) for one in tools_of(options)]
        if tools:
            body["tools"] = tools
        if "tool_choice" in options:
            body["tool_choice"] = _tool_choice(options.pop("tool_choice"))
        text = _text_options(options)
        if text:
            body["text"] = text
        if "reasoning_effort" in options:
            body["reasoning"] = {**_mapping(options, "reasoning"), "effort": options.pop("reasoning_effort")}
        return body | options

    def read(self, data: Mapping[str, object], request: LMRequest, request_id: str | None) -> LMResponse:
        """See `Dialect.read`. A `failed` response holds an `error` and is refused before it comes here."""
        status = text_or(data.get("status"), "completed")
        output = objects(data.get("output"))
        if status not in ("completed", "incomplete") or output is None:
            raise unexpected(f"a response with status {status[:40]!r} and {'no ' if output is None else ''}output")
        calls = tuple(
            tool_call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments"))
            for item in output
            if item.get("type") == "function_call"
        )
        text, refusal = _said(output)
        reason = _reason(data, status, calls)
        if not text and not calls:
            if refusal:
                raise withheld(f"the model refused: {refusal[:500]}", "refusal")
            if reason == "content_filter":
                raise withheld("the provider's content filter took the whole answer away", "content_filter")
            if status == "completed" and not any(item.get("type") == "message" for item in output):
                raise unexpected("a completed response without a message")
        return LMResponse(
            (text,),
            text_or(data.get("model"), request.model),
            read_usage(data.get("usage")),
            (reason,),
            request_id or text_or(data.get("id"), "") or None,
            (calls,) if calls else (),
        )

    def stream_body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.stream_body`."""
        return {**self.body(request), "stream": True}

    def assembler(self, request: LMRequest) -> ResponsesAssembler:
        """See `Dialect.assembler`."""
        return ResponsesAssembler(request, self.read, read_usage)


def read_usage(data: object) -> Usage | None:
    """Token counts as the responses API names them; `None` where there are none."""
    if not isinstance(data, dict):
        return None
    return counted(
        Usage(
            prompt_tokens=count(data.get("input_tokens")),
            completion_tokens=count(data.get("output_tokens")),
            cached_tokens=count_in(data.get("input_tokens_details"), "cached_tokens"),
            reasoning_tokens=count_in(data.get("output_tokens_details"), "reasoning_tokens"),
        ),
        count(data.get("total_tokens")),
    )


def _items(message: Message) -> Iterator[JSONObject]:
    """A turn's items: what it says, then its calls or their results, each an item of its own."""
    if message.role != "tool":
        said = [part for part in message.parts if isinstance(part, (TextPart, ImagePart))]
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        if said or not calls:
            yield {"role": message.role, "content": _content(message, said)}
        for call in calls:
            yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"type": "function_call_output", "call_id": part.call_id, "output": part.text}


def _content(message: Message, said: list[TextPart | ImagePart]) -> str | list[JSONObject]:
    if not any(isinstance(part, ImagePart) for part in said):
        return message.text
    content: list[JSONObject] = []
    for part in said:
        if isinstance(part, TextPart):
            content.append({"type": "input_text", "text": part.text})
        else:
            content.append({"type": "input_image", "image_url": part.url, "detail": part.detail or "auto"})
    return content


def _tool(tool: object) -> object:
    """Flat, and not strict unless asked: that is the default of chat completions, and here it is the other one."""
    function = function_of(tool)
    if function is None:
        return tool
    return {"type": "function", "parameters": {"type": "object", "properties": {}}, "strict": False, **function}


def _tool_choice(choice: object) -> object:
    if isinstance(choice, Mapping) and choice.get("type") != "function":
        return choice
    name = chosen_tool(choice)
    return choice if name is None else {"type": "function", "name": name}


def _text_options(options: JSONObject) -> JSONObject:
    """`text`, with the format and the verbosity that chat completions have beside it."""
    text = _mapping(options, "text")
    if "verbosity" in options:
        text["verbosity"] = options.pop("verbosity")
    if "response_format" in options:
        wanted = options.pop("response_format")
        schema = schema_of(wanted)
        if schema is None:
            assert isinstance(wanted, Mapping)
            text["format"] = {"type": wanted["type"]}
        else:
            text["format"] = {"type": "json_schema", "name": "answer", **schema}
    return text


def _mapping(options: JSONObject, name: str) -> JSONObject:
    value = options.pop(name, None)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        msg = f"option {name!r} is a mapping, not a {type(value).__name__}"
        raise LMConfigurationError(msg)
    return dict(value)


def _move(options: JSONObject, old: str, new: str) -> None:
    if old in options:
        options.setdefault(new, options.pop(old))


def _said(output: object) -> tuple[str, str]:
    """The text of all messages, and what the model refused with."""
    said = [said_in(item) for item in objects(output) or () if item.get("type") == "message"]
    return joined([text for text, _ in said]), joined([refusal for _, refusal in said])


def _reason(data: Mapping[str, object], status: str, calls: tuple[ToolCall, ...]) -> str:
    """In the words of chat completions."""
    if status == "incomplete":
        details = data.get("incomplete_details")
        reason = text_or(details.get("reason"), "length") if isinstance(details, dict) else "length"
        return "length" if reason == "max_output_tokens" else reason
    return "tool_calls" if calls else "stop"
