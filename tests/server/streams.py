"""A whole answer of each API as the events it is streamed in: those before its pieces, its pieces, those after them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.server.faults import Fault

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_WORD = re.compile(r"\S+\s*|\s+")


@dataclass
class Score:
    """The events of one answer, each as the bytes of its lines without the blank one. `error` is one after a 200.

    `shown` says which of the pieces hold a part of a text or of arguments: those that faults count.
    """

    begin: list[bytes] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    end: list[bytes] = field(default_factory=list)
    ping: bytes = b": ping"
    error: bytes = b""

    def show(self, event: bytes) -> None:
        self.shown.append(len(self.pieces))
        self.pieces.append(event)

    def place(self, count: int) -> int:
        """How many of the pieces come until so many of them have shown something."""
        if count == 0:
            return 0
        return self.shown[count - 1] + 1 if count <= len(self.shown) else len(self.pieces)


def cut(text: str, fault: Fault) -> list[str]:
    """`text` in `pieces=N` parts of nearly one size, or word by word."""
    if "pieces" not in fault:
        return _WORD.findall(text)
    count = int(fault["pieces"])
    size = max(1, -(-len(text) // max(1, count)))
    return [text[at : at + size] for at in range(0, len(text), size)]


def plain(data: Any) -> bytes:
    return b"data: " + _encode(data).encode()


def named(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {_encode(data)}".encode()


def chat(body: dict[str, Any], answer: dict[str, Any], fault: Fault, error: dict[str, Any]) -> Score:
    """Chunks with a delta each; a count of tokens where the request asks for it; `[DONE]`."""
    counted = (body.get("stream_options") or {}).get("include_usage")
    head = {key: answer[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    if counted:
        head["usage"] = None

    def chunk(index: int, finish: str | None = None, **delta: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return plain({**head, "choices": [choice]})

    score = Score(error=plain(error))
    columns: list[list[bytes]] = []
    for choice in answer["choices"]:
        index, message = choice["index"], choice["message"]
        score.begin.append(chunk(index, role="assistant", content="", refusal=None))
        column = [chunk(index, reasoning_content=text) for text in cut(fault.get("thinking", ""), fault)]
        column += [chunk(index, content=text) for text in cut(message["content"] or "", fault)]
        for number, call in enumerate(message.get("tool_calls", ())):
            begun = {"index": number, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
            column.append(chunk(index, tool_calls=[begun]))
            for text in cut(call["function"]["arguments"], fault):
                column.append(chunk(index, tool_calls=[{"index": number, "function": {"arguments": text}}]))
        columns.append(column)
        if "no_finish" not in fault:
            score.end.append(chunk(index, choice["finish_reason"]))
    for event in _in_turn(columns):
        score.show(event)
    if counted and "usage" in answer:
        score.end.append(plain({**head, "choices": [], "usage": answer["usage"]}))
    if "no_done" not in fault:
        score.end.append(b"data: [DONE]")
    return score


def responses(body: dict[str, Any], answer: dict[str, Any], fault: Fault, error: dict[str, Any]) -> Score:
    """Typed events with a sequence number; the last one holds the whole response."""
    score = Score()
    count = 0

    def event(kind: str, **data: Any) -> bytes:
        nonlocal count
        count += 1
        return named({"type": f"response.{kind}", "sequence_number": count, **data})

    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    score.begin = [event("created", response=begun), event("in_progress", response=begun)]
    for index, item in enumerate(answer["output"]):
        _item_events(score, event, index, item, fault)
    if "no_done" not in fault:
        score.end.append(event("incomplete" if answer["status"] == "incomplete" else "completed", response=answer))
    error = error["error"]
    failed = {**begun, "status": "failed", "error": {"code": error["code"], "message": error["message"]}}
    bare = {"type": "error", "sequence_number": count, **{key: error[key] for key in ("code", "message", "param")}}
    score.error = named(bare) if "bare" in fault else event("failed", response=failed)
    return score


def _item_events(score: Score, event: Any, index: int, item: dict[str, Any], fault: Fault) -> None:
    place = {"output_index": index, "item_id": item["id"]}
    add, ends = score.pieces.append, score.pieces.append
    if item["type"] == "function_call":
        add(event("output_item.added", output_index=index, item={**item, "arguments": "", "status": "in_progress"}))
        for text in cut(item["arguments"], fault):
            score.show(event("function_call_arguments.delta", delta=text, **place))
        ends(event("function_call_arguments.done", arguments=item["arguments"], name=item["name"], **place))
    elif item["type"] == "message":
        add(event("output_item.added", output_index=index, item={**item, "content": [], "status": "in_progress"}))
        for number, part in enumerate(item["content"]):
            within = {"content_index": number, **place}
            add(event("content_part.added", part={**part, "text": ""}, **within))
            for text in cut(part["text"], fault):
                score.show(event("output_text.delta", delta=text, logprobs=[], **within))
            add(event("output_text.done", text=part["text"], logprobs=[], **within))
            add(event("content_part.done", part=part, **within))
    else:
        add(event("output_item.added", output_index=index, item=item))
        for text in cut(fault.get("thinking", ""), fault):
            add(event("reasoning_summary_text.delta", delta=text, summary_index=0, **place))
    ends(event("output_item.done", output_index=index, item=item))


def messages(body: dict[str, Any], answer: dict[str, Any], fault: Fault, error: dict[str, Any]) -> Score:
    """Anthropic's events; the count of written tokens is told last, and is cumulative."""
    usage = answer.get("usage", {})
    opened = {**answer, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    if not usage:
        del opened["usage"]
    ping = named({"type": "ping"})
    score = Score(begin=[named({"type": "message_start", "message": opened}), ping], ping=ping, error=named(error))
    blocks = [{"type": "thinking", "thinking": fault["thinking"]}] if "thinking" in fault else []
    for index, block in enumerate(blocks + answer["content"]):
        for event, shown in _block_events(index, block, fault):
            score.show(event) if shown else score.pieces.append(event)
    stopped = {"stop_reason": None if "no_finish" in fault else answer["stop_reason"], "stop_sequence": None}
    delta: dict[str, Any] = {"type": "message_delta", "delta": stopped}
    if usage:
        delta["usage"] = {"output_tokens": usage["output_tokens"]}
    score.end.append(named(delta))
    if "no_done" not in fault:
        score.end.append(named({"type": "message_stop"}))
    return score


def _block_events(index: int, block: dict[str, Any], fault: Fault) -> Iterator[tuple[bytes, bool]]:
    empty: dict[str, Any] = {"text": "", "thinking": "", "input": {}}
    begun = {key: empty.get(key, value) for key, value in block.items()}
    yield named({"type": "content_block_start", "index": index, "content_block": begun}), False
    kind, key = {
        "text": ("text_delta", "text"),
        "thinking": ("thinking_delta", "thinking"),
        "tool_use": ("input_json_delta", "partial_json"),
    }[block["type"]]
    whole = _encode(block["input"]) if block["type"] == "tool_use" else block[key]
    for text in cut(whole, fault):
        yield (
            named({"type": "content_block_delta", "index": index, "delta": {"type": kind, key: text}}),
            kind != "thinking_delta",
        )
    if block["type"] == "thinking":
        signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
        yield named({"type": "content_block_delta", "index": index, "delta": signed}), False
    yield named({"type": "content_block_stop", "index": index}), False


def _in_turn(columns: list[list[bytes]]) -> Iterator[bytes]:
    """One of each column, again and again: the choices of an answer are written side by side."""
    for row in range(max(map(len, columns), default=0)):
        for column in columns:
            if row < len(column):
                yield column[row]
