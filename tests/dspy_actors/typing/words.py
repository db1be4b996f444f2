"""Code the type checker must accept: signatures, examples, adapters as a user writes them."""

from __future__ import annotations

from typing import Any, Literal, assert_type

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.example import Example, Prediction
from dspy_actors.messages import Message, Usage
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature


class Classify(Signature):
    """Say what the customer wants."""

    message: str = InputField(desc="own words")
    intent: Literal["order", "complaint"] = OutputField()


def use(adapter: Adapter, signature: type[Signature]) -> tuple[Message, ...]:
    return adapter.format(signature, [Example(message="x", intent="order"), {"message": "y"}], {"message": "z"})


assert_type(make_signature("question -> answer"), type[Signature])
assert_type(Classify.with_instructions("x").append("y", OutputField(), int), type[Signature])
assert_type(Classify.instructions, str)
assert_type(use(ChatAdapter(), Classify), tuple[Message, ...])
assert_type(ChatAdapter().parse(Classify, "x"), dict[str, Any])
assert_type(Example(a=1).with_inputs("a"), Example)
assert_type(Prediction(a=1).copy(), Prediction)
assert_type(Prediction().usage, Usage | None)
assert_type(sum([Prediction(score=1), Prediction(score=2)]) / 2, float)
