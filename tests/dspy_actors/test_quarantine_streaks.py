"""An input or everybody: where different inputs fail and none succeeds, no input is blamed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dspy_actors import Module, Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.quarantine.names import Scope
from dspy_actors.quarantine.streaks import GENERAL, Streaks
from supervisors.clock import ManualClock
from tests.dspy_actors.drilling import guarded
from tests.dspy_actors.programs import qa
from tests.dspy_actors.quarantining import Sick, filtered, kinds
from tests.dspy_actors.test_quarantine_state import SCOPE, Ward
from tests.server.client import StubServer

NAMES = [bytes([number]) * 4 for number in range(5)]
ELSEWHERE: Scope = ("tenant", "another program", b"v1")
NONSENSE = ["no_content", "text=<html>It works!</html>", "finish=content_filter,no_content", "status=400"]
QUESTIONS = [f"q{number}" for number in range(6)]


@pytest.fixture
def ward() -> Ward:
    return Ward()


def held(ward: Ward) -> list[bytes]:
    return [bytes.fromhex(entry.input_hash) for entry in ward.quarantine.entries()]


# -- the rule -----------------------------------------------------------------------------------------------------


def test_two_inputs_that_fail_are_both_set_aside(ward: Ward) -> None:
    for name in NAMES[:2]:
        ward.fail(3, name=name)
    assert held(ward) == NAMES[:2]


def test_a_third_that_fails_without_a_success_between_is_not_and_frees_the_two(ward: Ward) -> None:
    for name in NAMES[:3]:
        ward.fail(3, name=name)
    assert held(ward) == []
    assert ward.steps() == [("entered", ""), ("entered", ""), ("released", "general"), ("released", "general")]


def test_nor_is_any_where_all_take_turns(ward: Ward) -> None:
    for _ in range(5):
        for name in NAMES:
            ward.fail(1, name=name)
    assert held(ward) == []
    assert ward.quarantine.stats().watched == 0


def test_a_success_between_them_clears_the_model(ward: Ward) -> None:
    for name in NAMES:
        ward.fail(3, name=name)
        ward.succeeds()
    assert held(ward) == NAMES


def test_faults_of_everybodys_bad_day_count_for_nothing_afterwards(ward: Ward) -> None:
    for name in NAMES[:3] * 3:
        ward.fail(1, name=name)
    ward.succeeds()
    ward.fail(2, name=NAMES[0])
    assert held(ward) == []
    ward.fail(1, name=NAMES[0])
    assert held(ward) == [NAMES[0]]


def test_what_was_set_aside_before_the_last_success_stays_so(ward: Ward) -> None:
    ward.fail(3, name=NAMES[0])
    ward.succeeds()
    for name in NAMES[1:4]:
        ward.fail(3, name=name)
    assert held(ward) == [NAMES[0]]


def test_a_straggler_of_an_entry_from_before_does_not_free_it(ward: Ward) -> None:
    """A call that began before its inputs were set aside fails in the streak too."""
    ward.fail(3, name=NAMES[0])
    ward.succeeds()
    for name in NAMES[:3]:
        ward.fail(1, name=name)
    assert held(ward) == [NAMES[0]]


def test_what_another_process_has_set_aside_is_not_freed_for_a_bad_day_here(ward: Ward) -> None:
    other = Ward()
    other.fail(3, name=NAMES[0])
    ward.fail(1, name=NAMES[1])
    ward.quarantine.adopt(other.quarantine.entries()[0])
    for name in (NAMES[0], NAMES[2]):
        ward.fail(1, name=name)
    assert held(ward) == [NAMES[0]]


def test_a_probe_that_fails_with_everybody_says_nothing(ward: Ward) -> None:
    lease = ward.due()
    ward.succeeds()
    for name in NAMES[:2]:
        ward.fail(1, name=name)
    ward.fail(1, lease=lease)
    assert [change for change in ward.steps() if change[0] == "renewed"] == []
    again = ward.lets_through()
    assert again not in (None, 0, lease)


def test_the_probe_of_one_is_not_given_back_for_the_fault_of_another(ward: Ward) -> None:
    assert ward.due()
    ward.succeeds()
    ward.fail(1)  # it began before its inputs were set aside
    for name in NAMES[:4]:
        ward.fail(1, name=name)
    assert ward.lets_through() is None


def test_a_streak_is_one_programs_own(ward: Ward) -> None:
    ward.fail(1, name=NAMES[0])
    ward.fail(1, name=NAMES[1])
    ward.fail(3, name=NAMES[2], scope=ELSEWHERE)
    assert held(ward) == [NAMES[2]]
    ward.quarantine.answered(ELSEWHERE)
    assert set(ward.quarantine.streaks.scopes) == {SCOPE}


def test_old_faults_make_no_streak() -> None:
    ward = Ward(fault_seconds=100.0)
    ward.fail(1, name=NAMES[0])
    ward.clock.advance(50.0)
    ward.fail(1, name=NAMES[1])
    ward.clock.advance(50.0)
    ward.fail(3, name=NAMES[2])
    assert held(ward) == [NAMES[2]]


def test_a_sweep_forgets_old_streaks() -> None:
    ward = Ward(fault_seconds=100.0)
    ward.fail(1, name=NAMES[0])
    ward.clock.advance(98.0)
    ward.quarantine.sweep()
    assert set(ward.quarantine.streaks.scopes) == {SCOPE}
    ward.clock.advance(1.0)
    ward.quarantine.sweep()
    assert ward.quarantine.streaks.scopes == {}


def test_streaks_are_bounded() -> None:
    streaks = Streaks(room=3, seconds=100.0)
    scopes: list[Scope] = [("t", f"p{number}", b"v") for number in range(5)]
    for scope in scopes:
        streaks.fail(scope, NAMES[0], 0.0)
    assert list(streaks.scopes) == scopes[2:]
    for number in range(100):
        streaks.fail(scopes[4], number.to_bytes(4, "big"), 1.0)
    assert streaks.names(scopes[4]) == [number.to_bytes(4, "big") for number in range(100 - GENERAL, 100)]


# -- programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("times", [1, 3])
def test_a_server_that_answers_nonsense_to_everybody_sets_nothing_aside(
    stub: StubServer, nonsense: str, times: int
) -> None:
    """Each input is asked for once in turn, or three times running; all are welcome once the server is well."""
    with guarded(stub, lm={"cache": False}, parse_retries=0) as rt:
        program = rt.start(qa(), quarantine=True)
        stub.control(fault=nonsense)
        seen = Counter(kind for _ in range(4) for each in QUESTIONS for kind in kinds(program, each, times))
        stub.reset()
        assert rt.quarantine.list() == []
        after = {kinds(program, each)[0] for each in QUESTIONS}
    assert seen["ok"] == 0
    assert seen["quarantined"] <= 3 * GENERAL  # of the first two, before the third had failed
    assert after == {"ok"}


def test_three_inputs_that_break_things_among_good_ones_are_set_aside() -> None:
    sick = Sick(a=filtered(), b=filtered(), c=filtered())
    with sick.runtime() as rt:
        program = rt.start(qa())
        for _ in range(3):
            for question in ("a", "good", "b", "fine", "c", "well"):
                kinds(program, question)
        assert [kinds(program, question)[0] for question in "abc"] == ["quarantined"] * 3


def test_an_answer_from_the_cache_says_nothing_of_the_model() -> None:
    sick = Sick(a=filtered(), b=filtered(), c=filtered())
    with sick.runtime(lm=LM("scripted/m", num_retries=0)) as rt:
        program = rt.start(qa())
        kinds(program, "good")
        for question in "abc":
            for _ in range(3):
                kinds(program, question)
                assert kinds(program, "good") == ["ok"]
        assert rt.quarantine.list() == []
    assert sick.sent == 4  # what was refused is remembered too


@pytest.mark.parametrize("cached", [False, True])
def test_nor_does_a_result_that_was_kept(cached: bool) -> None:
    sick = Sick(a=filtered(), b=filtered(), c=filtered())
    with sick.runtime() as rt:
        program = rt.start(qa(), cached=cached)
        kinds(program, "good")
        for question in "abc":
            for _ in range(3):
                kinds(program, question)
                assert kinds(program, "good") == ["ok"]
        assert len(rt.quarantine.list()) == (0 if cached else 3)


class Halves(Module):
    """Code of a user's own that asks no model."""

    def forward(self, number: int) -> Prediction:
        return Prediction(half=100 // number)


def test_the_success_of_a_program_that_asks_no_model_counts() -> None:
    with Sick().runtime(ManualClock()) as rt:
        program = rt.start(Halves())
        ends: list[Any] = []
        for number in ("0", 0, 0.0):
            for _ in range(3):
                ends += [program.safe_call(number=number).ok, program.safe_call(number=5).ok]
        assert ends == [False, True] * 9
        assert len(rt.quarantine.list()) == 3
