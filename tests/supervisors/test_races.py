"""Traffic against deaths, with the interpreter switching threads a hundred times as often: no ask may be lost."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest

from supervisors.actor import Actor
from supervisors.errors import ActorDied, CallTimeout
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from tests.supervisors.actors import Background

ASKS = 25_000  # of each kind of actor; four kinds
ASKERS = 4
LOST = 15.0  # seconds after which an answer counts as lost


@pytest.fixture(autouse=True)
def hectic() -> Iterator[None]:
    """Switch threads every 10 µs."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Echo(Actor):
    """Answers with the same; knows when it is run twice at once."""

    def init(self) -> None:
        self.inside = False

    def echo(self, value: int) -> int:
        assert not self.inside, "two threads run one actor"
        self.inside = True
        self.inside = False
        return value

    def crash(self) -> None:
        raise SystemExit

    def on_info(self, message: Any) -> Any:
        return message


class EchoInline(Echo):
    inline = True


class EchoThread(Echo):
    dispatcher = "thread"


class EchoLoop(Echo):
    dispatcher = "loop"


KINDS = (Echo, EchoInline, EchoThread, EchoLoop)


class Race:
    """Askers and a killer over one place, in which an actor always stands."""

    def __init__(self, kernel: Kernel, cls: type[Echo]) -> None:
        self.kernel, self.cls = kernel, cls
        self.answered = self.died = self.deaths = self.wrong = 0
        self.lost: list[BaseException] = []
        self.tickets = itertools.count()
        self.ref = self.spawn()

    def spawn(self) -> Ref[Echo]:
        ref = self.kernel.spawn(self.cls)
        assert isinstance(ref, Ref)
        return ref

    def ask(self) -> None:
        answered = died = wrong = 0
        while (ticket := next(self.tickets)) < ASKS:
            while not (ref := self.ref).is_alive():
                threading.Event().wait(1e-5)
            try:
                if ticket % 4 == 0:
                    value = ref.ask(ticket, timeout=LOST)  # pykka's own
                elif ticket % 4 == 1:
                    value = ref.send_request(Echo.echo, ticket).get(LOST)
                else:
                    value = ref.within(LOST).call(Echo.echo, ticket)
                answered += 1
                wrong += value != ticket
            except pykka.ActorDeadError:
                died += 1
            except (CallTimeout, AssertionError) as error:
                self.lost.append(error)
        self.answered += answered  # askers end one after the other as far as the GIL is concerned
        self.died += died
        self.wrong += wrong

    def kill(self) -> None:
        for number in itertools.count():
            if next(self.tickets) >= ASKS:
                return
            threading.Event().wait(number % 5 * 1e-4)
            ref = self.ref
            self.ends(ref)[number % 4]()
            ref.down().get(LOST)
            self.deaths += 1
            self.ref = self.spawn()

    def ends(self, ref: Ref[Echo]) -> tuple[Callable[[], object], ...]:
        return (
            lambda: ref.exit(Shutdown()),
            lambda: ref.cast(Echo.crash),
            ref.fence,
            lambda: ref.stop(block=False),
        )


@pytest.mark.parametrize("cls", KINDS)
def test_no_ask_is_lost_that_races_a_death(kernel: Kernel, cls: type[Echo]) -> None:
    race = Race(kernel, cls)
    threads = [Background(race.ask) for _ in range(ASKERS)] + [Background(race.kill)]
    for each in threads:
        each.value(60)
    assert race.lost == []
    assert race.wrong == 0
    assert race.deaths > 50
    assert race.answered + race.died + race.deaths >= ASKS


def test_no_await_is_lost_that_races_a_death(kernel: Kernel) -> None:
    races = [Race(kernel, cls) for cls in KINDS]
    ended = []

    async def ask(race: Race) -> None:
        for ticket in range(1000):
            try:
                assert await race.ref.within(LOST).acall(Echo.echo, ticket) == ticket
            except ActorDied:
                pass
        ended.append(race)

    async def main() -> None:
        await asyncio.gather(*(ask(race) for race in races))

    asking = Background(asyncio.run, main())
    for number in itertools.count():
        race = races[number % 4]
        race.ends(race.ref)[number // 4 % 4]()
        race.ref.down().get(LOST)
        race.ref = race.spawn()
        if not asking.thread.is_alive():
            break
    asking.value()
    assert len(ended) == 4


@pytest.mark.parametrize("cls", KINDS)
def test_two_quiet_callers_are_always_answered(kernel: Kernel, cls: type[Echo]) -> None:
    """Nothing else is going on that could cover up a lost wake-up by waking the actor for another reason."""
    ref = kernel.spawn(cls)
    until = kernel.clock.now() + 0.6

    def caller() -> int:
        asks = 0
        while kernel.clock.now() < until:
            assert ref.within(3.0).call(Echo.echo, asks) == asks  # type: ignore[union-attr]
            asks += 1
        return asks

    assert all(each.value() > 50 for each in [Background(caller) for _ in range(2)])


def test_deaths_and_notices_are_equal_in_number(kernel: Kernel) -> None:
    """Three killers at once end the same actors; each death is announced once."""
    seen: list[Any] = []
    for number in range(300):
        cls = KINDS[number % 4]
        ref = kernel.spawn(cls, on_down=lambda ref, _: seen.append(ref))
        assert isinstance(ref, Ref)
        race = Background(ref.fence), Background(ref.cast, Echo.crash), Background(ref.exit, Shutdown())
        for each in race:
            each.value()
        ref.down().get(LOST)
    assert len(seen) == len(set(map(id, seen))) == 300


def test_a_reply_has_one_winner(kernel: Kernel) -> None:
    from supervisors.reply import Reply

    for _ in range(300):
        reply: Reply[int] = Reply()
        start = threading.Barrier(3)

        def settle(n: int, reply: Reply[int] = reply, start: threading.Barrier = start) -> bool:
            start.wait()
            return reply.set(n)

        settling = [Background(settle, n) for n in range(2)]
        start.wait()
        wins = [each.value() for each in settling]
        assert sum(wins) == 1
        assert reply.get(0) == wins.index(True)
