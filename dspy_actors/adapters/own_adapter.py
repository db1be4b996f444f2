"""What an adapter that is not ours wrote and read, looked at in each call before it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspy_actors.adapters.base import Adapter, Demo
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.adapters.parsing import filled, within
from dspy_actors.errors import AdapterError, AdapterParseError
from dspy_actors.messages import Message, wrong_turn
from dspy_actors.signature.signature import Signature
from dspy_actors.types.checking import checked_value, reason
from dspy_actors.types.python_names import python_name

_OURS = frozenset({ChatAdapter, JSONAdapter})
"""Themselves only: one that derives from them may write as it likes."""
_OUR_PARSE = frozenset({ChatAdapter.parse, JSONAdapter.parse})
"""What they read with holds to all of it by itself, also in one that derives from them."""


def formatted(
    adapter: Adapter, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
) -> tuple[Message, ...]:
    """The messages of one call. Raises `AdapterError` where the adapter returned something else."""
    found = adapter.format(signature, demos, inputs)
    if type(adapter) in _OURS:
        return found
    returned: object = found
    name = f"{type(adapter).__name__}.format"
    if not isinstance(returned, Iterable) or isinstance(returned, (str, Mapping)):
        msg = f"{name} returned {type(returned).__name__}; return (Message.of('system', ...), Message.of('user', ...))"
        raise AdapterError(msg)
    turns = tuple(returned)
    for place, turn in enumerate(turns):
        wrong = wrong_turn(turn)
        if wrong is not None:
            msg = f"message {place} that {name} returned {wrong}"
            raise AdapterError(msg)
    return turns


def read(adapter: Adapter, signature: type[Signature], text: str) -> dict[str, Any]:
    """The typed outputs of an answer. What our own adapters hold to is checked where another one read it.

    Raises what the adapter raises; `AdapterError` where it returned no outputs or others, and `AdapterParseError` where
    one is missing, ill-typed or outside of its limits. Where an adapter's own `parse` asks ours, validators of the
    user's own see what they have made of a value once more.
    """
    parse = adapter.parse
    found = parse(signature, text)
    if getattr(parse, "__func__", None) in _OUR_PARSE:  # a validator must not see what it has made of a value
        return found
    returned: object = found
    name, outputs = f"{type(adapter).__name__}.parse", signature.output_fields
    if not isinstance(returned, Mapping):
        msg = f"{name} returned {type(returned).__name__}; return a dict of the outputs: {', '.join(outputs)}"
        raise AdapterError(msg)
    extra = next((key for key in returned if key not in outputs), None)
    if extra is not None:
        msg = f"{name} returned {extra!r}, which is no output of {signature.label}; it has {', '.join(outputs)}"
        raise AdapterError(msg)
    values: dict[str, Any] = {}
    for key, value in returned.items():
        field = outputs[key]
        try:
            checked = checked_value(field.annotation, value)
        except ValueError as error:
            msg = f"output {key!r} as {name} read it is no {python_name(field.annotation)}: {reason(error)}"
            raise AdapterParseError(msg, field=key, text=text, adapter=adapter.name) from error
        values[key] = within(field, checked, text, adapter.name)
    return filled(outputs, values, text, adapter.name)
