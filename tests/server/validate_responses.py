"""The strict check of a body of OpenAI's responses API, by its published description."""

from __future__ import annotations

from typing import Any

from tests.server.validate import Check, Refused, check_options, integer, kind_of, number, one_of, wrong_schema_name


def _text(value: Any) -> str | None:
    if not isinstance(value, dict) or not {"format", "verbosity"}.issuperset(value):
        return "expected an object with format and verbosity"
    wanted = value.get("format", {"type": "text"})
    if not isinstance(wanted, dict) or wanted.get("type") not in ("text", "json_object", "json_schema"):
        return "expected a format whose type is text, json_object or json_schema"
    if wanted["type"] != "json_schema":
        return None if set(wanted) == {"type"} else "expected a format with nothing but its type"
    if not {"type", "name", "schema", "strict", "description"}.issuperset(wanted):
        return "unknown field in format"
    return wrong_schema_name(wanted) or (None if isinstance(wanted.get("schema"), dict) else "expected a schema")


def _tools(value: Any) -> str | None:
    if not isinstance(value, list):
        return "expected a list of tools"
    for tool in value:
        if not isinstance(tool, dict) or tool.get("type") != "function":
            return "expected tools of type function"
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            return "Missing required parameter: tools[].name"
        if not {"type", "name", "description", "parameters", "strict"}.issuperset(tool):
            return f"unknown field in tool {tool['name']!r}: tools are flat here"
        if "parameters" not in tool or not isinstance(tool.get("strict"), bool):
            return "expected parameters and strict"
    return None


def _tool_choice(value: Any) -> str | None:
    if value in ("auto", "none", "required"):
        return None
    good = isinstance(value, dict) and set(value) == {"type", "name"} and value["type"] == "function"
    return None if good else "expected auto, none, required or a function's type and name"


def _reasoning(value: Any) -> str | None:
    return None if isinstance(value, dict) and {"effort", "summary"}.issuperset(value) else "expected effort, summary"


OPTIONS: dict[str, Check] = {
    "background": kind_of(bool),
    "include": kind_of(list),
    "instructions": kind_of(str),
    "max_output_tokens": integer(16, 10_000_000),
    "max_tool_calls": integer(1, 1000),
    "metadata": kind_of(dict),
    "parallel_tool_calls": kind_of(bool),
    "previous_response_id": kind_of(str),
    "prompt_cache_key": kind_of(str),
    "reasoning": _reasoning,
    "safety_identifier": kind_of(str),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority"),
    "store": kind_of(bool),
    "stream": kind_of(bool),
    "temperature": number(0, 2),
    "text": _text,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": integer(0, 20),
    "top_p": number(0, 1),
    "truncation": one_of("auto", "disabled"),
    "user": kind_of(str),
}
_ITEMS = {
    "message": {"type", "role", "content", "id", "status"},
    "function_call": {"type", "call_id", "name", "arguments", "id", "status"},
    "function_call_output": {"type", "call_id", "output", "id", "status"},
}
_PARTS = {
    "input_text": {"type", "text"},
    "input_image": {"type", "image_url", "detail"},
    "output_text": {"type", "text", "annotations"},
}


def check_responses_request(body: Any) -> dict[str, Any]:
    """The body, if OpenAI would take it; else `Refused`."""
    asked = check_options(body, ("input",), OPTIONS)["input"]
    if not isinstance(asked, str):
        if not isinstance(asked, list) or not asked:
            raise Refused("'input' must be a string or a list of items", "input", "invalid_type")
        calls: set[str] = set()
        for index, item in enumerate(asked):
            wrong = _wrong_item(item, calls)
            if wrong is not None:
                raise Refused(f"Invalid value for 'input[{index}]': {wrong}", f"input[{index}]", "invalid_value")
    return dict(body)


def _wrong_item(item: Any, calls: set[str]) -> str | None:
    if not isinstance(item, dict):
        return "expected an object"
    kind = item.get("type", "message")
    if kind not in _ITEMS or not _ITEMS[kind].issuperset(item):
        return f"an item is one of {', '.join(_ITEMS)}, with its fields only"
    if kind == "function_call":
        if not all(isinstance(item.get(name), str) for name in ("call_id", "name", "arguments")):
            return "a function_call has call_id, name and arguments, all strings"
        calls.add(item["call_id"])
        return None
    if kind == "function_call_output":
        if item.get("call_id") not in calls:
            return f"No tool call found for function call output with call_id {item.get('call_id')}"
        return None if isinstance(item.get("output"), (str, list)) else "output must be a string or a list"
    return _wrong_message(item)


def _wrong_message(item: dict[str, Any]) -> str | None:
    if item.get("role") not in ("user", "assistant", "system", "developer"):
        return "role must be one of user, assistant, system, developer"
    content = item.get("content")
    if isinstance(content, str):
        return None
    if not isinstance(content, list) or not content:
        return "content must be a string or a list of parts"
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _PARTS or not _PARTS[kind].issuperset(part):
            return f"a part's type must be one of {', '.join(_PARTS)}"
        if kind == "input_image" and not str(part.get("image_url", "")).startswith(("https:", "http:", "data:image/")):
            return "image_url must be a URL as a string"
        if kind == "output_text" and item["role"] != "assistant":
            return "output_text is the assistant's"
    return None
