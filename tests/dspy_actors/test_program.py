"""Calls of programs: blocking, awaited, submitted; user code sync and async; what they return and what they raise."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from dspy_actors.errors import BlockingCall, InputError, LMNotConfiguredError, NameTaken, NoRuntime, ProgramError
from dspy_actors.example import Prediction
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.runner import current_frame
from dspy_actors.runtime import Runtime
from tests.dspy_actors.programs import Ask, AskLater, asked, begin, qa, runtime, says


class Raises(Module):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def forward(self, question: str) -> Any:
        raise self.error


class RaisesLater(Raises):
    forward = None  # type: ignore[assignment]

    async def aforward(self, question: str) -> Any:
        raise self.error


class Where(Module):
    """Says on which thread its code ran."""

    def forward(self) -> Prediction:
        return Prediction(thread=threading.get_ident())


class WhereLater(Module):
    async def aforward(self) -> Prediction:
        return Prediction(thread=threading.get_ident())


class Both(Module):
    """Two predictors behind each other, one of our own modules among them."""

    def __init__(self) -> None:
        self.think = ChainOfThought("question -> answer")
        self.ask = qa()

    def forward(self, question: str) -> Any:
        return self.ask(question=self.think(question=question).answer)


def reasoned(request: Any) -> str:
    return says(reasoning="because", answer=asked(request))


# -- the ways to call ----------------------------------------------------------------------------------------------


def test_a_plain_module_finds_the_runtime_around_it() -> None:
    with runtime():
        assert qa()(question="blue").answer == "blue"


def test_a_handle_answers_a_blocking_call() -> None:
    with runtime() as rt:
        assert rt.start(qa())(question="blue").answer == "blue"


def test_a_handle_works_from_a_thread_that_knows_no_runtime() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        assert begin(lambda: program(question="blue")).get(5).answer == "blue"


def test_a_handle_answers_an_awaited_call_on_any_loop() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        assert asyncio.run(program.acall(question="blue")).answer == "blue"


def test_a_submitted_call_is_waited_for_later() -> None:
    with runtime() as rt:
        assert rt.start(qa()).submit(question="blue").get(5).answer == "blue"


def test_a_submitted_call_can_be_awaited() -> None:
    async def submitted() -> Prediction:
        return await program.submit(question="blue")

    with runtime() as rt:
        program = rt.start(qa())
        assert asyncio.run(submitted()).answer == "blue"


@pytest.mark.parametrize("program", [Ask, AskLater])
def test_a_users_program_is_called_from_sync_code(program: type[Module]) -> None:
    with runtime() as rt:
        assert rt.start(program())(question="blue").answer == "blue"


@pytest.mark.parametrize("program", [Ask, AskLater])
def test_a_users_program_is_awaited(program: type[Module]) -> None:
    with runtime() as rt:
        assert asyncio.run(rt.start(program()).acall(question="blue")).answer == "blue"


@pytest.mark.parametrize("program", [Ask, AskLater])
def test_a_users_program_without_a_handle_is_called_from_sync_code(program: type[Module]) -> None:
    with runtime():
        assert program()(question="blue").answer == "blue"


@pytest.mark.parametrize("program", [Ask, AskLater])
def test_a_users_program_without_a_handle_is_awaited(program: type[Module]) -> None:
    async def main() -> Prediction:
        async with runtime():
            return await program().acall(question="blue")

    assert asyncio.run(main()).answer == "blue"


# -- where code runs -----------------------------------------------------------------------------------------------


def test_forward_runs_in_a_thread_of_its_own() -> None:
    with runtime() as rt:
        assert rt.start(Where())().thread != threading.get_ident()


def test_aforward_runs_on_the_loop_that_awaits_it() -> None:
    with runtime() as rt:
        assert asyncio.run(rt.start(WhereLater()).acall()).thread == threading.get_ident()


def test_aforward_runs_on_the_programs_loop_when_its_caller_blocks() -> None:
    with runtime() as rt:
        program = rt.start(WhereLater())
        assert program().thread == program.submit().get(5).thread


def test_nested_modules_share_the_call_of_the_outer_one() -> None:
    with runtime(reasoned) as rt:
        program = rt.start(Both())
        program(question="blue")
        assert program.metrics()["calls"] == 1


def test_the_usage_of_nested_modules_is_added_up() -> None:
    with runtime(reasoned) as rt:
        program = rt.start(Both())
        assert program(question="blue").attempts == 2


def test_a_call_leaves_the_context_of_its_caller_as_it_was() -> None:
    with runtime() as rt:
        before = current_frame()
        rt.start(Ask())(question="blue")
        assert current_frame() is before


def test_an_awaited_call_leaves_the_context_of_its_task_as_it_was() -> None:
    async def main() -> bool:
        before = current_frame()
        await program.acall(question="blue")
        return current_frame() is before

    with runtime() as rt:
        program = rt.start(AskLater())
        assert asyncio.run(main())


# -- what a call returns -------------------------------------------------------------------------------------------


def test_a_prediction_names_the_model_that_answered() -> None:
    with runtime(lm="scripted/small"):
        assert qa()(question="blue").model == "scripted/small"


def test_a_prediction_counts_the_requests_sent_for_it() -> None:
    with runtime():
        assert qa()(question="blue").attempts == 1


def test_a_repeated_question_is_answered_from_the_cache() -> None:
    with runtime():
        qa()(question="blue")
        again = qa()(question="blue")
        assert (again.cached, again.attempts) == (True, 0)


def test_an_answer_from_the_cache_costs_no_tokens() -> None:
    with runtime():
        qa()(question="blue")
        assert qa()(question="blue").usage is None


def test_an_unreadable_answer_is_asked_for_again() -> None:
    with runtime(["no layout at all", says(answer="blue")]):
        assert qa()(question="colour?").answer == "blue"


def test_a_change_of_a_plain_modules_demos_counts_from_the_next_call_on() -> None:
    def count(request: Any) -> str:
        return says(answer=len(request.messages))

    with runtime(count):
        module = qa()
        before = int(module(question="q").answer)
        module.demos = [{"question": "a", "answer": "b"}]
        assert int(module(question="q").answer) == before + 2


def test_a_change_of_a_module_does_not_reach_its_started_program() -> None:
    def count(request: Any) -> str:
        return says(answer=len(request.messages))

    with runtime(count) as rt:
        module = qa()
        program = rt.start(module)
        before = program(question="q").answer
        module.demos = [{"question": "a", "answer": "b"}]
        assert program(question="other").answer == before


# -- versions ------------------------------------------------------------------------------------------------------


def test_an_activated_version_answers_the_next_call() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        program.activate(Raises(ValueError("the new version")))
        with pytest.raises(ValueError, match="the new version"):
            program(question="blue")


def test_a_prediction_names_the_version_it_came_from() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        program.activate(qa())
        assert program(question="blue").version == 2


def test_a_version_can_be_rolled_back() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        program.activate(Raises(ValueError("the new version")))
        program.roll_back(1)
        assert program(question="blue").version == 1


class Takes(Module):
    def forward(self, question: str, hint: str = "") -> Prediction:
        return Prediction(answer="taken")


class TakesAnything(Module):
    def forward(self, **inputs: str) -> Prediction:
        return Prediction(answer="anything")


@pytest.mark.parametrize("module", [Takes(), TakesAnything()])
def test_a_version_that_can_be_called_as_the_active_one_is_taken(module: Module) -> None:
    with runtime() as rt:
        assert rt.start(qa()).activate(module) == 2


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (qa(), Predict("text -> answer"), "text"),
        (qa(), Predict("question, context -> answer"), "context"),
        (Takes(), qa(), "hint"),
    ],
)
def test_a_version_with_other_inputs_is_refused(old: Module, new: Module, field: str) -> None:
    with runtime() as rt:
        program = rt.start(old)
        with pytest.raises(InputError, match="is called with the inputs question") as refused:
            program.activate(new)
        assert (refused.value.field, program.version) == (field, 1)


def test_a_version_that_was_never_there_is_refused_by_its_number() -> None:
    with runtime() as rt, pytest.raises(KeyError, match="7"):
        rt.start(qa()).roll_back(7)


# -- what a call raises --------------------------------------------------------------------------------------------


def test_a_call_without_a_runtime_shows_both_ways_to_have_one() -> None:
    with pytest.raises(NoRuntime, match=r"with Runtime(.|\n)*start_up"):
        qa()(question="blue")


def test_a_runtime_that_has_not_started_says_how_to_start_it() -> None:
    with pytest.raises(NoRuntime, match=r"^this Runtime has not started: use it as .*start_up\(\)$"):
        Runtime().start(qa())


def test_an_awaited_call_without_a_runtime_raises_the_same() -> None:
    with pytest.raises(NoRuntime):
        asyncio.run(qa().acall(question="blue"))


def test_a_runtime_is_not_seen_from_a_thread_that_inherits_nothing() -> None:
    with runtime(), pytest.raises(NoRuntime):
        begin(lambda: qa()(question="blue")).get(5)


@pytest.mark.parametrize("make", [lambda rt: qa(), lambda rt: rt.start(qa())])
def test_a_blocking_call_on_a_running_loop_names_acall(make: Any) -> None:
    async def main() -> None:
        program(question="blue")

    with runtime() as rt:
        program = make(rt)
        with pytest.raises(BlockingCall, match="acall"):
            asyncio.run(main())


def test_a_blocking_call_inside_of_aforward_names_acall() -> None:
    class Wrong(Module):
        async def aforward(self) -> Any:
            return qa()(question="blue")

    with runtime() as rt, pytest.raises(BlockingCall, match="acall"):
        rt.start(Wrong())()


def test_a_missing_input_is_named() -> None:
    with runtime(), pytest.raises(InputError, match="question"):
        qa()()


def test_an_extra_input_is_named() -> None:
    with runtime(), pytest.raises(InputError, match="colour"):
        qa()(question="blue", colour="red")


def test_a_call_without_a_model_says_where_to_name_one() -> None:
    with Runtime(), pytest.raises(LMNotConfiguredError, match="Runtime\\(lm="):
        qa()(question="blue")


@pytest.mark.parametrize("program", [Raises, RaisesLater])
def test_an_exception_of_the_users_code_reaches_the_blocking_caller(program: type[Raises]) -> None:
    with runtime() as rt, pytest.raises(ZeroDivisionError):
        rt.start(program(ZeroDivisionError()))(question="blue")


@pytest.mark.parametrize("program", [Raises, RaisesLater])
def test_an_exception_of_the_users_code_reaches_the_awaiting_caller(program: type[Raises]) -> None:
    with runtime() as rt, pytest.raises(ZeroDivisionError):
        asyncio.run(rt.start(program(ZeroDivisionError())).acall(question="blue"))


@pytest.mark.parametrize("program", [Raises, RaisesLater])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_the_process_is_an_error_of_the_program(program: type[Raises], error: BaseException) -> None:
    with runtime() as rt, pytest.raises(ProgramError, match=type(error).__name__):
        rt.start(program(error))(question="blue")


def test_a_program_that_ended_its_thread_leaves_the_others_alone() -> None:
    with runtime() as rt:
        other = rt.start(Ask())
        with pytest.raises(ProgramError):
            rt.start(Raises(SystemExit(3)))(question="blue")
        assert other(question="blue").answer == "blue"


def test_a_submitted_program_that_wants_to_end_the_process_only_ends_its_call() -> None:
    with runtime() as rt:
        reply = rt.start(RaisesLater(SystemExit(3))).submit(question="blue")
        with pytest.raises(ProgramError, match="SystemExit"):
            reply.get(5)


def test_a_forward_that_returns_no_prediction_is_told_what_to_return() -> None:
    class Wrong(Module):
        def forward(self) -> Any:
            return {"answer": "blue"}

    with runtime() as rt, pytest.raises(TypeError, match="return Prediction"):
        rt.start(Wrong())()


class Reads(Module):
    def forward(self, letter: str, sender: str = "") -> Any:
        return Prediction(kind=letter + sender)


@pytest.mark.parametrize(
    ("make", "write"),
    [
        (qa, r"program\(question=\.\.\.\)"),
        (lambda: ChainOfThought("a, b -> c"), r"program\(a=\.\.\., b=\.\.\.\)"),
        (Reads, r"program\(letter=\.\.\., sender=\.\.\.\)"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda rt, module: module("blue"),
        lambda rt, module: rt.start(module)("blue"),
        lambda rt, module: rt.start(module).submit("blue").get(5),
        lambda rt, module: rt.start(module).safe_call("blue").unwrap(),
        lambda rt, module: asyncio.run(rt.start(module).acall("blue")),
        lambda rt, module: asyncio.run(rt.start(module).asafe_call("blue")).unwrap(),
    ],
)
def test_inputs_without_names_are_refused_with_what_to_write(make: Any, write: str, call: Any) -> None:
    with runtime() as rt, pytest.raises(InputError, match=write):
        call(rt, make())


def test_a_module_without_forward_says_what_to_define() -> None:
    with runtime() as rt, pytest.raises(TypeError, match="neither forward"):
        rt.start(Module())()


def test_a_second_program_of_the_same_name_is_refused() -> None:
    with runtime() as rt:
        rt.start(qa(), name="qa")
        with pytest.raises(NameTaken, match=r"'qa' runs .* already; .* stop\(\), or .* another name") as refused:
            rt.start(qa(), name="qa")
    assert (refused.value.name, refused.value.kind) == ("qa", "name_taken")
    assert pickle.loads(pickle.dumps(refused.value)).name == "qa"


def test_an_error_is_counted_by_its_kind() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        with pytest.raises(InputError):
            program(colour="blue")
        assert program.metrics()["errors"] == {"input": 1}


def test_an_error_that_is_asked_for_again_and_again_does_not_grow() -> None:
    def depth() -> int:
        with pytest.raises(ZeroDivisionError) as caught:
            reply.get(5)
        return len(caught.traceback)

    with runtime() as rt:
        reply = rt.start(Raises(ZeroDivisionError())).submit(question="blue")
        assert depth() == depth()
