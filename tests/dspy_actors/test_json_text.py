"""JSON at the wire, against the standard library's: what is read, what is written, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_actors.lm.providers.json_text import is_plain, parsed, written
from dspy_actors.messages import ImagePart, LMRequest, Message, TextPart

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def outcome(read: Any, text: str | bytes) -> str:
    """What comes of reading, in a form in which 1, 1.0 and True differ, and NaN is equal to itself."""
    try:
        return repr(read(text))
    except (ValueError, RecursionError) as error:
        return type(error).__name__


@given(DATA, st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_json_holds_reads_as_the_standard_library_reads_it(data: Any, ascii_only: bool, as_bytes: bool) -> None:
    text = json.dumps(data, ensure_ascii=ascii_only)
    told: str | bytes = text.encode("utf-8", "surrogatepass") if as_bytes else text
    assert outcome(parsed, told) == outcome(json.loads, told)


@given(DATA, st.lists(st.tuples(st.integers(0, 200), st.sampled_from('{}[]",:\\u0dtrue-+.eE1 \n\x00é')), max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_is_nearly_json_reads_as_the_standard_library_reads_it(data: Any, typos: list[tuple[int, str]]) -> None:
    text = json.dumps(data)
    for place, character in typos:
        text = text[: place % (len(text) + 1)] + character + text[(place + place % 2) % (len(text) + 1) :]
    assert outcome(parsed, text) == outcome(json.loads, text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        "\ufeff{}".encode(),
        "\ufeff{}",
        '{"a": "\\ud83d"}',
        "[" * 900 + "]" * 900,
        "[" * 100_000,
        "9" * 5000,
        "NaN",
        "-0",
        "",
    ],
    ids=lambda text: repr(text)[:12],
)
def test_odd_texts_read_as_the_standard_library_reads_them(text: str | bytes) -> None:
    assert outcome(parsed, text) == outcome(json.loads, text)


@given(st.lists(st.text() | st.text(st.characters(categories=["Cs", "Lu"]))), st.dictionaries(st.text(), PLAIN))
@settings(max_examples=100, deadline=None)
def test_a_plain_body_reads_back_as_what_was_written(texts: list[str], options: dict[str, Any]) -> None:
    request = LMRequest("m", tuple(Message.of("user", text) for text in texts), options)
    assert is_plain(request)
    body = {**options, "messages": [{"role": "user", "content": text} for text in texts]}
    assert json.loads(written(body, plain=True)) == json.loads(json.dumps(body))
    assert json.loads(written(body, plain=False)) == json.loads(json.dumps(body))


@pytest.mark.parametrize(
    "option",
    [float("nan"), float("inf"), b"bytes", {"set"}, ["list"], {"a": float("nan")}, object()],
    ids=lambda option: type(option).__name__,
)
def test_a_request_with_an_option_that_json_may_not_hold_is_not_plain(option: object) -> None:
    assert not is_plain(LMRequest("m", (Message.of("user", "hi"),), {"seed": option}))


def test_a_request_with_more_than_texts_is_not_plain() -> None:
    for part in (TextPart(b"bytes"), ImagePart("https://example.org/a.png")):  # type: ignore[arg-type]
        assert not is_plain(LMRequest("m", (Message("user", (part,)),)))


@pytest.mark.parametrize("value", [float("nan"), b"bytes", {"set"}, object()], ids=lambda value: type(value).__name__)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        written({"a": value}, plain=False)
