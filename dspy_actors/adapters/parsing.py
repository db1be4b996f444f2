"""From the text of a field to its typed value, by DSPy 3.4.1's rules."""

from __future__ import annotations

import ast
import enum
import json
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from dspy_actors.types.base import FieldType
from dspy_actors.types.checking import type_adapter

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})\Z", re.ASCII)
_MOST_LEFT_OPEN = 200
"""Open brackets beyond which almost-JSON is refused unread: repairing takes seconds for the kilobytes of `{"a" {"a" `
that a model caught in a loop writes, and this may run on an event loop."""
_SUBSCRIPT = re.compile(r"(?:Literal|str)\[(.*)\]\Z", re.DOTALL)
_QUOTED = re.compile(r"""(["'])(.*)\1\Z""", re.DOTALL)
_TRUTH = {"True": True, "true": True, "False": False, "false": False}


def typed_value(text: str, annotation: Any) -> Any:
    """The value that `text` holds for an annotation. Raises `ValueError` (pydantic's is one) where it holds none.

    Text stays as it is; an enum is found by value or by name; `Literal` loses quotes and a `Literal[...]` round it;
    `str | None` is text; everything else is read as JSON, as almost-JSON, as a Python literal, then checked.
    """
    if annotation is str:
        return text
    if annotation is int and _INTEGER.match(text):
        return int(text)
    if annotation is bool and text in _TRUTH:
        return _TRUTH[text]
    if isinstance(annotation, enum.EnumMeta):
        return _member(text, annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        options = get_args(annotation)
        text = text if text in options else _unwrapped(text)
        if text in options:
            return text
    adapter = type_adapter(annotation)
    if (origin is Union or origin is UnionType) and {str, NoneType} <= set(get_args(annotation)):
        return adapter.validate_python(text)
    try:
        return adapter.validate_python(_loaded(text))
    except ValidationError:
        if isinstance(annotation, type) and issubclass(annotation, FieldType):
            return annotation.from_text(text)
        raise


def _member(text: str, kind: enum.EnumMeta) -> Any:
    members: Mapping[str, Any] = kind.__members__
    for member in members.values():
        if member.value == text:
            return member
    if text in members:
        return members[text]
    for member in members.values():
        if str(member.value) == text:
            return member
    msg = f"it is none of {', '.join(str(member.value) for member in members.values())}"
    raise ValueError(msg)


def _unwrapped(text: str) -> str:
    """A `Literal`'s option without `Literal[...]`, `str[...]` or quotes that models put round it."""
    bare = text.strip()
    inner = _SUBSCRIPT.match(bare)
    bare = bare if inner is None else inner.group(1)
    quoted = _QUOTED.match(bare)
    return bare if quoted is None else quoted.group(2)


def _loaded(text: str) -> Any:
    """The text as data: JSON, else repaired JSON, else a Python literal, else the text itself.

    Raises `ValueError` for text nested too deep for a parser.
    """
    try:
        return _json_or_repaired(text)
    except (RecursionError, MemoryError) as error:  # what Python's own parsers raise for deep nesting
        msg = "it is nested too deep"
        raise ValueError(msg) from error


def _json_or_repaired(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if _left_open(text) > _MOST_LEFT_OPEN:
        msg = "it opens too many brackets that it does not close"
        raise ValueError(msg)
    import json_repair  # loaded only where an answer is not JSON

    repaired: Any = json_repair.loads(text, skip_json_loads=True)
    if repaired != "" or text == "":
        return repaired
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _left_open(text: str) -> int:
    """The most brackets of one kind that stand open at once; those inside strings are counted too."""
    most = 0
    for opening, closing in ("{}", "[]"):
        if text.count(opening) <= _MOST_LEFT_OPEN:
            continue
        depth = 0
        for sign in text:
            if sign == opening:
                depth += 1
                most = max(most, depth)
            elif sign == closing:
                depth -= 1
    return most
