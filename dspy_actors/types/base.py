"""`FieldType`: the base of field types that are more than text, and how their values find their place in a prompt.

A field type says how a value is written as content parts (an image, a file) and how it is read from a completion.
It is a pydantic model, so it may stand inside lists, dicts and other models; the parts come out where it stood.
"""

from __future__ import annotations

import json
import re
import secrets
from contextvars import ContextVar
from typing import Any, Self

from pydantic import BaseModel, SerializerFunctionWrapHandler, ValidationError, model_serializer
from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspy_actors.messages import Part, TextPart

_TOKEN = secrets.token_hex(8)
"""Random per process, so that no input text can look like the place of a part."""
_PLACE = re.compile(rf'"?<{_TOKEN}:(\d+)>"?')
_collected: ContextVar[list[tuple[Part, ...]] | None] = ContextVar("collected_parts", default=None)


class FieldType(BaseModel):
    """Base of custom field types. A subclass declares pydantic fields and overrides `to_parts`."""

    def to_parts(self) -> tuple[Part, ...]:
        """How the value is written into a user turn. By default its JSON as text."""
        return (TextPart(json.dumps(self.model_dump(mode="json"), ensure_ascii=False)),)

    @classmethod
    def describe(cls) -> str:
        """A sentence about the type that is put beside each field of it; empty for none."""
        return ""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The value a completion holds for an output field of this type. Raises `ValueError` if it holds none.

        Called where the text is no JSON that fits the model.
        """
        return cls.model_validate(text)

    @model_serializer(mode="wrap")
    def _serialized(self, handler: SerializerFunctionWrapHandler) -> Any:
        places = _collected.get()
        if places is None:
            return handler(self)
        places.append(self.to_parts())
        return f"<{_TOKEN}:{len(places) - 1}>"


def to_jsonable(value: Any) -> Any:
    """`value` as JSON data by pydantic's rules; what they do not cover becomes its `str`."""
    try:
        return to_jsonable_python(value, fallback=str)
    except (PydanticSerializationError, ValidationError, UnicodeDecodeError, ValueError):
        return str(value)


def written(value: Any) -> str | tuple[Part, ...]:
    """`value` as it stands in a prompt: text, or parts where it holds field types.

    Lists, dicts and models are JSON with non-ASCII characters kept; everything else is its `str`.
    """
    if isinstance(value, FieldType):
        return value.to_parts()
    places: list[tuple[Part, ...]] = []
    token = _collected.set(places)
    try:
        plain = to_jsonable(value)
    finally:
        _collected.reset(token)
    text = json.dumps(plain, ensure_ascii=False) if isinstance(plain, (dict, list)) else str(plain)
    return _split(text, places) if places else text


def _split(text: str, places: list[tuple[Part, ...]]) -> tuple[Part, ...]:
    """Put the collected parts where their place holders stand in `text`."""
    parts: list[Part] = []
    end = 0
    for match in _PLACE.finditer(text):
        if match.start() > end:
            parts.append(TextPart(text[end : match.start()]))
        parts.extend(places[int(match.group(1))])
        end = match.end()
    if end < len(text):
        parts.append(TextPart(text[end:]))
    return tuple(parts)


def field_types_in(annotation: Any) -> list[type[FieldType]]:
    """The field types that an annotation names, in order: `dict[str, list[Image]]` names `Image`."""
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        return [annotation] if issubclass(annotation, FieldType) else []
    found: list[type[FieldType]] = []
    for argument in getattr(annotation, "__args__", ()):
        found.extend(kind for kind in field_types_in(argument) if kind not in found)
    return found
