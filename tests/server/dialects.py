"""The APIs that the server speaks: for each path how a body is checked, what was asked, how an answer is written.

`Chat`, `Responses` and `Embeddings` are OpenAI's, `Messages` is Anthropic's, with its own error bodies and key header.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.server import streams
from tests.server.answers import text_of
from tests.server.faults import Fault
from tests.server.validate import check_request
from tests.server.validate_embeddings import check_embeddings
from tests.server.validate_messages import check_messages_request
from tests.server.validate_responses import check_responses_request

Turns = list[dict[str, Any]]


@dataclass(frozen=True)
class Said:
    """What the model says to the request number `count`: a text, or the call of a tool."""

    text: str
    call: str | None
    arguments: str
    count: int
    fault: Fault

    def tokens(self) -> int:
        return len(self.text) // 4 + 1


@dataclass(frozen=True)
class Dialect:
    """One path: `check` a body, its `turns` for the responder, the `answer` as JSON, an `error` as JSON."""

    check: Callable[[Any], dict[str, Any]]
    turns: Callable[[dict[str, Any]], Turns]
    answer: Callable[[dict[str, Any], Said], dict[str, Any]]
    schema: Callable[[dict[str, Any]], Any]
    error: Callable[[int, dict[str, Any]], dict[str, Any]]
    stream: Callable[[dict[str, Any], dict[str, Any], Fault, dict[str, Any]], streams.Score] | None = None
    """From a body, the answer to it, the fault and the error of one that has some: the events."""
    key_header: str = "authorization"
    id_header: str = "x-request-id"


def asked(turns: Turns) -> int:
    """A count of tokens."""
    return sum(len(text_of(turn["content"])) for turn in turns) // 4 + 1


def by_schema(schema: Any) -> Any:
    """A value that a JSON schema allows."""
    if not isinstance(schema, dict):
        return "text"
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: by_schema(inner) for name, inner in schema.get("properties", {}).items()}
    values: Mapping[Any, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}
    return values.get(kind, "text")


def openai_error(status: int, error: dict[str, Any]) -> dict[str, Any]:
    return {"error": error}


def anthropic_error(status: int, error: dict[str, Any]) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    made: dict[str, Any] = {"type": kind, "message": error["message"]}
    if error.get("code"):
        made["details"] = {"error_code": error["code"]}
    return {"type": "error", "error": made, "request_id": "req-body"}


def chat_answer(body: dict[str, Any], said: Said) -> dict[str, Any]:
    fault = said.fault
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if "no_content" in fault or said.call is not None:
        message["content"] = None
    if said.call is not None:
        function = {"name": said.call, "arguments": said.arguments}
        message["tool_calls"] = [{"id": f"call_{said.count}", "type": "function", "function": function}]
    finish = fault.get("finish", "stop" if said.call is None else "tool_calls")
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(body.get("n") or 1)
    ]
    prompt, spoken = asked(body["messages"]), said.tokens() * len(choices)
    return {
        "id": f"chatcmpl-{said.count}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [] if "no_choices" in fault else choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": spoken,
            "total_tokens": prompt + spoken,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def responses_turns(body: dict[str, Any]) -> Turns:
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    first = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return first + [item for item in items if "role" in item]


def responses_answer(body: dict[str, Any], said: Said) -> dict[str, Any]:
    content = [{"type": "output_text", "text": said.text, "annotations": []}]
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    if said.call is None:
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        output.append(message)
    else:
        call = {"call_id": f"call_{said.count}", "name": said.call, "arguments": said.arguments}
        output.append({"type": "function_call", "id": "fc_1", "status": "completed", **call})
    cut = said.fault.get("finish")
    prompt = asked(responses_turns(body))
    return {
        "id": f"resp_{said.count}",
        "object": "response",
        "created_at": int(time.time()),
        "model": body["model"],
        "status": "completed" if cut is None else "incomplete",
        "error": None,
        "incomplete_details": None if cut is None else {"reason": cut},
        "output": [] if "no_choices" in said.fault else output,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said.tokens(),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + said.tokens(),
        },
    }


def messages_turns(body: dict[str, Any]) -> Turns:
    first = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return first + list(body["messages"])


def messages_answer(body: dict[str, Any], said: Said) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": said.text}
    if said.call is not None:
        arguments = json.loads(said.arguments)
        block = {"type": "tool_use", "id": f"toolu_{said.count}", "name": said.call, "input": arguments}
    return {
        "id": f"msg_{said.count}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [] if "no_content" in said.fault else [block],
        "stop_reason": said.fault.get("finish", "end_turn" if said.call is None else "tool_use"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked(messages_turns(body)),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": said.tokens(),
        },
    }


def embeddings_answer(body: dict[str, Any], said: Said) -> dict[str, Any]:
    """For each text its length and its number, the last one first: an answer is not in the order of its question."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    size = body.get("dimensions", 2)
    data = []
    for index, text in enumerate(texts):
        vector: Any = [float(len(text)), float(index), *[0.0] * size][:size]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "data": data[::-1], "model": body["model"], "usage": usage}


def _schema_in(*path: str) -> Callable[[dict[str, Any]], Any]:
    def find(body: dict[str, Any]) -> Any:
        found: Any = body
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return find


DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(
        check_request,
        lambda body: list(body["messages"]),
        chat_answer,
        _schema_in("response_format", "json_schema", "schema"),
        openai_error,
        streams.chat,
    ),
    "/v1/responses": Dialect(
        check_responses_request,
        responses_turns,
        responses_answer,
        _schema_in("text", "format", "schema"),
        openai_error,
        streams.responses,
    ),
    "/v1/messages": Dialect(
        check_messages_request,
        messages_turns,
        messages_answer,
        _schema_in("output_config", "format", "schema"),
        anthropic_error,
        streams.messages,
        "x-api-key",
        "request-id",
    ),
    "/v1/embeddings": Dialect(check_embeddings, lambda body: [], embeddings_answer, lambda body: None, openai_error),
}
