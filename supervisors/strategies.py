"""Which siblings go along when a child ends: OTP's three strategies as one pure function."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Strategy(Enum):
    """Who is restarted together with a child that ended.

    A new strategy is one member here, one clause in `plan` and its rows in the table of
    `tests/supervisors/test_strategies.py`; nothing else changes.
    """

    ONE_FOR_ONE = "one_for_one"
    """Only the child itself."""
    REST_FOR_ONE = "rest_for_one"
    """The child and everything started after it: what stands later leans on what stands earlier."""
    ONE_FOR_ALL = "one_for_all"
    """All children: they make sense only together."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[K]):
    """What a supervisor does after a child ended: stop `stop` in this order, then start `start` in this order.

    `stop` is in reverse start order and leaves out the child that ended (it is down already); `start` is in start
    order and includes it.
    """

    stop: tuple[K, ...]
    start: tuple[K, ...]


def plan(strategy: Strategy, ids: Collection[K], failed: K) -> Plan[K]:
    """Which children stop and which start after `failed` ended.

    `ids` holds all children in start order. The rules are OTP's
    (https://www.erlang.org/doc/system/sup_princ.html#restart-strategy). Children which are not running are in the
    plan as well: a group restart starts them again, which is OTP's rule too. Raises `ValueError` if `failed` is not
    one of `ids`.
    """
    if failed not in ids:
        raise ValueError(f"{failed!r} is not one of the children")
    if strategy is Strategy.ONE_FOR_ONE:
        return Plan((), (failed,))
    order = tuple(ids)
    affected = order if strategy is Strategy.ONE_FOR_ALL else order[order.index(failed) :]
    return Plan(tuple(child for child in reversed(affected) if child != failed), affected)
