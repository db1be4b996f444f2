"""An adapter of the user's own is told what it did wrong where it did it, not further down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import pytest
from pydantic import AfterValidator

from dspy_actors.adapters.base import Adapter, Demo
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.errors import AdapterError, AdapterParseError, InputError
from dspy_actors.messages import LMResponse, Message, ToolCall, ToolResult
from dspy_actors.modules.predict import Predict
from dspy_actors.pieces import TextPiece
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature
from tests.dspy_actors.programs import runtime, says

HI = (Message.of("user", "hi"),)
NO_TEXT = cast("Any", "hi")
_LOUD = AfterValidator(lambda text: f"{text}!")


class Own(Adapter):
    """Writes the messages and reads the outputs that it is given."""

    name = "own"

    def __init__(self, messages: Any = HI, outputs: Any = None) -> None:
        self.messages = messages
        self.outputs = outputs

    def format(
        self, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        return cast("tuple[Message, ...]", self.messages)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self.outputs)


def answered(adapter: Adapter, signature: str = "question -> answer: int, note: str | None", text: str = "x") -> Any:
    with runtime(lambda request: text, adapter=adapter, parse_retries=0):
        return Predict(signature)(question="why?")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([{"role": "user", "content": "hi"}], r"message 0 that Own\.format returned is a dict; write Message\.of\("),
        ((Message("user", NO_TEXT),), r"message 0 .* has as its parts str, .* write Message\.of\('user', 'text'\)"),
        ((Message("user", ("hi",)),), r"message 0 .* has as its parts tuple"),  # type: ignore[arg-type]
        (
            (Message.of("user", "a"), Message.of(NO_TEXT, "b")),
            "message 1 .* has the role 'hi'; it is one of system, user",
        ),
        ("hi", r"Own\.format returned str; return \(Message\.of\("),
        (None, r"Own\.format returned NoneType"),
    ],
)
def test_messages_that_are_none_are_refused_before_anything_is_sent(messages: Any, told: str) -> None:
    with pytest.raises(AdapterError, match=told):
        answered(Own(messages))


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (None, r"Own\.parse returned NoneType; return a dict of the outputs: answer, note"),
        ({"answer": 1, "reply": 2}, r"Own\.parse returned 'reply', which is no output of .*; it has answer, note"),
    ],
)
def test_outputs_that_are_none_are_the_adapters_fault(outputs: Any, told: str) -> None:
    with pytest.raises(AdapterError, match=told) as caught:
        answered(Own(outputs=outputs))
    assert not isinstance(caught.value, AdapterParseError)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [({}, "no output 'answer'"), ({"answer": "some"}, r"output 'answer' as Own\.parse read it is no int: ")],
)
def test_outputs_that_the_answer_does_not_hold_are_named(outputs: Any, told: str) -> None:
    with pytest.raises(AdapterParseError, match=told) as caught:
        answered(Own(outputs=outputs))
    assert (caught.value.field, caught.value.text, caught.value.adapter) == ("answer", "x", "own")


def test_outputs_are_typed_and_in_order_and_what_may_be_missing_is_filled_in() -> None:
    assert answered(Own(list(HI), {"answer": "7"})).toDict() == {"answer": 7, "note": None}


def test_an_answer_that_was_cut_off_is_looked_at_too() -> None:
    cut = LMResponse(("x",), "m", finish_reasons=("length",))
    with runtime(lambda request: cut, adapter=Own()), pytest.raises(AdapterError, match="returned NoneType"):
        Predict("question -> answer")(question="why?")


def test_an_adapter_that_derives_from_ours_is_looked_at_too() -> None:
    class Shouts(ChatAdapter):
        def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
            return {name.upper(): value for name, value in super().parse(signature, text).items()}

    with pytest.raises(AdapterError, match=r"Shouts\.parse returned 'ANSWER'"):
        answered(Shouts(), "question -> answer", says(answer="yes"))


@pytest.mark.parametrize("ours", [ChatAdapter, JSONAdapter])
def test_what_our_own_code_read_is_not_validated_a_second_time(ours: type[Adapter]) -> None:
    class Renamed(ours):  # type: ignore[misc, valid-type]
        name = "renamed"

    loud = make_signature({"question": (str, InputField()), "answer": (Annotated[str, _LOUD], OutputField())})
    text = says(answer="yes") if ours is ChatAdapter else '{"answer": "yes"}'
    with runtime(lambda request: text, adapter=Renamed()):
        assert Predict(loud)(question="why?").answer == "yes!"


def test_a_streamed_prompt_of_messages_that_are_none_is_refused() -> None:
    with runtime() as rt, pytest.raises(InputError, match=r"a turn of the prompt has as its parts str"):
        rt.stream([Message("user", NO_TEXT)])


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (Message("user", (ToolResult("c1", "sunny"),)), r"has a ToolResult in a user turn; write Message\.results\("),
        (Message("user", (ToolCall("c1", "weather"),)), r"has a ToolCall in a user turn; write Message\('assistant', "),
        (Message.of("tool", "sunny"), r"has a TextPart in a tool turn; write Message\.results\(ToolResult\("),
    ],
)
def test_a_part_that_its_turn_has_no_place_for_is_refused_and_not_left_out(turn: Message, told: str) -> None:
    with runtime() as rt, pytest.raises(InputError, match=told):
        rt.stream([*HI, turn])


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ({"role": "tool", "tool_call_id": "c1", "content": "sunny"}, r"Message\.results\(ToolResult\("),
        (
            {"role": "assistant", "content": "I will.", "tool_calls": [{"id": "c1"}]},
            r"Message\('assistant', \(ToolCall\(",
        ),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}, r"Message\('assistant', \(ToolCall\("),
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]}, r"Message\('user', \(TextPart\("),
    ],
)
def test_a_turn_in_another_form_is_refused_with_the_message_to_write(turn: dict[str, Any], told: str) -> None:
    with runtime() as rt, pytest.raises(InputError, match=told) as caught:
        rt.stream([*HI, turn])
    assert "dspy_actors.messages" in str(caught.value)


def test_a_turn_of_text_may_say_that_it_calls_no_tools() -> None:
    with runtime(lambda request: "ho") as rt:
        turns: Any = [*HI, {"role": "assistant", "content": "ho", "tool_calls": None}, *HI]
        assert list(rt.stream(turns)) == [TextPiece("ho")]
