"""Settings, hashes, previews and entries: what is refused, what is equal, and what is not shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.errors import QuarantineError, from_wire
from dspy_actors.quarantine.entry import Entry, entry_of
from dspy_actors.quarantine.names import entry_id, hash_inputs
from dspy_actors.quarantine.preview import FIELDS, SHOWN, preview_of
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.secret import redacted

KEYS = [
    "sk-ant-api03-Vq8k2mXy7Lw1",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.SflKxwRJ",
    "xoxb-1234567890-abcdef",
    "Bearer abcdefgh12345",
    "0123456789abcdef0123456789abcdef",
    "4111 1111 1111 1111",
    "password=hunter2",
    'api_key: "short"',
    "https://user:pa55@host/path",
]


@pytest.mark.parametrize("field", ["threshold", "seconds", "fault_seconds", "entries"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, None, "3", True])
def test_settings_that_make_no_sense_are_refused_by_field_and_bound(field: str, value: Any) -> None:
    with pytest.raises(QuarantineError, match=rf"QuarantineSettings\({field}=.*(more than 0|at least 1)"):
        QuarantineSettings(**{field: value})


@pytest.mark.parametrize("field", ["threshold", "entries"])
def test_half_a_call_is_no_threshold(field: str) -> None:
    with pytest.raises(QuarantineError, match="an int, at least 1"):
        QuarantineSettings(**{field: 2.5})  # type: ignore[arg-type]


def test_a_path_is_a_path() -> None:
    assert QuarantineSettings(path=Path("q.sqlite")).path == Path("q.sqlite")
    with pytest.raises(QuarantineError, match="path"):
        QuarantineSettings(path=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": "x"}, {"b": "x", "a": 1}),
        ({"a": [1, 2]}, {"a": (1, 2)}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
    ],
)
def test_the_order_of_fields_and_the_kind_of_list_do_not_count(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert hash_inputs(one) == hash_inputs(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ({"a": ""}, {}),
        ({"a": "x"}, {"b": "x"}),
    ],
)
def test_inputs_that_differ_have_other_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert hash_inputs(one) != hash_inputs(other)


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: "x", "y": 2}, 2**70])
def test_inputs_that_cannot_be_written_have_no_hash(value: object) -> None:
    assert hash_inputs({"a": value}) is None


def test_half_a_surrogate_pair_has_a_hash() -> None:
    assert hash_inputs({"a": "\ud800"}) is not None


def test_an_entry_is_another_for_another_tenant_program_version_or_input() -> None:
    ids = {
        entry_id(("t", "p", b"v"), b"i"),
        entry_id(("u", "p", b"v"), b"i"),
        entry_id(("t", "q", b"v"), b"i"),
        entry_id(("t", "p", b"w"), b"i"),
        entry_id(("t", "p", b"v"), b"j"),
        entry_id(("tp", "", b"v"), b"i"),
    }
    assert len(ids) == 6


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", "My key: ", "Please use "])
def test_a_preview_shows_no_key(key: str, before: str) -> None:
    shown = str(preview_of({"question": f"{before}{key} and more"}))
    assert all(part not in shown for part in (key[-6:], key[8:14]))


@pytest.mark.parametrize("name", ["api_key", "password", "auth_token", "card_number", "SSN"])
def test_a_field_whose_name_tells_a_secret_shows_nothing_of_its_text(name: str) -> None:
    (field,) = preview_of({name: "hunter2"})
    assert (field.type, field.length, field.begins) == ("str", 7, None)


def test_a_preview_shows_names_types_lengths_and_the_first_characters() -> None:
    assert [str(each) for each in preview_of({"text": "Where is my parcel now?", "n": 3, "tags": ["a", "b"]})] == [
        "text: str[23] 'Where is my parc…'",
        "n: int",
        "tags: list[2]",
    ]


def test_a_long_text_costs_no_more_than_a_short_one_and_shows_no_more() -> None:
    (field,) = preview_of({"text": "a b " * 1_000_000})
    assert field.begins is not None
    assert len(field.begins) <= SHOWN + 1
    assert field.length == 4_000_000


def test_the_name_of_a_field_moves_no_cursor_and_shows_no_key() -> None:
    first, second = preview_of({"a\x1b[2J\nb": 1, "sk-ant-api03-Vq8k2mXy7Lw1": 2})
    assert (first.name, second.name) == ("a?[2J?b", "…")


def test_an_input_of_many_fields_has_a_short_preview() -> None:
    assert len(preview_of({f"f{n}": "x" for n in range(1000)})) == FIELDS


@pytest.mark.parametrize(
    "text", ["Where is my parcel?", "a risk-averse task-list", "The skeleton-crew is 12 strong", "2024"]
)
def test_ordinary_words_are_not_redacted(text: str) -> None:
    assert redacted(text) == text


def an_entry(**changes: Any) -> Entry:
    made: dict[str, Any] = {
        "id": "e1",
        "tenant": "t",
        "program": "p",
        "version": "ab" * 32,
        "input_hash": "cd" * 32,
        "reason": "parse",
        "error": "AdapterParseError",
        "faults": 3,
        "times": 1,
        "first_at": 1.0,
        "last_at": 2.0,
        "until": 3.0,
        "preview": preview_of({"text": "hello", "n": 1}),
    }
    return Entry(**{**made, **changes})


def test_an_entry_comes_back_as_it_went() -> None:
    assert entry_of(an_entry().as_data()) == an_entry()


@pytest.mark.parametrize("broken", [{"faults": "many"}, {"preview": [{}]}, {"preview": 3}, {"version": "xyz"}])
def test_an_entry_that_cannot_be_read_says_so(broken: dict[str, Any]) -> None:
    with pytest.raises(QuarantineError, match="cannot be read"):
        entry_of({**an_entry().as_data(), **broken})


def test_an_entry_without_one_of_its_fields_is_none() -> None:
    data = an_entry().as_data()
    del data["until"]
    with pytest.raises(QuarantineError, match="cannot be read"):
        entry_of(data)


def test_the_error_crosses_a_process_border_with_its_fields() -> None:
    from dspy_actors.errors import QuarantinedInput

    error = QuarantinedInput("set aside", entry="e1", until=12.5, reason="parse", retry_after=3.5)
    again = from_wire(error.to_wire())
    assert isinstance(again, QuarantinedInput)
    assert (again.kind, again.entry, again.until, again.reason, again.retry_after) == (
        "quarantined",
        "e1",
        12.5,
        "parse",
        3.5,
    )
