"""Calls of programs under the quarantine: what is refused, what is untouched, and that nothing is sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_actors import Evaluate, Module, Predict, Prediction
from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.errors import (
    AdapterParseError,
    BlockingCall,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    ProgramError,
    QuarantinedInput,
    QuarantineError,
)
from dspy_actors.lm.breaker_settings import FIVE_IN_A_ROW
from dspy_actors.lm.guarding import Guarding
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Scripted
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, AskLater, Gate, begin, examples, qa, right, runtime
from tests.dspy_actors.quarantining import MODEL, Sick, ended, filtered, kinds

HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sick() -> Sick:
    return Sick(bad=filtered())


@pytest.fixture
def rt(sick: Sick, clock: ManualClock) -> Iterator[Runtime]:
    with sick.runtime(clock) as running:
        yield running


@pytest.fixture
def program(rt: Runtime) -> Program:
    return rt.start(qa(), name="qa")


class Picky(Module):
    """A program of a user's, that fails over some of its inputs."""

    def forward(self, question: str) -> Prediction:
        if question == "bad":
            raise ValueError("cannot be")
        if question == "slow":
            raise TimeoutError
        return Prediction(answer=question)


class Quits(Module):
    def forward(self, question: str) -> Prediction:
        raise SystemExit(3)


class QuitsLater(Module):
    async def aforward(self, question: str) -> Prediction:
        raise SystemExit(3)


class Wraps(Module):
    """Hides every error of the model behind one of its own."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Any:
        try:
            return self.ask(question=question)
        except Exception as error:
            msg = "no answer"
            raise RuntimeError(msg) from error


class Forgets(Module):
    """Swallows every error of the model and fails over something else."""

    def __init__(self) -> None:
        self.ask = qa()

    def forward(self, question: str) -> Any:
        answers: dict[str, Any] = {}
        try:
            answers["it"] = self.ask(question=question)
        except Exception:
            answers.clear()
        return answers["it"]


class Empties(Module):
    """Changes what it is given, and fails."""

    def forward(self, items: list[str]) -> Prediction:
        items.clear()
        raise ValueError


# -- safe_call ----------------------------------------------------------------------------------------------------


def test_a_good_call_is_an_outcome_with_a_prediction(program: Program) -> None:
    outcome = program.safe_call(question="q")
    assert (outcome.ok, outcome.unwrap().answer, outcome.attempts, outcome.error) == (True, "q", 1, None)


def test_three_bad_calls_set_the_input_aside_and_the_fourth_sends_nothing(program: Program, sick: Sick) -> None:
    assert kinds(program, "bad", 5) == ["content_filter"] * 3 + ["quarantined"] * 2
    assert sick.sent == 3


def test_the_outcome_of_a_refused_call_holds_what_to_do(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 3)
    outcome = program.safe_call(question="bad")
    error = outcome.error
    assert isinstance(error, QuarantinedInput)
    assert (error.reason, error.retry_after, error.infrastructure) == ("content_filter", HOUR, False)
    assert (outcome.fault, outcome.attempts, bool(outcome.call_id)) == (None, 0, True)
    assert rt.quarantine.show(error.entry).program == "qa"


def test_other_inputs_go_on(program: Program) -> None:
    kinds(program, "bad", 3)
    assert kinds(program, "good", 2) == ["ok", "ok"]


def test_an_hour_later_one_call_probes_and_a_success_releases(program: Program, sick: Sick, clock: ManualClock) -> None:
    kinds(program, "bad", 3)
    clock.advance(HOUR)
    del sick.poison["bad"]
    assert kinds(program, "bad", 3) == ["ok"] * 3


def test_a_probe_that_fails_the_same_way_means_another_hour(program: Program, clock: ManualClock) -> None:
    kinds(program, "bad", 3)
    clock.advance(HOUR)
    assert kinds(program, "bad", 2) == ["content_filter", "quarantined"]
    clock.advance(HOUR - 1.0)
    assert kinds(program, "bad") == ["quarantined"]
    clock.advance(1.0)
    assert kinds(program, "bad", 2) == ["content_filter", "quarantined"]


def test_a_probe_that_meets_an_outage_gives_its_turn_back(program: Program, sick: Sick, clock: ManualClock) -> None:
    kinds(program, "bad", 3)
    clock.advance(HOUR)
    sick.down = lambda: LMServerError("503", provider="scripted", model="m")
    assert kinds(program, "bad", 2) == ["lm_server", "lm_server"]
    sick.down = None
    assert kinds(program, "bad", 2) == ["content_filter", "quarantined"]


def test_another_module_and_another_tenant_are_untouched(program: Program, rt: Runtime) -> None:
    other = rt.start(qa(), name="other")
    kinds(program, "bad", 3)
    assert kinds(other, "bad") == ["content_filter"]
    assert kinds(program.using(tenant="another"), "bad") == ["content_filter"]
    assert kinds(program, "bad") == ["quarantined"]


def test_a_new_version_is_a_clean_slate_and_the_old_one_is_not(program: Program) -> None:
    kinds(program, "bad", 3)
    program.activate(Predict("question -> answer", instructions="Answer kindly."))
    assert kinds(program, "bad") == ["content_filter"]
    program.roll_back(1)
    assert kinds(program, "bad") == ["quarantined"]


@pytest.mark.parametrize(
    "changes", [{"lm": LM("scripted/larger", cache=False, num_retries=0)}, {"options": {"max_tokens": 5}}]
)
def test_another_model_is_a_clean_slate(program: Program, changes: dict[str, Any]) -> None:
    kinds(program, "bad", 3)
    assert kinds(program.using(**changes), "bad") == ["content_filter"]


def test_another_adapter_is_a_clean_slate(program: Program) -> None:
    kinds(program, "bad", 3)
    assert kinds(program.using(adapter=JSONAdapter()), "bad") == ["content_filter"]


def test_another_sample_or_deadline_is_not(program: Program) -> None:
    kinds(program, "bad", 3)
    assert kinds(program.using(sample=3, deadline=7.0), "bad") == ["quarantined"]


def test_retries_within_a_call_count_once(sick: Sick, clock: ManualClock) -> None:
    sick.poison["bad"] = "no fields at all"
    with sick.runtime(clock, parse_retries=9) as rt:
        program = rt.start(qa())
        assert kinds(program, "bad", 2) == ["parse", "parse"]
        assert sick.sent == 20
        assert kinds(program, "bad", 2) == ["parse", "quarantined"]


def test_an_unreadable_answer_is_asked_for_anew_in_spite_of_the_cache_and_counts(
    sick: Sick, clock: ManualClock
) -> None:
    sick.poison["bad"] = "no fields at all"
    with sick.runtime(clock, lm=LM("scripted/m")) as rt:
        assert kinds(rt.start(qa()), "bad", 4) == ["parse"] * 3 + ["quarantined"]
        assert sick.sent == 6


def test_an_unreadable_answer_from_the_cache_does_not_count(sick: Sick, clock: ManualClock) -> None:
    sick.poison["bad"] = "no fields at all"
    with sick.runtime(clock, lm=LM("scripted/m"), parse_retries=0) as rt:
        list(rt.stream(ChatAdapter().format(qa().signature, (), {"question": "bad"})))
        assert kinds(rt.start(qa()), "bad", 5) == ["parse"] * 4 + ["quarantined"]
        assert sick.sent == 4


def test_a_refusal_that_the_cache_gives_again_is_no_further_evidence(clock: ManualClock) -> None:
    sick = Sick(bad=LMInvalidRequestError("no", provider="scripted", model="m"))
    with sick.runtime(clock, lm=LM("scripted/m")) as rt:
        assert kinds(rt.start(qa()), "bad", 6) == ["lm_invalid_request"] * 6
        assert (sick.sent, rt.quarantine.stats().held) == (1, 0)


def test_a_refused_request_counts_for_each_call(clock: ManualClock) -> None:
    sick = Sick(bad=LMInvalidRequestError("no", provider="scripted", model="m"))
    with sick.runtime(clock, lm=LM("scripted/m", cache=False)) as rt:
        assert kinds(rt.start(qa()), "bad", 4) == ["lm_invalid_request"] * 3 + ["quarantined"]


def test_a_program_that_fails_over_its_input_counts(rt: Runtime) -> None:
    assert kinds(rt.start(Picky()), "bad", 4) == ["ValueError"] * 3 + ["quarantined"]


def test_a_timeout_of_the_programs_own_does_not(rt: Runtime) -> None:
    assert kinds(rt.start(Picky()), "slow", 6) == ["TimeoutError"] * 6


def test_a_thread_that_dies_over_its_call_counts(rt: Runtime) -> None:
    assert kinds(rt.start(Quits()), "bad", 4) == ["program"] * 3 + ["quarantined"]


def test_an_aforward_that_wants_to_end_the_process_is_an_outcome_and_counts(rt: Runtime) -> None:
    program = rt.start(QuitsLater())

    async def calls() -> list[Any]:
        return [(await program.asafe_call(question="bad")).error for _ in range(4)]

    errors = asyncio.run(calls())
    assert [type(error) for error in errors] == [ProgramError] * 3 + [QuarantinedInput]


def test_misuse_of_the_program_is_an_outcome_and_never_counts(program: Program, rt: Runtime) -> None:
    outcomes = [program.safe_call(wrong=1) for _ in range(5)]
    assert {ended(outcome) for outcome in outcomes} == {"input"}
    assert rt.quarantine.stats().watched == 0


def test_a_blocking_safe_call_on_a_loop_is_refused(program: Program) -> None:
    async def call() -> None:
        with pytest.raises(BlockingCall, match="asafe_call"):
            program.safe_call(question="q")

    asyncio.run(call())


def test_a_call_after_the_end_is_an_outcome(sick: Sick) -> None:
    with sick.runtime() as rt:
        program = rt.start(qa())
    assert ended(program.safe_call(question="q")) == "shutting_down"


def test_cancelling_a_safe_call_is_raised_and_does_not_count(clock: ManualClock) -> None:
    gate = Gate()

    async def cancelled(program: Program) -> None:
        task = asyncio.create_task(program.asafe_call(question="q"))
        await asyncio.to_thread(gate.wait_for)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with runtime(gate, clock=clock) as rt:
        asyncio.run(cancelled(rt.start(qa())))
        gate.open()
        assert rt.quarantine.stats().watched == 0


def test_a_cancelled_probe_gives_its_turn_back(clock: ManualClock) -> None:
    gate = Gate()
    answers: list[Any] = [filtered()] * 3

    async def model(request: Any) -> Any:
        return answers.pop() if answers else await gate(request)

    async def cancelled(program: Program) -> None:
        task = asyncio.create_task(program.asafe_call(question="q"))
        await asyncio.to_thread(gate.wait_for)
        assert ended(await program.asafe_call(question="q")) == "quarantined"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with runtime(model, lm=MODEL, clock=clock) as rt:
        program = rt.start(qa())
        kinds(program, "q", 3)
        clock.advance(HOUR)
        asyncio.run(cancelled(program))
        gate.open()
        assert kinds(program, "q") == ["ok"]


def test_100_callers_at_expiry_send_exactly_one_request(clock: ManualClock) -> None:
    gate = Gate()
    answers: list[Any] = [filtered()] * 3

    async def model(request: Any) -> Any:
        return answers.pop() if answers else await gate(request)

    async def crowd(program: Program) -> Counter[str]:
        tasks = [asyncio.create_task(program.asafe_call(question="q")) for _ in range(100)]
        await asyncio.to_thread(gate.wait_for)
        await asyncio.to_thread(wait_until, lambda: sum(task.done() for task in tasks) == 99)
        gate.open()
        return Counter(ended(each) for each in await asyncio.gather(*tasks))

    with runtime(model, lm=MODEL, clock=clock) as rt:
        program = rt.start(qa())
        kinds(program, "q", 3)
        clock.advance(HOUR)
        assert asyncio.run(crowd(program)) == {"ok": 1, "quarantined": 99}
        assert rt.numbers().sent == 4


def test_a_probe_that_takes_its_time_keeps_the_others_out_until_its_deadline(clock: ManualClock) -> None:
    gate = Gate()
    answers: list[Any] = [filtered()] * 3

    async def model(request: Any) -> Any:
        return answers.pop() if answers else await gate(request)

    with runtime(model, lm=MODEL, clock=clock, deadline=600.0) as rt:
        program = rt.start(qa(), quarantine=True)
        kinds(program, "q", 3)
        clock.advance(HOUR)
        probe = program.submit(question="q")
        gate.wait_for()
        clock.advance(500.0)
        other = program.submit(question="q")
        wait_until(other.done)
        assert isinstance(other.exception(), QuarantinedInput)
        gate.open()
        assert probe.get(PATIENCE).answer == "q"
        assert kinds(program, "q") == ["ok"]


def test_blocking_callers_from_many_threads_send_exactly_one_request_too(clock: ManualClock) -> None:
    gate = Gate()
    answers: list[Any] = [filtered()] * 3

    async def model(request: Any) -> Any:
        return answers.pop() if answers else await gate(request)

    with runtime(model, lm=MODEL, clock=clock) as rt:
        program = rt.start(qa())
        kinds(program, "q", 3)
        clock.advance(HOUR)
        start = threading.Barrier(20)

        def call() -> str:
            start.wait()
            return kinds(program, "q")[0]

        calls = [begin(call) for _ in range(20)]
        gate.wait_for()
        wait_until(lambda: sum(reply.done() for reply in calls) == 19)
        gate.open()
        assert Counter(reply.get(10) for reply in calls) == {"ok": 1, "quarantined": 19}
        assert rt.numbers().sent == 4


# -- outages ------------------------------------------------------------------------------------------------------

OUTAGES = {
    "503": lambda: LMServerError("503", provider="scripted", model="m", status=503),
    "429": lambda: LMRateLimitError("429", provider="scripted", model="m", status=429, retry_after=0.0),
    "timeout": lambda: LMTimeoutError("slow", provider="scripted", model="m", phase="total"),
    "cut": lambda: LMTransportError("cut", provider="scripted", model="m"),
}


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("module", [qa, AskLater, Wraps, Forgets])
def test_an_outage_of_60_s_under_steady_load_sets_nothing_aside(outage: str, module: Any, clock: ManualClock) -> None:
    sick = Sick()
    guarding = Guarding(breaker=FIVE_IN_A_ROW, provider_breaker=FIVE_IN_A_ROW)
    questions = [f"q{n}" for n in range(5)]
    seen: Counter[str] = Counter()
    with sick.runtime(clock, guarding=guarding) as rt:
        program = rt.start(module())
        assert [kinds(program, question) for question in questions] == [["ok"]] * 5
        sick.down = OUTAGES[outage]
        for _ in range(60):
            clock.advance(1.0)
            seen.update(kinds(program, question)[0] for question in questions)
        sick.down = None
        clock.advance(200.0)
        stats = rt.quarantine.stats()
        back = [kinds(program, question)[0] for question in questions]
    assert (stats.entered, stats.watched) == (0, 0)
    assert (seen.total(), seen["ok"], seen["quarantined"]) == (300, 0, 0)
    assert back == ["ok"] * 5


def test_nothing_counts_while_a_breaker_is_open(sick: Sick, clock: ManualClock) -> None:
    """A program that asks two models, of which one is down: what the other refuses may be the outage's doing."""
    down = LM("scripted/down", cache=False, num_retries=0)
    guarding = Guarding(breaker=FIVE_IN_A_ROW)
    with sick.runtime(clock, guarding=guarding) as rt:
        ill = Predict("question -> answer", lm=down)
        sick.down = OUTAGES["503"]
        kinds(rt.start(ill), "q", 5)
        sick.down = None

        class Both(Module):
            def __init__(self) -> None:
                self.good = qa()
                self.ill = ill

            def forward(self, question: str) -> Any:
                return self.good(question=question)

        assert kinds(rt.start(Both(), name="both"), "bad", 6) == ["content_filter"] * 6
        assert kinds(rt.start(qa(), name="good"), "bad", 4)[-1] == "quarantined"


def test_nothing_counts_while_the_breaker_of_a_fallback_is_open(sick: Sick, clock: ManualClock) -> None:
    down = LM("scripted/down", cache=False, num_retries=0)
    with sick.runtime(clock, lm=MODEL.copy(fallbacks=[down]), guarding=Guarding(breaker=FIVE_IN_A_ROW)) as rt:
        program = rt.start(qa())
        sick.down = OUTAGES["503"]
        kinds(rt.start(Predict("question -> answer", lm=down)), "q", 5)
        sick.down = None
        assert kinds(program, "bad", 6) == ["content_filter"] * 6


# -- ordinary calls -----------------------------------------------------------------------------------------------


def test_ordinary_calls_are_left_alone_unless_asked_for(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 3)
    with pytest.raises(Exception, match="refused by policy"):
        program(question="bad")
    assert rt.quarantine.stats().refused == 0


def call(program: Program, rt: Runtime) -> Exception | None:
    try:
        program(question="bad")
    except Exception as error:
        return error
    return None


def acall(program: Program, rt: Runtime) -> Exception | None:
    async def run() -> None:
        await program.acall(question="bad")

    try:
        asyncio.run(run())
    except Exception as error:
        return error
    return None


def submit(program: Program, rt: Runtime) -> Exception | None:
    try:
        program.submit(question="bad").get(10)
    except Exception as error:
        return error
    return None


def mapped(program: Program, rt: Runtime) -> Exception | None:
    (one,) = rt.map(program, [{"question": "bad"}])
    return one.outcome.error


def streamed(program: Program, rt: Runtime) -> Exception | None:
    try:
        list(program.stream(question="bad"))
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("outage", [LMServerError("down", status=503), LMRateLimitError("slow down", retry_after=0.0)])
@pytest.mark.parametrize("way", [call, streamed])
def test_what_a_fallback_makes_of_an_input_does_not_count(outage: LMError, way: Any, clock: ManualClock) -> None:
    def answer(request: LMRequest) -> Scripted:
        return outage if request.model == "m" else "nothing that fits"

    lm = MODEL.copy(fallbacks=[LM("scripted/small", cache=False, num_retries=0)])
    with runtime(answer, lm=lm, clock=clock, parse_retries=0) as rt:
        program = rt.start(qa(), quarantine=True)
        assert [type(way(program, rt)) for _ in range(4)] == [AdapterParseError] * 4
        assert rt.quarantine.stats().watched == 0


@pytest.mark.parametrize("way", [call, acall, submit, mapped, streamed])
def test_every_call_of_a_program_that_was_started_so_is_checked(way: Any, rt: Runtime, sick: Sick) -> None:
    program = rt.start(qa(), quarantine=True)
    assert [type(way(program, rt)).__name__ for _ in range(4)] == ["LMContentFilterError"] * 3 + ["QuarantinedInput"]
    assert sick.sent == 3


def test_an_evaluation_lists_what_is_set_aside_as_the_programs_own_failure(rt: Runtime, sick: Sick) -> None:
    sick.poison = {"q1": filtered()}
    program = rt.start(qa(), quarantine=True)
    kinds(program, "q1", 3)
    result = Evaluate(devset=examples(3), metric=right)(program)
    assert (result.score, result.coverage) == (66.67, 1.0)
    assert [type(row.error) for row in result.rows] == [type(None), QuarantinedInput, type(None)]


def test_a_program_within_a_program_that_is_refused_does_not_count_against_the_outer_one(rt: Runtime) -> None:
    inner = rt.start(qa(), name="inner", quarantine=True)

    class Outer(Module):
        def __deepcopy__(self, memo: object) -> Outer:
            return self

        def forward(self, question: str) -> Any:
            try:
                return inner(question=question)
            except QuarantinedInput as error:
                msg = "no answer"
                raise RuntimeError(msg) from error

    outer = rt.start(Outer(), name="outer")
    kinds(inner, "bad", 3)
    assert kinds(outer, "bad", 5) == ["RuntimeError"] * 5


# -- inputs -------------------------------------------------------------------------------------------------------


def test_an_input_without_a_hash_is_never_set_aside(rt: Runtime) -> None:
    program = rt.start(Picky(), quarantine=True)

    class Odd(str):
        __slots__ = ()

    assert kinds(program, Odd("bad"), 6) == ["ValueError"] * 6


def test_a_program_that_holds_a_lock_has_its_inputs_set_aside_too(rt: Runtime) -> None:
    class Locked(Picky):
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __deepcopy__(self, memo: object) -> Locked:
            return self

    assert kinds(rt.start(Locked()), "bad", 4)[-1] == "quarantined"


def test_the_name_of_a_version_is_the_same_in_every_process() -> None:
    code = """
from dspy_actors import Module, Predict
from dspy_actors.modules.fingerprint import fingerprint
from dspy_actors.quarantine.names import hash_inputs
class Sorts(Module):
    def __init__(self): self.ask = Predict("question -> answer: bool")
    def forward(self, question): return question in {"a", "b", "c", "d", "e"} and self.ask(question=question)
print(fingerprint(Sorts()).hex(), hash_inputs({"question": "q", "n": [1, 2.5, None]}).hex())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_a_program_that_changes_its_input_has_the_input_set_aside_that_it_was_given(rt: Runtime) -> None:
    program = rt.start(Empties())
    found = [ended(program.safe_call(items=["a", "b"])) for _ in range(4)]
    assert found == ["ValueError"] * 3 + ["quarantined"]
    assert ended(program.safe_call(items=[])) == "ValueError"


def test_nothing_is_hashed_while_nothing_is_set_aside_or_watched(rt: Runtime) -> None:
    class Nameless(Picky):
        def dump_state(self) -> Any:
            raise AssertionError("asked for its version")

    program = rt.start(Nameless(), quarantine=True)
    assert kinds(program, "good", 3) == ["ok"] * 3
    with pytest.raises(AssertionError, match="asked for its version"):
        program(question="bad")


# -- the book -----------------------------------------------------------------------------------------------------


def test_entries_are_listed_by_program_and_tenant(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 3)
    kinds(program.using(tenant="t"), "bad", 3)
    book = rt.quarantine
    assert [entry.tenant for entry in book.list()] == ["", "t"]
    assert [entry.tenant for entry in book.list(tenant="t")] == ["t"]
    assert (len(book.list(program="qa")), book.list(program="other")) == (2, [])


def test_an_entry_shows_a_preview_and_no_input(clock: ManualClock) -> None:
    secret = "my password is hunter2, and my card is 4111 1111 1111 1111, says the customer at length"
    sick = Sick(**{secret: filtered()})
    with sick.runtime(clock) as rt:
        kinds(rt.start(qa()), secret, 3)
        (entry,) = rt.quarantine.list()
    assert [str(field) for field in entry.preview] == [f"question: str[{len(secret)}] 'my password is …'"]
    assert "hunter2" not in repr(entry)
    assert "4111" not in repr(entry)


def test_a_released_input_is_let_through(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 3)
    rt.quarantine.release(rt.quarantine.list()[0].id)
    assert kinds(program, "bad") == ["content_filter"]


def test_a_replay_on_a_mended_version_releases_the_entry(program: Program, rt: Runtime, sick: Sick) -> None:
    kinds(program, "bad", 3)
    (entry,) = rt.quarantine.list()
    mended = rt.start(Predict("question -> answer", instructions="Answer kindly."), quarantine=True)
    del sick.poison["bad"]
    outcome = rt.quarantine.replay(entry.id, mended, {"question": "bad"})
    assert outcome.unwrap().answer == "bad"
    assert kinds(program, "bad") == ["ok"]


def test_a_replay_that_fails_leaves_the_entry(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 3)
    (entry,) = rt.quarantine.list()
    outcome = rt.quarantine.replay(entry.id, program, {"question": "bad"})
    assert (ended(outcome), rt.quarantine.list()) == ("content_filter", [entry])


def test_a_replay_can_be_awaited(program: Program, rt: Runtime, sick: Sick) -> None:
    kinds(program, "bad", 3)
    del sick.poison["bad"]
    (entry,) = rt.quarantine.list()
    assert asyncio.run(rt.quarantine.areplay(entry.id, program, {"question": "bad"})).ok
    assert rt.quarantine.list() == []


@pytest.mark.parametrize("inputs", [{"question": "other"}, {}, {"question": "bad", "more": 1}, {"question": object()}])
def test_a_replay_of_other_inputs_is_refused_before_anything_is_sent(
    program: Program, rt: Runtime, sick: Sick, inputs: dict[str, Any]
) -> None:
    kinds(program, "bad", 3)
    (entry,) = rt.quarantine.list()
    with pytest.raises(QuarantineError, match="fields question"):
        rt.quarantine.replay(entry.id, program, inputs)
    assert sick.sent == 3


@pytest.mark.parametrize("module", [Quits, QuitsLater])
def test_a_replay_of_a_program_that_wants_to_end_the_process_is_an_outcome(
    program: Program, rt: Runtime, module: type[Module]
) -> None:
    kinds(program, "bad", 3)
    (entry,) = rt.quarantine.list()
    assert ended(rt.quarantine.replay(entry.id, rt.start(module()), {"question": "bad"})) == "program"


def test_an_export_has_a_line_an_entry(program: Program, rt: Runtime, tmp_path: Path) -> None:
    kinds(program, "bad", 3)
    assert rt.quarantine.export(tmp_path / "out.jsonl") == 1
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert rt.quarantine.list()[0].id in line
    assert "bad" in line  # three characters are a preview


def test_health_counts_the_entries(program: Program, rt: Runtime) -> None:
    kinds(program, "bad", 4)
    kinds(program, "good")
    found: Any = rt.health()["quarantine"]
    assert (found["held"], found["watched"], found["refused"], found["entered"]) == (1, 0, 1, 1)


def test_the_programs_metrics_count_refusals_by_their_kind(program: Program) -> None:
    kinds(program, "bad", 5)
    assert program.metrics()["errors"] == {"content_filter": 3, "quarantined": 2}


def test_an_unreadable_answer_is_an_outcome_with_what_was_said(sick: Sick, program: Program) -> None:
    sick.poison["odd"] = "no fields at all"
    error = program.safe_call(question="odd").error
    assert isinstance(error, AdapterParseError)
    assert error.text == "no fields at all"
