"""`JSONAdapter`: outputs as one JSON object.

The structure is DSPy 3.4.1's, the sentences are our own. It is the chat adapter's (see `chat_adapter.py`) but for the
answers:

1. The **system** message shows the inputs under their header lines, then `JSON_TITLE` and the answer as a JSON object,
   indented by 2, in which the value of each output is its slot with its note: `"answer": "{answer}"`.
2. The **assistant's turns** of demonstrations and history are such objects; an output they lack reads `NOT_GIVEN`.
3. The **reminder** names the keys in order, with the Python type of each that is no `str`.

The answer is read as JSON, else as almost-JSON, else as the first balanced object in it. Where the provider can hold
the model to a format it is asked to: to the outputs' schema, or to some JSON object where they have no strict one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

from dspy_actors.adapters.base import Demo
from dspy_actors.adapters.json_listener import JSONListener
from dspy_actors.adapters.layout import JSON_REMINDER, JSON_TITLE, LAYOUT_TITLE, NOT_GIVEN
from dspy_actors.adapters.parsing import data_value, filled, json_object, within
from dspy_actors.adapters.response_schema import strict_schema
from dspy_actors.adapters.turns import Plan, TurnsAdapter, input_blocks, output_slot
from dspy_actors.errors import AdapterParseError
from dspy_actors.example import Example
from dspy_actors.messages import ResponseFormat
from dspy_actors.signature.signature import Signature
from dspy_actors.types.base import to_jsonable
from dspy_actors.types.checking import reason
from dspy_actors.types.python_names import python_name


class JSONAdapter(TurnsAdapter):
    """Asks for a JSON object. See `TurnsAdapter` for what it keeps.

    Args:
        response_format: what the provider is to hold the model to. `"auto"`: the outputs' schema or a JSON object,
            as far as the provider is known to take it; `"json_schema"` and `"json_object"`: that, whatever the
            provider (a schema only where there is a strict one); `None`: nothing.
    """

    name = "json"

    def __init__(self, response_format: ResponseFormat | Literal["auto"] | None = "auto") -> None:
        super().__init__()
        self.response_format = response_format
        self._schemas: WeakKeyDictionary[type[Signature], Mapping[str, object] | None] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.response_format,))

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The outputs of a completion. Other keys are ignored; outputs that may be missing are filled in."""
        outputs = signature.output_fields
        found = json_object(text)
        if found is None or (outputs and not found.keys() & outputs.keys() and text.strip() != "{}"):
            msg = f"the answer is no JSON object with the keys {', '.join(outputs)}"
            raise AdapterParseError(msg, field=next(iter(outputs), None), text=text, adapter=self.name)
        values: dict[str, Any] = {}
        for name, field in outputs.items():
            if name not in found:
                continue
            try:
                values[name] = data_value(found[name], field.annotation)
            except ValueError as error:
                msg = f"output {name!r} is no {python_name(field.annotation)}: {reason(error)}"
                raise AdapterParseError(msg, field=name, text=text, adapter=self.name) from error
            values[name] = within(field, values[name], text, self.name)
        return filled(outputs, values, text, self.name)

    def listener(self, signature: type[Signature]) -> JSONListener:
        """Follows one answer while it is written."""
        return JSONListener(signature.output_fields)

    def options(self, signature: type[Signature], formats: frozenset[ResponseFormat]) -> Mapping[str, object]:
        """`response_format`, where the provider takes one that the outputs can be held to."""
        wanted = formats if self.response_format == "auto" else frozenset({self.response_format})
        if not wanted or not signature.output_fields:
            return {}
        schema = self._schema(signature) if "json_schema" in wanted else None
        if schema is not None:
            return {"response_format": schema}
        return {"response_format": {"type": "json_object"}} if "json_object" in wanted else {}

    def _schema(self, signature: type[Signature]) -> Mapping[str, object] | None:
        if signature not in self._schemas:
            schema = strict_schema(signature)
            named = {"name": "answer", "schema": schema, "strict": True}
            self._schemas[signature] = None if schema is None else {"type": "json_schema", "json_schema": named}
        return self._schemas[signature]

    def _layout(self, signature: type[Signature]) -> str:
        template = {name: output_slot(name, field) for name, field in signature.output_fields.items()}
        return "\n\n".join([LAYOUT_TITLE, *input_blocks(signature), JSON_TITLE, _written(template)])

    def _reminder(self, signature: type[Signature]) -> str:
        names = (
            f"`{name}`" + ("" if field.annotation is str else f" (a Python {python_name(field.annotation)})")
            for name, field in signature.output_fields.items()
        )
        return f"{JSON_REMINDER}{', '.join(names)}."

    def _answer(self, plan: Plan, values: Mapping[str, Any] | Demo) -> str:
        return _written({name: _data(values[name]) if name in values else NOT_GIVEN for name, _, _ in plan.outputs})


def _data(value: Any) -> Any:
    return to_jsonable(value.toDict() if isinstance(value, Example) else value)


def _written(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2)
