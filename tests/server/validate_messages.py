"""The strict check of a body of Anthropic's messages API, by its published description."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tests.server.validate import Check, Refused, check_options, integer, kind_of, number, one_of


def _strings(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
    return None if good else "expected a list of strings with something in them"


def _system(value: Any) -> str | None:
    if isinstance(value, str):
        return None
    good = isinstance(value, list) and all(isinstance(block, dict) and block.get("type") == "text" for block in value)
    return None if good else "expected a string or a list of text blocks"


def _tools(value: Any) -> str | None:
    if not isinstance(value, list):
        return "expected a list of tools"
    for tool in value:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            return "tools.0.custom.name: Field required"
        if not {"type", "name", "description", "input_schema", "strict", "cache_control"}.issuperset(tool):
            return "tools.0.custom: Extra inputs are not permitted"
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            return "tools.0.custom.input_schema.type: Input should be 'object'"
    return None


def _tool_choice(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    keys = {
        "auto": {"type", "disable_parallel_tool_use"},
        "any": {"type", "disable_parallel_tool_use"},
        "tool": {"type", "name", "disable_parallel_tool_use"},
        "none": {"type"},
    }
    if kind not in keys or not keys[kind].issuperset(value):
        return "expected an object with type auto, any, tool or none"
    return "tool_choice.tool.name: Field required" if kind == "tool" and not value.get("name") else None


def _output_config(value: Any) -> str | None:
    if not isinstance(value, dict) or not {"effort", "format"}.issuperset(value):
        return "expected effort and format only"
    if value.get("effort", "low") not in ("low", "medium", "high", "xhigh", "max"):
        return "effort must be low, medium, high, xhigh or max"
    wanted = value.get("format")
    if wanted is None:
        return None
    good = isinstance(wanted, dict) and set(wanted) == {"type", "schema"} and wanted["type"] == "json_schema"
    return None if good and isinstance(wanted["schema"], dict) else "format has the type json_schema and a schema"


OPTIONS: dict[str, Check] = {
    "cache_control": kind_of(dict),
    "metadata": lambda value: None if isinstance(value, dict) and {"user_id"}.issuperset(value) else "user_id only",
    "output_config": _output_config,
    "service_tier": one_of("auto", "standard_only"),
    "stop_sequences": _strings,
    "stream": kind_of(bool),
    "system": _system,
    "temperature": number(0, 1),
    "thinking": kind_of(dict),
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_k": integer(0, 10_000),
    "top_p": number(0, 1),
}
_BLOCKS = {
    "text": {"type", "text", "cache_control"},
    "image": {"type", "source", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
}


def check_messages_request(body: Any) -> dict[str, Any]:
    """The body, if Anthropic would take it; else `Refused`."""
    checked = check_options(body, ("messages", "max_tokens"), OPTIONS)
    wrong = integer(1, 1_000_000)(checked["max_tokens"])
    if wrong is not None:
        raise Refused(f"max_tokens: {wrong}", "max_tokens")
    messages = checked["messages"]
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: at least one message is required", "messages")
    calls: set[str] = set()
    for index, message in enumerate(messages):
        wrong = _wrong_message(message, calls)
        if wrong is not None:
            raise Refused(f"messages.{index}: {wrong}", f"messages.{index}")
    if messages[0]["role"] != "user":
        raise Refused("messages: first message must use the user role", "messages.0")
    if "tool_choice" in body and not body.get("tools"):
        raise Refused("tool_choice may only be specified while providing tools", "tool_choice")
    return dict(body)


def _wrong_message(message: Any, calls: set[str]) -> str | None:
    """`calls` are the tools called in the turn before; afterwards those called in this one."""
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        return "a message has role and content"
    if message["role"] not in ("user", "assistant"):
        return "Unexpected role. The Messages API accepts a top-level `system` parameter"
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        return "messages must have non-empty content"
    answered = {block.get("tool_use_id") for block in content if block.get("type") == "tool_result"}
    if answered != calls:
        return "each `tool_use` must have a `tool_result` in the next message, and none else has one"
    calls.clear()
    for block in content:
        wrong = _wrong_block(block, message["role"])
        if wrong is not None:
            return wrong
        if block["type"] == "tool_use":
            calls.add(block["id"])
    kinds = [block["type"] == "tool_result" for block in content]
    return None if kinds == sorted(kinds, reverse=True) else "tool_result blocks come first"


def _wrong_block(block: Any, role: str) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCKS or not _BLOCKS[kind].issuperset(block):
        return f"a block's type must be one of {', '.join(_BLOCKS)}, with its fields only"
    if kind == "text":
        good = isinstance(block.get("text"), str) and block["text"].strip()
        return None if good else "text content blocks must contain non-whitespace text"
    if kind == "image":
        return "images are the user's" if role != "user" else _wrong_source(block.get("source"))
    if kind == "tool_use":
        if role != "assistant" or not block.get("id") or not block.get("name"):
            return "tool_use has an id and a name and is the assistant's"
        return None if isinstance(block.get("input"), dict) else "tool_use.input: Input should be an object"
    good = role == "user" and isinstance(block.get("content", ""), (str, list))
    return None if good and isinstance(block.get("is_error", False), bool) else "tool_result is the user's"


def _wrong_source(source: Any) -> str | None:
    if not isinstance(source, dict):
        return "source must be an object"
    if source.get("type") == "url":
        return None if set(source) == {"type", "url"} and source["url"].startswith("https:") else "url must be https"
    if set(source) != {"type", "media_type", "data"} or source["type"] != "base64":
        return "a source has the type base64 or url"
    if source["media_type"] not in ("image/jpeg", "image/png", "image/gif", "image/webp"):
        return "media_type must be jpeg, png, gif or webp"
    try:
        base64.b64decode(source["data"], validate=True)
    except (binascii.Error, ValueError):
        return "image.source.base64: invalid base64 data"
    return None
