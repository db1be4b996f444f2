"""Answers that the provider cut off: seen on the value, told of once, and not paid for a second time."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from dspy_actors.errors import AdapterParseError, LMServerError, from_wire
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.lm.outages import TRUNCATED as LINE
from dspy_actors.lm.truncations import AGAIN_SECONDS, KEPT, TRUNCATED, Truncations, in_words
from dspy_actors.messages import LMResponse, Usage
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Scripted, ScriptedProvider
from supervisors.clock import ManualClock
from supervisors.telemetry import Telemetry
from supervisors.testing import Log
from tests.dspy_actors.command import dspy_actors, results, tickets
from tests.dspy_actors.over_http import KEY
from tests.dspy_actors.programs import PATIENCE, Gate, begin, examples, qa, right, says
from tests.server.client import StubServer

DIALECTS = {
    "chat": ("openai/m", {}, "length", "content_filter"),
    "responses": ("openai/m", {"model_type": "responses"}, "max_output_tokens", "content_filter"),
    "messages": ("anthropic/m", {}, "max_tokens", "refusal"),
    "local": ("local/m", {}, "length", "content_filter"),
}
"""By a word for each dialect: a model that speaks it, and its own words for a limit of tokens and for a filter."""

TEAPOT = "I am a teapot."
YES = says(answer="yes")
AT_LIMIT = "cut off at its limit of tokens, max_tokens=60"


def cut(*texts: str, reasons: tuple[str, ...] = ("length",), usage: Usage | None = None) -> LMResponse:
    return LMResponse(texts, "m", usage, reasons)


def scripted(*said: Scripted, lm: LM | None = None, **options: Any) -> tuple[ScriptedProvider, Runtime]:
    provider = ScriptedProvider(list(said))
    lm = LM("scripted/m", num_retries=0) if lm is None else lm
    return provider, Runtime(lm=lm, open_provider=lambda config: provider, **options)


def served(stub: StubServer, dialect: str, fault: str, **options: Any) -> Runtime:
    """A runtime whose model speaks this dialect and has this fault; `{length}` and `{filter}` are its words."""
    name, choosing, length, filtered = DIALECTS[dialect]
    url = stub.at(fault.format(length=length, filter=filtered))
    lm = LM(name, base_url=url, api_key=KEY, num_retries=0, **choosing, **options)
    return Runtime(lm=lm, transport="aiohttp", deadline=PATIENCE)


def failed(error: Any) -> AdapterParseError:
    assert isinstance(error, AdapterParseError), repr(error)
    return error


# -- on the value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["length", "filter"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_prediction_and_its_outcome_say_what_cut_the_answer_off(stub: StubServer, dialect: str, fault: str) -> None:
    with served(stub, dialect, f"finish={{{fault}}}") as rt:
        outcome = rt.start(qa()).safe_call(question="x")
    reason = {"length": "length", "filter": "content_filter"}[fault]
    prediction = outcome.unwrap()
    assert (outcome.truncated, prediction.truncated, prediction.call_record.truncated) == (reason,) * 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_s_prediction_says_it_too(stub: StubServer, dialect: str) -> None:
    with served(stub, dialect, "finish={length}") as rt:
        stream = rt.start(qa()).stream(question="x")
        assert "".join(piece.chunk for piece in stream) == stream.prediction.answer  # type: ignore[union-attr]
        assert stream.prediction.truncated == "length"
        raw = rt.stream("hello")
        list(raw)
        assert raw.answer.response.truncated == "length"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_whole_answer_nothing_is_said(stub: StubServer, dialect: str) -> None:
    structlog.configure()
    with capture_logs() as logs, served(stub, dialect, "") as rt:
        outcome = rt.start(qa()).safe_call(question="x")
        assert (outcome.ok, outcome.truncated, outcome.unwrap().truncated) == (True, None, None)
        assert rt.numbers().truncated == 0
    assert [each for each in logs if each["event"] == LINE] == []


def test_of_several_choices_each_says_whether_it_was_cut_off() -> None:
    _, rt = scripted(cut(YES, says(answer="no"), reasons=("stop", "length")))
    with rt:
        prediction = rt.start(Predict("question -> answer", n=2))(question="x")
    again = pickle.loads(pickle.dumps(copy.deepcopy(prediction)))
    for each in (prediction, again):
        assert (each.answer, each.truncated) == ("yes", "length")
        assert [one.truncated for one in each.completions] == [None, "length"]


def test_a_whole_choice_that_cannot_be_read_is_asked_for_again_beside_one_that_was_cut_off() -> None:
    provider, rt = scripted(cut(TEAPOT, YES, reasons=("stop", "length")), YES)
    with rt:
        outcome = rt.start(Predict("question -> answer", n=2)).safe_call(question="x")
    assert (outcome.unwrap().answer, outcome.truncated, len(provider.requests)) == ("yes", None, 2)
    assert "cut off" not in provider.requests[1].messages[-1].text


def test_a_limit_counts_before_a_filter() -> None:
    assert cut("", "", reasons=("content_filter", "length")).truncated == "length"
    assert [cut("", "", reasons=("content_filter",)).truncation(choice) for choice in range(2)] == [
        "content_filter",
        None,
    ]


class Inside(Module):
    """Looks at the predictor's own prediction, and gets over an answer that cannot be read."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Prediction:
        try:
            found = self.ask(question=question)
        except AdapterParseError as error:
            return Prediction(seen=error.truncated)
        return Prediction(seen=found.truncated)


class Draft(Module):
    """Asks one predictor after the other, and says what each prediction says of itself."""

    def __init__(self) -> None:
        self.draft, self.final = qa(), qa()

    def forward(self, question: str) -> Prediction:
        draft = self.draft(question=question)
        final = self.final(question=draft.answer)
        return Prediction(draft=draft.truncated, final=final.truncated)


@pytest.mark.parametrize("first", [True, False])
def test_a_program_rests_on_all_its_predictors_and_each_speaks_for_itself(first: bool) -> None:
    answers = (cut(YES), YES) if first else (YES, cut(YES))
    _, rt = scripted(*answers)
    with rt:
        outcome = rt.start(Draft()).safe_call(question="x")
    prediction = outcome.unwrap()
    assert (prediction.draft, prediction.final) == (("length", None) if first else (None, "length"))
    assert (prediction.truncated, outcome.truncated) == ("length", "length")


@pytest.mark.parametrize("text", [YES, TEAPOT], ids=["read", "unread"])
def test_a_program_sees_it_inside_and_so_do_its_callers(text: str) -> None:
    _, rt = scripted(cut(text))
    with rt:
        outer = rt.start(Calls(rt.start(Inside())))
        outcome = outer.safe_call(question="x")
    assert (outcome.unwrap().seen, outcome.unwrap().truncated, outcome.truncated) == ("length",) * 3


class Calls(Module):
    """A program that calls another one by its handle."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def forward(self, question: str) -> Prediction:
        return Prediction(seen=self.inner(question=question).seen)


def test_a_correction_that_is_whole_takes_the_place_of_nothing_cut() -> None:
    _, rt = scripted(TEAPOT, cut(YES))
    with rt:
        assert rt.start(qa())(question="x").truncated == "length"


def test_an_answer_without_reasons_is_whole() -> None:
    _, rt = scripted(cut(YES, reasons=()))
    with rt:
        assert rt.start(qa())(question="x").truncated is None


# -- an answer that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unread_answer_that_was_cut_off_is_an_error_that_says_so_after_one_request(
    stub: StubServer, dialect: str
) -> None:
    with served(stub, dialect, "finish={length},text=teapot", max_tokens=60) as rt:
        outcome = rt.start(qa()).safe_call(question="x")
    error = failed(outcome.error)
    assert (error.field, error.text, error.truncated, error.limit) == ("answer", "teapot", "length", 60)
    assert error.message.endswith(f"; the answer was {AT_LIMIT}; raise that or ask for less")
    assert (outcome.truncated, outcome.fault, stub.stats()["requests"]) == ("length", None, 1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unread_answer_of_a_stream_says_so_too(stub: StubServer, dialect: str) -> None:
    with (
        served(stub, dialect, "finish={length},text=teapot", max_tokens=60) as rt,
        pytest.raises(AdapterParseError) as e,
    ):
        list(rt.start(qa()).stream(question="x"))
    assert (e.value.truncated, e.value.limit, stub.stats()["requests"]) == ("length", 60, 1)


def test_an_unread_answer_that_was_filtered_is_not_asked_for_again_either() -> None:
    provider, rt = scripted(cut(TEAPOT, reasons=("content_filter",)), YES)
    with rt:
        error = failed(rt.start(qa()).safe_call(question="x").error)
    assert (error.truncated, len(provider.requests)) == ("content_filter", 1)
    assert "cut off by the provider's content filter" in error.message


def test_an_unread_answer_that_is_whole_is_asked_for_again_and_a_cut_one_ends_that() -> None:
    provider, rt = scripted(TEAPOT, cut(TEAPOT), YES, parse_retries=5)
    with rt:
        outcome = rt.start(qa()).safe_call(question="x")
    assert (failed(outcome.error).truncated, outcome.truncated, len(provider.requests)) == ("length", "length", 2)


def test_the_error_keeps_what_it_says_on_the_wire() -> None:
    _, rt = scripted(cut(TEAPOT), lm=LM("scripted/m", max_tokens=60))
    with rt:
        error = failed(rt.start(qa()).safe_call(question="x").error)
    back: Any = from_wire(error.to_wire())
    assert (back.message, back.truncated, back.limit) == (error.message, "length", 60)


def test_the_limit_is_that_of_the_model_that_answered() -> None:
    lm = LM("scripted/a", num_retries=0, max_tokens=5, fallbacks=[LM("scripted/b", num_retries=0, max_tokens=9)])
    _, rt = scripted(LMServerError("down", status=503), cut(TEAPOT), lm=lm)
    with rt:
        assert failed(rt.start(qa()).safe_call(question="x").error).limit == 9


def test_those_who_wait_for_one_answer_are_all_told_at_what_limit_it_was_cut_off() -> None:
    gate = Gate()

    async def held(request: Any) -> LMResponse:
        await gate(request)
        return cut(TEAPOT)

    provider = ScriptedProvider(held)
    lm = LM("scripted/m", max_tokens=60)
    with Runtime(lm=lm, open_provider=lambda config: provider) as rt:
        program = rt.start(qa())
        calls = [begin(lambda: program.safe_call(question="x")) for _ in range(3)]
        gate.wait_for()
        gate.open()
        outcomes = [each.get(PATIENCE) for each in calls]
        assert rt.numbers().truncated == len(provider.requests)
    assert [failed(each.error).limit for each in outcomes] == [60, 60, 60]


@pytest.mark.parametrize(
    ("usage", "limit", "words"),
    [
        (None, 60, f"{AT_LIMIT}; raise that or ask for less"),
        (
            Usage(1, 60, reasoning_tokens=58),
            60,
            f"{AT_LIMIT} (58 tokens of it went into reasoning); raise that or ask for less",
        ),
        (
            Usage(1, 8192),
            None,
            "cut off after 8192 tokens by a default limit of tokens; set a larger max_tokens, or shorten the prompt",
        ),
        (None, None, "cut off by a default limit of tokens; set a larger max_tokens, or shorten the prompt"),
    ],
)
def test_the_words_say_where_it_was_cut_off_and_what_to_do(usage: Usage | None, limit: int | None, words: str) -> None:
    assert in_words("length", cut("a", usage=usage), limit) == words


def test_of_several_choices_nobody_knows_how_long_one_was() -> None:
    assert "after" not in in_words("length", cut("a", "b", usage=Usage(1, 99, reasoning_tokens=9)), None)


# -- in the log and in events ----------------------------------------------------------------------------------------


def lines(logs: Any) -> list[tuple[object, ...]]:
    return [
        tuple(each[key] for key in ("log_level", "name", "limit", "count")) for each in logs if each["event"] == LINE
    ]


def test_of_a_batch_that_is_cut_off_the_log_has_one_line_and_after_an_hour_another_one() -> None:
    structlog.configure()
    provider, clock = ScriptedProvider(lambda request: cut(YES)), ManualClock()
    lm = LM("scripted/m", max_tokens=60)
    with capture_logs() as logs, Runtime(lm=lm, open_provider=lambda config: provider, clock=clock) as rt:
        program = rt.start(qa())
        for number in range(20):
            program(question=f"q{number}")
        clock.advance(AGAIN_SECONDS)
        program(question="later")
        assert (rt.numbers().truncated, rt.health()["numbers"]["truncated"]) == (21, 21)  # type: ignore[index]
    assert lines(logs) == [("warning", "scripted/m", 60, 1), ("warning", "scripted/m", 60, 20)]
    said = next(each["reason"] for each in logs if each["event"] == LINE)
    assert said == f"{AT_LIMIT}; raise that or ask for less"


def test_each_answer_that_is_cut_off_is_an_event() -> None:
    _, rt = scripted(cut(YES), cut(YES, reasons=("content_filter",)), YES, lm=LM("scripted/m", max_tokens=60))
    heard = Log()
    with rt:
        rt.system.telemetry.attach("test", TRUNCATED, lambda event, numbers, about: heard.add((numbers, dict(about))))
        outcomes = [rt.start(qa()).safe_call(question="x") for _ in range(3)]
    assert heard.events == [
        ({}, {"model": "scripted/m", "call_id": each.call_id, "reason": each.truncated, "limit": 60})
        for each in outcomes[:2]
    ]


class Truncating:
    """What is told of answers that are cut off."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.now = 0.0
        tell = lambda name, reason, limit, count: self.told.append((name, count))  # noqa: E731
        self.truncations = Truncations(Telemetry(), tell, lambda: self.now)

    def note(self, name: str, reason: str = "length") -> None:
        self.truncations.note(name, name, "c.1", cut("a", reasons=(reason,)), None)


def test_models_and_reasons_are_told_of_apart() -> None:
    truncating = Truncating()
    for _ in range(3):
        truncating.note("a")
        truncating.note("b")
        truncating.note("b", "content_filter")
    assert truncating.told == [("a", 1), ("b", 1), ("b", 1)]


def test_a_line_counts_what_came_since_the_one_before_it() -> None:
    truncating = Truncating()
    for now in (0.0, 1.0, AGAIN_SECONDS - 1, AGAIN_SECONDS, AGAIN_SECONDS + 1, 3 * AGAIN_SECONDS):
        truncating.now = now
        truncating.note("a")
    assert truncating.told == [("a", 1), ("a", 3), ("a", 2)]


def test_of_very_many_models_those_told_of_first_are_forgotten() -> None:
    truncating = Truncating()
    for number in range(KEPT + 1):
        truncating.note(f"m{number}")
    truncating.note(f"m{KEPT}")
    truncating.note("m1")
    truncating.note("m0")
    assert truncating.told == [*[(f"m{number}", 1) for number in range(KEPT + 1)], ("m0", 1)]
    assert len(truncating.truncations._told) == KEPT


# -- what is kept ----------------------------------------------------------------------------------------------------


class Streaming(Module):
    """A program that asks its model without a predictor."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt

    def __deepcopy__(self, memo: dict[int, Any]) -> Streaming:
        return Streaming(self.rt)

    async def aforward(self, question: str) -> Prediction:
        return Prediction(answer="".join([piece.text async for piece in self.rt.stream(question)]))  # type: ignore[union-attr]


def test_what_a_program_made_of_a_prompt_that_was_cut_off_says_so() -> None:
    _, rt = scripted(cut("tea"))
    with rt:
        outcome = rt.start(Streaming(rt)).safe_call(question="x")
    assert (outcome.unwrap().answer, outcome.truncated) == ("tea", "length")


def test_what_was_cut_off_is_kept_nowhere() -> None:
    provider, rt = scripted(cut(YES), cut(YES), YES)
    with rt:
        program = rt.start(qa(), cached=True)
        found = [program(question="x") for _ in range(4)]
    assert [each.truncated for each in found] == ["length", "length", None, None]
    assert ([each.cached for each in found], len(provider.requests)) == ([False, False, False, True], 3)


def test_a_score_of_what_was_cut_off_is_not_taken_over() -> None:
    provider, rt = scripted(cut(says(answer="q0")), says(answer="q0"))
    with rt:
        evaluate = Evaluate(devset=examples(1), metric=right, reuse=True)
        found = [evaluate(qa()) for _ in range(3)]
    assert ([len(each.truncated) for each in found], len(provider.requests)) == ([1, 0, 0], 2)


# -- evaluations and jobs --------------------------------------------------------------------------------------------


def test_an_evaluation_says_how_many_rows_were_cut_off() -> None:
    said = [says(answer="q0"), cut(says(answer="q1")), cut(TEAPOT), cut(YES, reasons=("content_filter",))]
    _, rt = scripted(*said)
    with rt:
        result = Evaluate(devset=examples(4), metric=right, num_threads=1)(qa())
    assert str(result) == (
        "50.00 % over 4 of 4 rows (coverage 100%), 1 failed (1 x parse), 3 truncated (2 x length, 1 x content_filter)"
    )
    assert [row.get("truncated") for row in result.table()] == [None, "length", "length", "content_filter"]
    assert [row.index for row in result.truncated] == [1, 2, 3]


def test_an_evaluation_of_whole_answers_says_nothing_of_it() -> None:
    _, rt = scripted(says(answer="q0"))
    with rt:
        result = Evaluate(devset=examples(1), metric=right)(qa())
    assert "truncated" not in str(result) + repr(list(result.table()))


def test_a_run_marks_the_rows_that_were_cut_off_counts_them_and_warns_once(stub: StubServer, tmp_path: Path) -> None:
    tickets(tmp_path / "rows.jsonl", 3)
    stub.control(plan=[{"times": 2, "fault": "finish=length"}])
    options = ["--data", "rows.jsonl", "--out", "out.jsonl", "--lm", "openai/m", "--base-url", stub.base_url]
    ended = dspy_actors("run", "ticket -> category", *options, "--max-tokens", "60", "--concurrency", "1", cwd=tmp_path)
    assert ended.code == 0
    assert [each.get("truncated") for each in results(tmp_path / "out.jsonl")] == ["length", "length", None]
    assert "3 succeeded, 0 failed, 2 truncated; " in ended.out
    assert ended.err.count(LINE) == 1
    assert "max_tokens=60" in ended.err
    again = dspy_actors("run", "ticket -> category", *options, "--resume", "--json", cwd=tmp_path)
    assert (again.summary["kept"], again.summary["truncated"]) == (3, 2)
