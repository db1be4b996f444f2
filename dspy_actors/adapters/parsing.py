"""From the text of a field to its typed value, by DSPy 3.4.1's rules."""

from __future__ import annotations

import ast
import enum
import json
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from dspy_actors.errors import AdapterParseError, SignatureError
from dspy_actors.signature.fields import Field
from dspy_actors.types.base import FieldType
from dspy_actors.types.checking import admits_none, checked_value, reason

_BRACE = re.compile(r"[{}]")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})\Z", re.ASCII)
_MOST_LEFT_OPEN = 200
"""Open brackets beyond which almost-JSON is refused unread: repairing takes seconds for the kilobytes of `{"a" {"a" `
that a model caught in a loop writes, and this may run on an event loop."""
_SUBSCRIPT = re.compile(r"(?:Literal|str)\[(.*)\]\Z", re.DOTALL)
_QUOTED = re.compile(r"""(["'])(.*)\1\Z""", re.DOTALL)
_NONE = frozenset({"null", "None"})
_TRUTH = {"True": True, "true": True, "False": False, "false": False}


def typed_value(text: str, annotation: Any) -> Any:
    """The value that `text` holds for an annotation. Raises `ValueError` (pydantic's is one) where it holds none.

    Text stays as it is; an enum is found by value or by name, also where it is one of several types; `Literal` loses
    quotes and a `Literal[...]` round it; `str | None` is text, but `null` and `None` are none; everything else is read
    as JSON, as almost-JSON, as a Python literal, then checked.
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
    if is_text_or_none(annotation):
        return checked_value(annotation, None if text in _NONE else text)
    loaded = _loaded(text)
    try:
        return checked_value(annotation, loaded)
    except ValueError:
        if isinstance(annotation, type) and issubclass(annotation, FieldType):
            return annotation.from_text(text)
        for kind in _one_of(annotation):
            found = _found(text, kind) if isinstance(kind, enum.EnumMeta) else None
            if found is not None:
                return found
        raise


def is_text_or_none(annotation: Any) -> bool:
    """Whether the annotation admits any text and `None`."""
    return {str, NoneType} <= set(_one_of(annotation))


def _one_of(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; of anything else none."""
    origin = get_origin(annotation)
    return get_args(annotation) if origin is Union or origin is UnionType else ()


def may_be_none(text: str, is_whole: bool) -> bool:
    """Whether `text`, or what it may still become where it is not whole, may be read as no text in such a field."""
    return text in _NONE if is_whole else any(word.startswith(text) for word in _NONE)


def data_value(value: Any, annotation: Any) -> Any:
    """The value that a JSON value holds for an annotation: text by the rules of `typed_value`, the rest as it is.

    In a `str | None` text is text, whatever it says. In a `str` another value than text is that value's JSON, but null
    is none. Raises `ValueError`.
    """
    if isinstance(value, str):
        return value if is_text_or_none(annotation) else typed_value(value, annotation)
    if annotation is str:
        if value is None:
            msg = "it is null"
            raise ValueError(msg)
        return json.dumps(value, ensure_ascii=False)
    if isinstance(annotation, enum.EnumMeta):
        return _member(value, annotation)
    return checked_value(annotation, value)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in `text`: all of it, else the first in it, else repaired. `None` where there is none.

    Of two values of one key the first counts, and line feeds may stand in strings; a repaired object is as the
    repairer leaves it.
    """
    found = _first_object(text)
    if found is None:
        found = _repaired(text)
    if not isinstance(found, dict):
        balanced = _first_balanced(text)
        found = None if balanced is None or balanced == text else _repaired(balanced)
    return found if isinstance(found, dict) else None


def _first_object(text: str) -> Any:
    start = text.find("{")
    try:
        return None if start < 0 else _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def _repaired(text: str) -> Any:
    try:
        return _loaded(text)
    except ValueError:
        return None


def _first_counts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        made.clear()
        for key, value in pairs:
            made.setdefault(key, value)
    return made


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_first_counts)


def _first_balanced(text: str) -> str | None:
    """The `{…}` that begins first of those whose braces are balanced, those inside strings counted too."""
    open_at: list[int] = []
    best: tuple[int, int] | None = None
    for found in _BRACE.finditer(text):
        if found.group() == "{":
            open_at.append(found.start())
        elif open_at:
            start = open_at.pop()
            if best is None or start < best[0]:
                best = (start, found.end())
            if not open_at:
                break
    return None if best is None else text[best[0] : best[1]]


def filled(outputs: Mapping[str, Field], values: Mapping[str, Any], text: str, adapter: str) -> dict[str, Any]:
    """`values` in declaration order, with what may be missing filled in: its default, else `None`.

    Raises `AdapterParseError` naming the first output that is missing and has neither.
    """
    whole: dict[str, Any] = {}
    for name, field in outputs.items():
        if name in values:
            whole[name] = values[name]
        elif not field.required:
            whole[name] = field.get_default()
        elif admits_none(field.annotation):
            whole[name] = None
        else:
            found = ", ".join(values) or "none"
            msg = f"the answer has no output {name!r} (found: {found})"
            raise AdapterParseError(msg, field=name, text=text, adapter=adapter)
    return whole


def within(field: Field, value: Any, text: str, adapter: str) -> Any:
    """`value` as the field's constraints leave it, those in its type's `Annotated` too.

    Raises `AdapterParseError` naming field, constraint and, where it is a number, value, or the validator of the
    user's own that raised something; `SignatureError` where they cannot be applied to the field's type, which only a
    value shows. To one of several types they need not apply: then it is the model that wrote a value of the wrong one.
    """
    if not field.metadata:
        return value
    try:
        return checked_value(field.annotation, value, field.metadata)
    except ValueError as error:
        shown = f"is {value}, which is" if isinstance(value, (int, float)) else "is"
        msg = f"output {field.name!r} {shown} outside of its limits: {reason(error)}"
        raise AdapterParseError(msg, field=field.name, text=text, adapter=adapter) from error
    except TypeError as error:
        if len({*_one_of(field.annotation)} - {NoneType}) > 1:
            msg = f"output {field.name!r} is a {type(value).__name__}, which has no such limits: {field.limits}"
            raise AdapterParseError(msg, field=field.name, text=text, adapter=adapter) from error
        msg = f"the limits of output {field.name!r} ({field.limits}) do not fit its type: {reason(error)}"
        raise SignatureError(msg, field=field.name) from error


def _member(text: object, kind: enum.EnumMeta) -> Any:
    found = _found(text, kind)
    if found is None:
        msg = f"it is none of {', '.join(str(member.value) for member in _members(kind).values())}"
        raise ValueError(msg)
    return found


def _found(text: object, kind: enum.EnumMeta) -> Any:
    """The enum's member of that value or name; `None` where it has none."""
    members = _members(kind)
    for member in members.values():
        if member.value == text:
            return member
    if isinstance(text, str) and text in members:
        return members[text]
    for member in members.values():
        if str(member.value) == text:
            return member
    return None


def _members(kind: enum.EnumMeta) -> Mapping[str, Any]:
    return kind.__members__


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
