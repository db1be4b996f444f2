"""`TurnsAdapter`: a call as turns of a chat. What adapters share that differ in how an answer is laid out.

In order: one system message; demonstrations, each a user and an assistant turn, those that lack fields first; the turns
of a `History` input; the request. Values stand under header lines in every user turn; how the system message shows the
layout, what the reminder says and how an answer is written is the adapter's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from dspy_actors.adapters.base import Adapter, Demo
from dspy_actors.adapters.layout import INDENT, INPUTS_TITLE, NOTE, OUTPUTS_TITLE, PARTIAL_DEMO, TASK_TITLE, header
from dspy_actors.adapters.values import field_line, type_note, value_text
from dspy_actors.messages import Message, Part, TextPart
from dspy_actors.signature.fields import Field
from dspy_actors.signature.signature import Signature
from dspy_actors.types.history import History

_KEPT_DEMO_SETS = 64
"""Rendered demo sets an adapter keeps; the oldest goes first."""

Slot: TypeAlias = tuple[str, str, Field]
"""Name, header line with its newline, field."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same in every call of a signature; the history field is not among `inputs`."""

    system: Message
    inputs: tuple[Slot, ...]
    all_inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    reminder: str
    history: str | None


class TurnsAdapter(Adapter):
    """Keeps the system message of each signature and the turns of demo sets it has seen.

    Safe to share between threads and loops. A demo set is recognised by the identity of its tuple, so the demos in a
    tuple must not be changed afterwards; demos in a list are rendered anew each time.
    """

    def __init__(self) -> None:
        self._plans: WeakKeyDictionary[type[Signature], Plan] = WeakKeyDictionary()
        self._demo_sets: dict[tuple[int, int], tuple[Plan, tuple[Demo, ...], tuple[Message, ...]]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())

    # -- what an adapter says in its own way --------------------------------------------------------------------

    def _layout(self, signature: type[Signature]) -> str:
        """The part of the system message that shows how an exchange is laid out."""
        raise NotImplementedError

    def _reminder(self, signature: type[Signature]) -> str:
        """The last paragraph of a request, for a signature that has outputs."""
        raise NotImplementedError

    def _answer(self, plan: Plan, values: Mapping[str, Any] | Demo) -> str:
        """An assistant's turn with the outputs in `values`."""
        raise NotImplementedError

    # -- what they share ----------------------------------------------------------------------------------------

    def format(
        self, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        """The messages of one call; raises `AdapterError` where a field cannot be written."""
        plan = self._plan(signature)
        turns = self._kept_demo_turns(plan, demos) if demos else ()
        if plan.history is not None and inputs.get(plan.history) is not None:
            turns += self._history_turns(plan, History.model_validate(inputs[plan.history]))
        request = _user_turn(plan.inputs, inputs, tail=plan.reminder)
        return (plan.system, *turns, request) if request is not None else (plan.system, *turns)

    def assistant_text(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        """An answer as a model should write it: what `parse` reads."""
        return self._answer(self._plan(signature), outputs)

    def _plan(self, signature: type[Signature]) -> Plan:
        plan = self._plans.get(signature)
        if plan is None:
            plan = self._plans[signature] = self._planned(signature)
        return plan

    def _planned(self, signature: type[Signature]) -> Plan:
        inputs = tuple((name, f"{header(name)}\n", field) for name, field in signature.input_fields.items())
        outputs = tuple((name, f"{header(name)}\n", field) for name, field in signature.output_fields.items())
        history = next((name for name, _, field in inputs if field.annotation is History), None)
        return Plan(
            system=Message.of("system", self._system_text(signature)),
            inputs=tuple(item for item in inputs if item[0] != history),
            all_inputs=inputs,
            outputs=outputs,
            reminder=self._reminder(signature) if outputs else "",
            history=history,
        )

    def _system_text(self, signature: type[Signature]) -> str:
        lists = (
            "\n".join([title, *(field_line(number, field) for number, field in enumerate(side.values(), start=1))])
            for title, side in ((INPUTS_TITLE, signature.input_fields), (OUTPUTS_TITLE, signature.output_fields))
        )
        task = "".join(f"\n{INDENT}{line}" for line in dedent(signature.instructions).splitlines())
        return "\n".join([*lists, self._layout(signature), TASK_TITLE]) + task

    def _kept_demo_turns(self, plan: Plan, demos: Sequence[Demo]) -> tuple[Message, ...]:
        if not isinstance(demos, tuple):
            return self._demo_turns(plan, demos)
        # Two threads may render the same set at once; both results are equal and the second replaces the first.
        key = (id(plan), id(demos))
        kept = self._demo_sets.get(key)
        if kept is not None and kept[0] is plan and kept[1] is demos:
            return kept[2]
        turns = self._demo_turns(plan, demos)
        self._demo_sets[key] = (plan, demos, turns)
        while len(self._demo_sets) > _KEPT_DEMO_SETS:
            self._demo_sets.pop(next(iter(list(self._demo_sets))), None)
        return turns

    def _demo_turns(self, plan: Plan, demos: Sequence[Demo]) -> tuple[Message, ...]:
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
            turns.append(Message.of("assistant", self._answer(plan, demo)))
        return (*partial, *whole)

    def _history_turns(self, plan: Plan, history: History) -> tuple[Message, ...]:
        turns: list[Message] = []
        for message in history.messages:
            asked = any(name in message for name, _, _ in plan.inputs)
            user = _user_turn(plan.inputs, message, tail=plan.reminder if asked else "")
            if user is not None:
                turns.append(user)
            turns.append(Message.of("assistant", self._answer(plan, message)))
        return tuple(turns)


def input_blocks(signature: type[Signature]) -> list[str]:
    """How the inputs stand in a user turn: a header line and a slot each."""
    return [f"{header(name)}\n{{{name}}}" for name in signature.input_fields]


def output_slot(name: str, field: Field) -> str:
    """The place of an output's value, with a note on what it must be."""
    note = type_note(field)
    return f"{{{name}}}{NOTE + note if note else ''}"


def _user_turn(
    fields: tuple[Slot, ...], values: Mapping[str, Any] | Demo, lead: str = "", tail: str = ""
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
