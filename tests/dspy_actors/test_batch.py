"""`Runtime.map`: rows as a stream, a bounded number at a time, in order or as they end, left early without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dspy_actors.batch import map_rows
from dspy_actors.errors import (
    BlockingCall,
    DataError,
    DeadlineExceeded,
    LMConfigurationError,
    LMServerError,
    ShuttingDown,
)
from dspy_actors.example import Example
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest
from dspy_actors.modules.module import Module
from supervisors.dynamic import DynamicSupervisor
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE, Ask, AskLater, Gate, asked, begin, echo, examples, qa, runtime


class Rows:
    """An endless source that counts what was read of it."""

    def __init__(self, until: int = 10**9) -> None:
        self.read = 0
        self.until = until

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.read < self.until:
            self.read += 1
            yield {"question": f"q{self.read - 1}"}


class Held:
    """Answers all but one question at once."""

    def __init__(self, held: str) -> None:
        self.held = held
        self.gate = Gate()

    async def __call__(self, request: LMRequest) -> str:
        return await self.gate(request) if asked(request) == self.held else echo(request)


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_every_row_comes_back_with_its_outcome(make: Any) -> None:
    with runtime() as rt:
        mapped = list(rt.map(make(), Rows(30)))
    assert [each.outcome.unwrap().answer for each in mapped] == [f"q{n}" for n in range(30)]


def test_a_row_comes_back_with_its_place_and_its_fields() -> None:
    with runtime() as rt:
        (mapped,) = rt.map(qa(), [{"question": "blue", "id": 7}], inputs=["question"])
    assert (mapped.index, mapped.row) == (0, {"question": "blue", "id": 7})


@pytest.mark.parametrize("make", [qa, Ask, AskLater])
def test_a_program_is_given_the_inputs_of_an_example_and_no_labels(make: Any) -> None:
    with runtime() as rt:
        mapped = list(rt.map(make(), examples(2)))
    assert [each.outcome.unwrap().answer for each in mapped] == ["q0", "q1"]


def test_an_example_comes_back_whole_and_knows_its_inputs_still() -> None:
    (example,) = examples(1)
    with runtime() as rt:
        (mapped,) = rt.map(qa(), [example])
    assert (mapped.row, mapped.row.input_keys) == (example, {"question"})


def test_inputs_that_are_named_stand_above_those_of_an_example() -> None:
    row = Example(question="blue", hint="a colour").with_inputs("hint")
    with runtime() as rt:
        (mapped,) = rt.map(qa(), [row], inputs=["question"])
    assert mapped.outcome.unwrap().answer == "blue"


def test_an_example_that_does_not_know_its_inputs_is_given_whole() -> None:
    with runtime() as rt:
        (mapped,) = rt.map(qa(), [Example(question="blue")])
    assert mapped.outcome.unwrap().answer == "blue"


def test_examples_whose_rows_ended_in_an_outage_can_be_mapped_again() -> None:
    outage: list[LMServerError] = [LMServerError("down", provider="scripted", model="m")]

    def once_down(request: LMRequest) -> Any:
        return outage.pop() if outage else echo(request)

    with runtime(once_down, lm=LM("scripted/m", num_retries=0)) as rt:
        again = [one.row for one in rt.map(qa(), examples(1)) if one.outcome.fault]
        (mapped,) = rt.map(qa(), again)
    assert mapped.outcome.unwrap().answer == "q0"


def test_no_rows_are_no_outcomes() -> None:
    with runtime() as rt:
        assert list(rt.map(qa(), [])) == []


def test_rows_come_in_order_however_they_end() -> None:
    held = Held("q0")
    with runtime(held) as rt:
        mapping = begin(lambda: [each.index for each in rt.map(qa(), Rows(12), concurrency=4)])
        held.gate.wait_for()
        held.gate.open()
        assert mapping.get(PATIENCE) == list(range(12))


def test_unordered_rows_come_as_they_end() -> None:
    held = Held("q0")
    with runtime(held) as rt:
        mapping = rt.map(qa(), Rows(12), concurrency=4, ordered=False)
        first = [next(mapping).index for _ in range(11)]
        held.gate.open()
        assert (sorted(first), next(mapping).index) == (list(range(1, 12)), 0)
        mapping.close()


def test_no_more_rows_are_under_way_than_were_allowed() -> None:
    gate = Gate()
    with runtime(gate) as rt:
        program = rt.start(qa())
        mapping = begin(lambda: list(rt.map(program, Rows(20), concurrency=3)))
        gate.wait_for(3)
        assert program.metrics()["inflight"] == 3
        gate.open()
        assert len(mapping.get(PATIENCE)) == 20


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_source_is_read_as_far_as_it_is_used(ordered: bool) -> None:
    rows = Rows()
    with runtime() as rt:
        mapping = rt.map(qa(), rows, concurrency=4, ordered=ordered)
        for _ in range(100):
            next(mapping)
        mapping.close()
    assert 100 <= rows.read <= 100 + 4 * 4 + 1


def test_a_slow_row_bounds_how_far_others_run_ahead() -> None:
    held, rows = Held("q0"), Rows()
    with runtime(held) as rt:
        mapping = rt.map(qa(), rows, concurrency=4)
        first = begin(next, mapping)
        held.gate.wait_for()
        wait_until(lambda: rt.numbers().calls == 16)
        assert rows.read == 16
        held.gate.open()
        assert first.get(PATIENCE).index == 0
        mapping.close()


def test_nothing_is_read_before_the_first_row_is_asked_for() -> None:
    rows = Rows()
    with runtime() as rt:
        rt.map(qa(), rows)
    assert rows.read == 0


def test_leaving_early_gives_up_the_rows_under_way() -> None:
    held = Held("q3")
    with runtime(held) as rt:
        program = rt.start(qa())
        for _ in rt.map(program, Rows(), concurrency=4):
            held.gate.wait_for()
            break
        held.gate.wait_for_cancel()
        wait_until(lambda: program.metrics()["inflight"] == 0)


def test_leaving_early_leaves_no_actor_behind() -> None:
    with runtime() as rt:
        for _ in rt.map(qa(), Rows()):
            break
        for name in ("evaluations", "modules"):
            ref = rt.registry.whereis(name)
            assert ref is not None
            wait_until(lambda ref=ref: not ref.call(DynamicSupervisor.which_children))  # type: ignore[misc]


def test_a_row_that_fails_has_its_error_and_the_others_their_answers() -> None:
    def poisoned(request: LMRequest) -> Any:
        return LMServerError("not here", status=501) if asked(request) == "q3" else echo(request)

    with runtime(poisoned) as rt:
        mapped = list(rt.map(qa(), Rows(6)))
    assert [each.outcome.ok for each in mapped] == [True, True, True, False, True, True]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_a_row_that_raises_what_is_no_exception_is_an_error_of_that_row(error: type[BaseException]) -> None:
    class Exits(Module):
        def __init__(self) -> None:
            self.ask = qa()

        async def aforward(self, question: str) -> Any:
            if question == "q2":
                raise error
            return await self.ask.acall(question=question)

    with runtime() as rt:
        mapped = list(rt.map(Exits(), Rows(6)))
    assert [each.index for each in mapped if not each.outcome.ok] == [2]


def test_the_rows_that_the_infrastructure_failed_are_known_and_run_again() -> None:
    down = True

    def answer(request: LMRequest) -> Any:
        fails = down and asked(request) in ("q1", "q2")
        return LMServerError("not here", status=501) if fails else echo(request)

    with runtime(answer) as rt:
        first = list(rt.map(qa(), Rows(4)))
        again = [one.row for one in first if one.outcome.fault]
        down = False
        second = list(rt.map(qa(), again))
    assert [each.outcome.unwrap().answer for each in second] == ["q1", "q2"]


def test_a_row_that_is_no_mapping_is_named() -> None:
    with runtime() as rt, pytest.raises(DataError, match="row 1 is a str"):
        list(rt.map(qa(), [{"question": "blue"}, "red"]))  # type: ignore[list-item]


def test_an_error_of_the_source_ends_the_mapping() -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield {"question": "blue"}
        raise OSError("the file is gone")

    with runtime() as rt, pytest.raises(OSError, match="the file is gone"):
        list(rt.map(qa(), source()))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("last", [ValueError("disk gone"), 5])
def test_rows_that_were_read_before_the_source_broke_are_handed_on(ordered: bool, last: Any) -> None:
    def source() -> Iterator[Any]:
        yield from ({"question": f"q{number}"} for number in range(5))
        if isinstance(last, Exception):
            raise last
        yield last

    with runtime() as rt:
        mapping = rt.map(qa(), source(), concurrency=8, ordered=ordered)
        assert sorted(next(mapping).index for _ in range(5)) == [0, 1, 2, 3, 4]
        with pytest.raises((ValueError, DataError), match=r"disk gone|row 5 is a int"):
            next(mapping)


def test_a_row_whose_time_was_over_before_it_began_is_late_and_no_fault_of_the_program() -> None:
    with runtime(Gate()) as rt:  # it answers nobody: a moment is enough for one that does
        host = rt._running()
        over = map_rows(
            host,
            rt.start(qa()),
            [{"question": "late"}],
            rt.settings,
            1,
            inputs=None,
            ordered=True,
            until=lambda index: host.clock.now() - 1.0,
        )
        (mapped,) = over
    assert isinstance(mapped.outcome.error, DeadlineExceeded)
    assert mapped.outcome.fault is mapped.outcome.error


def test_a_missing_input_is_an_error_of_that_row() -> None:
    with runtime() as rt:
        mapped = list(rt.map(qa(), [{"colour": "blue"}], inputs=["question"]))
    assert "question" in str(mapped[0].outcome.error)


def test_nothing_under_way_is_refused() -> None:
    with runtime() as rt, pytest.raises(LMConfigurationError, match="concurrency=0"):
        rt.map(qa(), [], concurrency=0)


def test_a_mapping_on_a_running_loop_says_what_to_write() -> None:
    async def main() -> None:
        list(rt.map(qa(), Rows(3)))

    with runtime() as rt, pytest.raises(BlockingCall, match="acall"):
        asyncio.run(main())


def test_a_mapping_is_refused_as_a_call_is_once_its_runtime_drains() -> None:
    with runtime() as rt:
        program = rt.start(qa())
        rt.drain(PATIENCE)
        for each in (program, qa()):
            with pytest.raises(ShuttingDown, match="drains"):
                next(rt.map(each, Rows(3)))


def test_every_row_of_a_mapping_ends_when_its_runtime_does() -> None:
    gate = Gate()
    rt = runtime(gate).start_up()
    mapping = begin(lambda: [each.outcome.ok for each in rt.map(rt.start(qa()), Rows(8), concurrency=4)])
    gate.wait_for(4)
    rt.shutdown()
    try:
        assert mapping.get(PATIENCE) == [False] * 8
    except ShuttingDown:
        assert not rt.ready()


def test_settings_given_to_a_handle_hold_for_its_rows() -> None:
    with runtime() as rt:
        program = rt.start(qa()).using(lm="scripted/other")
        (mapped,) = rt.map(program, Rows(1))
    assert mapped.outcome.unwrap().model == "scripted/other"
