"""After which errors another model is asked, and which lists of models make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_actors.errors import (
    BudgetExceeded,
    CallCancelled,
    CircuitOpen,
    ContextWindowExceededError,
    DeadlineExceeded,
    DspyActorsError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMContentFilterError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMProviderError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
    ShuttingDown,
)
from dspy_actors.lm.falling_back import MAY_ANSWER, falls_back
from dspy_actors.lm.lm import LM, Fallback
from dspy_actors.modules.predict import lm_from_state
from dspy_actors.secret import Secret

ANOTHER_MAY_ANSWER = [
    CircuitOpen,
    LMTransportError,
    LMServerError,
    LMTimeoutError,
    LMRateLimitError,
    LMUnexpectedError,
    LMAuthError,
    LMBillingError,
    LMUnsupportedModelError,
    LMUnsupportedFeatureError,
]
NEVER = [
    LMInvalidRequestError,
    LMContentFilterError,
    BudgetExceeded,
    LMConfigurationError,
    LMNotConfiguredError,
]
NO_ERRORS_OF_A_MODEL = [DeadlineExceeded, CallCancelled, ShuttingDown]


@pytest.mark.parametrize("kind", ANOTHER_MAY_ANSWER)
def test_another_model_is_asked_after_a_fault_of_the_provider(kind: type[LMError]) -> None:
    assert falls_back(kind("no"), MAY_ANSWER)


@pytest.mark.parametrize("kind", [*NEVER, *NO_ERRORS_OF_A_MODEL])
@pytest.mark.parametrize("on", [MAY_ANSWER, (LMError,), (LMProviderError, LMError)])
def test_no_other_model_is_asked_after_what_is_no_fault_of_the_provider(kind: type[DspyActorsError], on: Any) -> None:
    assert not falls_back(kind("no"), on)


def test_a_prompt_too_long_falls_back_only_where_that_is_asked_for() -> None:
    error = ContextWindowExceededError("too long")
    assert not falls_back(error, MAY_ANSWER)
    assert falls_back(error, Fallback("a/large", on=ContextWindowExceededError).on)
    assert falls_back(error, Fallback("a/large", on=[LMServerError, "ContextWindowExceededError"]).on)


@pytest.mark.parametrize(
    "on", [*NEVER, (), [], ValueError, "NoSuchError", DeadlineExceeded, None, 7, (LMServerError, 7)]
)
def test_an_error_after_which_no_other_model_is_asked_is_refused(on: Any) -> None:
    with pytest.raises(LMConfigurationError, match=r"Fallback\(on="):
        Fallback("a/b", on=on)


def test_a_kind_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(LMConfigurationError, match=r"LMError, CircuitOpen, .*LMTimeoutError"):
        Fallback("a/b", on=["lm_timeout"])


# -- lists of models ---------------------------------------------------------------------------------------------------


def test_fallbacks_are_given_as_lms_as_names_or_as_records() -> None:
    lm = LM("a/1", fallbacks=[LM("b/2", temperature=0.5), "c/3", Fallback("d/4", on=LMServerError)])
    assert [each.lm.name for each in lm.fallbacks] == ["b/2", "c/3", "d/4"]
    assert [each.on for each in lm.fallbacks] == [MAY_ANSWER, MAY_ANSWER, (LMServerError,)]


def circles() -> list[tuple[str, list[Any], dict[str, Any]]]:
    return [
        ("a/1", ["a/1"], {}),
        ("a/1", [LM("a/1", temperature=0.5)], {}),
        ("a/1", [LM("b/2", fallbacks=["a/1"])], {}),
        ("a/1", [LM("b/2", fallbacks=[LM("c/3", fallbacks=["a/1"])])], {}),
        ("a/1", [LM("a/1", base_url="http://here/v1")], {"base_url": "http://here/v1"}),
        ("a/1", [LM("a/1", base_url="http://here/v1/")], {"base_url": "http://here/v1"}),
        ("a/1", ["b/2", "b/2"], {}),
        ("a/1", [LM("b/2", fallbacks=["c/3"]), "c/3"], {}),
    ]


@pytest.mark.parametrize(("name", "fallbacks", "options"), circles())
def test_a_model_that_would_be_asked_twice_is_refused(name: str, fallbacks: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(LMConfigurationError, match="would be asked twice"):
        LM(name, fallbacks=fallbacks, **options)


def test_the_same_model_at_another_server_is_another_one() -> None:
    assert LM("a/1", fallbacks=[LM("a/1", base_url="http://here/v1"), LM("a/1", base_url="http://there/v1")])


@pytest.mark.parametrize("wrong", ["b/2", LM("b/2"), Fallback("b/2"), 7, {"b/2"}])
def test_what_is_no_list_is_refused(wrong: Any) -> None:
    with pytest.raises(LMConfigurationError, match=r"a list of LMs"):
        LM("a/1", fallbacks=wrong)


@pytest.mark.parametrize("wrong", [7, None, ["b/2"]])
def test_what_is_no_model_in_the_list_is_refused(wrong: Any) -> None:
    with pytest.raises(LMConfigurationError, match="a fallback is an LM"):
        LM("a/1", fallbacks=[wrong])


# -- the value ---------------------------------------------------------------------------------------------------------


def test_a_copy_keeps_the_fallbacks_and_may_have_others() -> None:
    lm = LM("a/1", fallbacks=["b/2"])
    assert lm.copy(temperature=0.5).fallbacks == lm.fallbacks
    assert lm.copy(fallbacks=["c/3"]).fallbacks[0].lm.name == "c/3"
    assert lm.copy(fallbacks=[]) == LM("a/1") != lm == LM("a/1", fallbacks=[LM("b/2")])


def test_options_of_a_call_stand_above_or_below_those_of_every_model() -> None:
    lm = LM("a/1", seed=1, fallbacks=[LM("b/2", temperature=0.9, fallbacks=[LM("c/3", top_p=0.1)])])
    made, options = lm.for_call({"temperature": 0.5}, lambda provider: {"top_p": 0.9, "user": provider})
    second = made.fallbacks[0].lm
    assert options == {"top_p": 0.9, "user": "a", "seed": 1, "temperature": 0.5}
    assert dict(second.options) == {"top_p": 0.9, "user": "b", "temperature": 0.5}
    assert dict(second.fallbacks[0].lm.options) == {"top_p": 0.1, "user": "c", "temperature": 0.5}


def test_without_fallbacks_a_call_asks_the_lm_itself() -> None:
    lm = LM("a/1", seed=1)
    assert lm.for_call({}) == (lm, lm.options)
    assert lm.for_call({"seed": 2}) == (lm, {"seed": 2})


def test_a_state_file_names_the_fallbacks() -> None:
    longer = Fallback(LM("c/3", cache=False), on=(ContextWindowExceededError,))
    lm = LM("a/1", temperature=0.5, fallbacks=[LM("b/2", max_tokens=9, fallbacks=["d/4"]), longer])
    state = lm.to_state()
    assert state is not None
    assert lm_from_state(state) == lm


def test_a_state_file_says_nothing_of_fallbacks_with_a_server_of_their_own() -> None:
    lm = LM("a/1", fallbacks=[LM("b/2", base_url="http://here/v1", api_key="sk-marker"), "c/3"])
    state = lm.to_state()
    assert "here" not in repr(state)
    assert "sk-marker" not in repr(state)
    assert lm_from_state(state or {}) == LM("a/1", fallbacks=["c/3"])


def test_no_server_and_no_key_of_a_fallback_is_taken_from_a_file() -> None:
    state = {"model": "a/1", "fallbacks": [{"model": "b/2", "api_base": "http://evil/v1", "api_key": "sk-x"}, "c/3"]}
    assert lm_from_state(state) == LM("a/1", fallbacks=["b/2", "c/3"])


def test_no_key_of_a_fallback_is_shown() -> None:
    assert "sk-marker" not in repr(LM("a/1", fallbacks=[LM("b/2", api_key="sk-marker-0123456789")]))


@pytest.mark.parametrize("named", ["a/2", Fallback("a/2", on=LMServerError)], ids=["name", "record"])
def test_a_fallback_of_the_same_provider_given_by_name_is_at_the_same_server(named: Any) -> None:
    lm = LM("a/1", base_url="http://gateway/v1", api_key="sk-gateway", fallbacks=[named])
    (second,) = lm.fallbacks
    assert (second.lm.name, second.lm.base_url, second.lm.api_key) == ("a/2", "http://gateway/v1", lm.api_key)
    (moved,) = lm.copy(base_url="http://other/v1", api_key="sk-other").fallbacks
    assert (moved.lm.base_url, moved.lm.api_key) == ("http://other/v1", Secret("sk-other"))


@pytest.mark.parametrize("other", ["b/2", LM("a/2"), Fallback(LM("a/2")), Fallback("b/2")], ids=str)
def test_no_other_fallback_is_given_the_server_or_its_key(other: Any) -> None:
    (second,) = LM("a/1", base_url="http://gateway/v1", api_key="sk-gateway", fallbacks=[other]).fallbacks
    assert (second.lm.base_url, second.lm.api_key) == (None, None)


def test_a_fallback_by_name_does_not_keep_a_server_where_the_provider_changes() -> None:
    lm = LM("a/1", base_url="http://gateway/v1", api_key="sk-gateway", fallbacks=["a/2"])
    (second,) = lm.copy(model="b/1", base_url="http://b/v1", api_key="sk-b").fallbacks
    assert (second.lm.base_url, second.lm.api_key) == (None, None)


def test_a_call_asks_a_fallback_by_name_at_the_same_server() -> None:
    lm = LM("a/1", base_url="http://gateway/v1", api_key="sk-gateway", fallbacks=["a/2"])
    made, _ = lm.for_call({"temperature": 0.5})
    config = made.fallbacks[0].lm.config
    assert (config.base_url, config.api_key) == ("http://gateway/v1", Secret("sk-gateway"))
