"""What can go wrong with an answer, written as text, and the plan that says with which answers it does.

A fault is `key=value` pairs joined by commas; a key without a value is a flag:

| key | effect |
|---|---|
| `delay=MS` | the answer begins that much later |
| `hold` | the answer waits for `POST /_release` |
| `hang` or `hang=headers`, `hang=body` | nothing more comes: before the status line, or after half of the body |
| `status=N` | an error object with that status; `code=`, `type=`, `message=` set its fields |
| `retry_after=TEXT` | a `Retry-After` header |
| `h.NAME=TEXT` | any header |
| `reset` | the connection is reset (RST) instead of an answer |
| `drop` | the connection is closed (FIN) instead of an answer |
| `cut=BYTES` | the connection is closed after so many bytes of the body |
| `dribble=MS` | one byte of the body every so often; `piece=BYTES` at a time |
| `chunked` | the body travels in chunks, without a length |
| `malformed` | 200 with JSON that ends in the middle |
| `html` | 200 with a page |
| `error` | 200 with an error object inside; `code=`, `type=`, `message=` as for `status` |
| `body=TEXT` | 200 with exactly this body |
| `no_usage`, `no_choices`, `no_content`, `empty` | the answer without this part; `empty`: no body at all |
| `finish=TEXT` | the finish_reason, stop_reason or reason of an incomplete response |
| `call=NAME` | the model calls this tool; `arguments=JSON` with these |
| `pad=BYTES` | the answer is at least so large |
| `text=TEXT` | what the model says |
| `close` | announces and closes the connection after the answer |

and for an answer that is streamed, where K counts the pieces of its text and of its tools' arguments:

| key | effect |
|---|---|
| `pieces=N` | the text in so many pieces of nearly one size; word by word without it |
| `gap=MS` | between two pieces |
| `cut_after=K`, `reset_after=K` | the connection is closed (FIN) or reset (RST) after so many |
| `error_after=K` | an error event comes instead of the rest; `code=`, `type=`, `message=`; `bare`: of type `error` |
| `stall=K` | so many pieces, and then silence; 0: not even the first one |
| `hold_after=K`, `hold_each` | waits for `POST /_release` after so many pieces; before each piece from there on |
| `endless` | its pieces again and again, for ever |
| `pings` | signs of life every `gap` (10 ms) for ever, and nothing else |
| `no_done` | without `[DONE]`, `response.completed` or `message_stop` |
| `no_finish` | without a finish_reason |
| `malformed=K`, `bad_utf8=K` | an event that is half of its JSON, or no UTF-8, after so many (1) |
| `thinking=TEXT` | the model thinks aloud first |
| `split` | every byte of the body in a chunk and a write of its own |
| `crlf` | lines end in CR LF |
| `unframed` | the body has neither length nor chunks, it ends with its connection |
| `whole` | the answer in one piece all the same |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote_plus

Fault: TypeAlias = dict[str, str]

_NUMBERS = {"delay", "status", "cut", "dribble", "piece", "pad"} | {
    "pieces",
    "gap",
    "cut_after",
    "reset_after",
    "error_after",
    "stall",
    "hold_after",
}
_STREAM_FLAGS = {"bare", "hold_each", "endless", "pings", "no_done", "no_finish", "split", "crlf", "unframed", "whole"}
_FLAGS = {"hold", "reset", "drop", "chunked", "malformed", "html", "error", "close"} | {
    "no_usage",
    "no_choices",
    "no_content",
    "empty",
}
_TEXTS = {"code", "type", "message", "retry_after", "body", "finish", "text", "hang", "call", "arguments"} | {
    "thinking",
    "bad_utf8",
}
KEYS = _NUMBERS | _FLAGS | _STREAM_FLAGS | _TEXTS


def parse_fault(text: str) -> Fault:
    """Read `delay=50,status=503`; values may be percent-encoded. `ValueError` names a key that is not known."""
    return checked(dict(_pair(item) for item in text.split(",") if item))


def _pair(item: str) -> tuple[str, str]:
    key, _, value = item.partition("=")
    return key.strip(), unquote_plus(value)


def checked(fault: Fault) -> Fault:
    """The fault, if every key is known and every number is one."""
    for key, value in fault.items():
        if key not in KEYS and not key.startswith("h."):
            msg = f"no fault is called {key!r}; there are {', '.join(sorted(KEYS))} and h.NAME"
            raise ValueError(msg)
        if key in _NUMBERS and not value.replace(".", "", 1).isdigit():
            msg = f"fault {key} needs a number, got {value!r}"
            raise ValueError(msg)
    if fault.get("hang") == "":
        fault["hang"] = "headers"
    if fault.get("hang", "headers") not in ("headers", "body"):
        msg = f"fault hang is headers or body, got {fault['hang']!r}"
        raise ValueError(msg)
    return fault


@dataclass
class Step:
    """A fault for the next `times` requests (`None`: for ever) whose body holds `match`."""

    fault: Fault
    times: int | None = None
    match: bytes | None = None


def parse_step(entry: dict[str, Any]) -> Step:
    """Read one entry of a plan: `{"times": 40, "match": "poison", "fault": "status=429"}`, each key optional."""
    unknown = set(entry) - {"times", "match", "fault"}
    if unknown:
        msg = f"a step has times, match and fault, not {sorted(unknown)[0]!r}"
        raise ValueError(msg)
    match = entry.get("match")
    return Step(parse_fault(entry.get("fault", "")), entry.get("times"), None if match is None else match.encode())


class Plan:
    """Steps in order: a request takes the first one that fits it and is not used up."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def take(self, body: bytes) -> Fault | None:
        """The fault of this request's step, which is used up by one."""
        for step in self._steps:
            if step.match is not None and step.match not in body:
                continue
            if step.times is not None:
                step.times -= 1
                if step.times <= 0:
                    self._steps.remove(step)
            return step.fault
        return None
