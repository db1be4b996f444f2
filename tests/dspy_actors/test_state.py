"""Saved programs: DSPy's files are read, ours have its shape, and a file that does not fit is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.errors import StateError
from dspy_actors.example import Example
from dspy_actors.secret import Secret
from dspy_actors.signature.fields import OutputField
from dspy_actors.signature.signature import make_signature
from dspy_actors.state import PredictorState, dump, load, read_json, restore, save, write_json_atomic
from tests.dspy_actors.recorded.kinds import CUSTOM_TYPES, Place

RECORDED = Path(__file__).parent / "recorded"
QA = make_signature("question -> answer")
BARE = {"self": PredictorState(QA)}
COMPOSED = {
    "cot.predict": PredictorState(QA.prepend("reasoning", OutputField())),
    "many[0]": PredictorState(make_signature("a: list[str] -> b: int")),
    "byname['k']": PredictorState(make_signature("text -> place: Place", "Find it.", custom_types=CUSTOM_TYPES)),
}


def test_a_bare_file_of_dspy_is_loaded() -> None:
    loaded = load(RECORDED / "dspy_bare.json", BARE)["self"]

    assert loaded.signature.equals(QA)
    assert loaded.demos == (
        {"question": "q1", "answer": "a1"},
        {"augmented": True, "question": "q2", "answer": "a2 ü"},
    )
    assert loaded.lm is None


def test_a_composed_file_of_dspy_is_loaded() -> None:
    loaded = load(RECORDED / "dspy_composed.json", COMPOSED, allow_endpoints=True)

    assert [len(state.demos) for state in loaded.values()] == [2, 0, 1]
    assert loaded["cot.predict"].lm is not None
    assert loaded["cot.predict"].lm["api_base"] == "http://x/v1"
    assert loaded["byname['k']"].demos == ({"text": "in Ulm", "place": {"name": "Ulm", "zone": None}},)


@pytest.mark.parametrize(("name", "expected"), [("dspy_bare", BARE), ("dspy_composed", COMPOSED)])
def test_what_was_loaded_from_dspy_is_written_back_the_same(name: str, expected: dict[str, PredictorState]) -> None:
    theirs = read_json(RECORDED / f"{name}.json")
    ours = dump(restore(theirs, expected, allow_endpoints=True))

    assert set(ours["metadata"]) == {"dependency_versions", "dspy_actors"}
    assert set(ours["metadata"]["dependency_versions"]) == set(theirs["metadata"]["dependency_versions"])
    assert {k: v for k, v in ours.items() if k != "metadata"} == {k: v for k, v in theirs.items() if k != "metadata"}


def test_where_requests_go_is_not_taken_from_a_file_unasked() -> None:
    with pytest.warns(UserWarning, match="api_base of the saved LM was left out"):
        loaded = load(RECORDED / "dspy_composed.json", COMPOSED)

    assert "api_base" not in (loaded["cot.predict"].lm or {})


def test_instructions_and_descriptions_come_back(tmp_path: Path) -> None:
    better = QA.with_instructions("Be brief.").with_updated_fields("answer", desc="one word", prefix="A:")
    save(tmp_path / "qa.json", {"self": PredictorState(better)})

    assert load(tmp_path / "qa.json", BARE)["self"].signature.equals(better)


def test_demos_of_models_and_examples_become_json(tmp_path: Path) -> None:
    demos = (Example(question="where?", answer=Place(name="Ulm")), {"question": "when?", "answer": dt.date.min})
    save(tmp_path / "qa.json", {"self": PredictorState(QA, demos)})
    first, second = load(tmp_path / "qa.json", BARE)["self"].demos

    assert first["answer"] == {"name": "Ulm", "zone": None}
    assert second["answer"] == "0001-01-01"


def test_no_key_reaches_a_file() -> None:
    lm = {"model": "m", "api_key": "sk-1", "extra": Secret("sk-2"), "headers": {"Authorization": "sk-3", "x": "y"}}
    written = dump({"self": PredictorState(QA, lm={**lm, "max_tokens": 5})})

    assert "sk-" not in json.dumps(written)
    assert written["lm"]["headers"] == {"x": "y"}
    assert written["lm"]["max_tokens"] == 5


def test_what_else_dspy_kept_for_a_predictor_is_kept() -> None:
    theirs = read_json(RECORDED / "dspy_bare.json") | {"fields": {"criteria": ["x"]}}

    assert dump(restore(theirs, BARE))["fields"] == {"criteria": ["x"]}


def test_demo_data_that_is_no_json_is_refused_by_predictor() -> None:
    with pytest.raises(StateError, match="predictor self cannot be saved") as caught:
        dump({"self": PredictorState(QA, ({"question": object(), "answer": "a"},))})

    assert caught.value.predictor == "self"


def refusal(data: Mapping[str, Any], expected: Mapping[str, PredictorState]) -> StateError:
    with pytest.raises(StateError) as caught:
        restore(data, expected, "file.json")
    assert caught.value.path == "file.json"
    return caught.value


def test_a_file_of_ours_for_other_fields_is_refused() -> None:
    other = dump({"self": PredictorState(make_signature("text -> label"))})
    error = refusal(other, BARE)

    assert error.predictor == "self"
    assert "saved with the inputs text, the signature has question" in error.message


def test_a_file_of_dspy_for_other_fields_is_refused_by_its_descriptions() -> None:
    theirs = read_json(RECORDED / "dspy_bare.json")
    error = refusal(theirs, {"self": PredictorState(make_signature("text -> label"))})

    assert "saved for a field 'question' where the signature has 'text'" in error.message


def test_a_file_of_dspy_with_more_fields_is_refused() -> None:
    theirs = read_json(RECORDED / "dspy_bare.json")
    error = refusal(theirs, {"self": PredictorState(make_signature("question, context -> answer"))})

    assert "saved with 2 fields" in error.message


def test_demos_of_other_fields_are_refused() -> None:
    data = dump(BARE) | {"demos": [{"text": "x", "label": "y"}]}

    assert "a demo with the fields text, label" in refusal(data, BARE).message


def test_a_missing_predictor_is_refused_by_name() -> None:
    data = dump({name: state for name, state in COMPOSED.items() if name != "many[0]"})

    assert refusal(data, COMPOSED).predictor == "many[0]"


def test_a_predictor_the_program_lacks_is_refused_by_name() -> None:
    expected = {name: state for name, state in COMPOSED.items() if name != "many[0]"}

    assert refusal(dump(COMPOSED), expected).predictor == "many[0]"


def test_a_bare_file_does_not_load_into_a_composed_program() -> None:
    assert "the file has a single predictor" in refusal(dump(BARE), COMPOSED).message


def test_a_composed_file_does_not_load_into_a_bare_predictor() -> None:
    assert "the file has the predictors cot.predict, many[0]" in refusal(dump(COMPOSED), BARE).message


def test_a_file_of_a_later_release_is_refused() -> None:
    data = dump(BARE)
    data["metadata"]["dspy_actors"]["version"] = 2

    assert "later release" in refusal(data, BARE).message


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["signature"].pop("instructions"),
        lambda data: data["signature"].pop("fields"),
        lambda data: data["signature"]["fields"].append("x"),
        lambda data: data["demos"].append("x"),
        lambda data: data.update(demos=None),
        lambda data: data.update(lm=[1]),
        lambda data: data.update(signature=None),
        lambda data: data.clear(),
    ],
)
def test_a_damaged_state_is_refused(damage: Callable[[dict[str, Any]], object]) -> None:
    data = dump(BARE)
    damage(data)

    assert refusal(data, BARE).path == "file.json"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": nan}', "\x00", "[" * 100_000])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(StateError) as caught:
        read_json(path)

    assert caught.value.path == str(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no file"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["x.pkl", "x", "x.json.gz"])
def test_only_json_is_read_and_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match="pickle is neither read nor written"):
        save(tmp_path / name, BARE)
    with pytest.raises(StateError, match="pickle is neither read nor written"):
        load(tmp_path / name, BARE)


def test_half_an_emoji_in_a_demo_is_kept(tmp_path: Path) -> None:
    """As models' answers end that were cut: a program that learned from one could not be saved."""
    demo = {"question": "why?", "answer": "so \ud83d"}
    save(tmp_path / "x.json", {"self": PredictorState(QA, (demo,))})

    assert load(tmp_path / "x.json", BARE)["self"].demos == (demo,)


def test_a_state_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    save(path, BARE)
    before = path.read_bytes()
    with pytest.raises(StateError, match="no JSON"):
        save(path, {"self": PredictorState(QA, ({"question": float("nan"), "answer": "a"},))})

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_refusing_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.mkdir()
    with pytest.raises(OSError):
        write_json_atomic(path, {})

    assert os.listdir(tmp_path) == ["x.json"]


def test_a_link_keeps_pointing_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("{}")
    real.chmod(0o640)
    link.symlink_to(real)
    write_json_atomic(link, {"a": 1})

    assert link.is_symlink()
    assert json.loads(real.read_text()) == {"a": 1}
    assert real.stat().st_mode & 0o777 == 0o640
