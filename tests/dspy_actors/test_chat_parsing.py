"""Completions are read as DSPy 3.4.1 reads them; `recorded/parses.json` holds what it read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.layout import sections
from dspy_actors.errors import AdapterParseError
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES
from tests.dspy_actors.recorded.record import answer, plain

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / "parses.json").read_text("utf-8"))


@pytest.mark.parametrize("row", RECORDED, ids=[f"{n}-{row['signature'][:40]}" for n, row in enumerate(RECORDED)])
def test_a_completion_is_read_as_dspy_reads_it(row: dict[str, Any]) -> None:
    signature = make_signature(row["signature"], custom_types=CUSTOM_TYPES)
    try:
        read = {"values": plain(ChatAdapter().parse(signature, row["completion"]))}
    except AdapterParseError as error:
        read = {"error": type(error).__name__}

    assert read == {key: value for key, value in row.items() if key in ("values", "error")}


def test_a_header_may_be_indented() -> None:
    """DSPy leaves `]]` in the value here."""
    read = ChatAdapter().parse(make_signature("q -> a, b"), "  [[ ## a ## ]]\none\n\t[[ ## b ## ]] two")

    assert read == {"a": "one", "b": "two"}


def test_an_enum_with_numbers_is_found_by_its_number() -> None:
    """DSPy lists the numbers as options, then refuses them."""
    from enum import Enum

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
