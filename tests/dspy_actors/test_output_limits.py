"""Outputs are held to the constraints that the model was told, which DSPy only tells it."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, Field

from dspy_actors.adapters.base import Adapter
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.errors import AdapterParseError, SignatureError
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.signature import Signature, make_signature
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.programs import says


class Declared(Signature):
    q: str = InputField()
    a: float = OutputField(ge=0, le=1)


class InTheType(Signature):
    q: str = InputField()
    a: Annotated[float, Field(ge=0, le=1)] = OutputField()


def signature(annotation: Any, **limits: Any) -> type[Signature]:
    return make_signature({"q": (str, InputField()), "a": (annotation, OutputField(**limits))})


@pytest.mark.parametrize(("adapter", "text"), [(ChatAdapter(), says(a="7")), (JSONAdapter(), '{"a": 7}')])
@pytest.mark.parametrize("told", [Declared, InTheType])
def test_a_number_outside_its_limits_is_refused_with_field_value_and_limit(
    adapter: Adapter, text: str, told: type[Signature]
) -> None:
    with pytest.raises(AdapterParseError, match=r"output 'a' is 7\.0, which is outside .* equal to 1$") as caught:
        adapter.parse(told, text)

    assert (caught.value.field, caught.value.text, caught.value.adapter) == ("a", text, adapter.name)


@pytest.mark.parametrize("told", [Declared, InTheType])
def test_the_model_is_told_the_limits_wherever_they_stand(told: type[Signature]) -> None:
    assert "1. `a` (float)\nLimits: at least 0, at most 1\n" in ChatAdapter().format(told, (), {"q": "x"})[0].text


@pytest.mark.parametrize("told", [Declared, InTheType])
def test_a_value_at_a_limit_is_within(told: type[Signature]) -> None:
    assert [ChatAdapter().parse(told, says(a=text))["a"] for text in ("0", "1")] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("annotation", "limits", "text"),
    [
        (str, {"max_length": 3}, "private"),
        (str, {"pattern": "^a"}, "private"),
        (list[str], {"max_length": 0}, '["private"]'),
    ],
)
def test_a_text_outside_its_limits_is_refused_without_the_text(annotation: Any, limits: Any, text: str) -> None:
    with pytest.raises(AdapterParseError, match="output 'a' is outside of its limits") as caught:
        ChatAdapter().parse(signature(annotation, **limits), says(a=text))

    assert text not in caught.value.message


def test_none_has_no_limits() -> None:
    assert ChatAdapter().parse(signature(float | None, le=1), says(a="null")) == {"a": None}


def test_a_validator_in_the_type_sees_the_value_and_may_change_it() -> None:
    upper = signature(Annotated[str, AfterValidator(str.upper)])

    assert ChatAdapter().parse(upper, says(a="yes")) == {"a": "YES"}


def test_an_answer_outside_its_limits_is_asked_for_again_with_what_was_wrong() -> None:
    texts = iter([says(a="70"), says(a="0.7")])
    provider = ScriptedProvider(lambda request: next(texts))
    with Runtime(lm="scripted/m", open_provider=lambda config: provider):
        assert Predict(Declared)(q="x").a == 0.7
    assert "output 'a' is 70.0, which is outside of its limits" in provider.requests[1].messages[-1].text


def test_limits_that_do_not_fit_a_type_are_the_signatures_fault() -> None:
    with pytest.raises(SignatureError, match=r"limits of output 'a' \(length at least 3\) do not fit its type"):
        ChatAdapter().parse(signature(int, min_length=3), says(a="5"))


def test_limits_that_do_not_fit_one_of_several_types_are_refused_without_the_text() -> None:
    with pytest.raises(SignatureError, match=r"Unable to apply constraint 'ge'$") as caught:
        ChatAdapter().parse(signature(int | str, ge=3), says(a="private"))

    assert "private" not in caught.value.message
