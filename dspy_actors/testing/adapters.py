"""`check_adapter`: the contract of an adapter, for the test of every adapter, ours and yours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy_actors.adapters.base import Adapter
from dspy_actors.errors import AdapterParseError
from dspy_actors.messages import Message
from dspy_actors.signature.signature import Signature, make_signature


@dataclass(frozen=True, slots=True)
class Case:
    """A signature with the inputs and outputs of one call of it."""

    signature: type[Signature]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def _case(arrow: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Case:
    return Case(make_signature(arrow), inputs, outputs)


CASES: tuple[Case, ...] = (
    _case("question -> answer", {"question": "Why?"}, {"answer": "Because."}),
    _case("a, b -> c, d", {"a": "one\n\ntwo", "b": "«x»"}, {"c": "three\n\nfour ü", "d": 'he said "no"'}),
    _case(
        "text: str -> label: Literal['order', 'complaint'], sure: bool, stars: int, score: float",
        {"text": "Too late, and cold."},
        {"label": "complaint", "sure": True, "stars": 1, "score": 0.25},
    ),
    _case(
        "rows: list[dict[str, int]], note: str | None -> names: list[str], counts: dict[str, int], best: int | None",
        {"rows": [{"a": 1}, {"b": 2}], "note": "ü"},
        {"names": ["a", 'b"', "c, d"], "counts": {"a": 1, "ü": 2}, "best": 2},
    ),
    _case("text -> best: int | None", {"text": "nothing good"}, {"best": None}),
)
"""What every adapter can write and read back."""


def check_adapter(adapter: Adapter, cases: tuple[Case, ...] = CASES) -> None:
    """Raise `AssertionError` where the adapter breaks the contract. Pure; takes milliseconds.

    An answer written as a demonstration is read back as the same values; demonstrations are pairs of a user and an
    assistant turn before the request; those that lack fields come first, those without inputs or outputs are left
    out; the request is the last turn and holds every text input; nothing handed in is changed; what holds no answer
    is refused with `AdapterParseError`, its field and text filled in.
    """
    _require(isinstance(adapter.name, str) and adapter.name != "", "an adapter has a name")
    for case in cases:
        _check_request(adapter, case)
        _check_round_trip(adapter, case)
        _check_demos(adapter, case)
        _check_refusals(adapter, case)


def _check_request(adapter: Adapter, case: Case) -> None:
    inputs = dict(case.inputs)
    messages = adapter.format(case.signature, (), inputs)
    last = messages[-1]

    _require(isinstance(messages, tuple) and all(isinstance(m, Message) for m in messages), "format returns messages")
    _require(last.role == "user", "the last message is the user's request")
    _require(messages == adapter.format(case.signature, (), inputs), "the same call gives the same messages")
    _require(inputs == dict(case.inputs), "format leaves its inputs as they are")
    for name, value in case.inputs.items():
        _require(not isinstance(value, str) or value in last.text, f"the request holds the input {name}")


def _check_round_trip(adapter: Adapter, case: Case) -> None:
    answer = adapter.format(case.signature, ({**case.inputs, **case.outputs},), case.inputs)[-2]
    read = adapter.parse(case.signature, answer.text)

    _require(answer.role == "assistant", "a demonstration ends with the assistant's answer")
    _require(read == dict(case.outputs), f"an answer is read back: wrote {case.outputs}, read {read}")
    _require(list(read) == list(case.signature.output_fields), "outputs come in declaration order")
    kinds = {name: type(value) for name, value in case.outputs.items()}
    _require({name: type(value) for name, value in read.items()} == kinds, f"types are kept: {kinds}")


def _check_demos(adapter: Adapter, case: Case) -> None:
    if None in case.outputs.values():
        return  # a demonstration that holds None counts as one that lacks a field, as in DSPy
    whole = {**case.inputs, **case.outputs, "augmented": True}
    first_output = next(iter(case.outputs))
    first_input = next(iter(case.inputs))
    partial = {first_input: case.inputs[first_input], first_output: case.outputs[first_output]}
    lacking = len(partial) < len(case.inputs) + len(case.outputs)
    without = len(adapter.format(case.signature, (), case.inputs))
    messages = adapter.format(case.signature, (whole, partial, dict(case.inputs), dict(case.outputs), {}), case.inputs)
    turns = messages[without - 1 : -1]
    alone = adapter.format(case.signature, [whole], case.inputs)[without - 1 : -1]

    _require([turn.role for turn in turns] == ["user", "assistant"] * 2, "useful demonstrations are pairs of turns")
    _require(turns[2:] == alone, "demonstrations that lack fields come before the whole ones")
    _require(lacking == (turns[:2] != alone), "a demonstration that lacks fields is marked as such")


def _check_refusals(adapter: Adapter, case: Case) -> None:
    for text in ("", "}{", "I would rather not say."):
        try:
            read = adapter.parse(case.signature, text)
        except AdapterParseError as error:
            _require(error.field in case.signature.output_fields, "a refusal names the first output at fault")
            _require(error.text == text, "a refusal holds the text")
        else:
            _require(False, f"{text!r} holds no answer, but was read as {read}")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)
