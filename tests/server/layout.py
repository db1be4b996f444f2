"""Reads from a prompt which outputs it asks for, and answers each with a value of its type.

It knows the structure of DSPy's chat, JSON and XML layouts, not their words: the last turn names the outputs in
order; the system turn lists every field as `name` (type), then shows each with a note on what its value must be.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

_MARKER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*$", re.MULTILINE)
_FIELD = re.compile(r"^\d+\.\s+`?(\w+)`?\s+\((.*?)\)(?=:|[ \t]*$)", re.MULTILINE)
_TICKED = re.compile(r"`(\w+)`")
_TAGGED = re.compile(r"`?<(\w+)>`?")
_LITERAL = re.compile(r"Literal(\[.*\])", re.DOTALL)


class Wanted:
    """The outputs that a prompt asks for: `style` is chat, json or xml; `types` by name, in order."""

    def __init__(self, style: str, values: dict[str, Any]) -> None:
        self.style = style
        self.values = values

    def fill(self, given: Mapping[str, Any], text: str | None) -> str:
        """The completion: `given` values first, `text` for what is free text, else the value of the type."""
        values = {
            name: given.get(name, text if value == "text" and text is not None else value)
            for name, value in self.values.items()
        }
        if self.style == "json":
            return json.dumps(values, ensure_ascii=False)
        if self.style == "xml":
            return "\n\n".join(f"<{name}>\n{_written(value)}\n</{name}>" for name, value in values.items())
        blocks = [f"[[ ## {name} ## ]]\n{_written(value)}" for name, value in values.items()]
        return "\n\n".join([*blocks, "[[ ## completed ## ]]"])


def read_layout(system: str, user: str) -> Wanted | None:
    """What the prompt asks for, or `None` when it follows none of the three layouts."""
    reminder = user.rstrip().rsplit("\n\n", 1)[-1]
    types = dict(_FIELD.findall(system))
    inputs = set(_HEADER.findall(user))
    style, names = _names(system, reminder, inputs, types)
    if not names:
        return None
    return Wanted(style, {name: _value(name, types.get(name, "str"), system) for name in names})


def _names(system: str, reminder: str, inputs: set[str], types: dict[str, str]) -> tuple[str, list[str]]:
    names = [name for name in _MARKER.findall(reminder) if name != "completed" and name not in inputs]
    if names:
        return "chat", _unique(names)
    tagged = [name for name in _TAGGED.findall(reminder) if name in types]
    if tagged:
        return "xml", _unique(tagged)
    ticked = [name for name in _TICKED.findall(reminder) if name in types]
    if ticked and "json" in reminder.lower():
        return "json", _unique(ticked)
    shown = [name for name in _HEADER.findall(system) if name != "completed" and name not in inputs]
    return "chat", _unique(shown)


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _written(value: Any) -> str:
    return (
        value if isinstance(value, str) else str(value) if isinstance(value, (bool, int, float)) else json.dumps(value)
    )


_SIMPLE: dict[str, Any] = {"str": "text", "int": 1, "float": 0.5, "bool": True}


def _value(name: str, written: str, system: str) -> Any:
    if written in _SIMPLE:
        return _SIMPLE[written]
    literal = _LITERAL.match(written)
    if literal is not None:
        try:
            return ast.literal_eval(literal.group(1))[0]
        except (ValueError, SyntaxError, IndexError):
            pass
    note = next((line for line in system.splitlines() if "{" + name + "}" in line), "")
    start = note.find("{", note.find("{" + name + "}") + len(name) + 2)
    if start >= 0:
        try:
            schema = json.JSONDecoder().raw_decode(note.replace('\\"', '"'), start)[0]
        except ValueError:
            return "text"
        return _instance(schema, schema.get("$defs", {}))
    options = note.rpartition(": ")[2].rstrip('",').split("; ")
    return options[0] if options[0] else "text"


def _instance(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _instance(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return _instance(schema[key][0], defs)
    kind = schema.get("type")
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: _instance(field, defs) for name, field in schema.get("properties", {}).items() if name in required
        }
    if kind == "array":
        return [_instance(schema.get("items", {}), defs)]
    return {"integer": 1, "number": 0.5, "boolean": True, "null": None}.get(str(kind), "text")
