"""Types in prompts: their names, their values, images and types of one's own."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Optional, Self, Union

import pytest
from pydantic import BaseModel, ValidationError

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.values import type_note, value_text
from dspy_actors.messages import ImagePart, Part, TextPart
from dspy_actors.signature.fields import Field, InputField, OutputField
from dspy_actors.signature.signature import Signature
from dspy_actors.types.base import FieldType, field_types_in, written
from dspy_actors.types.image import Image
from dspy_actors.types.python_names import python_name
from tests.dspy_actors.recorded.kinds import Colour, Place


class Code(FieldType):
    source: str

    def to_parts(self) -> tuple[Part, ...]:
        return (TextPart(f"```\n{self.source}\n```"),)

    @classmethod
    def describe(cls) -> str:
        return "source code between fences"

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(source=text.strip("`\n"))


class Page(BaseModel):
    title: str
    picture: Image


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (str, "str"),
        (list[int], "list[int]"),
        (str | None, "Union[str, NoneType]"),
        (Optional[int], "Union[int, NoneType]"),  # noqa: UP045
        (Union[int, str], "Union[int, str]"),  # noqa: UP007
        (Literal["a", 1], "Literal['a', 1]"),
        (Literal["it's", 'a "b"', "c'\"d"], "Literal[\"it's\", 'a \"b\"', 'c\\'\"d']"),
        (dict[str, list[Place]], "dict[str, list[Place]]"),
        (tuple[int, ...], "tuple[int, Ellipsis]"),
        (Any, "Any"),
        (Colour, "Colour"),
    ],
)
def test_a_type_is_named_as_dspy_names_it(annotation: Any, name: str) -> None:
    assert python_name(annotation) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        (2.5, "2.5"),
        ([], "N/A"),
        (["one"], "«one»"),
        (["one", "t\nwo"], "[1] «one»\n[2] «««\n    t\n    wo\n»»»"),
        (["«x»"], "«««\n    «x»\n»»»"),
        ([1, {"a": "ü"}], '[1] «1»\n[2] «{"a": "ü"}»'),
        ({"a": [1, None, "ü"]}, '{"a": [1, null, "ü"]}'),
        ((1, 2), "[1, 2]"),
        (Place(name="Ulm"), '{"name": "Ulm", "zone": null}'),
        (Colour.GREEN, "dark green"),
        (dt.date(2020, 1, 2), "2020-01-02"),
        ({"when": dt.date(2020, 1, 2)}, '{"when": "2020-01-02"}'),
        (b"abc", "abc"),
        ({1: 2}, '{"1": 2}'),
    ],
)
def test_a_value_is_written_for_a_text_field(value: object, text: str) -> None:
    assert value_text(Field("input", "a", str), value) == text


def test_a_list_of_another_field_is_json() -> None:
    assert value_text(Field("input", "a", list[str]), ["x", "ü"]) == '["x", "ü"]'


def test_what_json_does_not_know_is_its_str() -> None:
    class Own:
        def __str__(self) -> str:
            return "own"

    assert (written(Own()), written([Own(), 1])) == ("own", '["own", 1]')


@pytest.mark.parametrize(
    ("annotation", "note"),
    [
        (str, ""),
        (bool, "True or False"),
        (float, "one float and nothing else"),
        (Literal["a", 2], "exactly one of: a; 2"),
        (Colour, "exactly one of: red; dark green"),
        (list[int], 'JSON that fits this schema: {"type": "array", "items": {"type": "integer"}}'),
        (Code, ""),
    ],
)
def test_an_output_is_noted_by_its_type(annotation: Any, note: str) -> None:
    assert type_note(Field("output", "a", annotation)) == note


def test_a_schema_has_type_first_everywhere() -> None:
    note = type_note(Field("output", "a", Place))

    assert '{"type": "object", ' in note
    assert '"name": {"type": "string", ' in note


def test_field_types_are_found_inside_an_annotation() -> None:
    assert field_types_in(dict[str, list[Image | Code] | None]) == [Image, Code]
    assert field_types_in(list[str]) == []


def test_an_image_inside_a_model_stands_where_it_was() -> None:
    parts = written([Page(title="t", picture=Image("https://x/1.png"))])

    assert parts == (
        TextPart('[{"title": "t", "picture": '),
        ImagePart("https://x/1.png"),
        TextPart("}]"),
    )


def test_an_image_outside_a_prompt_is_plain_data() -> None:
    assert Page(title="t", picture=Image("https://x/1.png")).model_dump() == {
        "title": "t",
        "picture": {"url": "https://x/1.png", "detail": None},
    }


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\x89PNG..", "png"), (b"\xff\xd8\xff.", "jpeg"), (b"RIFF0000WEBPVP8", "webp"), (b"GIF89a", "gif")],
)
def test_image_bytes_become_a_data_address(data: bytes, kind: str) -> None:
    assert Image(data).url.startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize("source", ["/etc/passwd", "picture.png", "file:///x", b"text"])
def test_an_image_is_no_file_name(source: object) -> None:
    with pytest.raises(ValidationError):
        Image(source)


class Write(Signature):
    """Write it."""

    example: Code = InputField()
    code: Code = OutputField()


def test_a_type_of_ones_own_is_described_written_and_read() -> None:
    adapter = ChatAdapter()
    system, request = adapter.format(Write, (), {"example": Code(source="x = 1")})
    read = adapter.parse(Write, "[[ ## code ## ]]\n```\ny = 2\n```")

    assert "About Code: source code between fences" in system.text
    assert request.text.startswith("[[ ## example ## ]]\n```\nx = 1\n```\n\n")
    assert read == {"code": Code(source="y = 2")}
