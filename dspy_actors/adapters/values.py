"""How the value of a field is written into a turn, and what a prompt says of a field's type."""

from __future__ import annotations

import enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from dspy_actors.adapters.layout import OPTION_BREAK, OPTIONS, SCHEMA, TEXT_OR_NONE
from dspy_actors.errors import AdapterError
from dspy_actors.example import Example
from dspy_actors.messages import Part, TextPart
from dspy_actors.signature.fields import Field
from dspy_actors.types.base import field_types_in, written
from dspy_actors.types.checking import admits_none, schema_text
from dspy_actors.types.python_names import python_name

_AS_STR = frozenset({int, float, bool, type(None)})


def value_text(field: Field, value: Any) -> str | tuple[Part, ...]:
    """The value as a turn shows it: text, or content parts where it holds images and the like.

    A list in a `str` field is a numbered list of quoted items; other lists, dicts and models are JSON; the rest is
    `str(value)`.
    """
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind in _AS_STR:
        return str(value)
    if field.annotation is str and isinstance(value, list):
        return _numbered(value)
    return written(value.toDict() if isinstance(value, Example) else value)


def plain_value_text(field: Field, value: Any) -> str:
    """The value where only text can stand, in an assistant's turn: parts become their addresses.

    `None` is `null` where the field admits it, which is what the field's note asks for.
    """
    if value is None and admits_none(field.annotation):
        return "null"
    shown = value_text(field, value)
    if isinstance(shown, str):
        return shown
    return "".join(part.text if isinstance(part, TextPart) else part.url for part in shown)


def _numbered(items: list[Any]) -> str | tuple[Part, ...]:
    if not items:
        return "N/A"
    if len(items) == 1:
        return _quoted(items[0])
    return "\n".join(f"[{number}] {_quoted(item)}" for number, item in enumerate(items, start=1))


def _quoted(item: Any) -> str:
    shown = item if isinstance(item, str) else written(item)
    if not isinstance(shown, str):
        msg = "a list of images and the like needs a field of that type, such as list[Image]; this field is a str"
        raise AdapterError(msg)
    if "\n" not in shown and "«" not in shown and "»" not in shown:
        return f"«{shown}»"
    indented = shown.replace("\n", "\n    ")
    return f"«««\n    {indented}\n»»»"


def type_note(field: Field) -> str:
    """What the value of an output must be, in words; empty for text and for types that describe themselves.

    Raises `AdapterError` naming a field whose type a model cannot write.
    """
    kind = field.annotation
    if kind is str:
        return ""
    if kind is bool:
        return "True or False"
    if kind in (int, float):
        return f"one {kind.__name__} and nothing else"
    if set(get_args(kind)) == {str, NoneType}:
        return TEXT_OR_NONE
    options = option_texts(kind)
    if options is not None:
        return OPTIONS + OPTION_BREAK.join(options)
    if isinstance(kind, type) and any(own.describe() for own in field_types_in(kind)):
        return ""
    schema = schema_text(kind)
    if not schema:
        msg = f"output {field.name!r} is {python_name(kind)}, which has no JSON schema; use a pydantic model"
        raise AdapterError(msg)
    return SCHEMA + schema


def option_texts(annotation: Any) -> list[str] | None:
    """The options of an enum or `Literal` as a prompt lists them; `None` for other types."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(member.value) for member in annotation]
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    return None


def field_line(number: int, field: Field) -> str:
    """A field in the list at the head of a prompt: number, name, type, description, and its limits below."""
    line = f"{number}. `{field.name}` ({python_name(field.annotation)})"
    if field.shown_desc:
        line += f": {field.shown_desc}"
    for kind in field_types_in(field.annotation):
        if kind.describe():
            line += f"\n    About {python_name(kind)}: {kind.describe()}"
    return f"{line}\nLimits: {field.limits}" if field.limits else line
