"""Server-sent events are read as the grammar has them, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspy_actors.lm.sse import MAX_EVENT, Event, EventReader


def read(*reads: bytes) -> tuple[list[Event], str | None]:
    """All events of these reads, and what the reading ended with."""
    reader = EventReader()
    events = [event for data in reads for event in reader.feed(data)]
    events += reader.end()
    return events, None if reader.fault is None else reader.fault.message


def data_of(text: bytes) -> list[str]:
    return [event.data for event in read(text)[0]]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"data:a\n\n", [("message", "a")]),
        (b"data:  a\n\n", [("message", " a")]),
        (b"event: ping\ndata: {}\n\n", [("ping", "{}")]),
        (b"data: a\ndata: b\n\n", [("message", "a\nb")]),
        (b"data\n\n", [("message", "")]),
        (b": a comment\n\n", []),
        (b": a comment\ndata: a\n\n", [("message", "a")]),
        (b"event: nothing\n\ndata: a\n\n", [("message", "a")]),
        (b"id: 1\nretry: 5\ndata: a\nwhatever: x\n\n", [("message", "a")]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", [("message", "a"), ("message", "b")]),
        (b"data: a\r\n\r\ndata: b\r\r", [("message", "a"), ("message", "b")]),
        (b"data: a\r\ndata: b\rdata: c\n\r\n", [("message", "a\nb\nc")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        ("data: é\u2028\x85\x0b\n\n".encode(), [("message", "é\u2028\x85\x0b")]),
    ],
)
def test_the_grammar(text: bytes, events: list[tuple[str, str]]) -> None:
    assert read(text) == ([Event(*event) for event in events], None)


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert data_of(b"data: a\n\ndata: [DONE]\n") == ["a", "[DONE]"]


def test_a_last_line_that_was_cut_does_not_count() -> None:
    assert data_of(b'data: a\n\ndata: {"b') == ["a"]


def test_bytes_that_are_no_utf8_end_the_reading_after_the_events_before_them() -> None:
    events, fault = read(b"data: a\n\ndata: \xff\n\ndata: b\n\n")
    assert (events, fault) == ([Event("message", "a")], "an event that is not UTF-8")


@pytest.mark.parametrize("size", [MAX_EVENT - 6, MAX_EVENT - 5])
def test_an_event_may_have_a_mebibyte_and_no_byte_more(size: int) -> None:
    events, fault = read(b"data: a\n\ndata: " + b"x" * size + b"\n\n")
    assert (len(events), fault is None) == ((2, True) if size + 6 <= MAX_EVENT else (1, False))


def test_an_event_without_end_is_refused_before_it_ends() -> None:
    reader = EventReader()
    for _ in range(20):
        reader.feed(b"x" * 100_000)
    assert reader.fault is not None


_PARTS = st.sampled_from(
    [
        b"data",
        b"event",
        b":",
        b" ",
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"a",
        "é€😀".encode(),
        b"\xff",
        b"\xef\xbb\xbf",
        b"id",
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_PARTS, max_size=60), st.data())
def test_any_cut_of_any_bytes_gives_the_same_events(parts: list[bytes], draw: st.DataObject) -> None:
    text = b"".join(parts)
    places = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    reads = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert read(*reads) == read(text) == read(*(text[at : at + 1] for at in range(len(text))))
