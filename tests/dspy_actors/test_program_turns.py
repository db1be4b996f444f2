"""Whose turn it is, where calls of one program wait for its places: classes and tenants as at a rate limit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest

from dspy_actors.envelope import Priority
from dspy_actors.errors import Busy
from dspy_actors.lm.fair_queue import SWEEP_AT
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.guarding import Guarding
from dspy_actors.messages import LMRequest
from dspy_actors.modules.instance import ModuleInstance
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors import sys
from supervisors.clock import ManualClock
from supervisors.exits import Crash
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Gate, asked, qa, runtime

FAIRNESS = Guarding(fairness=Fairness(weights={"double": 2.0}))


class Id(str):
    """A call's id that can be watched, and that may do something once when it gets its place."""

    __slots__ = ("__weakref__", "meddle")
    meddle: Callable[[], object] | None

    def __init__(self, _: object) -> None:
        self.meddle = None

    def __hash__(self) -> int:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return super().__hash__()


class Line:
    """A program with one place, which `first` has, and those who wait for it."""

    def __init__(self, rt: Runtime) -> None:
        program = rt.start(qa(), name="qa", max_inflight=1)
        found = rt.registry.whereis(("module", "qa"))
        assert found is not None
        self.instance = found
        self.admission = program._plan.admission
        assert self.admission.enter("first")
        self.has_it = "first"
        self.turns: dict[str, Reply[Any]] = {}

    def come(self, call_id: str, priority: Priority = "interactive", tenant: str = "") -> Reply[Any]:
        assert not self.admission.enter(call_id)
        turn = self.turns[call_id] = self.instance.send_request(ModuleInstance.admit, call_id, priority, tenant)
        self.instance.call(ModuleInstance.let_in)  # by then it has heard of the call
        return turn

    def leave(self, call_id: str) -> None:
        """As a call does that is given up while it waits."""
        self.turns.pop(call_id).cancel()
        self.admission.leave(call_id)

    def next(self) -> str | None:
        """Who gets the place when it is given back now."""
        self.admission.leave(self.has_it)
        self.instance.call(ModuleInstance.let_in)
        seated = [call_id for call_id, turn in self.turns.items() if turn.done() and not turn.cancelled()]
        if not seated:
            return None
        (self.has_it,) = seated
        del self.turns[self.has_it]
        return str(self.has_it)

    def order(self) -> list[str]:
        return list(iter(self.next, None))


@pytest.fixture
def line() -> Iterator[Line]:
    with runtime(guarding=FAIRNESS) as rt:
        yield Line(rt)


def test_the_next_free_place_is_for_the_interactive_call_behind_a_flood(line: Line) -> None:
    for n in range(50):
        line.come(f"flood {n}", "batch", "a")
    line.come("urgent", "interactive", "b")
    assert line.next() == "urgent"


def test_a_flood_of_interactive_calls_leaves_a_batch_call_its_share(line: Line) -> None:
    for n in range(50):
        line.come(f"flood {n}")
    line.come("patient", "batch")
    assert line.order().index("patient") == 1


def test_tenants_take_their_places_in_turns(line: Line) -> None:
    for n in range(4):
        line.come(f"a{n}", tenant="a")
    line.come("b0", tenant="b")
    line.come("b1", tenant="b")
    assert line.order() == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_tenants_share_places_by_their_weights(line: Line) -> None:
    for n in range(6):
        line.come(f"single {n}", tenant="single")
        line.come(f"double {n}", tenant="double")
    served = [line.next() for _ in range(6)]
    assert sum(str(name).startswith("double") for name in served) == 4


def test_a_call_that_finds_others_waiting_does_not_pass_by_them(line: Line) -> None:
    line.come("waits")
    line.admission.leave("first")  # its place is free, and the actor has not heard of it yet
    assert not line.admission.enter_at_once("comes")


def test_who_left_before_its_turn_has_taken_nothing_of_its_tenants_share(line: Line) -> None:
    for name in ("a0", "a1", "b0"):
        line.come(name, tenant=name[0])
    line.leave("a0")
    assert line.order() == ["a1", "b0"]


def test_who_leaves_just_as_its_turn_comes_has_taken_nothing_of_its_tenants_share(line: Line) -> None:
    leaves = Id("a0")
    turn = line.come(leaves, tenant="a")
    for name in ("a1", "b0"):
        line.come(name, tenant=name[0])
    leaves.meddle = turn.cancel
    assert line.order() == ["a1", "b0"]
    assert turn.cancelled()


def test_who_leaves_just_as_its_turn_comes_keeps_no_place(line: Line) -> None:
    leaves = Id("leaves")
    turn = line.come(leaves)
    leaves.meddle = turn.cancel
    assert line.next() is None
    assert not line.admission.running


def test_those_who_have_left_are_forgotten_behind_one_who_waits_on(line: Line) -> None:
    seen: WeakSet[Id] = WeakSet()
    line.come("stays")
    for n in range(10 * SWEEP_AT):
        call_id = Id(n)
        seen.add(call_id)
        line.come(call_id, tenant=f"{n}")
        line.leave(call_id)
        del call_id
    line.instance.call(ModuleInstance.let_in)
    gc.collect()
    assert len(seen) <= SWEEP_AT + 2


def test_what_was_taken_is_forgotten_when_nobody_waits(line: Line) -> None:
    for n in range(20):
        line.come(f"a{n}", tenant="a")
    line.order()
    line.has_it = "second"
    assert line.admission.enter("second")
    for name in ("a", "b"):
        line.come(name, tenant=name)
    assert line.order() == ["a", "b"]


# -- the places that are kept --------------------------------------------------------------------------------------


class Kept:
    """A program with ten places, all taken by batch calls, of which two more wait; two places may be kept."""

    def __init__(self, rt: Runtime, clock: ManualClock, max_queue: int | None = None) -> None:
        program = rt.start(qa(), name="qa", max_inflight=10, max_queue=max_queue)
        self.rt, self.clock = rt, clock
        self.admission = program._plan.admission
        self.turns: dict[str, Reply[Any]] = {}
        for n in range(10):
            assert self.admission.enter_at_once(f"batch {n}")
        for n in range(10, 13):
            self.come(f"batch {n}", "batch")
        self.end("batch 0")  # one of them has had its turn: they are owed none

    @property
    def instance(self) -> Any:
        return self.rt.registry.arrival(("module", "qa")).get(PATIENCE)

    def come(self, call_id: str, priority: Priority = "interactive") -> bool:
        """Whether the call has a place at once."""
        if self.admission.enter(call_id, urgent=priority == "interactive"):
            return True
        turn = self.turns[call_id] = self.instance.send_request(ModuleInstance.admit, call_id, priority, "")
        self.instance.call(ModuleInstance.let_in)
        return bool(turn.done())

    def end(self, *call_ids: str) -> None:
        for call_id in call_ids:
            assert call_id in self.admission.running
            self.admission.leave(call_id)
            self.instance.call(ModuleInstance.let_in)

    def has_place(self, call_id: str) -> bool:
        return call_id in self.admission.running

    def pass_seconds(self, seconds: float) -> None:
        self.clock.advance(seconds)
        sys.get_state(self.instance)  # by then it has heard of the timer


@pytest.fixture
def kept() -> Iterator[Kept]:
    clock = ManualClock()
    with runtime(clock=clock) as rt:
        yield Kept(rt, clock)


def test_the_place_that_an_interactive_call_had_to_wait_for_is_kept_for_the_next_one(kept: Kept) -> None:
    assert not kept.come("urgent")
    kept.end("batch 1", "urgent")
    assert not kept.has_place("batch 11")
    assert kept.come("urgent too")


def test_places_that_are_kept_are_no_more_than_their_share(kept: Kept) -> None:
    kept.come("urgent")
    kept.end("batch 1", "urgent", "batch 2", "batch 3")
    assert kept.has_place("batch 11")
    assert not kept.has_place("batch 12")


def test_without_interactive_calls_that_wait_all_places_are_open_to_all(kept: Kept) -> None:
    kept.end("batch 1", "batch 2")
    assert len(kept.admission.running) == 10


def test_where_nobody_waits_only_interactive_calls_get_what_is_kept(kept: Kept) -> None:
    kept.come("urgent")
    kept.end("batch 1", "urgent", "batch 2", "batch 3", "batch 4", "batch 5")
    assert kept.admission.enter_at_once("batch 13")
    assert not kept.admission.enter_at_once("batch 14")
    assert kept.come("urgent too")


def test_what_is_kept_is_open_to_all_when_nobody_has_needed_it_for_its_time(kept: Kept) -> None:
    kept.come("urgent")
    kept.end("batch 1", "urgent")
    kept.pass_seconds(59)
    assert not kept.has_place("batch 11")
    kept.pass_seconds(1)
    assert kept.has_place("batch 11")


def test_what_is_kept_is_kept_on_while_it_is_needed(kept: Kept) -> None:
    kept.come("urgent")
    kept.end("batch 1", "urgent")
    kept.pass_seconds(59)
    assert kept.come("urgent too")
    kept.end("urgent too")
    kept.pass_seconds(1)
    assert not kept.has_place("batch 11")
    kept.pass_seconds(60)
    assert kept.has_place("batch 11")


def test_a_flow_of_interactive_calls_leaves_the_others_their_share_of_what_is_kept(kept: Kept) -> None:
    for n in range(10):
        kept.come(f"urgent {n}")
    kept.end("batch 1", "batch 2", "batch 3", "batch 4", "batch 5", "batch 6")
    assert kept.has_place("batch 11")


def test_nothing_is_kept_after_the_actor_that_kept_it(kept: Kept) -> None:
    kept.come("urgent")
    kept.end("batch 1")
    for call_id in ("batch 11", "batch 12"):
        kept.turns[call_id].cancel()
        kept.admission.leave(call_id)
    kept.end("urgent")
    assert not kept.admission.enter_at_once("batch 13")
    dead = kept.instance
    dead.exit(Crash(RuntimeError("killed by the test")))
    dead.down().get(PATIENCE)
    assert kept.instance is not dead
    kept.instance.call(ModuleInstance.let_in)  # it has its name before its `init` has run
    assert kept.admission.enter_at_once("batch 13")


@pytest.mark.parametrize("fairness", [Fairness(interactive_reserve=0.0), Fairness(reserve_seconds=0.0)])
def test_a_runtime_without_a_reserve_keeps_no_places(fairness: Fairness) -> None:
    clock = ManualClock()
    with runtime(clock=clock, guarding=Guarding(fairness=fairness)) as rt:
        kept = Kept(rt, clock)
        kept.come("urgent")
        kept.end("batch 1", "urgent")
        assert kept.has_place("batch 11")


@pytest.fixture
def full() -> Iterator[Kept]:
    """As `kept`, and no more than the three batch calls that wait may do so."""
    clock = ManualClock()
    with runtime(clock=clock) as rt:
        kept = Kept(rt, clock, max_queue=3)
        kept.come("batch 13", "batch")
        with pytest.raises(Busy):
            kept.come("batch 14", "batch")
        yield kept


def test_from_the_first_interactive_call_that_a_full_line_refused_places_are_kept(full: Kept) -> None:
    with pytest.raises(Busy, match="runs 10 calls and 3 wait"):
        full.come("urgent")
    full.end("batch 1", "batch 2")
    assert len(full.admission.running) == 8


def test_a_full_line_keeps_no_interactive_call_from_a_place_that_is_kept_for_it(full: Kept) -> None:
    with pytest.raises(Busy):
        full.come("urgent")
    full.end("batch 1", "batch 2")
    with pytest.raises(Busy):
        full.come("batch 14", "batch")
    assert [full.come(f"urgent {n}") for n in range(2)] == [True, True]
    with pytest.raises(Busy):
        full.come("urgent 2")


# -- calls ---------------------------------------------------------------------------------------------------------


class Noted(Gate):
    """A gate that notes who has come to it."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    async def __call__(self, request: LMRequest) -> str:
        self.order.append(asked(request))
        return await super().__call__(request)


def flooded(rt: Runtime, gate: Noted) -> list[Reply[Any]]:
    """A program with one place, which is taken, ten calls of one tenant that wait, and behind them one of another."""
    program = rt.start(qa(), max_inflight=1)
    replies = [program.submit(question="first")]
    gate.wait_for()
    flood = program.using(tenant="a", priority="batch")
    replies += [flood.submit(question=f"flood {n}") for n in range(10)]
    replies.append(program.using(tenant="b").submit(question="urgent"))
    stand_in_line(program, 11)
    return replies


def stand_in_line(program: Program, count: int) -> None:
    """Wait until so many wait, and the actor has heard of each: they ask it on the programs loop."""
    wait_until(lambda: program.metrics()["queued"] == count)
    passed: Reply[None] = Reply()
    program._host.soon(lambda: passed.set(None))
    passed.get(PATIENCE)
    program._instance.call(ModuleInstance.let_in)  # behind what they asked


def test_a_flood_of_one_tenants_calls_does_not_make_another_wait() -> None:
    gate = Noted()
    with runtime(gate) as rt:
        replies = flooded(rt, gate)
        gate.open()
        for reply in replies:
            reply.get(PATIENCE)
    assert gate.order[:3] == ["first", "urgent", "flood 0"]
