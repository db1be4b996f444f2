"""Signatures: both syntaxes, editing, and what is refused."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
import typing
from typing import Annotated, Any, ClassVar, Literal, Optional

import pytest

from dspy_actors.errors import SignatureError
from dspy_actors.modules.predict import Predict
from dspy_actors.signature.fields import Field, InputField, OutputField, infer_prefix
from dspy_actors.signature.signature import Signature, ensure_signature, make_signature
from dspy_actors.types.image import Image
from tests.dspy_actors.recorded.kinds import Place


class Classify(Signature):
    """Say what the customer
    wants.
    """

    message: str = InputField(desc="own words")
    history = InputField()
    intent: Literal["order", "complaint"] = OutputField()
    stars: Annotated[int, "kept"] = OutputField(ge=1, le=5)


QA = make_signature("question -> answer")


def types(signature: type[Signature]) -> dict[str, Any]:
    return {name: field.annotation for name, field in signature.fields.items()}


def test_a_class_declares_fields_in_order() -> None:
    assert list(Classify.input_fields) == ["message", "history"]
    assert list(Classify.output_fields) == ["intent", "stars"]
    assert Classify.signature == "message, history -> intent, stars"


def test_the_docstring_is_the_instructions() -> None:
    assert Classify.instructions == "Say what the customer\nwants."


def test_without_instructions_the_fields_make_them() -> None:
    assert make_signature("a, b -> c").instructions == "Given the fields `a`, `b`, produce the fields `c`."


def test_a_field_without_a_type_is_text() -> None:
    assert Classify.fields["history"].annotation is str
    assert not Classify.fields["history"].typed


def test_annotated_is_taken_apart() -> None:
    assert Classify.fields["stars"].annotation is int
    assert Classify.fields["stars"].metadata[0] == "kept"
    assert Classify.fields["stars"].limits == "at least 1, at most 5"


def test_names_default_to_dspys_prefix_and_description() -> None:
    field = Classify.fields["intent"]

    assert (field.prefix, field.desc, field.shown_desc) == ("Intent:", "${intent}", "")
    assert field.json_schema_extra == {"__dspy_field_type": "output", "desc": "${intent}", "prefix": "Intent:"}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("snake_case_text", "Snake Case Text"),
        ("camelCase", "Camel Case"),
        ("text2number", "Text 2 Number"),
        ("HTMLParser", "HTML Parser"),
        ("some_HTML", "Some HTML"),
        ("q1", "Q 1"),
    ],
)
def test_a_prefix_is_made_of_the_name(name: str, prefix: str) -> None:
    assert infer_prefix(name) == prefix


def test_a_subclass_adds_to_its_base() -> None:
    class More(Classify):
        urgent: bool = OutputField()

    assert More.signature == "message, history -> intent, stars, urgent"
    assert More.instructions == Classify.instructions


def test_a_subclass_of_wordless_fields_makes_its_own_sentence() -> None:
    class Base(Signature):
        a: str = InputField()
        b: str = OutputField()

    class More(Base):
        c: str = OutputField()

    assert More.instructions == "Given the fields `a`, produce the fields `b`, `c`."


def test_types_of_the_function_round_a_class_are_found() -> None:
    class Local:
        pass

    class Uses(Signature):
        a: Local = InputField()
        b: str = OutputField()

    assert Uses.fields["a"].annotation is Local


def test_methods_and_class_variables_may_stand_in_a_signature() -> None:
    class Uses(Signature):
        limit: ClassVar[int] = 3
        _private = 1
        a: str = InputField()
        b: str = OutputField()

        @classmethod
        def describe(cls) -> str:
            return cls.signature

    assert (Uses.describe(), Uses.limit) == ("a -> b", 3)


@pytest.mark.parametrize("value", [3, "text", None])
def test_what_is_no_field_is_refused(value: object) -> None:
    with pytest.raises(SignatureError, match="stray is no field") as caught:
        type(Signature)("Wrong", (Signature,), {"a": InputField(), "stray": value})

    assert caught.value.field == "stray"


def test_a_type_without_a_field_is_refused() -> None:
    with pytest.raises(SignatureError, match=r"a is no field; write a: \.\.\. = InputField"):

        class Wrong(Signature):
            a: str
            b: str = OutputField()


def test_a_type_that_is_nowhere_is_refused() -> None:
    with pytest.raises(SignatureError, match="Nowhere"):

        class Wrong(Signature):
            a: Nowhere = InputField()  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize("options", [{"colour": 1}, {"ge": "x", "nope": 2}])
def test_an_option_no_field_takes_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SignatureError, match="InputField does not take"):
        InputField(**options)


def test_format_and_parser_have_no_effect_and_say_so() -> None:
    with pytest.warns(DeprecationWarning, match="format= has no effect"):
        assert OutputField(format=str) == OutputField()


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("a", str),
        ("a: int", int),
        ("a: list[str]", list[str]),
        ("a: dict[str, list[int]]", dict[str, list[int]]),
        ("a: List[int]", typing.List[int]),  # noqa: UP006
        ("a: Optional[int]", Optional[int]),  # noqa: UP045
        ("a: int | None", Optional[int]),  # noqa: UP045
        ("a: str | int | None", str | int | None),
        ("a: Literal['x', 2, True]", Literal["x", 2, True]),
        ("a: Literal[-1, 1]", Literal[-1, 1]),
        ("a: tuple[int, ...]", tuple[int, ...]),
        ("a: Any", Any),
        ("a: NoneType", type(None)),
        ("a: typing.List[str]", typing.List[str]),  # noqa: UP006
        ("a: datetime.date", dt.date),
        ("a: Image", Image),
        ("a: dspy.Image", Image),
        ("a: list[dspy_actors.Image]", list[Image]),
        ("a: Place", Place),
        ("a: my.Place | None", Optional[Place]),  # noqa: UP045
    ],
)
def test_the_arrow_form_knows_types(written: str, kind: Any) -> None:
    made = make_signature(f"{written} -> z", custom_types={"Place": Place, "my.Place": Place})

    assert made.fields["a"].annotation == kind


def test_a_custom_module_gives_its_types() -> None:
    made = make_signature("a: dates.date -> b: dates.time", custom_types={"dates": dt})

    assert types(made) == {"a": dt.date, "b": dt.time}


def test_limits_stand_in_annotated() -> None:
    made = make_signature("a: Annotated[int, Field(ge=0)] -> b")

    assert made.fields["a"].annotation is int
    assert len(made.fields["a"].metadata) == 1


def test_an_arrow_inside_an_option_is_no_arrow() -> None:
    assert types(make_signature("a -> b: Literal['x->y', \"z->\"]"))["b"] == Literal["x->y", "z->"]


def test_the_arrow_form_may_span_lines_and_end_with_commas() -> None:
    assert make_signature("a,\n  b: int, ->\n c,").signature == "a, b -> c"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("question", "one arrow"),
        ("a -> b -> c", "one arrow"),
        ("", "one arrow"),
        ("a b -> c", "cannot read the fields 'a b'"),
        ("1a -> c", "cannot read"),
        ("class -> c", "cannot read"),
        ("a -> a", "comes twice"),
        ("a, a -> b", "comes twice"),
        ("a: Foo -> b", "custom_types="),
        ("a: os.path -> b", "type 'os.path' is unknown"),
        ("a: subprocess.run -> b", "unknown"),
        ("a: 'str' -> b", "is no type"),
        ("a: 3 -> b", "is no type"),
        ("a: print('x') -> b", "cannot stand in a type"),
        ("a: int[str] -> b", "is no type"),
        ("a: [x for x in y] -> b", "cannot stand"),
        ("a = 3 -> b", "no defaults"),
        ("*a -> b", "no stars"),
        ("a, /, c -> b", "no stars"),
        ("a): pass\ndef g(b -> c", "cannot read"),
        ("_a -> b", "cannot name a field"),
    ],
)
def test_a_wrong_arrow_form_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(SignatureError) as caught:
        make_signature(text)

    assert why in caught.value.message


def test_a_signature_may_be_made_by_calling_the_class() -> None:
    assert Signature("question -> answer").equals(QA)
    assert Signature("question -> answer", "Be brief.").instructions == "Be brief."


def test_a_signature_may_be_made_of_a_mapping() -> None:
    made = make_signature({"a": (int, InputField()), "b": OutputField(desc="x")}, "Do.")

    assert types(made) == {"a": int, "b": str}


@pytest.mark.parametrize("given", [{"a": int}, {"a": (int, str)}, {"a b": InputField()}])
def test_a_wrong_mapping_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        make_signature(given)


def test_a_signature_is_not_called() -> None:
    with pytest.raises(TypeError, match=r"write Predict\(Classify\)"):
        Classify(message="x")


def test_editing_leaves_the_original() -> None:
    edited = QA.prepend("context", InputField(desc="c"), list[str]).append("sure", OutputField(), bool)

    assert edited.signature == "context, question -> answer, sure"
    assert types(edited)["context"] == list[str]
    assert QA.signature == "question -> answer"
    assert edited.instructions == QA.instructions


@pytest.mark.parametrize(
    ("index", "order"), [(0, "nab"), (1, "anb"), (2, "abn"), (-1, "abn"), (-2, "anb"), (-3, "nab")]
)
def test_a_field_is_inserted_where_asked(index: int, order: str) -> None:
    made = make_signature("a, b -> z").insert(index, "n", InputField())

    assert "".join(made.input_fields) == order


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(SignatureError, match="cannot insert 'n'"):
        make_signature("a, b -> z").insert(index, "n", InputField())


def test_a_field_is_updated() -> None:
    made = QA.with_updated_fields("answer", int, desc="a number", prefix="A:")
    field = made.fields["answer"]

    assert (field.annotation, field.desc, field.prefix) == (int, "a number", "A:")


def test_updating_an_unknown_field_is_refused() -> None:
    with pytest.raises(SignatureError, match="has no field 'query'"):
        QA.with_updated_fields("query", desc="x")


def test_deleting_an_unknown_field_changes_nothing() -> None:
    assert QA.delete("query").equals(QA)
    assert QA.delete("question").signature == " -> answer"


def test_instructions_are_replaced_and_appended() -> None:
    assert QA.with_instructions("A.").append_instructions("B.").instructions == "A.\n\nB."


def test_equal_signatures_have_the_same_words_types_and_order() -> None:
    assert QA.equals(make_signature("question -> answer"))
    assert not QA.equals(make_signature("question -> answer: int"))
    assert not QA.equals(QA.with_instructions("x"))
    assert not QA.equals("question -> answer")


def test_ensure_takes_text_and_classes() -> None:
    assert ensure_signature(Classify) is Classify
    assert ensure_signature("question -> answer").equals(QA)
    with pytest.raises(SignatureError):
        ensure_signature(3)


def test_a_class_is_pickled_by_name_and_a_made_one_by_its_fields() -> None:
    edited = Classify.with_instructions("Else.")

    assert pickle.loads(pickle.dumps(Classify)) is Classify
    assert pickle.loads(pickle.dumps(edited)).equals(edited)
    assert copy.deepcopy(edited) is edited


def test_fields_do_not_hide_the_methods() -> None:
    made = make_signature("delete, fields -> signature, instructions")

    assert list(made.fields) == ["delete", "fields", "signature", "instructions"]
    assert made.delete("fields").signature == "delete -> signature, instructions"


def test_a_repr_shows_names_and_types() -> None:
    assert repr(make_signature("a: int | None -> b", signature_name="S")) == "S(a: Union[int, NoneType] -> b: str)"


def test_fields_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        QA.fields["more"] = Field("input")  # type: ignore[index]
    with pytest.raises(AttributeError):
        QA.instructions = "x"  # type: ignore[misc]


@pytest.mark.parametrize("arrow", ["question ->", "->"])
def test_a_predictor_without_an_output_is_refused(arrow: str) -> None:
    with pytest.raises(SignatureError, match="has no output"):
        Predict(arrow)
