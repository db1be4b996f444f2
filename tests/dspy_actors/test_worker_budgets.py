"""Each worker has restarts of its own: one that dies over and over ends no call of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import WORKER_RESTARTS, ProviderPool, pool_name
from dspy_actors.lm.worker import LMWorker
from dspy_actors.messages import LMRequest
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.actor import Ref
from supervisors.clock import ManualClock
from supervisors.reply import Reply
from supervisors.testing import wait_until
from tests.dspy_actors.over_http import KILLED
from tests.dspy_actors.programs import PATIENCE, Gate, echo, qa, runtime

HEALTHY = 1.0
"""Seconds a worker lives before its next restart is at once again; 30 such lives are within one window."""

GOOD, BAD = LM("scripted/good", cache=False), LM("scripted/bad", cache=False)


class Service:
    """A runtime in which the good model holds its answers, and any other answers at once."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.clock = ManualClock()
        self.rt: Runtime = runtime(self._answer, clock=self.clock)
        self.rt.start_up()
        self.program: Program = self.rt.start(qa())

    async def _answer(self, request: LMRequest) -> str:
        return await self.gate(request) if request.model == GOOD.model else echo(request)

    def call(self, lm: LM) -> str:
        answer: str = self.program.using(lm=lm)(question="hello").answer
        return answer

    def hold(self) -> Reply[Any]:
        """A call that the good model has and does not answer yet."""
        reply = self.program.using(lm=GOOD).submit(question="hello")
        self.gate.wait_for()
        return reply

    def child(self, lm: LM) -> object:
        """What the pool has for the worker of `lm`: its ref, a word while it has none, or None for no such child."""
        pool = self.rt.registry.whereis(pool_name("scripted"))
        assert pool is not None
        children = pool.within(None).call(ProviderPool.which_children)
        return next((child.ref for child in children if child.id == lm.name), None)

    def standing(self, lm: LM, not_this: object = None) -> Ref[LMWorker]:
        """The worker of `lm`, once its pool knows that it stands."""
        wait_until(lambda: isinstance(self.child(lm), Ref) and self.child(lm) != not_this)
        found = self.child(lm)
        assert isinstance(found, Ref)
        return found

    def crash(self, lm: LM, *, given_up: bool = False) -> None:
        """The worker of `lm` dies after a healthy life, is started again or, at last, given up."""
        old = self.standing(lm)
        self.clock.advance(HEALTHY)
        old.exit(KILLED)
        if given_up:
            wait_until(lambda: self.child(lm) is None)
        else:
            self.standing(lm, not_this=old)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.rt.shutdown()


def test_thirty_crashes_of_one_worker_leave_a_call_on_its_neighbour_alone(service: Service) -> None:
    held = service.hold()
    neighbour = service.standing(GOOD)
    for number in range(30):
        if number in (0, WORKER_RESTARTS + 1):
            service.call(BAD)
        service.crash(BAD, given_up=number == WORKER_RESTARTS)
    assert (service.child(GOOD), held.done()) == (neighbour, False)
    service.gate.open()
    assert held.get(PATIENCE).answer == "hello"
    assert service.rt.numbers().resubmits == 0


def test_single_crashes_of_thirty_workers_leave_a_call_on_their_neighbour_alone(service: Service) -> None:
    held = service.hold()
    neighbour = service.standing(GOOD)
    for number in range(30):
        bad = LM(f"scripted/bad{number}", cache=False)
        service.call(bad)
        service.crash(bad)
    assert (service.child(GOOD), held.done()) == (neighbour, False)
    service.gate.open()
    assert held.get(PATIENCE).answer == "hello"
    assert service.rt.numbers().resubmits == 0


def test_a_worker_that_was_given_up_stands_again_for_the_next_call(service: Service) -> None:
    service.call(BAD)
    for _ in range(WORKER_RESTARTS):
        service.crash(BAD)
    service.crash(BAD, given_up=True)
    assert service.call(BAD) == "hello"
    service.standing(BAD)
