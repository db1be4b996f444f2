"""Properties of deaths, for any way to ask and any way to end: every ask is settled, every death is one restart."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisors.actor import Actor
from supervisors.errors import CallTimeout
from supervisors.exits import Crash, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.telemetry import Telemetry
from supervisors.testing import wait_until
from tests.supervisors.actors import Background

LOST = 15.0
"""Seconds after which an answer counts as lost."""


class Mortal(Actor):
    """Answers at once or late, and crashes."""

    def now(self) -> str:
        return "now"

    def late(self) -> Reply[Any]:
        self.kept = self.defer()
        self.ref.cast(Mortal.settle)
        return self.kept

    def settle(self) -> None:
        self.kept.set("late")

    def crash(self) -> None:
        raise SystemExit(1)

    def on_info(self, message: Any) -> Any:
        return message


class Inline(Mortal):
    inline = True


class OnThread(Mortal):
    dispatcher = "thread"


class OnLoop(Mortal):
    dispatcher = "loop"


KINDS = (Mortal, Inline, OnThread, OnLoop)

Ask = Callable[[Ref[Any]], Any]
ASKS: dict[str, Ask] = {
    "call": lambda ref: ref.within(LOST).call(Mortal.now),
    "request": lambda ref: ref.send_request(Mortal.now).get(LOST),
    "ask": lambda ref: ref.ask("hello", timeout=LOST),
    "await": lambda ref: asyncio.run(ref.within(LOST).acall(Mortal.now)),
    "deferred": lambda ref: ref.within(LOST).call(Mortal.late),
}
End = Callable[[Ref[Any]], object]
ENDS: dict[str, End] = {
    "normal": lambda ref: ref.exit(Normal()),
    "shutdown": lambda ref: ref.exit(Shutdown()),
    "crash": lambda ref: ref.exit(Crash(ValueError("told to"))),
    "raise": lambda ref: ref.cast(Mortal.crash),
    "fence": lambda ref: ref.fence(),
    "stop": lambda ref: ref.stop(block=False),
}


@pytest.fixture(autouse=True, scope="module")
def hectic() -> Iterator[None]:
    """Switch threads every 10 µs, and write no reports."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()
    sys.setswitchinterval(before)


def settled(ask: Ask, ref: Ref[Any], start: threading.Barrier) -> str:
    """How one ask ended."""
    start.wait(LOST)
    try:
        return "answered" if ask(ref) in ("now", "late", "hello") else "with something else"
    except CallTimeout:
        return "lost"
    except pykka.ActorDeadError:
        return "died"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from(sorted(ASKS)), min_size=1, max_size=4),
    st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=2),
)
def test_every_ask_is_settled_that_races_any_ends(cls: type[Mortal], asks: list[str], ends: list[str]) -> None:
    """And who ends it first decides how it ended, for everybody."""
    kernel = Kernel()
    told: list[Any] = []
    try:
        ref = kernel.spawn(cls, on_down=lambda _, why: told.append(why))
        down = ref.down()
        start = threading.Barrier(len(asks) + len(ends))

        def end(name: str) -> None:
            start.wait(LOST)
            ENDS[name](ref)

        threads = [Background(settled, ASKS[name], ref, start) for name in asks]
        enders = [Background(end, name) for name in ends]
        outcomes = {each.value(LOST * 2) for each in threads}
        for each in enders:
            each.value()
        exit = down.get(LOST)  # noqa: A001
        assert outcomes <= {"answered", "died"}
        wait_until(lambda: told)  # there is no order between those who watch
    finally:
        assert kernel.close(5.0)
    assert told == [exit]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(Strategy)),
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(sorted(ENDS))), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_any_deaths_under_load_are_each_one_notice_and_one_restart(
    strategy: Strategy, deaths: list[tuple[str, str]], killers: int
) -> None:
    counts: Counter[str] = Counter()
    telemetry = Telemetry()
    for word in ("terminate", "restart"):
        telemetry.attach("count", ("supervisor", "child", word), lambda event, *_: counts.update([event[-1]]))
    children = [ChildSpec(name, cls) for name, cls in zip("abcd", KINDS, strict=True)]
    with System(telemetry=telemetry, strategy=strategy, max_restarts=10**6, children=children) as system:
        root = system.root.within(LOST)

        def present(name: str) -> Ref[Any] | None:
            ref = root.call(Supervisor.which_child, name).ref
            return ref if isinstance(ref, Ref) else None

        def kill(number: int) -> None:
            for name, way in deaths[number::killers]:
                ref = present(name)
                if ref is not None:
                    ENDS[way](ref)
                    assert settled(ASKS["call"], ref, threading.Barrier(1)) != "lost"

        for each in [Background(kill, number) for number in range(killers)]:
            each.value(LOST * 2)
        wait_until(lambda: all((ref := present(name)) and ref.is_alive() for name in "abcd"), LOST)
        wait_until(lambda: root.call(Supervisor.count_children).active == 4, LOST)
        said = [settled(ASKS["call"], ref, threading.Barrier(1)) for name in "abcd" if (ref := present(name))]

        assert said == ["answered"] * 4
        assert counts["terminate"] == counts["restart"] == system.restarts
        assert len(system.kernel.live()) == 5
