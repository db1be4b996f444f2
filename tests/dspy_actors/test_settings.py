"""Settings: a runtime's, a block's, a handle's, a predictor's, and which of them stands above which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspy_actors.errors import InputError, LMConfigurationError
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.budget import Budget
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.lm import LM
from dspy_actors.lm.prices import Price
from dspy_actors.lm.retry_budget import RetryBudgetSettings
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.streaming.stream_producer import StreamProducer
from dspy_actors.streaming.streamify import streamify
from supervisors.errors import StartFailed
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
    with runtime() as rt, pytest.raises(LMConfigurationError, match=r"temprature.*deadline"):
        rt.using(temprature=1.0)


WRONG: list[dict[str, Any]] = [
    {"deadline": 0.0},
    {"deadline": "10"},
    {"deadline": float("nan")},
    {"deadline": 10**400},
    {"cache_seconds": None},
    {"cache_bytes": -1},
    {"cache_entries": 0},
    {"max_inflight": 0},
    {"max_inflight": True},
    {"max_queue": -1},
    {"max_zombies": 1.5},
    {"parse_retries": -1},
    {"cache_disk_seconds": "week"},
    {"cache_path": 5},
    {"clock": 5},
    {"lm": 5},
    {"adapter": "chat"},
    {"tenant": None},
    {"guarding": "strict"},
    {"streaming": 5},
    {"quarantine": True},
    {"open_provider": 5},
    {"tenants": "team"},
    {"tenants": [1]},
    {"tenants": 5},
    {"priority": "zz"},
    {"name": 5},
    {"name": ""},
    {"prices": {"openai/m": 0.15}},
    {"budgets": {"team-a": 100}},
    {"session_budgets": [1]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_runtime_that_cannot_work_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        Runtime(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": None},
        {"deadline": 0},
        {"deadline": -1},
        {"cache_disk_seconds": "week"},
        {"cache_path": 5},
        {"clock": 5},
        {"lm": 5},
        {"tenant": 7},
        {"sample": -1},
        {"options": 5},
        {"tenants": ["a"]},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_when_they_are_made(wrong: dict[str, Any]) -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        rt.using(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"max_inflight": 0}, {"max_queue": -1}, {"name": 5}, {"name": ""}, {"cached": "x"}, {"quarantine": 1}],
    ids=str,
)
def test_a_program_that_cannot_work_is_refused_before_it_is_started(wrong: dict[str, Any]) -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match=rf"Runtime\.start\({next(iter(wrong))}="):
        rt.start(qa(), **wrong)


WRONG_PARTS: list[tuple[Any, dict[str, Any]]] = [
    (Guarding, {"fairness": None}),
    (Guarding, {"breaker": 5}),
    (Guarding, {"breaker": None}),
    (Guarding, {"provider_breaker": None}),
    (Guarding, {"limiters": {"x": 5}}),
    (Guarding, {"limiters": None}),
    (Guarding, {"retry_budget": 5}),
    (LimiterSettings, {"requests_per_minute": "60"}),
    (LimiterSettings, {"follow_latency": "x"}),
    (BreakerSettings, {"minimum": 2.5}),
    (BreakerSettings, {"window_seconds": "30"}),
    (RetryBudgetSettings, {"capacity": "x"}),
    (StreamSettings, {"buffer_events": True}),
    (Budget, {"tokens": "x"}),
    (Budget, {"requests": 1.5}),
    (Fairness, {"weights": [1]}),
]


@pytest.mark.parametrize(("part", "wrong"), WRONG_PARTS, ids=str)
def test_a_part_of_the_settings_that_cannot_work_is_refused_by_its_name(part: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=rf"{part.__name__}\({next(iter(wrong))}"):
        part(**wrong)


@pytest.mark.parametrize(("prompt", "completion", "named"), [("x", 1, "prompt"), (1, None, "completion")])
def test_a_price_that_is_no_number_is_refused_by_its_name(prompt: Any, completion: Any, named: str) -> None:
    with pytest.raises(LMConfigurationError, match=named):
        Price(prompt, completion)


def test_a_price_of_a_model_without_its_provider_which_no_call_would_find_is_refused() -> None:
    with pytest.raises(LMConfigurationError, match=r"prices\['gpt-4o'\].*provider/model, as 'openai/gpt-4o'"):
        Runtime(prices={"gpt-4o": Price(1, 2)})


@pytest.mark.parametrize("name", ["gpt-4o", "OpenAI/gpt-4o", "/gpt-4o", "openai/", "", 5], ids=repr)
def test_limits_under_a_name_that_no_call_would_find_are_refused(name: Any) -> None:
    with pytest.raises(LMConfigurationError, match=rf"limiters\[{name!r}\].*'openai/gpt-4o'"):
        Runtime(guarding=Guarding(limiters={name: LimiterSettings()}))


@pytest.mark.parametrize("name", ["openai", "openai/gpt-4o", "local/org/model"])
def test_limits_of_a_model_or_a_provider_of_ours_are_taken(name: str) -> None:
    assert Runtime(guarding=Guarding(limiters={name: LimiterSettings()}))


@pytest.mark.parametrize("name", ["gpt-4o", "mine/m"])
def test_providers_of_ones_own_may_have_limits_under_any_name(name: str) -> None:
    assert runtime(guarding=Guarding(limiters={name: LimiterSettings()}))


@pytest.mark.parametrize("name", ["/m", "mine/", "", 5], ids=repr)
def test_limits_that_no_provider_of_ones_own_can_have_are_refused_too(name: Any) -> None:
    with pytest.raises(LMConfigurationError, match=rf"limiters\[{name!r}\].*'openai/gpt-4o'"):
        runtime(guarding=Guarding(limiters={name: LimiterSettings()}))


@pytest.mark.parametrize("prompt", [5, "", " ", None, []], ids=repr)
def test_a_prompt_that_asks_nothing_is_refused_before_anything_is_sent(prompt: Any) -> None:
    with runtime() as rt:
        with pytest.raises(InputError) as caught:
            rt.stream(prompt)
        assert (caught.value.field, rt.numbers().calls) == ("prompt", 0)


def test_what_is_no_program_cannot_be_streamed() -> None:
    with pytest.raises(LMConfigurationError, match=r"streamify.program='q -> a'"):
        streamify("q -> a")  # type: ignore[arg-type]


def test_a_stream_that_has_begun_is_no_way_to_begin_one() -> None:
    with runtime() as rt, rt.start(qa()).stream(question="blue") as stream, pytest.raises(StartFailed) as caught:
        rt.system.spawn(StreamProducer, stream)
    assert isinstance(caught.value.cause, LMConfigurationError)


@pytest.mark.parametrize("key", ["", " ", ["a", ""]], ids=repr)
def test_an_empty_key_is_refused_as_every_wrong_argument(key: Any) -> None:
    with pytest.raises(LMConfigurationError, match="non-empty"):
        LM("openai/m", api_key=key)


def test_only_a_started_program_can_replay_what_is_set_aside() -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match=r"replay.program="):
        rt.quarantine.replay("1", qa(), {"question": "blue"})  # type: ignore[arg-type]


def test_a_cache_that_cannot_be_is_refused_as_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(LMConfigurationError, match="cache_path"):
        Runtime(cache_path=tmp_path / "missing" / "answers.sqlite").start_up()


class FormatAndParseOnly:
    """What was an adapter's whole interface once, not derived from `Adapter`."""

    name = "short"

    def format(self, *_: Any) -> tuple[()]:
        return ()

    def parse(self, *_: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("adapter", [FormatAndParseOnly(), "chat", object()], ids=["short", "name", "object"])
def test_what_is_no_whole_adapter_is_refused_before_any_call(adapter: Any) -> None:
    with pytest.raises(LMConfigurationError, match="derive from Adapter"):
        Runtime(adapter=adapter)
