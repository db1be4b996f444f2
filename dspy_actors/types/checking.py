"""Checking values against annotations through pydantic, each annotation compiled once."""

from __future__ import annotations

import json
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError


def type_adapter(annotation: Any, constraints: tuple[Any, ...] = ()) -> TypeAdapter[Any]:
    """The pydantic adapter of an annotation; compiled on first use, kept for the 1,024 used last.

    A class pydantic does not know is checked with `isinstance`. Raises `PydanticSchemaGenerationError` for what is
    no type at all.
    """
    try:
        return _compiled(annotation, constraints)
    except TypeError:  # an unhashable annotation, such as Literal with a list: compiled each time
        return _compile(annotation, constraints)


def checked_value(annotation: Any, value: Any, constraints: tuple[Any, ...] = ()) -> Any:
    """What a model wrote or a caller gave, as the annotation and the constraints leave it.

    Raises `ValueError` (pydantic's is one), also where a validator of the user's own raises something else: it is the
    value that it has no place for, as in a table that lacks the word; DSPy takes an answer so too. Raises `TypeError`
    for constraints that do not fit the value.
    """
    adapter = type_adapter(annotation, constraints)
    try:
        return adapter.validate_python(value)
    except (ValueError, PydanticUserError):
        raise
    except Exception as error:
        if isinstance(error, TypeError) and str(error).startswith(_DOES_NOT_FIT):
            raise
        msg = f"its validator {_raised_in(error)!r} raised {type(error).__name__}"
        raise ValueError(msg) from error


_DOES_NOT_FIT = "Unable to apply constraint"


def _raised_in(error: Exception) -> str:
    """The function that pydantic asked, by its name; without the error's own words, which may hold the value."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _CHECKERS:
        step = step.tb_next
    return "?" if step is None else step.tb_frame.f_code.co_qualname


_CHECKERS = frozenset({__name__.partition(".")[0], "pydantic"})


@lru_cache(maxsize=1024)
def _compiled(annotation: Any, constraints: tuple[Any, ...]) -> TypeAdapter[Any]:
    return _compile(annotation, constraints)


def _compile(annotation: Any, constraints: tuple[Any, ...]) -> TypeAdapter[Any]:
    for constraint in constraints:
        annotation = Annotated[annotation, constraint]
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def schema_text(annotation: Any) -> str:
    """The JSON schema of an annotation as one line, `type` first in every object; empty where it has none."""
    try:
        schema = type_adapter(annotation).json_schema()
    except PydanticInvalidForJsonSchema:
        return ""
    return json.dumps(_type_first(schema), ensure_ascii=False)


def _type_first(schema: Any) -> Any:
    if isinstance(schema, dict):
        keys = sorted(schema, key=lambda key: key != "type")
        return {key: _type_first(schema[key]) for key in keys}
    if isinstance(schema, list):
        return [_type_first(item) for item in schema]
    return schema


def reason(error: ValueError | TypeError) -> str:
    """The first thing wrong and where, without the value itself, which may be private or long."""
    if not isinstance(error, ValidationError):
        return str(error).partition(" to supplied value ")[0]  # pydantic's, of a limit that does not fit a type
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def admits_none(annotation: Any) -> bool:
    """Whether `None` is a value of the annotation."""
    if annotation is None or annotation is NoneType:
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return admits_none(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return any(admits_none(argument) for argument in get_args(annotation))
    return False
