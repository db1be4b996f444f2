"""Arguments looked at where they are given: a wrong one is named, with its bound, before anything is started."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dspy_actors.errors import LMConfigurationError


def number(where: str, name: str, value: object, *, least: float | None = None, above: float | None = None) -> None:
    """Raise `LMConfigurationError` unless `value` is a number, at least `least` or more than `above`."""
    _hold(is_number(value), where, name, value, "a number")
    assert isinstance(value, (int, float))
    if least is not None:
        _hold(value >= least, where, name, value, f"{least:g} or more")
    if above is not None:
        _hold(value > above, where, name, value, f"more than {above:g}")


def is_number(value: object) -> bool:
    """Whether `value` is a number that a float can hold; `True` is none, and `nan` neither."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:
        return False


def is_count(value: object, least: int = 1) -> bool:
    """Whether `value` is a whole number of at least `least`; `True` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole(where: str, name: str, value: object, *, least: int) -> None:
    """Raise `LMConfigurationError` unless `value` is a whole number of at least `least`."""
    _hold(is_count(value, least), where, name, value, f"a whole number, {least} or more")


def a(kind: type | tuple[type, ...], where: str, name: str, value: object, called: str) -> None:
    """Raise `LMConfigurationError` unless `value` is of that kind, which is `called` so."""
    _hold(isinstance(value, kind), where, name, value, called)


def flag(where: str, name: str, value: object) -> None:
    """Raise `LMConfigurationError` unless `value` is True or False."""
    a(bool, where, name, value, "True or False")


def named(where: str, name: str, value: object) -> None:
    """Raise `LMConfigurationError` unless `value` is a name with at least one letter, or `None`."""
    _hold(value is None or (isinstance(value, str) and bool(value)), where, name, value, "a name, or None")


def names_of(where: str, name: str, value: object) -> frozenset[str]:
    """The names that are given; a string is one name, not several. Raises `LMConfigurationError` for anything else."""
    what = "a list of names"
    _hold(isinstance(value, Iterable) and not isinstance(value, (str, bytes)), where, name, value, what)
    assert isinstance(value, Iterable)
    found = tuple(value)
    _hold(all(isinstance(each, str) for each in found), where, name, found, what)
    return frozenset(found)


def numbers(where: str, *, above: float, **values: object) -> None:
    """As `number`, for several."""
    for name, value in values.items():
        number(where, name, value, above=above)


def wholes(where: str, *, least: int, **values: object) -> None:
    """As `whole`, for several."""
    for name, value in values.items():
        whole(where, name, value, least=least)


def tables_of(kind: type, where: str, **values: object) -> None:
    """Raise `LMConfigurationError` unless each value is a mapping from names to that kind, or `None`."""
    for name, value in values.items():
        a((Mapping, type(None)), where, name, value, f"a mapping from names to {kind.__name__}")
        table: Any = value or {}
        for key, each in table.items():
            a(kind, where, f"{name}[{key!r}]", each, f"a {kind.__name__}")


def _hold(holds: bool, where: str, name: str, value: object, what: str) -> None:
    if not holds:
        msg = f"{where}({name}={value!r:.80}): {what}"
        raise LMConfigurationError(msg)
