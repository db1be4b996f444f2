"""The test server's streams: what is in them, what goes wrong with them on demand, what is counted."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.server.client import StubServer

USER = {"role": "user", "content": "one two three"}
TOOLS = {"call": "f", "arguments": '{"a": 1}'}
ASK: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "m", "messages": [USER], "stream_options": {"include_usage": True}},
    "responses": {"model": "m", "input": [USER]},
    "messages": {"model": "m", "max_tokens": 50, "messages": [USER]},
}
HEADERS = {"anthropic-version": "2023-06-01"}
LAST = {"chat/completions": "data: [DONE]", "responses": "response.completed", "messages": "message_stop"}


def stream(stub: StubServer, path: str, fault: str, **more: Any) -> tuple[list[str], bool]:
    """The events as text, and whether the body ended as it should."""
    blocks, whole = "", True
    base = stub.at(fault) if fault else stub.base_url
    ask = {**ASK[path], "stream": True, **more}
    with httpx.stream("POST", f"{base}/{path}", json=ask, headers=HEADERS, timeout=5.0) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        try:
            for text in answer.iter_text():
                blocks += text
        except (httpx.RemoteProtocolError, httpx.ReadError):
            whole = False
    return [block for block in blocks.replace("\r\n", "\n").split("\n\n") if block], whole


def data(event: str) -> Any:
    return json.loads(event.partition("data: ")[2])


@pytest.mark.parametrize("path", ASK)
def test_a_stream_ends_with_its_last_word(stub: StubServer, path: str) -> None:
    events, whole = stream(stub, path, "text=a b c")
    assert (LAST[path] in events[-1], whole, stub.stats()["answered"]) == (True, True, 1)


@pytest.mark.parametrize("path", ASK)
@pytest.mark.parametrize("fault", ["split", "crlf", "unframed", "gap=1"])
def test_a_stream_says_the_same_however_it_travels(stub: StubServer, path: str, fault: str) -> None:
    plain, _ = stream(stub, path, "text=a b é")
    other, whole = stream(stub, path, f"text=a b é,{fault}")
    same = [[re.sub(r"\d+", "0", event) for event in events] for events in (plain, other)]
    assert (same[0], whole) == (same[1], True)


def test_the_chunks_of_a_chat_join_to_its_answer(stub: StubServer) -> None:
    events = [data(event) for event in stream(stub, "chat/completions", "text=one two,pieces=3", n=2)[0][:-1]]
    texts = ["", ""]
    for event in events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["one two"] * 2
    assert (events[-1]["choices"], events[0]["usage"]) == ([], None)
    assert events[-1]["usage"]["completion_tokens"] > 0


def test_a_count_of_tokens_comes_only_where_it_was_asked_for(stub: StubServer) -> None:
    events, _ = stream(stub, "chat/completions", "text=a", stream_options=None)
    assert all("usage" not in event for event in events)


@pytest.mark.parametrize("path", ASK)
def test_arguments_come_in_pieces(stub: StubServer, path: str) -> None:
    events, _ = stream(stub, path, 'call=f,arguments={"a": 1},pieces=4')
    assert sum('"arguments":' in event or "partial_json" in event or "arguments.delta" in event for event in events) > 3


@pytest.mark.parametrize("path", ASK)
@pytest.mark.parametrize(
    ("fault", "ends"),
    [("cut_after=1", False), ("reset_after=1", False), ("error_after=1,code=529", True), ("no_done,no_finish", True)],
)
def test_a_stream_ends_early_on_demand(stub: StubServer, path: str, fault: str, ends: bool) -> None:
    events, whole = stream(stub, path, f"text=a b c,{fault}")
    assert (LAST[path] in events[-1], whole) == (False, ends)
    assert not fault.startswith("error") or "529" in events[-1] or "overloaded_error" in events[-1]


@pytest.mark.parametrize("fault", ["endless", "pings", "stall=1", "hold_after=1", "gap=100000"])
def test_a_client_that_leaves_is_counted(stub: StubServer, fault: str) -> None:
    ask = {**ASK["chat/completions"], "stream": True}
    with httpx.stream("POST", f"{stub.at('text=a b c,' + fault)}/chat/completions", json=ask) as answer:
        next(answer.iter_raw())
    counts = stub.wait("aborted>=1", "open==0", "in_flight==0")
    assert (counts["answered"], counts["streams"]) == (0, 1)


def test_a_client_that_does_not_read_stops_the_stream(stub: StubServer) -> None:
    ask = {**ASK["chat/completions"], "stream": True}
    with httpx.stream("POST", f"{stub.at('text=a b c,endless')}/chat/completions", json=ask) as answer:
        next(answer.iter_raw())
        counts = [stub.stats()["written"]]
        while len(counts) < 2 or counts[-1] != counts[-2]:
            counts.append(stub.stats()["written"])
    assert counts[-1] < 20_000_000


def test_a_release_lets_one_piece_go(stub: StubServer) -> None:
    ask = {**ASK["chat/completions"], "stream": True}
    with httpx.stream("POST", f"{stub.at('text=a b c,hold_each')}/chat/completions", json=ask) as answer:
        reads = answer.iter_text()
        next(reads)
        for _ in range(3):
            stub.wait("held==1")
            stub.release(1)
        said = "".join(reads)
    assert said.endswith("data: [DONE]\n\n")
