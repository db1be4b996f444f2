"""A class with `quick_init` is in every way the dataclass that it was."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from inspect import signature
from typing import get_type_hints

import pytest

from dspy_actors.quick_init import quick_init


@dataclass(frozen=True, slots=True)
class Plain:
    """The pattern."""

    name: str
    parts: tuple[int, ...] = ()
    options: dict[str, int] = field(default_factory=dict)
    sample: int = 3


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    """The same, quicker."""

    name: str
    parts: tuple[int, ...] = ()
    options: dict[str, int] = field(default_factory=dict)
    sample: int = 3


def test_it_takes_the_same_arguments() -> None:
    assert signature(Quick) == signature(Plain)
    assert Quick.__init__.__qualname__ == "Quick.__init__"


class Neighbour:
    """A class of this file."""


@quick_init
@dataclass(frozen=True, slots=True)
class Telling:
    """Its hint is a name of this file."""

    neighbour: Neighbour


def test_its_type_hints_are_found_where_it_was_written() -> None:
    assert get_type_hints(Telling.__init__)["neighbour"] is Neighbour
    assert signature(Telling, eval_str=True).parameters["neighbour"].annotation is Neighbour


@pytest.mark.parametrize("given", [("a",), ("a", (1,)), ("a", (1,), {"b": 2}), ("a", (1,), {"b": 2}, 4)])
def test_every_field_has_what_was_given_or_its_default(given: tuple[object, ...]) -> None:
    quick, plain = Quick(*given), Plain(*given)  # type: ignore[arg-type]
    assert [getattr(quick, name) for name in Quick.__slots__] == [getattr(plain, name) for name in Plain.__slots__]
    assert repr(quick) == repr(plain).replace("Plain", "Quick")


def test_arguments_go_by_name_too() -> None:
    assert Quick(sample=5, name="a") == Quick("a", (), {}, 5)


def test_each_one_has_a_default_of_its_own_from_a_factory() -> None:
    assert Quick("a").options is not Quick("a").options


def test_what_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'name'"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'nam'"):
        Quick("a", nam="b")  # type: ignore[call-arg]


def test_it_is_frozen() -> None:
    made = Quick("a")
    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
    assert made.name == "a"


def test_it_is_copied_with_changes_and_pickled() -> None:
    made = Quick("a", (1,), {"b": 2})
    assert replace(made, name="c") == Quick("c", (1,), {"b": 2})
    assert pickle.loads(pickle.dumps(made)) == made
