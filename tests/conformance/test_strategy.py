"""Section T: who is restarted together with whom."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.children import published
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import UnknownMessage
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log, wait_until
from tests.conformance.actors import (
    ALL,
    KINDS,
    ONE,
    REST,
    TEMPORARY,
    Gate,
    Script,
    SlowEnd,
    Worker,
    alive,
    api,
    busy,
    child,
    end_child,
    finish,
    fresh,
    ids,
    letters,
    spec,
    stop,
    worker,
)
from tests.conformance.words import BOOM, down, recorded

kinds = pytest.mark.parametrize("cls", KINDS)
who = pytest.mark.parametrize("who", ["a", "b", "d"])


def seen(kernel: Kernel, cls: type[Worker], strategy: Strategy, who: str) -> list[Any]:
    """What is logged when that one of a, b, c, d crashes."""
    log = Log()
    sup = fresh(kernel, log, [spec(name, log, cls) for name in "abcd"], strategy)
    end_child(sup, who)
    return log.events


@kinds
@who
def test_t01_one_for_one_restarts_the_one(kernel: Kernel, cls: type[Worker], who: str) -> None:
    assert seen(kernel, cls, ONE, who) == recorded("T01")[who]


@kinds
@who
def test_t02_one_for_all_stops_in_reverse_and_starts_all_in_order(kernel: Kernel, cls: type[Worker], who: str) -> None:
    assert seen(kernel, cls, ALL, who) == recorded("T02")[who]


@kinds
@who
def test_t03_rest_for_one_restarts_those_behind(kernel: Kernel, cls: type[Worker], who: str) -> None:
    assert seen(kernel, cls, REST, who) == recorded("T03")[who]


def test_t04_a_child_added_later_is_the_last_in_the_order(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log), REST)
    sup.call(Supervisor.start_child, spec("c", log))
    end_child(sup, "b")

    assert {"ids": ids(sup), "log": log.events} == recorded("T04")


def test_t05_a_child_restarted_by_hand_keeps_its_place(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("abc", log), REST)
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.restart_child, "a")
    log.clear()
    end_child(sup, "a")

    assert {"ids": ids(sup), "log": log.events} == recorded("T05")


def sibling_fails(kernel: Kernel, strategy: Strategy, max_restarts: int = 2) -> dict[str, Any]:
    log = Log()
    children = [spec("a", log), spec("b", log, script=Script(None, BOOM, None)), spec("c", log)]
    sup = fresh(kernel, log, children, strategy, max_restarts)
    end_child(sup, "a")
    if max_restarts > 1:
        log.wait_for("+c")
    return {"alive": alive(sup), "log": log.events}


def test_t06_a_sibling_that_fails_begins_the_whole_group_again(kernel: Kernel) -> None:
    assert sibling_fails(kernel, ALL) == recorded("T06")


def test_t06_each_round_of_the_group_counts_once(kernel: Kernel) -> None:
    assert sibling_fails(kernel, ALL, max_restarts=1)["alive"] is False


def test_t07_a_sibling_that_fails_leaves_those_before_it_running(kernel: Kernel) -> None:
    assert sibling_fails(kernel, REST) == recorded("T07")


def at_once(kernel: Kernel, strategy: Strategy, order: str, max_restarts: int) -> dict[str, Any]:
    """These of a, b, c die, one after the other, before their supervisor hears of it."""
    log = Log()
    sup = fresh(kernel, log, letters("abc", log), strategy, max_restarts)
    victims = [child(sup, name) for name in order]
    with busy(sup):
        for victim in victims:
            finish(victim)
    return {"alive": alive(sup), "log": log.events}


limits = pytest.mark.parametrize("max_restarts", [1, 2])


@limits
def test_t08_two_deaths_at_once_are_one_restart_of_all(kernel: Kernel, max_restarts: int) -> None:
    assert at_once(kernel, ALL, "ab", max_restarts) == recorded("T08")[f"with_{max_restarts}"]


@limits
def test_t09_two_deaths_at_once_are_two_restarts_of_one(kernel: Kernel, max_restarts: int) -> None:
    assert at_once(kernel, ONE, "ab", max_restarts) == recorded("T09")[f"with_{max_restarts}"]


@limits
def test_t10_two_deaths_at_once_are_two_restarts_of_the_rest(kernel: Kernel, max_restarts: int) -> None:
    assert at_once(kernel, REST, "ba", max_restarts) == recorded("T10")[f"with_{max_restarts}"]


def dynamic(kernel: Kernel, **options: Any) -> Ref[DynamicSupervisor]:
    ref = kernel.spawn(DynamicSupervisor, **options)
    assert isinstance(ref, Ref)
    return ref


def start(sup: Ref[DynamicSupervisor], made: ChildSpec) -> Ref[Any]:
    return sup.call(DynamicSupervisor.start_child, made)


def test_t11_a_dynamic_child_restarts_with_the_arguments_it_was_started_with(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel)
    a, _ = start(sup, spec("a", log)), start(sup, spec("b", log))
    finish(a)
    alive(sup)

    assert log == recorded("T11")


def test_t12_a_dynamic_child_is_known_by_its_ref(kernel: Kernel) -> None:
    otp = recorded("T12")
    sup = dynamic(kernel)
    a = start(sup, spec("a", Log()))

    assert api(sup, DynamicSupervisor.terminate_child, "a") == "not_found"
    assert api(sup, DynamicSupervisor.terminate_child, a) == otp["by_ref"]
    with pytest.raises(UnknownMessage):
        sup.call(Supervisor.restart_child, a)  # type: ignore[call-overload]


def test_t13_a_dead_child_and_a_stranger_are_not_found(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    dead, stranger = start(sup, spec("a", Log(), restart=TEMPORARY)), worker(kernel)
    finish(dead)
    answers = {key: api(sup, DynamicSupervisor.terminate_child, ref) for key, ref in (("dead", dead), ("s", stranger))}

    assert answers == {"dead": recorded("T12")["dead"], "s": recorded("T12")["stranger"]}


def test_t14_dynamic_children_are_told_at_once_and_stop_together(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    sup = dynamic(kernel)
    for name in "abc":
        start(sup, spec(name, log, SlowEnd, gate=gate))
    log.clear()
    sup.exit(Shutdown())
    for name in "abc":
        log.wait_for(f"<{name}")
    gate.open()

    assert (down(sup), [event[0] for event in log.events]) == ("shutdown", recorded("T14"))


def test_t15_the_arguments_of_a_temporary_child_are_gone_also_after_a_sibling_died(kernel: Kernel) -> None:
    log = Log()
    sup = dynamic(kernel)
    refs = [start(sup, spec(name, log, restart=TEMPORARY)) for name in "abc"]
    finish(refs[0])
    alive(sup)
    children = published(sup)
    assert children is not None

    assert [entry.spec.args for entry in children.entries()] == [(), ()]


def test_t15_nothing_of_a_dead_temporary_child_is_kept(kernel: Kernel) -> None:
    sup = dynamic(kernel)
    log = Log()
    kept = weakref.ref(log)
    finish(start(sup, spec("a", log, restart=TEMPORARY)))
    alive(sup)
    del log

    wait_until(lambda: gc.collect() >= 0 and kept() is None)  # its report is written a little later


def test_t16_ending_many_temporary_children_is_linear_in_their_number(kernel: Kernel) -> None:
    class Plain(Actor):
        inline = True

    def seconds(number: int) -> float:
        sup = dynamic(kernel)
        refs = [start(sup, ChildSpec("a", Plain, restart=TEMPORARY)) for _ in range(number)]
        began = time.process_time()
        for ref in refs:
            sup.call(DynamicSupervisor.terminate_child, ref)
        spent = time.process_time() - began
        stop(sup)
        return spent

    few = min(seconds(100) for _ in range(3))
    assert seconds(2000) < 20 * few * 4
