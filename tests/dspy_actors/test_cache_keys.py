"""The name of a request: all of it counts, the order of options does not."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.cache.keys import digest
from dspy_actors.messages import ImagePart, LMRequest, Message, TextPart

REQUEST = LMRequest("m", (Message.of("user", "hi"),), {"temperature": 0.0, "response_format": {"a": 1, "b": [2]}})
AT: Any = {"provider": "openai", "endpoint": "https://a/v1", "tenant": ""}


def key(request: LMRequest = REQUEST, **at: Any) -> bytes | None:
    return digest(request, **{**AT, **at})


OTHERS: list[tuple[LMRequest, dict[str, Any]]] = [
    (REQUEST, {"provider": "local"}),
    (REQUEST, {"endpoint": "https://b/v1"}),
    (REQUEST, {"tenant": "t"}),
    (replace(REQUEST, model="n"), {}),
    (replace(REQUEST, sample=1), {}),
    (replace(REQUEST, messages=()), {}),
    (replace(REQUEST, messages=(Message.of("system", "hi"),)), {}),
    (replace(REQUEST, messages=(Message.of("user", "hi "),)), {}),
    (replace(REQUEST, messages=(Message.of("user", "hi"), Message.of("user", "hi"))), {}),
    (replace(REQUEST, messages=(Message("user", (TextPart("h"), TextPart("i"))),)), {}),
    (replace(REQUEST, messages=(Message("user", (ImagePart("hi"),)),)), {}),
    (replace(REQUEST, messages=(Message("user", (ImagePart("hi", "low"),)),)), {}),
    (replace(REQUEST, options={}), {}),
    (replace(REQUEST, options={**REQUEST.options, "stop": ["a"]}), {}),
    (replace(REQUEST, options={**REQUEST.options, "stop": "a"}), {}),
    (replace(REQUEST, options={**REQUEST.options, "stop": None}), {}),
    (replace(REQUEST, options={**REQUEST.options, "tools": [{"name": "f"}]}), {}),
    (replace(REQUEST, options={**REQUEST.options, "temperature": 1.0}), {}),
    (replace(REQUEST, options={**REQUEST.options, "response_format": {"a": 1, "b": [3]}}), {}),
]


def test_every_part_of_a_request_changes_its_key() -> None:
    keys = {key(request, **at) for request, at in OTHERS}
    assert len(keys) == len(OTHERS)
    assert not keys & {None, key()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
OPTIONS = st.dictionaries(st.text(max_size=5), JSON, max_size=5)


def backwards(value: object) -> object:
    """The same value with every mapping written in the opposite order."""
    if isinstance(value, dict):
        return {name: backwards(value[name]) for name in reversed(value)}
    return [backwards(one) for one in value] if isinstance(value, list) else value


@given(OPTIONS)
def test_the_order_of_options_does_not_count(options: Any) -> None:
    assert key(replace(REQUEST, options=options)) == key(replace(REQUEST, options=backwards(options)))


def typed(value: object) -> object:
    """The value so that 1, 1.0 and True differ, and 0.0 and -0.0."""
    if isinstance(value, dict):
        return frozenset((name, typed(inner)) for name, inner in value.items())
    return tuple(map(typed, value)) if isinstance(value, list) else (type(value).__name__, repr(value))


@given(OPTIONS, OPTIONS)
def test_other_options_have_another_key(first: Any, second: Any) -> None:
    same = key(replace(REQUEST, options=first)) == key(replace(REQUEST, options=second))
    assert same == (typed(first) == typed(second))


@given(st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=3), st.data())
def test_other_messages_have_another_key(texts: list[list[str]], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=3))
    made = [tuple(Message("user", tuple(map(TextPart, parts))) for parts in messages) for messages in (texts, others)]
    keys = [key(replace(REQUEST, messages=messages)) for messages in made]
    assert (keys[0] == keys[1]) == (texts == others)


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, lambda: 0, 2**64, {1: "a", "b": 2}, {"a": [object()]}, Colour, Colour.RED, 1j], ids=repr
)
def test_what_cannot_be_written_has_no_key(value: object) -> None:
    assert key(replace(REQUEST, options={"x": value})) is None


def test_a_list_that_holds_itself_has_no_key() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert key(replace(REQUEST, options={"x": loop})) is None


def test_a_lone_surrogate_has_a_key() -> None:
    assert key(replace(REQUEST, messages=(Message.of("user", "\ud800"),))) is not None


def test_a_tuple_is_a_list() -> None:
    first, second = (replace(REQUEST, options={"stop": stop}) for stop in (["a"], ("a",)))
    assert key(first) == key(second)
