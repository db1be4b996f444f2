"""`Optimizer`: what every optimizer is, and the checks they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from dspy_actors.errors import EvaluationError
from dspy_actors.evaluation.host import EvaluationHost, host_of
from dspy_actors.example import Example
from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program, inside_of
from dspy_actors.runner import FRAME, Settings, require_frame

M = TypeVar("M", bound=Module)


class Optimizer(Protocol):
    """Takes a program and examples, returns a better program. The student is never changed."""

    def compile(self, student: M, *, trainset: Sequence[Example]) -> M:
        """The better program. Runs blocking, in the caller's thread, inside a runtime."""
        ...


@contextmanager
def searching(student: Module, name: str) -> Iterator[tuple[EvaluationHost, Settings]]:
    """The runtime that a search runs in, and its settings, which are in force inside the block.

    Whatever asks a model there, evaluations and metrics too, is of the class `optimizer` unless the settings name
    another. Raises `NoRuntime`, which calls the caller `name`, outside every runtime, and `ShuttingDown` in one that
    lets no more calls in.
    """
    host, found = host_of(student, name, "optimizer.compile(student, trainset=...)")
    settings = found.of_class("optimizer")
    token = FRAME.set(replace(require_frame(name), settings=settings))
    try:
        yield host, settings
    finally:
        FRAME.reset(token)


def check_module(given: object) -> None:
    """Raise `TypeError`, with what to write, where what is to be compiled, or to teach, is no module."""
    if isinstance(given, Module):
        return
    if isinstance(given, type) and issubclass(given, Module):
        msg = f"an object can be compiled, not the class {given.__name__}; write {given.__name__}({inside_of(given)})"
    elif isinstance(given, Program):
        msg = f"{given!r} is started; write program.module in its place, and program.activate(...) of what comes back"
    else:
        msg = f"a Module can be compiled, not a {type(given).__name__}"
    raise TypeError(msg)


def checked_trainset(trainset: Sequence[Example]) -> list[Example]:
    """The trainset as a list; raises `EvaluationError` where it is empty or an example does not know its inputs."""
    examples = list(trainset)
    if not examples:
        msg = "the trainset is empty: there is nothing to learn from"
        raise EvaluationError(msg)
    for index, example in enumerate(examples):
        if not isinstance(example, Example) or example.input_keys is None:
            msg = f"trainset[{index}] does not know its inputs; write Example(...).with_inputs('question')"
            raise EvaluationError(msg)
    return examples


def labelled(example: Example, predictor: Any) -> dict[str, Any]:
    """The example as a demonstration for `predictor`: the fields of its signature that the example has."""
    names = (*predictor.signature.input_fields, *predictor.signature.output_fields)
    return {name: example[name] for name in names if name in example}
