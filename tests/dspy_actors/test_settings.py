"""Settings: a runtime's, a block's, a handle's, a predictor's, and which of them stands above which."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.lm import LM
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from tests.dspy_actors.programs import PATIENCE, AskLater, begin, qa, runtime


def test_the_model_of_one_predictor_stands_above_the_runtimes() -> None:
    with runtime():
        assert Predict("question -> answer", lm=LM("scripted/own"))(question="blue").model == "scripted/own"


def test_a_handle_with_other_settings_asks_the_other_model() -> None:
    with runtime() as rt:
        assert rt.start(qa()).using(lm="scripted/other")(question="blue").model == "scripted/other"


def test_settings_given_to_a_handle_stand_above_those_of_the_block_around_it() -> None:
    with runtime() as rt:
        program = rt.start(qa()).using(lm="scripted/own")
        with rt.using(lm="scripted/other"):
            assert program(question="blue").model == "scripted/own"


def test_settings_of_a_block_hold_for_calls_inside_it() -> None:
    with runtime() as rt, rt.using(lm="scripted/other"):
        assert qa()(question="blue").model == "scripted/other"


def test_settings_of_a_block_end_with_it() -> None:
    with runtime() as rt:
        with rt.using(lm="scripted/other"):
            pass
        assert qa()(question="blue").model == "scripted/m"


def test_settings_of_a_block_reach_a_submitted_call() -> None:
    with runtime() as rt:
        program = rt.start(AskLater())
        with rt.using(lm="scripted/other"):
            reply = program.submit(question="blue")
        assert reply.get(PATIENCE).model == "scripted/other"


def test_a_handle_started_under_settings_keeps_them() -> None:
    with runtime() as rt:
        program = rt.using(lm="scripted/other").start(qa())
        assert begin(lambda: program(question="blue")).get(PATIENCE).model == "scripted/other"


def test_a_setting_that_does_not_exist_is_refused_by_its_name() -> None:
    with runtime() as rt, pytest.raises(TypeError, match="temprature"):
        rt.using(temprature=1.0)


WRONG: list[dict[str, Any]] = [
    {"deadline": 0.0},
    {"deadline": "10"},
    {"deadline": float("nan")},
    {"cache_seconds": None},
    {"cache_bytes": -1},
    {"cache_entries": 0},
    {"max_inflight": 0},
    {"max_inflight": True},
    {"max_queue": -1},
    {"max_zombies": 1.5},
    {"parse_retries": -1},
    {"lm": 5},
    {"adapter": "chat"},
    {"tenant": None},
    {"guarding": "strict"},
    {"prices": {"openai/m": 0.15}},
    {"budgets": {"team-a": 100}},
    {"session_budgets": [1]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_runtime_that_cannot_work_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        Runtime(**wrong)


@pytest.mark.parametrize("wrong", [{"deadline": None}, {"lm": 5}, {"tenant": 7}, {"sample": -1}], ids=str)
def test_settings_that_cannot_work_are_refused_when_they_are_made(wrong: dict[str, Any]) -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        rt.using(**wrong)
