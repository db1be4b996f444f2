"""Records: DSPy's gestures on `Example`, `Prediction`, `Completions`, and what a call adds to a prediction."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import BaseModel

from dspy_actors.call_record import CallRecord
from dspy_actors.example import Completions, Example, Prediction
from dspy_actors.messages import Usage

QA = Example(question="why?", answer="because")


class Point(BaseModel):
    x: int


def test_fields_are_read_as_attributes_and_items() -> None:
    assert (QA.question, QA["answer"]) == ("why?", "because")


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="Example has no field 'query'; it has question, answer"):
        _ = QA.query


def test_a_base_is_copied_and_keywords_win() -> None:
    made = Example(QA, answer="so")

    assert made == Example({"question": "why?", "answer": "so"})
    assert QA.answer == "because"


def test_inputs_and_labels_part_the_fields() -> None:
    example = QA.with_inputs("question")

    assert example.inputs() == Example(question="why?")
    assert example.labels() == Example(answer="because")
    assert QA.input_keys is None


def test_inputs_ask_for_with_inputs() -> None:
    with pytest.raises(ValueError, match="with_inputs"):
        QA.inputs()


@pytest.mark.parametrize("copied", [QA.copy, lambda: copy.copy(QA), lambda: copy.deepcopy(QA)])
def test_a_copy_is_its_own_record(copied: object) -> None:
    made = copied()  # type: ignore[operator]
    made.answer = "so"

    assert (made.answer, QA.answer) == ("so", "because")


def test_inputs_survive_copying_and_pickling() -> None:
    example = QA.with_inputs("question")

    assert example.copy(answer="so").input_keys == frozenset({"question"})
    assert example.without("answer").inputs() == Example(question="why?")
    assert pickle.loads(pickle.dumps(example)).labels() == Example(answer="because")


def test_without_refuses_an_unknown_name() -> None:
    with pytest.raises(KeyError):
        QA.without("query")


def test_dspy_fields_are_kept_out_of_sight() -> None:
    example = Example(a=1, dspy_uuid="x")

    assert (example.keys(), len(example), example.keys(include_dspy=True)) == (["a"], 1, ["a", "dspy_uuid"])


def test_a_method_is_not_overwritten_by_a_field() -> None:
    example = Example()
    with pytest.raises(AttributeError, match="is a method"):
        example.keys = 1
    example["keys"] = 1

    assert example["keys"] == 1


def test_examples_unpack_into_a_call() -> None:
    assert dict(**QA) == {"question": "why?", "answer": "because"}


def test_equal_examples_hash_alike() -> None:
    assert len({QA, Example(answer="because", question="why?")}) == 1


def test_to_dict_is_plain_all_the_way_down() -> None:
    made = Example(a=Example(b=1), p=Point(x=2), many=[Point(x=3), {"k": Example(c=4)}]).toDict()

    assert made == {"a": {"b": 1}, "p": {"x": 2}, "many": [{"x": 3}, {"k": {"c": 4}}]}


def test_a_repr_is_short() -> None:
    assert repr(Example(text="x" * 10_000)) == f"Example(text='{'x' * 58}…)"


def test_what_a_call_was_is_no_field() -> None:
    made = Prediction.of({"answer": "so"}, call=CallRecord(usage=Usage(3, 4), cost=0.1, attempts=2, model="m"))

    assert (made.usage, made.cost, made.attempts, made.cached, made.model, made.version) == (
        Usage(3, 4),
        0.1,
        2,
        False,
        "m",
        None,
    )
    assert made.toDict() == {"answer": "so"}
    assert made == Prediction(answer="so")


def test_an_output_field_wins_over_the_call_of_the_same_name() -> None:
    made = Prediction.of({"model": "Model T"}, call=CallRecord(model="gpt"))

    assert (made.model, made["model"], made.call_record.model) == ("Model T", "Model T", "gpt")


def test_keywords_of_a_prediction_are_fields() -> None:
    made = Prediction(version="2.0")

    assert made.toDict() == {"version": "2.0"}
    assert made.call_record == CallRecord()


def test_with_call_changes_a_copy() -> None:
    made = Prediction(answer="so")
    later = made.with_call(cost=1.5).copy(answer="well")

    assert (made.cost, later.cost, later.answer) == (None, 1.5, "well")


def test_usage_is_told_in_dspys_form() -> None:
    made = Prediction.of({}, call=CallRecord(usage=Usage(3, 4), model="m"))

    assert made.get_lm_usage() == {"m": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert Prediction().get_lm_usage() is None


def test_a_prediction_counts_with_its_score() -> None:
    low, high = Prediction(score=0.25), Prediction(score=1)

    assert low < high
    assert high >= 1
    assert (low + high, sum([low, high]) / 2, high / 2) == (1.25, 0.625, 0.5)


def test_a_prediction_without_score_says_so() -> None:
    with pytest.raises(ValueError, match="no field 'score'"):
        float(Prediction(answer="x"))


def test_completions_hold_all_samples() -> None:
    made = Prediction.from_completions([{"answer": "a"}, {"answer": "b"}])

    assert made.answer == "a"
    assert made.completions is not None
    assert (made.completions.answer, made.completions[1], len(made.completions)) == (
        ["a", "b"],
        Prediction(answer="b"),
        2,
    )


def test_completions_refuse_ragged_samples() -> None:
    with pytest.raises(ValueError, match="answer x 2, why x 1"):
        Completions([{"answer": "a", "why": "x"}, {"answer": "b"}])


def test_a_prediction_survives_pickling_whole() -> None:
    made = Prediction.from_completions([{"a": 1}, {"a": 2}], call=CallRecord(cost=0.5))
    back = pickle.loads(pickle.dumps(made))

    assert (back, back.cost, back.completions) == (made, 0.5, made.completions)
