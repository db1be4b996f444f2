"""A callable that takes longer to give a key than calls wait for it is asked once, and answers those that come then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from dspy_actors.lm.providers.base import LMConfig
from dspy_actors.lm.providers.keys import HANGS_SECONDS, KeyRing
from dspy_actors.lm.providers.set_aside import SetAside
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.programs import PATIENCE

KEY = "sk-marker-0123456789abcdef"


class Slow:
    """Gives a key once it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.asked += 1
        assert self.let_go.wait(PATIENCE)
        return KEY


def ring(clock: ManualClock, source: Callable[[], str]) -> KeyRing:
    config = LMConfig("openai", "m", None, source)
    return KeyRing(config, "https://here/v1", SetAside(clock.now), variable=None, required=True)


async def give_up(keys: KeyRing, times: int) -> None:
    """So many calls, one after the other, that do not wait long enough."""
    for _ in range(times):
        call = asyncio.create_task(keys.current())
        for _ in range(5):  # until it waits
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_calls_that_are_given_up_do_not_ask_a_slow_callable_each() -> None:
    """Each left a thread behind, and no call ever had a key."""
    slow = Slow()

    async def ask() -> str:
        keys = ring(ManualClock(), slow)
        await give_up(keys, 20)
        slow.let_go.set()
        key = await keys.current()
        assert key is not None
        return key.reveal()

    assert asyncio.run(ask()) == KEY
    assert slow.asked == 1


def test_a_callable_that_hangs_is_asked_once_more_after_a_while() -> None:
    slow, clock = Slow(), ManualClock()

    async def ask() -> None:
        keys = ring(clock, slow)
        await give_up(keys, 3)
        clock.advance(HANGS_SECONDS)
        await give_up(keys, 3)
        slow.let_go.set()
        assert await keys.current() is not None

    asyncio.run(ask())
    wait_until(lambda: slow.asked == 2)


class DownAtFirst(Slow):
    """Has no key when it is asked for the first time."""

    def __call__(self) -> str:
        key = super().__call__()
        if self.asked == 1:
            msg = "the vault is down"
            raise OSError(msg)
        return key


async def heard(keys: KeyRing) -> None:
    """Return once the callable that was asked has answered."""
    asking = keys._asking
    assert asking is not None
    await asking


def test_a_call_does_not_fail_by_what_a_callable_raised_long_before_it_while_nobody_waited() -> None:
    down, clock = DownAtFirst(), ManualClock()

    async def ask() -> str:
        keys = ring(clock, down)
        await give_up(keys, 1)
        down.let_go.set()
        await heard(keys)
        clock.advance(HANGS_SECONDS)
        key = await keys.current()
        assert key is not None
        return key.reveal()

    assert asyncio.run(ask()) == KEY
