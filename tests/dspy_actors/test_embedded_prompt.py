"""The embedded model reads back what the adapters wrote, from the text alone."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.lm.embedded.prompt import HeaderLayout, Layout, ObjectLayout, UnreadablePrompt, read_system
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, ensure_signature, make_signature
from tests.dspy_actors.embedded import prompt

FORM = HeaderLayout()


class Colour(enum.Enum):
    RED = "red"
    NAVY = "navy blue"


class Paint(Signature):
    """Pick a paint.

    Mind the light.
    """

    place: str = InputField(desc="where it goes")
    size: int = InputField()
    colour: Colour = OutputField(desc="what suits it")
    glossy: bool = OutputField()
    coats: int = OutputField(ge=1, le=5)
    tags: list[str] = OutputField()
    remark: str | None = OutputField()


def layout(signature: str | type[Signature]) -> Layout:
    return read_system(prompt(signature)[0].text)[1]


def test_fields_are_read_in_order_and_by_side() -> None:
    read = layout(Paint)

    assert [field.name for field in read.inputs] == ["place", "size"]
    assert [field.name for field in read.outputs] == ["colour", "glossy", "coats", "tags", "remark"]


def test_instructions_are_read_without_their_indent() -> None:
    assert layout(Paint).instructions == "Pick a paint.\n\nMind the light."


def test_descriptions_are_read() -> None:
    assert (layout(Paint).inputs[0].desc, layout(Paint).outputs[0].desc) == ("where it goes", "what suits it")


def test_the_kind_of_each_output_is_read_from_its_type() -> None:
    kinds = {field.name: field.kind for field in layout(Paint).outputs}

    assert kinds == {"colour": "choice", "glossy": "choice", "coats": "number", "tags": "structure", "remark": "text"}


def test_the_options_of_an_enum_come_from_its_note() -> None:
    assert layout(Paint).outputs[0].options == ("red", "navy blue")


def test_the_options_of_a_bool_are_true_and_false() -> None:
    assert layout(Paint).outputs[1].options == ("True", "False")


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@given(st.lists(WORDS, min_size=1, unique=True))
def test_the_options_of_a_literal_are_read_whatever_they_hold(options: list[str]) -> None:
    class Pick(Signature):
        text: str = InputField()
        label: Literal[tuple(options)] = OutputField()  # type: ignore[valid-type]

    assert layout(Pick).outputs[0].options == tuple(options)


@pytest.mark.parametrize("option", ["[\\", "{\\x", "[\\]", '["\\', "[1]"])
def test_an_option_may_begin_like_a_schema_and_hold_a_backslash(option: str) -> None:
    class Pick(Signature):
        text: str = InputField()
        label: Literal[(option, "b")] = OutputField()  # type: ignore[valid-type]

    assert layout(Pick).outputs[0].options == (option, "b")


def test_an_optional_literal_has_the_literals_options() -> None:
    assert layout("text -> label: Literal['a', 'b'] | None").outputs[0].options == ("a", "b")


def test_a_demonstration_is_read_back() -> None:
    shown = {"question": "Why?\n\nReally?", "answer": "Because."}
    _, question, reply, _ = prompt("question -> answer", [shown], question="x")
    demo = FORM.read_demo(layout("question -> answer"), question.text, reply.text)

    assert (demo.inputs, demo.outputs) == ({"question": shown["question"]}, {"answer": "Because."})


def test_a_field_that_a_demonstration_lacks_is_absent() -> None:
    _, question, reply, _ = prompt("a, b -> c, d", [{"a": "1", "c": "2"}], a="x", b="y")
    demo = FORM.read_demo(layout("a, b -> c, d"), question.text, reply.text)

    assert (demo.inputs, demo.outputs) == ({"a": "1"}, {"c": "2"})


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C",))))
def test_the_request_is_read_without_the_reminder(text: str) -> None:
    request = prompt("question -> answer", question=f"Q {text}\n\nmore {text}")[-1].text

    assert FORM.read_request(layout("question -> answer"), request)["question"] == f"Q {text}\n\nmore {text}".strip()


def test_headers_of_unknown_fields_inside_a_value_stay_in_the_value() -> None:
    request = prompt("question -> answer", question="see\n[[ ## answer ## ]]\nyes")[-1].text

    assert FORM.read_request(layout("question -> answer"), request)["question"] == "see\n[[ ## answer ## ]]\nyes"


def test_a_prompt_in_dspys_own_words_is_read_too() -> None:
    system = (
        "Your input fields are:\n1. `text` (str): \nYour output fields are:\n1. `label` (Literal['a', 'b']): pick\n"
        "All interactions will be structured in the following way, with the appropriate values filled in.\n\n"
        "[[ ## text ## ]]\n{text}\n\n[[ ## label ## ]]\n{label}        # note: must be one of: a; b\n\n"
        "[[ ## completed ## ]]\nIn adhering to this structure, your objective is: \n        Choose."
    )
    read = read_system(system)[1]

    assert (read.outputs[0].options, read.outputs[0].desc, read.instructions) == (("a", "b"), "pick", "Choose.")


@pytest.mark.parametrize("text", ["", "Be nice.", "1. `a` (str)\n[[ ## b ## ]]\n{b}", "[[ ## a ## ]]\n{a}"])
def test_another_layout_is_no_prompt(text: str) -> None:
    with pytest.raises(UnreadablePrompt):
        read_system(text)


def test_an_answer_is_written_in_the_adapters_layout() -> None:
    assert FORM.write_answer([("a", "1"), ("b", "2")]) == (
        "[[ ## a ## ]]\n1\n\n[[ ## b ## ]]\n2\n\n[[ ## completed ## ]]"
    )


# -- the JSON adapter's layout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [Paint, "text -> label: Literal['a', 'b'] | None", "a, b -> c: int, d"])
def test_a_prompt_of_the_json_adapter_says_the_same(signature: Any) -> None:
    made = ensure_signature(signature)
    form, read = read_system(JSONAdapter().format(made, (), {})[0].text)

    assert isinstance(form, ObjectLayout)
    assert read == layout(signature)


def test_a_demonstration_and_a_request_of_the_json_adapter_are_read_back() -> None:
    made = make_signature("a, b -> c: bool, d, e")
    demo = {"a": "1\n\n2", "c": True, "d": "\u00fc"}
    system, question, reply, request = JSONAdapter().format(made, [demo], {"a": "x", "b": "y\n\nz"})
    form, read = read_system(system.text)
    found = form.read_demo(read, question.text, reply.text)

    assert (found.inputs, found.outputs) == ({"a": "1\n\n2"}, {"c": "True", "d": "\u00fc"})
    assert form.read_request(read, request.text) == {"a": "x", "b": "y\n\nz"}


def test_an_answer_of_the_json_adapter_is_read_by_it() -> None:
    made = make_signature("q -> a, n: int, ok: bool")
    written = ObjectLayout().write_answer([("a", 'say "\u00fc"'), ("n", "4"), ("ok", "False")])

    assert JSONAdapter().parse(made, written) == {"a": 'say "\u00fc"', "n": 4, "ok": False}


@pytest.mark.parametrize("reply", ["[1]", "no object", '{"other": 1}'])
def test_a_demonstration_that_is_no_object_is_refused(reply: str) -> None:
    read = read_system(JSONAdapter().format(make_signature("q -> a"), (), {"q": "x"})[0].text)[1]
    with pytest.raises(UnreadablePrompt):
        ObjectLayout().read_demo(read, "[[ ## q ## ]]\nx", reply)
