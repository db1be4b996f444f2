"""`strict_schema`: the outputs of a signature as a JSON schema that a provider can hold a model to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from dspy_actors.signature.signature import Signature
from dspy_actors.types.checking import type_adapter

_KEPT = frozenset({"type", "enum", "const", "description"})
_OPEN = frozenset({"prefixItems", "oneOf", "allOf", "not", "patternProperties", "if"})
"""Strict schemas know none of these."""


class _NotStrict(Exception):
    """Some part of the schema leaves open what it holds."""


def strict_schema(signature: type[Signature]) -> dict[str, Any] | None:
    """The schema: every property required, none besides them, at every depth. `None` where there is none such.

    A dict with free keys, `Any` and tuples have none. Limits, formats and defaults are left out: providers differ in
    which they take, and the prompt tells them.
    """
    sides: list[tuple[str, Literal["validation"], TypeAdapter[Any]]] = [
        (name, "validation", type_adapter(field.annotation)) for name, field in signature.output_fields.items()
    ]
    try:
        found, shared = TypeAdapter.json_schemas(sides)
        properties = {name: _strict(found[name, "validation"]) for name, _, _ in sides}
        definitions = {name: _strict(part) for name, part in shared.get("$defs", {}).items()}
    except (_NotStrict, PydanticInvalidForJsonSchema):
        return None
    schema = _closed(properties)
    return {**schema, "$defs": definitions} if definitions else schema


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _strict(part: Any) -> dict[str, Any]:
    if "$ref" in part:
        return {"$ref": part["$ref"]}
    if "anyOf" in part:
        return {"anyOf": [_strict(choice) for choice in part["anyOf"]]}
    if (not isinstance(part.get("type"), str) and not part.keys() & {"enum", "const"}) or part.keys() & _OPEN:
        raise _NotStrict
    made = {key: value for key, value in part.items() if key in _KEPT}
    if made.get("type") == "object":
        if "properties" not in part:
            raise _NotStrict
        described = {"description": made["description"]} if "description" in made else {}
        return {**described, **_closed({name: _strict(inner) for name, inner in part["properties"].items()})}
    if made.get("type") == "array":
        made["items"] = _strict(part.get("items", {}))
    return made
