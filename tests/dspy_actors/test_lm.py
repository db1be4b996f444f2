"""The `LM` value: its name, its options, what it refuses, and that it shows no key."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import worker_name
from dspy_actors.messages import LMRequest, LMResponse
from dspy_actors.modules.predict import Predict, lm_from_state
from dspy_actors.runtime import Runtime
from dspy_actors.secret import Secret
from dspy_actors.testing.providers import ScriptedProvider
from tests.dspy_actors.programs import echo, says

KEY = "sk-marker-0123456789abcdef"


def test_a_name_is_a_provider_and_a_model() -> None:
    lm = LM("openai/org/model:free")
    assert (lm.provider, lm.model, lm.name) == ("openai", "org/model:free", "openai/org/model:free")


@pytest.mark.parametrize("name", ["gpt-4o-mini", "openai/", "/gpt", ""])
def test_a_name_without_a_provider_shows_how_to_write_one(name: str) -> None:
    with pytest.raises(LMConfigurationError, match="openai/gpt-4o-mini"):
        LM(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_retries": -1},
        {"num_retries": "3"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": 10**400},
    ],
)
def test_an_argument_that_makes_no_sense_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        LM("openai/m", **wrong)


def test_other_arguments_are_options_of_the_model() -> None:
    assert dict(LM("openai/m", temperature=0.5, max_tokens=7).options) == {"temperature": 0.5, "max_tokens": 7}


def test_dspys_word_for_the_server_is_understood() -> None:
    assert LM("openai/m", api_base="http://here/v1").base_url == "http://here/v1"


def test_an_lm_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        LM("openai/m").model = "another"  # type: ignore[misc]


def test_the_options_of_an_lm_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        LM("openai/m").options["temperature"] = 1.0  # type: ignore[index]


def test_a_copy_has_other_options_over_its_own() -> None:
    made = LM("openai/m", temperature=0.5, seed=1).copy(temperature=1.0)
    assert dict(made.options) == {"temperature": 1.0, "seed": 1}


def test_a_copy_has_other_arguments() -> None:
    made = LM("openai/m", api_key=KEY).copy(num_retries=0, cache=False)
    assert (made.num_retries, made.cache, made.name) == (0, False, "openai/m")


def test_a_copy_with_a_plain_key_keeps_it_secret() -> None:
    made = LM("openai/m").copy(api_key=KEY)
    assert isinstance(made.api_key, Secret)
    assert KEY not in repr(made)


@pytest.mark.parametrize("wrong", [{"num_retries": -1}, {"timeout": 0}])
def test_a_copy_refuses_what_an_lm_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=next(iter(wrong))):
        LM("openai/m").copy(**wrong)


@pytest.mark.parametrize(
    "wrong", ["sk-кл-0123456789", "sk-marker\n0123456789", "sk-marker 0123456789", "sk-marker\0", "sk-marker\ud83d"]
)
@pytest.mark.parametrize("given", [str, Secret, lambda key: [KEY, key]], ids=["text", "secret", "list"])
def test_a_key_that_no_header_can_hold_is_refused_where_it_is_given_and_not_shown(wrong: str, given: Any) -> None:
    with pytest.raises(LMConfigurationError, match=r"LM\(api_key=\.\.\.\).*HTTP header") as caught:
        LM("openai/m", api_key=given(wrong))
    assert wrong not in repr(caught.value)
    assert "marker" not in repr(caught.value)


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_key_is_refused_with_what_to_do(blank: str) -> None:
    with pytest.raises(LMConfigurationError, match="leave the key out"):
        LM("openai/m", api_key=blank)


def test_a_provider_of_ones_own_may_have_keys_of_any_kind() -> None:
    assert LM("own/m", api_key="the blue door").api_key == Secret("the blue door")


@pytest.mark.parametrize("show", [repr, str, lambda lm: repr(lm.config), lambda lm: f"{lm.api_key}"])
def test_a_key_is_not_shown(show: Any) -> None:
    assert "marker" not in show(LM("openai/m", api_key=KEY))


def test_a_key_is_not_in_what_is_saved() -> None:
    assert "marker" not in str(LM("openai/m", api_key=KEY, temperature=0.1).to_state())


def test_what_is_saved_makes_an_equal_lm() -> None:
    lm = LM("openai/m", temperature=0.5, cache=False, num_retries=1)
    state = lm.to_state()
    assert state is not None
    assert lm_from_state(state) == lm


def test_an_lm_with_an_endpoint_of_its_own_is_not_saved() -> None:
    assert LM("openai/m", base_url="http://elsewhere/v1").to_state() is None


def test_equal_lms_share_a_worker() -> None:
    names = {worker_name(LM("openai/m", api_key=KEY, temperature=t).config) for t in (0.0, 1.0)}
    assert len(names) == 1


@pytest.mark.parametrize(
    "other", [{"api_key": "sk-another-0123456789"}, {"base_url": "http://here/v1"}, {"timeout": 5}]
)
def test_lms_with_other_ways_to_the_model_have_workers_of_their_own(other: dict[str, Any]) -> None:
    options: dict[str, Any] = {"api_key": KEY}
    assert worker_name(LM("openai/m", **options).config) != worker_name(LM("openai/m", **{**options, **other}).config)


def test_a_worker_is_not_named_after_its_key() -> None:
    assert "marker" not in str(worker_name(LM("openai/m", api_key=KEY).config))


def options_of(lm: LM, *, settings: dict[str, Any] | None = None, **config: Any) -> dict[str, object]:
    """The options that a question arrives with at the model."""
    provider = ScriptedProvider(echo)
    with Runtime(lm=lm, open_provider=lambda _: provider) as rt, rt.using(options=settings or {}):
        Predict("question -> answer", **config)(question="blue")
    (request,) = provider.requests
    assert isinstance(request, LMRequest)
    return dict(request.options)


def test_options_of_an_lm_reach_the_model() -> None:
    assert options_of(LM("scripted/m", temperature=0.5)) == {"temperature": 0.5}


def test_options_of_a_predictor_stand_above_those_of_its_lm() -> None:
    assert options_of(LM("scripted/m", temperature=0.5, seed=1), temperature=0.7) == {"temperature": 0.7, "seed": 1}


def test_options_of_the_settings_stand_above_all() -> None:
    assert options_of(LM("scripted/m", temperature=0.5), settings={"temperature": 1.0}, temperature=0.7) == {
        "temperature": 1.0
    }


def test_more_than_one_choice_is_one_request_with_completions() -> None:
    provider = ScriptedProvider([LMResponse((says(answer="one"), says(answer="two")), "m")])
    with Runtime(lm="scripted/m", open_provider=lambda _: provider):
        prediction = Predict("question -> answer", n=2)(question="blue")
    assert (prediction.answer, prediction.completions.answer) == ("one", ["one", "two"])


SENSELESS: list[dict[str, Any]] = [
    {"temperature": "hot"},
    {"temperature": -1},
    {"temperature": True},
    {"temperature": float("nan")},
    {"max_tokens": 0},
    {"max_tokens": 1.5},
    {"max_completion_tokens": -1},
    {"n": 0},
    {"n": True},
    {"stop": 5},
    {"stop": ["a", 5]},
    {"tools": 5},
    {"tools": "search"},
    {"response_format": "xml"},
    {"cache": "no"},
    {"base_url": 5},
]


@pytest.mark.parametrize("wrong", SENSELESS, ids=str)
def test_an_option_that_makes_no_sense_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match=rf"LM\({next(iter(wrong))}="):
        LM("openai/m", **wrong)


@pytest.mark.parametrize(
    ("slip", "meant"), [("max_token", "max_tokens"), ("temprature", "temperature"), ("fallback", "fallbacks")]
)
def test_a_slip_in_the_name_of_an_option_is_told(slip: str, meant: str) -> None:
    with pytest.raises(LMConfigurationError, match=rf"{slip}.*did you mean {meant}\?"):
        LM("openai/m", **{slip: 5})


def test_options_of_gateways_and_options_left_out_are_let_through() -> None:
    options = {"min_tokens": 5, "guided_json": {}, "top_n": 3, "num_ctx": 4096, "stop": None, "max_tokens": None}
    made: Any = LM("openai/m", temperature=0, stop="end", tools=(), response_format={"type": "text"}).copy(**options)
    assert made.options.items() >= options.items()


def test_a_server_is_named_once() -> None:
    with pytest.raises(LMConfigurationError, match="api_base"):
        LM("openai/m", base_url="http://a/v1", api_base="http://b/v1")


def test_a_model_is_a_name() -> None:
    with pytest.raises(LMConfigurationError, match="model=5"):
        LM(5)  # type: ignore[arg-type]


def test_options_are_looked_at_wherever_they_are_given() -> None:
    with pytest.raises(LMConfigurationError, match=r"Predict\(temperature="):
        Predict("question -> answer", temperature="hot")
    with Runtime(LM("embedded/knn")) as rt:
        with pytest.raises(LMConfigurationError, match=r"settings\(max_tokens="):
            rt.using(options={"max_tokens": 0})
        with pytest.raises(LMConfigurationError, match=r"Runtime.stream\(stop="):
            rt.stream("text", stop=5)
