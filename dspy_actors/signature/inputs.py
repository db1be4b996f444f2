"""Checking a call's inputs against its signature, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dspy_actors.errors import InputError, SignatureError
from dspy_actors.example import Example
from dspy_actors.signature.fields import Field
from dspy_actors.signature.signature import Signature
from dspy_actors.types.checking import checked_value, reason
from dspy_actors.types.python_names import python_name

_WRITABLE = (str, list, tuple, dict, BaseModel, Example)
"""What a `str` input takes: a prompt shows what is no text as a numbered list or as JSON, as DSPy does."""


def validate_inputs(signature: type[Signature], values: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a call, checked and coerced, in declaration order; defaults filled in.

    Types are checked as pydantic's lax mode does (`3` becomes `3.0` for a `float`). A field written as `str` takes
    text, lists, dicts and models; other values must be turned into text by the caller. A field without a written
    type takes anything but `None`. Raises `InputError` naming the field that is missing, unknown or ill-typed, of which
    DSPy only warns, or for which a validator of its type raises, whatever it raises: the error names that too.
    """
    checked: dict[str, Any] = {}
    given = 0
    for name, field in signature.input_fields.items():
        if name not in values:
            checked[name] = _default(signature, field)
            continue
        given += 1
        value = values[name]
        if value.__class__ is str and field.annotation is str and not field.metadata:
            checked[name] = value
        else:
            checked[name] = _checked(signature, field, value)
    if given != len(values):
        extra = next(name for name in values if name not in signature.input_fields)
        msg = f"{signature.label} has no input {extra!r}; it takes {', '.join(signature.input_fields) or 'none'}"
        raise InputError(msg, field=extra)
    return checked


def _default(signature: type[Signature], field: Field) -> Any:
    if not field.required:
        return field.get_default()
    msg = f"{signature.label} needs the input {field.name!r} ({python_name(field.annotation)})"
    raise InputError(msg, field=field.name)


def _checked(signature: type[Signature], field: Field, value: Any) -> Any:
    if field.annotation is str and not field.metadata:
        if isinstance(value, _WRITABLE) or (not field.typed and value is not None):
            return value
        hint = "; write str(...) round it" if value is not None else ""
        raise _ill_typed(signature, field, value, f"a str is needed{hint}")
    try:
        return checked_value(field.annotation, value, field.metadata)
    except ValueError as error:
        raise _ill_typed(signature, field, value, reason(error)) from error
    except TypeError as error:
        msg = f"the type of input {field.name!r} cannot be checked: {reason(error)}"
        raise SignatureError(msg, field=field.name) from error


def _ill_typed(signature: type[Signature], field: Field, value: Any, why: str) -> InputError:
    wanted = python_name(field.annotation)
    msg = f"input {field.name!r} of {signature.label} is {wanted}, got {type(value).__name__}: {why}"
    return InputError(msg, field=field.name)
