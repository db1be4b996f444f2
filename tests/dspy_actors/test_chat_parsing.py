"""Completions are read as DSPy 3.4.1 reads them; `recorded/parses.json` holds what it read."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.adapters.layout import sections
from dspy_actors.errors import AdapterParseError
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES
from tests.dspy_actors.recorded.record import answer, plain

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / "parses.json").read_text("utf-8"))


class Tint(Enum):
    RED = "red"


class Level(Enum):
    LOW = 1
    HIGH = 2


NONE = ("null", "None")
"""What we read as no text where there may be none; there DSPy reads the word."""


def agreed(row: dict[str, Any]) -> bool:
    """Whether this row is read as DSPy reads it."""
    return row["signature"] != "q -> a: Optional[str]" or row["values"]["a"] not in NONE


AGREED = [row for row in RECORDED if agreed(row)]


@pytest.mark.parametrize("row", AGREED, ids=[f"{n}-{row['signature'][:40]}" for n, row in enumerate(AGREED)])
def test_a_completion_is_read_as_dspy_reads_it(row: dict[str, Any]) -> None:
    signature = make_signature(row["signature"], custom_types=CUSTOM_TYPES)
    try:
        read = {"values": plain(ChatAdapter().parse(signature, row["completion"]))}
    except AdapterParseError as error:
        read = {"error": type(error).__name__}

    assert read == {key: value for key, value in row.items() if key in ("values", "error")}


NULL_IS_NONE = [row for row in RECORDED if not agreed(row)]


@pytest.mark.parametrize("row", NULL_IS_NONE, ids=[f"{row['values']['a']}" for row in NULL_IS_NONE])
def test_the_null_of_a_text_that_may_be_missing_is_none(row: dict[str, Any]) -> None:
    """DSPy asks for null by a schema, shows `None` in demonstrations, and reads either as that word."""
    assert ChatAdapter().parse(make_signature(row["signature"]), row["completion"]) == {"a": None}


def test_prompt_demonstrations_and_reading_of_a_text_that_may_be_missing_agree() -> None:
    signature, adapter = make_signature("q -> a: str | None, b: int | None"), ChatAdapter()
    system, _, shown, _ = adapter.format(signature, [{"q": "x", "a": None, "b": None}], {"q": "y"})

    assert "{a}        # the text itself, or null where there is none\n" in system.text
    assert sections(shown.text)[1:3] == [("a", "null"), ("b", "null")]
    assert adapter.parse(signature, shown.text) == {"a": None, "b": None}


def test_a_header_may_be_indented() -> None:
    """DSPy leaves `]]` in the value here."""
    read = ChatAdapter().parse(make_signature("q -> a, b"), "  [[ ## a ## ]]\none\n\t[[ ## b ## ]] two")

    assert read == {"a": "one", "b": "two"}


def test_rare_line_separators_stay_in_values() -> None:
    """DSPy makes line feeds of them, which breaks the JSON they stand in."""
    signature = make_signature("q -> a, b: list[str]")
    values = {"a": "one\u2028two\x0cthree", "b": ["one\u2028two"]}

    assert ChatAdapter().parse(signature, ChatAdapter().assistant_text(signature, values)) == values


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Tint | None, "RED", Tint.RED),
        (Tint | None, "red", Tint.RED),
        (Tint | None, "null", None),
        (Level | None, "LOW", Level.LOW),
        (int | Level, "HIGH", Level.HIGH),
        (int | Level, "7", 7),
    ],
)
def test_an_enum_that_is_one_of_several_types_is_found_by_its_name_too(
    annotation: Any, text: str, value: object
) -> None:
    signature = make_signature({"q": (str, InputField()), "a": (annotation, OutputField())})

    assert ChatAdapter().parse(signature, f"[[ ## a ## ]]\n{text}") == {"a": value}
    assert JSONAdapter().parse(signature, json.dumps({"a": text})) == {"a": value}


def test_an_enum_with_numbers_is_found_by_its_number() -> None:
    """DSPy lists the numbers as options, then refuses them."""
    size = Enum("size", {"SMALL": 1, "LARGE": 2})
    read = ChatAdapter().parse(make_signature("q -> a: Size", custom_types={"Size": size}), answer(a="2"))

    assert read == {"a": size["LARGE"]}


def test_a_missing_output_is_named() -> None:
    with pytest.raises(AdapterParseError, match="no output 'b'") as caught:
        ChatAdapter().parse(make_signature("q -> a, b, c"), "[[ ## a ## ]]\n1")

    assert (caught.value.field, caught.value.text, caught.value.adapter) == ("b", "[[ ## a ## ]]\n1", "chat")


def test_an_ill_typed_output_is_named_without_its_value_in_the_message() -> None:
    with pytest.raises(AdapterParseError, match="output 'a' is no int") as caught:
        ChatAdapter().parse(make_signature("q -> a: int"), answer(a="a secret thing"))

    assert caught.value.field == "a"
    assert "secret" not in caught.value.message


def test_a_fault_inside_a_structure_is_told_with_its_place() -> None:
    signature = make_signature("q -> a: list[Place]", custom_types=CUSTOM_TYPES)
    with pytest.raises(AdapterParseError, match=r"output 'a' is no list\[Place\]: 1.name: Field required"):
        ChatAdapter().parse(signature, answer(a='[{"name": "Ulm"}, {"zone": 1}]'))


def test_a_wrong_option_is_answered_with_the_options() -> None:
    signature = make_signature("q -> a: Colour", custom_types=CUSTOM_TYPES)
    with pytest.raises(AdapterParseError, match="output 'a' is no Colour: it is none of red, dark green"):
        ChatAdapter().parse(signature, answer(a="blue"))


def test_sections_give_back_what_stands_before_the_first_header() -> None:
    assert sections("lead\n[[ ## a ## ]] x\ny\n") == [(None, "lead"), ("a", "x\ny")]


def test_a_text_without_headers_is_no_answer_even_where_all_may_be_missing() -> None:
    """DSPy reads this as `{"a": None}`."""
    with pytest.raises(AdapterParseError, match="no fields"):
        ChatAdapter().parse(make_signature("q -> a: int | None"), "I would rather not say.")


def test_an_answer_may_leave_out_what_may_be_missing() -> None:
    class Signed(Signature):
        q: str = InputField()
        a: int | None = OutputField()
        b: list[str] = OutputField(default_factory=list)
        c: str = OutputField(default="-")

    assert ChatAdapter().parse(Signed, "[[ ## completed ## ]]") == {"a": None, "b": [], "c": "-"}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a" ' * 5_000, "{" * 20_000, "-" * 10_000, "(" * 5_000, "9" * 5_000])
def test_runaway_answers_are_refused_at_once(text: str) -> None:
    """Python's and the repairer's parsers answer these with `RecursionError`, `MemoryError` or seconds of work."""
    with pytest.raises(AdapterParseError):
        ChatAdapter().parse(make_signature("q -> a: list[int]"), answer(a=text))


LINES = st.text().filter(lambda text: "[[ ## " not in text)


@given(first=LINES, second=LINES)
def test_any_text_comes_back_with_its_ends_stripped(first: str, second: str) -> None:
    signature = make_signature("q -> a, b")
    read = ChatAdapter().parse(signature, ChatAdapter().assistant_text(signature, {"a": first, "b": second}))

    assert read == {name: text.replace("\r\n", "\n").strip() for name, text in (("a", first), ("b", second))}


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_json_comes_back_the_same(value: object) -> None:
    signature = make_signature("q -> a: list[Any]")

    assert ChatAdapter().parse(signature, ChatAdapter().assistant_text(signature, {"a": [value]})) == {"a": [value]}


@given(text=st.text(alphabet="[]{}#\"'aA1:, \n\\-.", max_size=60), kind=st.sampled_from(["int", "list[str]", "Any"]))
def test_whatever_a_model_writes_is_read_or_refused(text: str, kind: str) -> None:
    try:
        fields = set(ChatAdapter().parse(make_signature(f"q -> a: {kind}"), f"[[ ## a ## ]]\n{text}"))
    except AdapterParseError as error:
        fields = {error.field}

    assert fields == {"a"}
