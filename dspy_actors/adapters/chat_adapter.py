"""`ChatAdapter`: fields between header lines, in turns of a chat.

The structure is DSPy 3.4.1's, so that a program behaves alike on both; the sentences are our own. The prompt, in
order (all marks and words are constants in `layout.py`):

1. One **system** message. `INPUTS_TITLE`, then the inputs, one numbered line each:
   ``1. `question` (str): what the customer asks`` (type in Python notation; description where there is one; a line
   `Limits: …` below where the field has constraints). `OUTPUTS_TITLE` and the outputs likewise, numbered anew.
   `LAYOUT_TITLE`, a blank line, then one block a field, inputs first, separated by blank lines: its header line
   `[[ ## question ## ]]` and its slot `{question}`. Behind an output's slot stand eight spaces, `# `
   and a note on its value: `True or False`; `one int and nothing else`; `OPTIONS` and the options of an enum or
   `Literal` separated by `; `; `SCHEMA` and a JSON schema on one line; `TEXT_OR_NONE`. `str` has no note. The last
   block is `COMPLETED`. Then `TASK_TITLE` and the instructions, each line behind eight spaces, to the end of the
   message.
2. Each **demonstration** as a user turn and an assistant turn. Demonstrations that lack fields come first and begin
   with the paragraph `PARTIAL_DEMO`; an output they lack reads `NOT_GIVEN`. One without any input or without any
   output is left out. The assistant turn is the output blocks, a blank line, `COMPLETED` and a newline.
3. Each turn of a `History` input likewise; its user turns end with the reminder, as the request does.
4. The **request**: a user turn with the inputs that were given, `[[ ## name ## ]]` and the value below, blocks
   separated by blank lines, then the paragraph `REMINDER` with the output headers in order (and the Python type of
   each that is no `str`) and the completed mark. A value may itself hold blank lines and anything else.

Values: see `values.value_text`. Field types such as `Image` split a user turn into content parts where they stand.
`layout.sections` cuts any of these texts at its headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_actors.adapters.base import Demo
from dspy_actors.adapters.chat_listener import ChatListener
from dspy_actors.adapters.layout import COMPLETED, LAYOUT_TITLE, NOT_GIVEN, REMINDER, header, sections
from dspy_actors.adapters.parsing import filled, typed_value, within
from dspy_actors.adapters.turns import Plan, TurnsAdapter, input_blocks, output_slot
from dspy_actors.adapters.values import plain_value_text
from dspy_actors.errors import AdapterParseError
from dspy_actors.signature.signature import Signature
from dspy_actors.types.checking import reason
from dspy_actors.types.python_names import python_name


class ChatAdapter(TurnsAdapter):
    """The default adapter: outputs stand under header lines, as inputs do. See `TurnsAdapter` for what it keeps."""

    name = "chat"

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The outputs of a completion. The first section of a name counts; text outside sections is ignored.

        Outputs that may be missing are filled in, but a text without a single header is no answer, whatever may be
        missing; DSPy reads one as a row of `None`.
        """
        outputs = signature.output_fields
        values: dict[str, Any] = {}
        found = sections(text)
        if len(found) == 1 and outputs:
            msg = f"the answer has no fields; the first line should be {header(next(iter(outputs)))}"
            raise AdapterParseError(msg, field=next(iter(outputs)), text=text, adapter=self.name)
        for name, content in found:
            if name is None or name in values or name not in outputs:
                continue
            try:
                values[name] = typed_value(content, outputs[name].annotation)
            except ValueError as error:
                msg = f"output {name!r} is no {python_name(outputs[name].annotation)}: {reason(error)}"
                raise AdapterParseError(msg, field=name, text=text, adapter=self.name) from error
            values[name] = within(outputs[name], values[name], text, self.name)
        return filled(outputs, values, text, self.name)

    def listener(self, signature: type[Signature]) -> ChatListener:
        """Follows one answer while it is written."""
        return ChatListener(signature.output_fields)

    def _layout(self, signature: type[Signature]) -> str:
        slots = (f"{header(name)}\n{output_slot(name, field)}" for name, field in signature.output_fields.items())
        return "\n\n".join([LAYOUT_TITLE, *input_blocks(signature), *slots, COMPLETED])

    def _reminder(self, signature: type[Signature]) -> str:
        names = (
            f"`{header(name)}`" + ("" if field.annotation is str else f" (a Python {python_name(field.annotation)})")
            for name, field in signature.output_fields.items()
        )
        return f"{REMINDER}{', '.join(names)}. Close with `{COMPLETED}`."

    def _answer(self, plan: Plan, values: Mapping[str, Any] | Demo) -> str:
        blocks = [
            head + (plain_value_text(field, values[name]) if name in values else NOT_GIVEN)
            for name, head, field in plan.outputs
        ]
        return "\n\n".join(blocks).strip() + f"\n\n{COMPLETED}\n"
