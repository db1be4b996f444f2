"""The strict check of a chat completion's body: what OpenAI refuses, this refuses, and names the parameter.

Ranges and names are those of OpenAI's published API description.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

Check = Callable[[Any], str | None]
"""Takes a value and says what is wrong with it, or nothing."""


class Refused(Exception):
    """The request is not valid: an HTTP status and the fields of OpenAI's error object."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": code}


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def read_json(body: bytes) -> Any:
    """The body as data; `Refused` when it is not JSON."""
    try:
        return _decoder.decode(body.decode())
    except ValueError as error:
        raise Refused(f"We could not parse the JSON body of your request: {error}", code="invalid_json") from error


def number(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return "expected a number"
        return None if low <= value <= high else f"expected a number from {low} to {high}"

    return check


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "expected an integer"
        return None if low <= value <= high else f"expected an integer from {low} to {high}"

    return check


def kind_of(*types: type) -> Check:
    names = " or ".join(kind.__name__ for kind in types)
    return lambda value: None if isinstance(value, types) else f"expected {names}"


def one_of(*options: str) -> Check:
    return lambda value: None if value in options else f"expected one of {', '.join(options)}"


def _stop(value: Any) -> str | None:
    if isinstance(value, str):
        return None
    if isinstance(value, list) and 1 <= len(value) <= 4 and all(isinstance(item, str) for item in value):
        return None
    return "expected a string or a list of 1 to 4 strings"


def _logit_bias(value: Any) -> str | None:
    good = isinstance(value, dict) and all(number(-100, 100)(bias) is None for bias in value.values())
    return None if good else "expected an object of numbers from -100 to 100"


def _metadata(value: Any) -> str | None:
    good = isinstance(value, dict) and len(value) <= 16 and all(isinstance(item, str) for item in value.values())
    return None if good else "expected an object of at most 16 strings"


def _response_format(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("type") not in ("text", "json_object", "json_schema"):
        return "expected an object whose type is text, json_object or json_schema"
    if value["type"] != "json_schema":
        return None
    schema = value.get("json_schema")
    if not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
        return "expected json_schema with a name"
    if not {"name", "schema", "strict", "description"}.issuperset(schema):
        return "unknown field in json_schema"
    wrong = wrong_schema_name(schema)
    return wrong or (None if isinstance(schema.get("schema", {}), dict) else "expected schema to be an object")


def wrong_schema_name(schema: dict[str, Any]) -> str | None:
    name = schema.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.replace("-", "").replace("_", "").isalnum():
        return "expected a name of 1 to 64 letters, digits, _ or -"
    return None


def _tools(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "expected a list of tools"
    for tool in value:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return "expected tools of type function with a name"
        if set(tool) != {"type", "function"}:
            return "a tool has type and function"
        if not {"name", "description", "parameters", "strict"}.issuperset(function):
            return "unknown field in a tool's function"
    return None


def _tool_choice(value: Any) -> str | None:
    if value in ("auto", "none", "required"):
        return None
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    good = isinstance(function, dict) and isinstance(function.get("name"), str)
    return None if good else "expected auto, none, required or a function by name"


_SIZE = 10_000_000
OPTIONS: dict[str, Check] = {
    "frequency_penalty": number(-2, 2),
    "logit_bias": _logit_bias,
    "logprobs": kind_of(bool),
    "max_completion_tokens": integer(1, _SIZE),
    "max_tokens": integer(1, _SIZE),
    "metadata": _metadata,
    "modalities": kind_of(list),
    "n": integer(1, 128),
    "parallel_tool_calls": kind_of(bool),
    "prediction": kind_of(dict),
    "presence_penalty": number(-2, 2),
    "prompt_cache_key": kind_of(str),
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh"),
    "response_format": _response_format,
    "safety_identifier": kind_of(str),
    "seed": integer(-(2**63), 2**63 - 1),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority"),
    "stop": _stop,
    "store": kind_of(bool),
    "stream": kind_of(bool),
    "stream_options": kind_of(dict),
    "temperature": number(0, 2),
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": integer(0, 20),
    "top_p": number(0, 1),
    "user": kind_of(str),
    "verbosity": one_of("low", "medium", "high"),
}

_MESSAGE_KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "refusal", "audio"},
    "tool": {"role", "content", "tool_call_id"},
}
_PART_KEYS = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file"}


def check_request(body: Any) -> dict[str, Any]:
    """The body of a chat completion, if OpenAI would take it; else `Refused`."""
    checked = check_options(body, ("messages",), OPTIONS)
    _check_messages(checked["messages"])
    _check_together(checked)
    return checked


def check_options(body: Any, required: tuple[str, ...], options: dict[str, Check]) -> dict[str, Any]:
    """The body, if it has a model, what is `required` and beside that only `options`; else `Refused`."""
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object", code="invalid_type")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Refused("you must provide a model parameter", "model", "missing_required_parameter")
    for name in required:
        if body.get(name) is None:
            raise Refused(f"Missing required parameter: '{name}'", name, "missing_required_parameter")
    for name, value in body.items():
        if name == "model" or name in required or (value is None and name in options):
            continue
        check = options.get(name)
        if check is None:
            raise Refused(f"Unrecognized request argument supplied: {name}", name, "unknown_parameter")
        wrong = check(value)
        if wrong is not None:
            raise Refused(f"Invalid value for '{name}': {wrong}, got {value!r:.100}", name, "invalid_value")
    return body


def _check_together(body: dict[str, Any]) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Refused("max_tokens and max_completion_tokens exclude each other", "max_tokens", "invalid_value")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refused("stream_options is only allowed when stream is true", "stream_options", "invalid_value")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise Refused("top_logprobs needs logprobs", "top_logprobs", "invalid_value")
    if body.get("tool_choice") is not None and not body.get("tools"):
        raise Refused("tool_choice is only allowed with tools", "tool_choice", "invalid_value")
    wanted = body.get("response_format")
    if wanted and wanted["type"] == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        raise Refused("'messages' must contain the word 'json' to use json_object", "messages", "invalid_value")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused("'messages' must be a list of at least one message", "messages", "missing_required_parameter")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        wrong = _wrong_message(message) or _wrong_tool_turn(message, open_calls)
        if wrong is not None:
            param = f"messages[{index}]"
            raise Refused(f"Invalid value for '{param}': {wrong}", param, "invalid_value")
    if open_calls:
        raise Refused("An assistant message with 'tool_calls' must be followed by tool messages", "messages")


def _wrong_message(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "expected an object"
    known = _MESSAGE_KEYS.get(message.get("role", ""))
    if known is None:
        return f"role must be one of {', '.join(_MESSAGE_KEYS)}"
    if not known.issuperset(message):
        return f"unknown field {sorted(set(message) - known)[0]!r}"
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        return "a tool message needs a tool_call_id"
    content = message.get("content")
    if isinstance(content, str):
        return None
    if content is None and message["role"] == "assistant" and message.get("tool_calls"):
        return None
    if not isinstance(content, list) or not content:
        return "content must be a string or a list of parts"
    return next((wrong for part in content if (wrong := _wrong_part(part)) is not None), None)


def _wrong_tool_turn(message: dict[str, Any], open_calls: set[str]) -> str | None:
    """`open_calls` are called and not yet answered."""
    if message["role"] == "tool":
        if message["tool_call_id"] not in open_calls:
            return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
        open_calls.discard(message["tool_call_id"])
        return None
    if open_calls:
        return f"no tool message answers {sorted(open_calls)[0]}"
    for call in message.get("tool_calls", ()):
        function = call.get("function") if isinstance(call, dict) and set(call) == {"id", "type", "function"} else None
        if not isinstance(function, dict) or set(function) != {"name", "arguments"} or call["type"] != "function":
            return "a tool call has id, type and a function with name and arguments"
        if not isinstance(function["arguments"], str):
            return "arguments must be a string"
        open_calls.add(call["id"])
    return None


def _wrong_part(part: Any) -> str | None:
    if not isinstance(part, dict) or part.get("type") not in _PART_KEYS:
        return f"a part's type must be one of {', '.join(_PART_KEYS)}"
    key = _PART_KEYS[part["type"]]
    if set(part) != {"type", key}:
        return f"a part of type {key} has the fields type and {key}"
    if key == "text":
        return None if isinstance(part["text"], str) else "text must be a string"
    if not isinstance(part[key], dict):
        return f"{key} must be an object"
    if key == "image_url" and not str(part[key].get("url", "")).startswith(("https:", "http:", "data:image/")):
        return "image_url needs a url of http, https or data:image"
    return None
