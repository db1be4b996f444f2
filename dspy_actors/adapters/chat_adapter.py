"""`ChatAdapter`: fields between header lines, in turns of a chat.

The structure is DSPy 3.4.1's, so that a program behaves alike on both; the sentences are our own. The prompt, in
order (all marks and words are constants in `layout.py`):

1. One **system** message. `INPUTS_TITLE`, then the inputs, one numbered line each:
   ``1. `question` (str): what the customer asks`` (type in Python notation; description where there is one; a line
   `Limits: …` below where the field has constraints). `OUTPUTS_TITLE` and the outputs likewise, numbered anew.
   `LAYOUT_TITLE`, a blank line, then one block a field, inputs first, separated by blank lines: its header line
   `[[ ## question ## ]]` and its slot `{question}`. Behind an output's slot stand eight spaces, `# `
   and a note on its value: `True or False`; `one int and nothing else`; `OPTIONS` and the options of an enum or
   `Literal` separated by `; `; `SCHEMA` and a JSON schema on one line. `str` has no note. The last block is
   `COMPLETED`. Then `TASK_TITLE` and the instructions, each line behind eight spaces, to the end of the message.
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Any
from weakref import WeakKeyDictionary

from dspy_actors.adapters.base import Demo
from dspy_actors.adapters.layout import (
    COMPLETED,
    INDENT,
    INPUTS_TITLE,
    LAYOUT_TITLE,
    NOT_GIVEN,
    NOTE,
    OUTPUTS_TITLE,
    PARTIAL_DEMO,
    REMINDER,
    TASK_TITLE,
    header,
    sections,
)
from dspy_actors.adapters.parsing import typed_value
from dspy_actors.adapters.values import field_line, plain_value_text, type_note, value_text
from dspy_actors.errors import AdapterParseError
from dspy_actors.messages import Message, Part, TextPart
from dspy_actors.signature.fields import Field
from dspy_actors.signature.signature import Signature
from dspy_actors.types.checking import admits_none, reason
from dspy_actors.types.history import History
from dspy_actors.types.python_names import python_name

_KEPT_DEMO_SETS = 64
"""Rendered demo sets an adapter keeps; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same in every call of a signature."""

    system: Message
    inputs: tuple[tuple[str, str, Field], ...]
    """Name, header line with its newline, field; the history field is not among them."""
    all_inputs: tuple[tuple[str, str, Field], ...]
    outputs: tuple[tuple[str, str, Field], ...]
    reminder: str
    history: str | None


class ChatAdapter:
    """The default adapter. It keeps the system message of each signature and the turns of demo sets it has seen.

    Safe to share between threads and loops. A demo set is recognised by the identity of its tuple, so the demos in a
    tuple must not be changed afterwards; demos in a list are rendered anew each time.
    """

    name = "chat"

    def __init__(self) -> None:
        self._plans: WeakKeyDictionary[type[Signature], _Plan] = WeakKeyDictionary()
        self._demo_sets: dict[tuple[int, int], tuple[_Plan, tuple[Demo, ...], tuple[Message, ...]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())

    def format(
        self, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        """The messages of one call; raises `AdapterError` where a field cannot be written."""
        plan = self._plan(signature)
        turns = self._demo_turns(plan, demos) if demos else ()
        if plan.history is not None and inputs.get(plan.history) is not None:
            turns += _history_turns(plan, History.model_validate(inputs[plan.history]))
        request = _user_turn(plan.inputs, inputs, tail=plan.reminder)
        return (plan.system, *turns, request) if request is not None else (plan.system, *turns)

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
        return filled(outputs, values, text, self.name)

    def assistant_text(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        """An answer as a model should write it: what `parse` reads."""
        return _assistant_text(self._plan(signature), outputs)

    def _plan(self, signature: type[Signature]) -> _Plan:
        plan = self._plans.get(signature)
        if plan is None:
            plan = self._plans[signature] = _planned(signature)
        return plan

    def _demo_turns(self, plan: _Plan, demos: Sequence[Demo]) -> tuple[Message, ...]:
        if not isinstance(demos, tuple):
            return _demo_turns(plan, demos)
        # Two threads may render the same set at once; both results are equal and the second replaces the first.
        key = (id(plan), id(demos))
        kept = self._demo_sets.get(key)
        if kept is not None and kept[0] is plan and kept[1] is demos:
            return kept[2]
        turns = _demo_turns(plan, demos)
        self._demo_sets[key] = (plan, demos, turns)
        while len(self._demo_sets) > _KEPT_DEMO_SETS:
            self._demo_sets.pop(next(iter(list(self._demo_sets))), None)
        return turns


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


def _planned(signature: type[Signature]) -> _Plan:
    inputs = tuple((name, f"{header(name)}\n", field) for name, field in signature.input_fields.items())
    outputs = tuple((name, f"{header(name)}\n", field) for name, field in signature.output_fields.items())
    history = next((name for name, _, field in inputs if field.annotation is History), None)
    return _Plan(
        system=Message.of("system", _system_text(signature)),
        inputs=tuple(item for item in inputs if item[0] != history),
        all_inputs=inputs,
        outputs=outputs,
        reminder=_reminder(signature) if outputs else "",
        history=history,
    )


def _system_text(signature: type[Signature]) -> str:
    lists = (
        "\n".join([title, *(field_line(number, field) for number, field in enumerate(side.values(), start=1))])
        for title, side in ((INPUTS_TITLE, signature.input_fields), (OUTPUTS_TITLE, signature.output_fields))
    )
    blocks = [f"{header(name)}\n{{{name}}}" for name in signature.input_fields]
    for name, field in signature.output_fields.items():
        note = type_note(field)
        blocks.append(f"{header(name)}\n{{{name}}}{NOTE + note if note else ''}")
    task = "".join(f"\n{INDENT}{line}" for line in dedent(signature.instructions).splitlines())
    layout = "\n\n".join([LAYOUT_TITLE, *blocks, COMPLETED])
    return "\n".join([*lists, layout, TASK_TITLE]) + task


def _reminder(signature: type[Signature]) -> str:
    names = (
        f"`{header(name)}`" + ("" if field.annotation is str else f" (a Python {python_name(field.annotation)})")
        for name, field in signature.output_fields.items()
    )
    return f"{REMINDER}{', '.join(names)}. Close with `{COMPLETED}`."


def _user_turn(
    fields: tuple[tuple[str, str, Field], ...], values: Mapping[str, Any] | Demo, lead: str = "", tail: str = ""
) -> Message | None:
    """A user turn with those of `fields` that `values` has; `None` where nothing would stand in it."""
    blocks: list[str] = [lead] if lead else []
    done: list[Part] = []
    for name, head, field in fields:
        if name not in values:
            continue
        shown = value_text(field, values[name])
        if isinstance(shown, str):
            blocks.append(head + shown)
            continue
        before = "\n\n".join([*blocks, head])
        done += [TextPart(f"\n\n{before}" if done else before), *shown]
        blocks = []
    if tail:
        blocks.append(tail)
    if not done:
        text = "\n\n".join(blocks).strip()
        return Message("user", (TextPart(text),)) if text else None
    if blocks:
        done.append(TextPart("\n\n" + "\n\n".join(blocks)))
    return Message("user", _merged(done))


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            merged[-1] = TextPart(last.text + part.text)
        else:
            merged.append(part)
    return tuple(merged)


def _assistant_text(plan: _Plan, values: Mapping[str, Any] | Demo) -> str:
    blocks = [
        head + (plain_value_text(field, values[name]) if name in values else NOT_GIVEN)
        for name, head, field in plan.outputs
    ]
    return "\n\n".join(blocks).strip() + f"\n\n{COMPLETED}\n"


def _demo_turns(plan: _Plan, demos: Sequence[Demo]) -> tuple[Message, ...]:
    whole: list[Message] = []
    partial: list[Message] = []
    names = [name for name, _, _ in plan.all_inputs + plan.outputs]
    for demo in demos:
        complete = all(name in demo and demo[name] is not None for name in names)
        if not complete:
            sides = (plan.all_inputs, plan.outputs)
            if not all(any(name in demo for name, _, _ in side) for side in sides):
                continue
        user = _user_turn(plan.all_inputs, demo, lead="" if complete else PARTIAL_DEMO)
        turns = whole if complete else partial
        if user is not None:
            turns.append(user)
        turns.append(Message.of("assistant", _assistant_text(plan, demo)))
    return (*partial, *whole)


def _history_turns(plan: _Plan, history: History) -> tuple[Message, ...]:
    turns: list[Message] = []
    for message in history.messages:
        asked = any(name in message for name, _, _ in plan.inputs)
        user = _user_turn(plan.inputs, message, tail=plan.reminder if asked else "")
        if user is not None:
            turns.append(user)
        turns.append(Message.of("assistant", _assistant_text(plan, message)))
    return tuple(turns)
