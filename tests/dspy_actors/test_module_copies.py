"""A started module is a copy: what cannot be copied is named, and addresses are shared."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.errors import DspyActorsError, ModuleError
from dspy_actors.evaluation.evaluate import Evaluate
from dspy_actors.example import Prediction
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.actor import Actor
from tests.dspy_actors.programs import examples, qa, right, runtime


class Counts(Module):
    def __init__(self) -> None:
        self.ask = qa()
        self.lock = threading.Lock()

    def forward(self, question: str) -> Any:
        with self.lock:
            return self.ask(question=question)


class Shop(Module):
    def __init__(self) -> None:
        self.desks = [qa(), Counts()]

    def forward(self, question: str) -> Any:
        return self.desks[1](question=question)


WAYS: list[Callable[[Runtime, Module], object]] = [
    lambda rt, module: rt.start(module),
    lambda rt, module: Evaluate(devset=examples(1), metric=right)(module),
    lambda rt, module: rt.start(qa()).activate(module),
    lambda rt, module: list(rt.map(module, [{"question": "x"}])),
    lambda rt, module: module.reset_copy(),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_module_with_a_lock_is_told_its_attribute_and_what_to_do(way: Callable[[Runtime, Module], object]) -> None:
    with runtime() as rt, pytest.raises(ModuleError) as caught:
        way(rt, Counts())
    error = caught.value
    assert (error.module, error.attribute, type(error.__cause__)) == ("Counts", "Counts.lock", TypeError)
    assert str(error) == (
        "Counts.lock cannot be copied, as a module is with all it holds when it is started: cannot pickle "
        "'_thread.lock' object. Make it in forward, keep it in an actor and hold that one's ref, or share it: write "
        "Counts.__deepcopy__"
    )


def test_the_attribute_of_a_module_within_is_named_by_its_path() -> None:
    with runtime() as rt, pytest.raises(ModuleError, match=r"write Counts.__deepcopy__$") as caught:
        rt.start(Shop())
    assert (caught.value.module, caught.value.attribute) == ("Shop", "Shop.desks[1].lock")


def test_it_is_still_a_type_error() -> None:
    with runtime() as rt, pytest.raises(TypeError):
        rt.start(Counts())


class Own(Module):
    """Copies itself, and fails at it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __deepcopy__(self, memo: object) -> Own:
        raise self.error


def test_a_copy_of_ones_own_that_fails_is_told_as_it_is() -> None:
    error = RuntimeError("not today")
    with (
        runtime() as rt,
        pytest.raises(ModuleError, match=r"RuntimeError\('not today'\); see its __deepcopy__") as caught,
    ):
        rt.start(Own(error))
    assert caught.value.__cause__ is error


def test_an_error_of_ours_passes_as_it_is() -> None:
    error = DspyActorsError("said already")
    with runtime() as rt, pytest.raises(DspyActorsError) as caught:
        rt.start(Own(error))
    assert caught.value is error


class Delegates(Module):
    def __init__(self, started: Program) -> None:
        self.started = started

    def forward(self, question: str) -> Prediction:
        return self.started(question=question)


def test_a_handle_in_a_module_is_shared_by_its_copies() -> None:
    with runtime() as rt:
        started = rt.start(qa())
        program = rt.start(Delegates(started))
        assert program(question="blue").answer == "blue"
        assert program.module.started is started  # type: ignore[attr-defined]
        assert started.metrics()["calls"] == 1


def test_a_module_with_a_handle_is_evaluated() -> None:
    with runtime() as rt:
        assert Evaluate(devset=examples(3), metric=right)(Delegates(rt.start(qa()))).score == 100.0


class Tally(Actor):
    inline = True

    def init(self) -> None:
        self.count = 0

    def add(self) -> int:
        """One more."""
        self.count += 1
        return self.count


class Tallies(Module):
    def __init__(self, tally: Any) -> None:
        self.tally = tally

    def forward(self) -> Prediction:
        return Prediction(count=self.tally.call(Tally.add))


@pytest.mark.parametrize("address", ["ref", "via"])
def test_an_actor_s_address_in_a_module_is_shared_by_its_copies(address: str) -> None:
    with runtime() as rt:
        name = rt.registry.via("tally")
        ref = rt.system.spawn(Tally, name=name)
        held: Any = ref if address == "ref" else name
        programs = [rt.start(Tallies(held)) for _ in range(2)]
        assert [each().count for each in programs] == [1, 2]
        assert copy.deepcopy(held) is held
