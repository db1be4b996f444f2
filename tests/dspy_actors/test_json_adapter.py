"""The JSON layout: DSPy 3.4.1's structure (`recorded/json_*.json`), our words."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.adapters.layout import NOT_GIVEN
from dspy_actors.adapters.response_schema import strict_schema
from dspy_actors.errors import AdapterParseError
from dspy_actors.messages import ResponseFormat
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.signature.signature import make_signature
from dspy_actors.testing.adapters import check_adapter
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES
from tests.dspy_actors.recorded.record import FORMATS, LAYOUTS, closed_objects, json_layout_facts, plain

BOTH: frozenset[ResponseFormat] = frozenset({"json_object", "json_schema"})


def recorded(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / f"{name}.json").read_text("utf-8"))
    return rows


PARSES = recorded("json_parses")
LAYOUT_FACTS = recorded("json_layouts")
FORMAT_FACTS = recorded("json_formats")


def test_the_json_adapter_keeps_the_contract() -> None:
    check_adapter(JSONAdapter())


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_a_prompt_is_laid_out_as_dspy_lays_it_out(number: int) -> None:
    case = LAYOUTS[number]
    signature = make_signature(case["signature"], custom_types=CUSTOM_TYPES)
    messages = JSONAdapter().format(signature, case["demos"], case["inputs"])
    facts = json.loads(json.dumps(json_layout_facts([(m.role, m.text) for m in messages])))

    assert facts == LAYOUT_FACTS[number]["facts"]


@pytest.mark.parametrize("row", PARSES, ids=[f"{n}-{row['signature'][:40]}" for n, row in enumerate(PARSES)])
def test_a_completion_is_read_as_dspy_reads_it(row: dict[str, Any]) -> None:
    signature = make_signature(row["signature"], custom_types=CUSTOM_TYPES)
    try:
        read = {"values": plain(JSONAdapter().parse(signature, row["completion"]))}
    except AdapterParseError as error:
        read = {"error": type(error).__name__}
    recorded = {"values": row["values"]} if "values" in row else {"error": "AdapterParseError"}

    assert read == recorded


@pytest.mark.parametrize("number", range(len(FORMATS)))
def test_the_schema_is_closed_where_dspys_is(number: int) -> None:
    row = FORMAT_FACTS[number]
    signature = make_signature(FORMATS[number], custom_types=CUSTOM_TYPES)
    wanted: Any = JSONAdapter().options(signature, BOTH)["response_format"]
    schema = wanted.get("json_schema", {}).get("schema")

    assert wanted["type"] == row["type"]
    assert (schema and schema["required"]) == row.get("required")
    assert closed_objects(schema) == row.get("closed", [])


def test_the_system_message_shows_the_answer_as_an_object() -> None:
    signature = make_signature("question -> answer, sure: bool", "Be brief.")

    assert JSONAdapter().format(signature, (), {"question": "why?"})[0].text == (
        "You are given these fields:\n"
        "1. `question` (str)\n"
        "You produce these fields:\n"
        "1. `answer` (str)\n"
        "2. `sure` (bool)\n"
        "Each exchange is laid out as follows; a name in braces stands for the value of that field.\n\n"
        "[[ ## question ## ]]\n{question}\n\n"
        "The answer is one JSON object and nothing else, with these keys:\n\n"
        '{\n  "answer": "{answer}",\n  "sure": "{sure}        # True or False"\n}\n'
        "What to do:\n        Be brief."
    )


def test_the_request_ends_with_the_keys() -> None:
    signature = make_signature("question -> answer, n: int")

    assert JSONAdapter().format(signature, (), {"question": "why?"})[-1].text == (
        "[[ ## question ## ]]\nwhy?\n\n"
        "Reply with one JSON object that has these keys in this order: `answer`, `n` (a Python int)."
    )


def test_an_incomplete_demo_marks_what_it_lacks() -> None:
    signature = make_signature("a, b -> c, d: int")
    answer = JSONAdapter().format(signature, ({"a": "1", "d": 2},), {"a": "x", "b": "y"})[2].text

    assert json.loads(answer) == {"c": NOT_GIVEN, "d": 2}


def test_line_feeds_in_strings_are_read_as_they_stand() -> None:
    """DSPy's repairer makes something else of some of them."""
    assert JSONAdapter().parse(make_signature("q -> a"), '{"a": "one\n\n\ttwo"}') == {"a": "one\n\n\ttwo"}


def test_of_two_values_of_one_key_the_first_counts() -> None:
    """DSPy takes the last. What is told while the answer is written is the first."""
    assert JSONAdapter().parse(make_signature("q -> a"), '```json\n{"a": "one", "a": "two"}\n```') == {"a": "one"}


def test_of_two_objects_the_first_counts() -> None:
    """DSPy takes the last."""
    assert JSONAdapter().parse(make_signature("q -> a"), '{"a": "one"} {"a": "two"}') == {"a": "one"}


def test_null_is_no_text() -> None:
    """DSPy reads it as the word `None`."""
    with pytest.raises(AdapterParseError, match="output 'a' is no str: it is null"):
        JSONAdapter().parse(make_signature("q -> a"), '{"a": null}')


def test_what_is_no_text_is_json_in_a_text() -> None:
    """DSPy writes it as Python does."""
    read = JSONAdapter().parse(make_signature("q -> a, b"), '{"a": [true, null], "b": {"c": "ü"}}')

    assert read == {"a": "[true, null]", "b": '{"c": "ü"}'}


def test_an_answer_without_any_of_the_keys_is_refused_with_the_keys() -> None:
    """DSPy reads this as two `None`."""
    signature = make_signature("q -> a: int | None, b: str | None")
    with pytest.raises(AdapterParseError, match="no JSON object with the keys a, b") as caught:
        JSONAdapter().parse(signature, '{"answer": 1}')

    assert (caught.value.field, caught.value.adapter) == ("a", "json")
    assert JSONAdapter().parse(signature, " {} ") == {"a": None, "b": None}


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 100_000, '{"a" ' * 5_000, "{" * 20_000, '{"a": ' + "9" * 5_000])
def test_runaway_answers_are_refused_at_once(text: str) -> None:
    with pytest.raises(AdapterParseError):
        JSONAdapter().parse(make_signature("q -> a: list[int]"), text)


@pytest.mark.parametrize(
    ("formats", "wanted"),
    [(BOTH, "json_schema"), ({"json_schema"}, "json_schema"), ({"json_object"}, "json_object"), (set(), None)],
)
def test_a_format_is_asked_for_where_the_provider_takes_it(formats: set[ResponseFormat], wanted: str | None) -> None:
    asked: Any = JSONAdapter().options(make_signature("q -> a"), frozenset(formats))

    assert (asked["response_format"]["type"] if asked else None) == wanted


def test_open_outputs_have_no_strict_schema() -> None:
    for kind in ("dict[str, int]", "dict", "Any", "list[dict[str, Any]]", "tuple[int, str]", "list"):
        assert strict_schema(make_signature(f"q -> a: {kind}")) is None, kind
    assert JSONAdapter().options(make_signature("q -> a: dict"), frozenset({"json_schema"})) == {}


def test_the_format_may_be_chosen() -> None:
    signature = make_signature("q -> a")
    asked: Any = JSONAdapter("json_object").options(signature, frozenset())

    assert asked == {"response_format": {"type": "json_object"}}
    assert JSONAdapter(None).options(signature, BOTH) == {}
    assert pickle.loads(pickle.dumps(JSONAdapter(None))).response_format is None


def test_limits_and_defaults_are_in_no_schema() -> None:
    schema: Any = strict_schema(make_signature("q -> a: Trip", custom_types=CUSTOM_TYPES))

    assert schema["$defs"]["Trip"]["properties"]["paid"] == {"type": "boolean"}


def asked_by(lm: str, **options: Any) -> Any:
    """The options of the request that a program under the JSON adapter makes."""
    provider = ScriptedProvider(['{"answer": "yes"}'])
    with Runtime(lm=lm, adapter=JSONAdapter(), open_provider=lambda config: provider) as rt:
        assert rt.start(Predict("question -> answer", **options))(question="why?").answer == "yes"
    return provider.requests[0].options


@pytest.mark.parametrize(
    ("lm", "kind"),
    [("openai/m", "json_schema"), ("anthropic/m", "json_schema"), ("local/m", "json_schema"), ("mine/m", None)],
)
def test_a_program_asks_for_a_format_where_the_provider_is_known_to_take_it(lm: str, kind: str | None) -> None:
    asked = asked_by(lm)

    assert (asked["response_format"]["type"] if asked else None) == kind


def test_a_format_given_to_the_predictor_counts() -> None:
    assert asked_by("openai/m", response_format={"type": "text"}) == {"response_format": {"type": "text"}}


@given(
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8), text=st.text()
)
def test_any_outputs_come_back_the_same(value: object, text: str) -> None:
    signature = make_signature("q -> a: list[Any], b")
    outputs = {"a": [value], "b": text}

    assert JSONAdapter().parse(signature, JSONAdapter().assistant_text(signature, outputs)) == outputs


@given(text=st.text(alphabet="[]{}#\"'aA1:, \n\\-.u", max_size=60), kind=st.sampled_from(["str", "list[str]", "Any"]))
def test_whatever_a_model_writes_is_read_or_refused(text: str, kind: str) -> None:
    try:
        fields = set(JSONAdapter().parse(make_signature(f"q -> a: {kind}"), f'{{"a": {text}'))
    except AdapterParseError as error:
        fields = {str(error.field)}

    assert fields == {"a"}


def test_in_json_the_word_null_is_text_and_null_is_none() -> None:
    signature = make_signature("q -> a: str | None")
    read = [JSONAdapter().parse(signature, answer) for answer in ('{"a": "null"}', '{"a": null}')]

    assert read == [{"a": "null"}, {"a": None}]
