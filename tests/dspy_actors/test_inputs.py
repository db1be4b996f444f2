"""A call's inputs are checked before anything is sent."""

from __future__ import annotations

from functools import wraps
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BeforeValidator

from dspy_actors.errors import InputError, SignatureError
from dspy_actors.example import Example, Prediction
from dspy_actors.modules.module import Module
from dspy_actors.signature.fields import InputField, OutputField
from dspy_actors.signature.inputs import validate_inputs
from dspy_actors.signature.signature import Signature, make_signature
from tests.dspy_actors.programs import runtime
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES, Colour, Place


def checked(arrow: str, **values: Any) -> dict[str, Any]:
    return validate_inputs(make_signature(f"{arrow} -> z", custom_types=CUSTOM_TYPES), values)


@pytest.mark.parametrize(
    ("arrow", "value", "result"),
    [
        ("a: str", "x", "x"),
        ("a: str", ["x", "y"], ["x", "y"]),
        ("a: str", {"k": 1}, {"k": 1}),
        ("a: str", Place(name="Ulm"), Place(name="Ulm")),
        ("a: str", Example(k=1), Example(k=1)),
        ("a", 3, 3),
        ("a: float", 3, 3.0),
        ("a: int", "3", 3),
        ("a: int | None", None, None),
        ("a: list[int]", ("1", 2), [1, 2]),
        ("a: Place", {"name": "Ulm"}, Place(name="Ulm")),
        ("a: Colour", "red", Colour.RED),
        ("a: Literal['x', 'y']", "y", "y"),
        ("a: Any", None, None),
    ],
)
def test_a_fitting_value_is_taken(arrow: str, value: object, result: object) -> None:
    taken = checked(arrow, a=value)["a"]

    assert (taken, type(taken)) == (result, type(result))


@pytest.mark.parametrize(
    ("arrow", "value"),
    [
        ("a: str", 3),
        ("a: str", None),
        ("a: str", True),
        ("a", None),
        ("a: int", "three"),
        ("a: int", 3.5),
        ("a: int", None),
        ("a: list[int]", "1, 2"),
        ("a: list[int]", [1, "x"]),
        ("a: Literal['x', 'y']", "z"),
        ("a: Place", {"zone": 1}),
        ("a: Image", "not an address"),
    ],
)
def test_an_ill_typed_value_is_refused_by_name(arrow: str, value: object) -> None:
    with pytest.raises(InputError, match="input 'a' of 'a -> z' is") as caught:
        checked(arrow, a=value)

    assert caught.value.field == "a"


def test_a_refusal_tells_the_place_but_not_the_value() -> None:
    with pytest.raises(InputError) as caught:
        checked("a: list[int]", a=[1, "a secret"])

    assert caught.value.message == (
        "input 'a' of 'a -> z' is list[int], got list: 1: Input should be a valid integer, "
        "unable to parse string as an integer"
    )


def test_a_missing_input_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"needs the input 'b' \(int\)") as caught:
        checked("a, b: int", a="x")

    assert caught.value.field == "b"


def test_an_unknown_input_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="has no input 'query'; it takes a, b") as caught:
        checked("a, b", a="x", b="y", query="z")

    assert caught.value.field == "query"


class Limited(Signature):
    text: str = InputField(min_length=2)
    count: int = InputField(default=3, ge=1)
    tags: list[str] = InputField(default_factory=list)
    answer: str = OutputField()


def test_defaults_are_filled_in_declaration_order() -> None:
    taken = validate_inputs(Limited, {"text": "ab"})

    assert list(taken.items()) == [("text", "ab"), ("count", 3), ("tags", [])]


def test_a_default_factory_is_called_each_time() -> None:
    first, second = (validate_inputs(Limited, {"text": "ab"})["tags"] for _ in range(2))

    assert first is not second


@pytest.mark.parametrize(("values", "field"), [({"text": "a"}, "text"), ({"text": "ab", "count": 0}, "count")])
def test_limits_hold_for_inputs(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        validate_inputs(Limited, values)

    assert caught.value.field == field


def test_a_class_pydantic_does_not_know_is_checked_by_instance() -> None:
    class Own:
        pass

    signature = make_signature("a: Own -> b", custom_types={"Own": Own})
    own = Own()

    assert validate_inputs(signature, {"a": own})["a"] is own
    with pytest.raises(InputError, match="instance of"):
        validate_inputs(signature, {"a": 3})


def looked_up(value: Any) -> Any:
    return {"a": 1}[value]


def counted(value: Any) -> Any:
    return len(None)  # type: ignore[arg-type]


def quit_for(value: Any) -> Any:
    raise RuntimeError(value)


@pytest.mark.parametrize("validator", [looked_up, counted, quit_for])
@pytest.mark.parametrize("kind", [AfterValidator, BeforeValidator])
@pytest.mark.parametrize("inside", [False, True])
def test_what_a_validator_raises_refuses_the_input_and_names_both(validator: Any, kind: Any, inside: bool) -> None:
    told = Annotated[str, kind(validator)]
    signature = Signature.append("a", InputField(), type_=list[told] if inside else told)
    with pytest.raises(InputError, match=f"input 'a' .*its validator '{validator.__name__}' raised") as caught:
        validate_inputs(signature, {"a": ["private"] if inside else "private"})

    assert caught.value.field == "a"
    assert "private" not in caught.value.message


def test_limits_that_do_not_fit_an_inputs_type_are_the_signatures_fault() -> None:
    with pytest.raises(
        SignatureError, match=r"input 'a' cannot be checked: Unable to apply constraint 'ge'$"
    ) as caught:
        validate_inputs(Signature.append("a", InputField(ge=3), type_=str | None), {"a": "private"})

    assert (caught.value.field, "private" in caught.value.message) == ("a", False)


def test_limits_inside_a_type_hold_too() -> None:
    with pytest.raises(InputError, match="greater than or equal to 0"):
        checked("a: Annotated[int, Field(ge=0)]", a=-1)


class Own(Module):
    """A program of the user's own."""

    def forward(self, ticket: str, team: str = "billing") -> Prediction:
        return Prediction(answer=f"{ticket}, {team}")


class OwnAwaited(Module):
    """One whose code is a coroutine."""

    async def aforward(self, ticket: str) -> Prediction:
        return Prediction(answer=ticket)


def supplied(method: Any) -> Any:
    """A decorator that gives what the method needs."""

    @wraps(method)
    def wrapper(self: object, **inputs: object) -> object:
        return method(self, ticket="supplied", **inputs)

    return wrapper


class Supplied(Module):
    """One whose inputs only its decorator knows."""

    @supplied
    def forward(self, ticket: str) -> Prediction:
        return Prediction(answer=ticket)


@pytest.mark.parametrize("kind", [Own, OwnAwaited])
@pytest.mark.parametrize("inputs", [{}, {"ticket": "t", "note": "n"}], ids=str)
def test_an_input_that_a_program_of_ones_own_does_not_take_is_named(kind: type[Module], inputs: dict[str, str]) -> None:
    with runtime() as rt, pytest.raises(InputError) as caught:
        rt.start(kind())(**inputs)
    assert caught.value.field == ("note" if inputs else "ticket")


def test_defaults_and_decorators_of_a_program_of_ones_own_count() -> None:
    with runtime() as rt:
        assert rt.start(Own())(ticket="t").answer == "t, billing"
        assert rt.start(Supplied())().answer == "supplied"
