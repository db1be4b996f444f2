"""Outputs are held to the constraints that the model was told, which DSPy only tells it."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator

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


@pytest.mark.parametrize(("adapter", "text"), [(ChatAdapter(), says(a="private")), (JSONAdapter(), '{"a": "private"}')])
def test_a_value_of_one_of_several_types_that_has_no_such_limits_is_the_models_fault(
    adapter: Adapter, text: str
) -> None:
    with pytest.raises(
        AdapterParseError, match=r"output 'a' is a str, which has no such limits: at least 3$"
    ) as caught:
        adapter.parse(signature(int | str | None, ge=3), text)

    assert (caught.value.field, caught.value.text) == ("a", text)


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("null", None)])
def test_limits_that_fit_one_of_several_types_hold_it(text: str, value: object) -> None:
    assert ChatAdapter().parse(signature(int | list[int] | None, ge=3), says(a=text)) == {"a": value}


def test_limits_that_do_not_fit_a_type_that_may_be_missing_are_the_signatures_fault() -> None:
    with pytest.raises(SignatureError, match=r"Unable to apply constraint 'ge'$") as caught:
        ChatAdapter().parse(signature(str | None, ge=3), says(a="private"))

    assert "private" not in caught.value.message


def looked_up(value: Any) -> Any:
    return {"a": 1}[value]


def divided(value: Any) -> Any:
    return 1 / 0


def counted(value: Any) -> Any:
    return len(None)  # type: ignore[arg-type]


class Holder(BaseModel):
    inner: str

    @field_validator("inner")
    @classmethod
    def known(cls, value: str) -> str:
        return str(looked_up(value))


@pytest.mark.parametrize("validator", [looked_up, divided, counted])
@pytest.mark.parametrize("kind", [AfterValidator, BeforeValidator])
@pytest.mark.parametrize("inside", [False, True])
def test_what_a_validator_raises_is_an_unreadable_answer_that_names_both(
    validator: Any, kind: Any, inside: bool
) -> None:
    told = Annotated[str, kind(validator)]
    text = '["private"]' if inside else "private"
    with pytest.raises(AdapterParseError, match=f"output 'a' .*its validator '{validator.__name__}' raised") as caught:
        ChatAdapter().parse(signature(list[told] if inside else told), says(a=text))

    assert caught.value.field == "a"
    assert "private" not in caught.value.message


def test_what_a_models_own_validator_raises_names_the_output_and_the_validator() -> None:
    with pytest.raises(AdapterParseError, match=r"'a' is no Holder: its validator 'Holder\.known' raised KeyError"):
        JSONAdapter().parse(signature(Holder), '{"a": {"inner": "private"}}')


def test_an_answer_that_a_validator_has_no_place_for_is_asked_for_again() -> None:
    texts = iter([says(a="b"), says(a="a")])
    with Runtime(lm="scripted/m", open_provider=lambda config: ScriptedProvider(lambda request: next(texts))):
        assert Predict(signature(Annotated[Any, AfterValidator(looked_up)]))(q="x").a == 1
