"""Slips of a newcomer: what is written in the wrong place or under the wrong name is told what to write."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import BlockingCall, InputError, LMConfigurationError, ModuleError, NoRuntime, SignatureError
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Prediction
from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.optimizers.bootstrap_few_shot import BootstrapFewShot
from dspy_actors.optimizers.labeled_few_shot import LabeledFewShot
from dspy_actors.streaming.streamify import streamify
from tests.dspy_actors.programs import Ask, examples, qa, right, runtime, says

NO_RUNTIME: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: qa()(question="x"), ["with Runtime(", "    program(...)", "rt.start(program)", "    started(...)"]),
    (
        lambda: asyncio.run(qa().acall(question="x")),
        ["async with Runtime(", "    await program.acall(...)", "rt.start(program)", "    await started.acall(...)"],
    ),
    (
        lambda: Evaluate(devset=examples(1), metric=right)(qa()),
        ["with Runtime(", "    evaluate(program)", "rt.start(program)", "    evaluate(started)"],
    ),
    (
        lambda: next(iter(streamify(qa(), async_streaming=False)(question="x"))),
        ["with Runtime(", "    streamify(program)(...)", "rt.start(program)", "    streamify(started)(...)"],
    ),
    (
        lambda: BootstrapFewShot(metric=right).compile(qa(), trainset=examples(1)),
        ["with Runtime(", "    optimizer.compile(student, trainset=...)"],
    ),
]


@pytest.mark.parametrize(("call", "lines"), NO_RUNTIME)
def test_where_no_runtime_is_the_error_says_what_to_write_and_where(
    call: Callable[[], object], lines: list[str]
) -> None:
    with pytest.raises(NoRuntime) as caught:
        call()
    written = [line for line in str(caught.value).splitlines() if line.startswith("    ")]
    found = iter(written)
    assert all(any(line in one for one in found) for line in lines)
    assert ("rt.start" in str(caught.value)) == ("rt.start(program)" in lines)


def test_no_advice_starts_a_class() -> None:
    with pytest.raises(NoRuntime) as caught:
        qa()(question="x")
    assert str(caught.value).startswith("Predict was called where no Runtime is")
    assert "where `program` is an object, as Predict('question -> answer')" in str(caught.value)
    assert "rt.start(Predict)" not in str(caught.value)


class NoArguments(Module):
    def forward(self) -> Prediction:
        return Prediction()


class Arguments(Module):
    def __init__(self, shop: str) -> None:
        self.shop = shop


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (Predict, "rt.start(Predict('question -> answer'))"),
        (ChainOfThought, "rt.start(ChainOfThought('question -> answer'))"),
        (NoArguments, "rt.start(NoArguments())"),
        (Arguments, "rt.start(Arguments(...))"),
    ],
)
def test_a_class_that_is_started_is_told_to_be_an_object(given: Any, advice: str) -> None:
    with runtime() as rt, pytest.raises(TypeError) as caught:
        rt.start(given)
    assert str(caught.value).endswith(f"not the class {given.__name__}; write {advice}")


def test_a_program_that_is_started_again_is_told_to_be_started() -> None:
    with runtime() as rt, pytest.raises(TypeError, match="is started already; call it, or start a copy by "):
        rt.start(rt.start(qa()))  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", [LabeledFewShot(), BootstrapFewShot(metric=right)])
def test_a_started_program_that_is_to_be_compiled_is_told_to_be_its_module(optimizer: Any) -> None:
    with runtime() as rt, pytest.raises(TypeError, match=r"is started; write program\.module .*program\.activate\("):
        optimizer.compile(rt.start(qa()), trainset=examples(1))


@pytest.mark.parametrize("optimizer", [LabeledFewShot(), BootstrapFewShot(metric=right)])
def test_a_class_that_is_to_be_compiled_is_told_to_be_an_object(optimizer: Any) -> None:
    with runtime(), pytest.raises(TypeError, match=r"not the class NoArguments; write .*NoArguments\(\)"):
        optimizer.compile(NoArguments, trainset=examples(1))


def test_a_started_program_that_is_to_teach_is_told_to_be_its_module() -> None:
    with runtime() as rt:
        teacher: Any = rt.start(qa())
        with pytest.raises(TypeError, match=r"is started; write program\.module"):
            BootstrapFewShot(metric=right).compile(qa(), teacher=teacher, trainset=examples(1))


BLOCKING: list[tuple[Callable[[Any], object], str]] = [
    (lambda rt: qa()(question="x"), "`await program.acall(...)`"),
    (lambda rt: rt.start(qa())(question="x"), "`await program.acall(...)`"),
    (lambda rt: rt.start(qa(), name="shop/triage").safe_call(question="x"), "`await program.asafe_call(...)`"),
    (lambda rt: Evaluate(devset=examples(1), metric=right)(qa()), "`await evaluate.acall(program)`"),
]


@pytest.mark.parametrize(("call", "advice"), BLOCKING)
def test_a_blocking_call_on_a_loop_is_told_what_to_await(call: Callable[[Any], object], advice: str) -> None:
    async def main() -> None:
        call(rt)

    with runtime() as rt, pytest.raises(BlockingCall) as caught:
        asyncio.run(main())
    assert str(caught.value).endswith(f"would block the running event loop; write {advice} here")


class AsyncForward(Module):
    async def forward(self, question: str) -> Prediction:
        return Prediction(answer=question)


class ReturnsACoroutine(Ask):
    def forward(self, question: str) -> Any:
        return self.ask.acall(question=question)


@pytest.mark.parametrize("program", [AsyncForward, ReturnsACoroutine])
@pytest.mark.parametrize("way", ["call", "acall"])
def test_an_async_forward_is_told_to_be_aforward_and_nothing_is_never_awaited(program: type[Module], way: str) -> None:
    with runtime() as rt, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        started = rt.start(program())
        with pytest.raises(TypeError, match=rf"{program.__name__}.forward returned a coroutine; .*`async def aforward"):
            started(question="x") if way == "call" else asyncio.run(started.acall(question="x"))
        gc.collect()
    assert [str(each.message) for each in told] == []


class PlainAforward(Module):
    def aforward(self, question: str) -> Any:
        return Prediction(answer=question)


@pytest.mark.parametrize("way", ["call", "acall", "part"])
def test_an_aforward_that_is_not_async_is_told_to_be(way: str) -> None:
    class Outer(Module):
        def __init__(self) -> None:
            self.inner = PlainAforward()

        def forward(self, question: str) -> Any:
            return self.inner(question=question)

    with runtime() as rt:
        started = rt.start(Outer() if way == "part" else PlainAforward())
        with pytest.raises(ModuleError, match=r"PlainAforward\.aforward .* write `async def aforward") as caught:
            asyncio.run(started.acall(question="x")) if way == "acall" else started(question="x")
    assert (caught.value.module, caught.value.attribute) == ("PlainAforward", "aforward")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("lm", "rt.using(lm=...)"),
        ("config", "rt.using(options={'temperature': ...})"),
        ("max_tokens", "rt.using(options={'max_tokens': ...})"),
        ("demos", "predictor.demos = [...]"),
        ("signature", "Predict(signature)"),
        ("new_signature", "Predict(signature)"),
    ],
)
def test_what_dspy_takes_with_a_call_is_told_where_it_is_written(name: str, advice: str) -> None:
    with runtime(), pytest.raises(InputError, match=f"has no input '{name}'; it takes question; ") as caught:
        qa()(question="x", **{name: 1})
    assert (advice in str(caught.value), caught.value.field) == (True, name)


def test_any_other_input_that_is_none_is_told_no_place() -> None:
    with runtime(), pytest.raises(InputError, match=r"has no input 'query'; it takes question$"):
        qa()(question="x", query="y")


def test_an_input_may_be_called_as_an_option_is() -> None:
    with runtime(lambda request: says(answer="warm")):
        assert Predict("temperature: float -> answer")(temperature=21.5).answer == "warm"


@pytest.mark.parametrize(
    ("demos", "told"),
    [
        ([1], r"demos\[0\] is a int"),
        (
            [{}, {"query": "x", "reply": "y"}],
            r"demos\[1\] has none of the fields of .* \(question, answer\); it has query",
        ),
        ({"question": "x", "answer": "y"}, "demos is a list of demonstrations"),
        (5, "demos is a list of demonstrations"),
    ],
)
def test_a_demonstration_that_is_none_is_told_as_it_is_given(demos: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        qa().demos = demos


def test_a_type_that_an_arrow_names_is_told_where_it_is_handed_over() -> None:
    with pytest.raises(SignatureError, match=r"write Signature\('\.\.\.', custom_types=\{'Item': Item\}\)"):
        Predict("ticket -> item: Item", custom_types={"Item": dict})


@pytest.mark.parametrize("option", ["temperature", "max_tokens"])
def test_an_option_of_the_model_that_is_given_as_a_setting_is_told_its_place(option: str) -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match=rf"using\(options=\{{'{option}': \.\.\.\}}\)"):
        rt.using(**{option: 1})
