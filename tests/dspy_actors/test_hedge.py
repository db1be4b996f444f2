"""When a second request may be sent beside a slow one, and which of two is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.errors import LMConfigurationError, LMServerError, LMTransportError
from dspy_actors.lm.hedge import BURST, Hedge, Lane
from dspy_actors.lm.lm import LM
from dspy_actors.lm.race import first_answer
from dspy_actors.modules.predict import lm_from_state
from tests.dspy_actors.programs import PATIENCE


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"percentile": 0.0}, "percentile=0.0"),
        ({"percentile": 1.0}, "percentile=1.0"),
        ({"percentile": float("nan")}, "percentile=nan"),
        ({"percentile": "0.9"}, "percentile='0.9'"),
        ({"share": None}, "share=None"),
        ({"share": 0.0}, "share=0.0"),
        ({"share": 1.5}, "share=1.5"),
        ({"share": float("nan")}, "share=nan"),
        ({"samples": 0}, "samples=0"),
        ({"samples": 1000}, "samples=1000"),
        ({"samples": 1.5}, "samples=1.5"),
        ({"samples": True}, "samples=True"),
    ],
)
def test_a_hedge_that_makes_no_sense_is_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(LMConfigurationError) as caught:
        Hedge(**wrong)
    assert word in str(caught.value)


def test_an_lm_hedges_only_where_it_is_told_to() -> None:
    assert LM("a/1").hedge is None
    assert LM("a/1", hedge=False).hedge is None
    assert LM("a/1", hedge=True).hedge == Hedge()
    assert LM("a/1", hedge=Hedge(share=0.01)).copy(temperature=1.0).hedge == Hedge(share=0.01)
    assert LM("a/1", hedge=True).copy(hedge=False) == LM("a/1")


@pytest.mark.parametrize("wrong", [0.05, "yes", 1])
def test_what_is_no_hedge_is_refused(wrong: Any) -> None:
    with pytest.raises(LMConfigurationError, match=r"True, False or a Hedge"):
        LM("a/1", hedge=wrong)


def test_a_state_file_says_nothing_of_hedging() -> None:
    state = LM("a/1", hedge=True).to_state()
    assert lm_from_state(state or {}) == LM("a/1")


# -- the lane ----------------------------------------------------------------------------------------------------------


def lane(*times: float) -> Lane:
    made = Lane()
    for seconds in times:
        made.learn(seconds)
    return made


def test_nothing_is_sent_twice_before_enough_answers_are_known() -> None:
    hedge = Hedge(samples=20)
    assert lane(*[1.0] * 19).begin(hedge) is None
    assert lane(*[1.0] * 20).begin(hedge) == 1.0


def test_the_wait_is_the_time_that_most_answers_took() -> None:
    times = [float(n) for n in range(1, 101)]
    assert lane(*times).begin(Hedge()) == 95.0
    assert lane(*reversed(times)).begin(Hedge(percentile=0.5)) == 50.0


def test_the_wait_follows_the_last_answers() -> None:
    found = lane(*[1.0] * 300)
    assert found.begin(Hedge()) == 1.0
    for _ in range(256):
        found.learn(3.0)
    assert found.begin(Hedge()) == 3.0


def test_a_request_in_twenty_may_be_sent_twice() -> None:
    found = lane(*[1.0] * 50)
    hedges = 0
    for _ in range(200):
        found.begin(Hedge())
        hedges += found.take()
    assert hedges == 10


@given(st.lists(st.booleans(), max_size=400), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_hedges_are_never_more_than_their_share_of_the_requests(steps: list[bool], share: float) -> None:
    found, begun, hedges = lane(), 0, 0
    for begins in steps:
        if begins:
            found.begin(Hedge(share=share))
            begun += 1
        else:
            hedges += found.take()
        assert hedges <= share * begun + 1e-6


def test_few_hedges_are_saved_up() -> None:
    found = lane()
    for _ in range(10_000):
        found.begin(Hedge())
    assert sum(found.take() for _ in range(1000)) == BURST


# -- the race ----------------------------------------------------------------------------------------------------------


class Runner:
    """One of two requests: answers, fails, or waits until it is told; says what became of it. Takes a while to end."""

    def __init__(self) -> None:
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()
        self.cancelled = self.over = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            return await asyncio.shield(self.done)
        except asyncio.CancelledError:
            self.cancelled = True
            for _ in range(3):
                await asyncio.sleep(0)
            raise
        finally:
            self.over = True


async def _never() -> None:
    await asyncio.Event().wait()


async def _at_once() -> None:
    return


def raced(body: Callable[[Runner, Runner], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(body(Runner(), Runner()), PATIENCE)

    asyncio.run(main())


def begin(one: Runner, other: Runner) -> asyncio.Task[str]:
    return asyncio.create_task(first_answer(one(), _at_once(), lambda: other()))


def test_the_second_is_not_begun_where_the_first_one_is_quick() -> None:
    async def body(one: Runner, other: Runner) -> None:
        one.done.set_result("one")
        assert await first_answer(one(), _never(), lambda: other()) == "one"
        assert not other.begun.is_set()

    raced(body)


def test_where_no_second_may_be_sent_the_first_one_is_waited_for() -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = asyncio.create_task(first_answer(one(), _at_once(), lambda: None))
        await one.begun.wait()
        one.done.set_result("one")
        assert await race == "one"

    raced(body)


@pytest.mark.parametrize("winner", [0, 1])
def test_whoever_answers_first_is_the_answer_and_the_other_is_cancelled(winner: int) -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = begin(one, other)
        await other.begun.wait()
        quick, slow = (one, other) if winner == 0 else (other, one)
        quick.done.set_result("quick")
        assert await race == "quick"
        assert (quick.cancelled, slow.cancelled, slow.over) == (False, True, True)

    raced(body)


@pytest.mark.parametrize("loser", [0, 1])
def test_an_error_of_one_leaves_it_to_the_other(loser: int) -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = begin(one, other)
        await other.begun.wait()
        broken, well = (one, other) if loser == 0 else (other, one)
        broken.done.set_exception(LMServerError("down"))
        await asyncio.sleep(0)
        assert not race.done()
        well.done.set_result("well")
        assert await race == "well"

    raced(body)


def test_where_both_fail_the_first_one_s_error_is_raised() -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = begin(one, other)
        await other.begun.wait()
        other.done.set_exception(LMTransportError("reset"))
        await asyncio.sleep(0)
        one.done.set_exception(LMServerError("down"))
        with pytest.raises(LMServerError):
            await race

    raced(body)


def test_an_error_that_is_none_of_a_model_s_ends_both() -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = begin(one, other)
        await other.begun.wait()
        one.done.set_exception(RuntimeError("a bug"))
        with pytest.raises(RuntimeError):
            await race
        assert other.cancelled
        assert other.over

    raced(body)


def test_cancelling_the_race_cancels_both_and_waits_for_them() -> None:
    async def body(one: Runner, other: Runner) -> None:
        race = begin(one, other)
        await other.begun.wait()
        race.cancel()
        with pytest.raises(asyncio.CancelledError):
            await race
        assert (one.cancelled, other.cancelled) == (True, True)
        assert (one.over, other.over) == (True, True)

    raced(body)
