"""The events of requests and calls: one for every request that was sent, one for every call that began."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

import pytest

from dspy_actors import LM, Price
from dspy_actors.errors import CallCancelled, InputError, LMRateLimitError, LMServerError, ShuttingDown
from dspy_actors.lm.usage_log import REQUEST
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import CALL
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.telemetry import Event
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, Gate, begin, qa, runtime, says

TRACE: ContextVar[str] = ContextVar("trace", default="")


class Heard:
    """What a runtime tells of its requests and calls, in the order in which it is told."""

    def __init__(self, rt: Runtime) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.calls: list[Mapping[str, Any]] = []
        self.traces: list[str] = []
        rt.system.telemetry.attach("test", (REQUEST, CALL), self)

    def __call__(self, event: Event, took: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        (self.calls if event == CALL else self.requests).append({**took, **about})
        if event == CALL:
            self.traces.append(TRACE.get())

    def of(self, kind: str) -> list[list[object]]:
        """The statuses and kinds of all requests, or the programs and kinds of all calls."""
        if kind == "requests":
            return [[one["number"], one["status"], one["kind"]] for one in self.requests]
        return [[one["program"], one["kind"]] for one in self.calls]


def answer_of(rt: Runtime, how: str, program: Program) -> Any:
    """One call of `program`, made in one of the ways there are."""
    if how == "blocking":
        return program(question="x")
    if how == "safe":
        return program.safe_call(question="x").unwrap()
    if how == "submitted":
        return program.submit(question="x").get(timeout=PATIENCE)
    if how == "streamed":
        stream = program.stream(question="x")
        list(stream)
        return stream.prediction
    return asyncio.run(program.acall(question="x"))


WAYS = ["blocking", "safe", "submitted", "streamed", "awaited"]


@pytest.mark.parametrize("how", WAYS)
def test_a_call_has_an_event_and_so_has_its_request(how: str) -> None:
    with runtime(prices={"scripted/m": Price("1000000", "1000000")}) as rt:
        heard, program = Heard(rt), rt.start(qa(), name="ask")
        with rt.using(tenant="team", session="s", priority="batch"):
            answer_of(rt, how, program)
    (request,), (call,) = heard.requests, heard.calls
    assert request["call_id"] == call["call_id"]
    assert (request["number"], request["model"], request["status"], request["kind"]) == (1, "scripted/m", "ok", None)
    assert request["cost"] == Decimal(request["prompt_tokens"] + request["completion_tokens"])
    assert (request["estimated"], request["seconds"] >= 0.0) == (False, True)
    assert (call["program"], call["version"], call["kind"], call["outer"]) == ("ask", 1, None, None)
    assert (call["requests"], call["cached"], call["truncated"]) == (1, 0, None)
    assert {(each["tenant"], each["session"], each["priority"]) for each in (request, call)} == {("team", "s", "batch")}


def test_the_outcome_of_a_call_has_the_id_of_its_events() -> None:
    with runtime() as rt:
        heard = Heard(rt)
        outcome = rt.start(qa()).safe_call(question="x")
    assert [one["call_id"] for one in heard.calls] == [outcome.call_id]
    assert [one["call_id"] for one in heard.requests] == [outcome.call_id]


def test_each_request_of_a_call_that_is_tried_again_has_an_event() -> None:
    failure = LMServerError("no", provider="scripted", retry_after=0.0)
    script = [failure, failure, says(answer="yes")]
    with runtime(script) as rt:
        heard = Heard(rt)
        assert rt.start(qa(), name="ask")(question="x").answer == "yes"
    assert heard.of("requests") == [[1, "error", "lm_server"], [2, "error", "lm_server"], [3, "ok", None]]
    assert [(one["requests"], one["kind"]) for one in heard.calls] == [(3, None)]


@pytest.mark.parametrize("how", WAYS)
def test_a_call_that_fails_says_with_what(how: str) -> None:
    with runtime([LMRateLimitError("no", provider="scripted")], lm=LM("scripted/m", num_retries=0)) as rt:
        heard, program = Heard(rt), rt.start(qa(), name="ask")
        with pytest.raises(LMRateLimitError):
            answer_of(rt, how, program)
    assert heard.of("requests") == [[1, "error", "lm_rate_limit"]]
    assert heard.of("calls") == [["ask", "lm_rate_limit"]]


def test_an_answer_from_the_cache_is_a_call_without_a_request() -> None:
    with runtime() as rt:
        heard, program = Heard(rt), rt.start(qa(), name="ask")
        for _ in range(2):
            program(question="x")
    assert [(one["requests"], one["cached"]) for one in heard.calls] == [(1, 0), (0, 1)]
    assert len(heard.requests) == 1


def test_a_program_that_keeps_its_answers_tells_every_call() -> None:
    with runtime() as rt:
        heard, program = Heard(rt), rt.start(qa(), name="ask", cached=True)
        for _ in range(2):
            program(question="x")
    assert [one["requests"] for one in heard.calls] == [1, 0]


def test_a_cancelled_call_and_its_request_are_told() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        heard = Heard(rt)
        reply = rt.start(qa(), name="ask").submit(question="x")
        gate.wait_for()
        reply.cancel()
        gate.wait_for_cancel()
    assert heard.of("requests") == [[1, "cancelled", None]]
    assert heard.of("calls") == [["ask", "cancelled"]]


class Outer(Module):
    """A program that calls another one."""

    def __init__(self, inner: Program) -> None:
        self.inner = inner

    def forward(self, question: str) -> Any:
        return self.inner(question=question)


def test_nested_programs_have_one_each_and_the_inner_one_names_the_outer() -> None:
    with runtime() as rt:
        heard = Heard(rt)
        inner = rt.start(qa(), name="inner")
        rt.start(Outer(inner), name="outer")(question="x")
    assert heard.of("calls") == [["inner", None], ["outer", None]]
    within, around = heard.calls
    assert (within["outer"], around["outer"]) == (around["call_id"], None)
    assert [one["requests"] for one in heard.calls] == [1, 1]
    assert [one["call_id"] for one in heard.requests] == [within["call_id"]]


@pytest.mark.parametrize("program", [Ask(), AskLater()], ids=["forward", "aforward"])
def test_the_predictors_of_a_program_are_no_calls_of_their_own(program: Module) -> None:
    with runtime() as rt:
        heard = Heard(rt)
        rt.start(program, name="ask")(question="x")
    assert heard.of("calls") == [["ask", None]]
    assert heard.requests[0]["call_id"] == heard.calls[0]["call_id"]


def test_a_call_for_which_there_is_no_place_is_told_without_a_version() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        heard = Heard(rt)
        program = rt.start(qa(), name="ask", max_inflight=1, max_queue=0)
        first = begin(lambda: program(question="x"))
        gate.wait_for()
        refused = [program.safe_call(question="y"), asyncio.run(program.asafe_call(question="z"))]
        gate.open()
        first.get(timeout=PATIENCE)
    assert [(one["kind"], one["version"], one["requests"]) for one in heard.calls] == [
        ("busy", None, 0),
        ("busy", None, 0),
        (None, 1, 1),
    ]
    assert [one["call_id"] for one in heard.calls[:2]] == [outcome.call_id for outcome in refused]


def test_what_is_refused_before_it_is_a_call_has_no_event() -> None:
    with runtime() as rt:
        heard, program = Heard(rt), rt.start(qa())
        with pytest.raises(InputError):
            program("x")  # type: ignore[arg-type]
        rt.drain(PATIENCE)
        with pytest.raises(ShuttingDown):
            program(question="x")
        assert isinstance(asyncio.run(program.asafe_call(question="x")).error, ShuttingDown)
    assert (heard.calls, heard.requests) == ([], [])


@pytest.mark.parametrize("how", WAYS)
def test_a_drain_waits_until_the_events_of_the_calls_are_told(how: str) -> None:
    opened = list[object]()
    with runtime() as rt:
        programs = lambda: rt.health()["programs"]  # noqa: E731
        told = lambda *_: opened.append((programs()["open_calls"], programs()["inflight"]))  # type: ignore[index]  # noqa: E731
        rt.system.telemetry.attach("test", CALL, told)
        answer_of(rt, how, rt.start(qa()))
    assert opened == [(1, 0)]


@pytest.mark.parametrize("how", WAYS)
def test_the_handler_of_a_call_finds_the_context_variables_of_its_caller(how: str) -> None:
    with runtime() as rt:
        heard, program = Heard(rt), rt.start(qa())
        token = TRACE.set("abc")
        try:
            answer_of(rt, how, program)
        finally:
            TRACE.reset(token)
    assert heard.traces == ["abc"]


def test_a_handler_that_raises_harms_no_call_and_is_heard_of_no_more() -> None:
    def broken(*told: object) -> None:
        raise CallCancelled("not this call's")

    with runtime() as rt:
        program, failures = rt.start(qa()), list[Any]()
        telemetry = rt.system.telemetry
        telemetry.attach("failures", ("telemetry", "handler", "failure"), lambda _e, _m, about: failures.append(about))
        telemetry.attach("request", REQUEST, broken)
        telemetry.attach("call", CALL, broken)
        assert [program(question=word).answer for word in ("x", "y")] == ["x", "y"]
        assert rt.health()["programs"]["open_calls"] == 0  # type: ignore[index]
    assert [about["handler_id"] for about in failures] == ["request", "call"]
