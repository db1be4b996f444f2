"""While a worker is started, the calls of one thread reach it in the order in which they were made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspy_actors.envelope import Envelope
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.client import LMClient
from dspy_actors.lm.guards import LMCall
from dspy_actors.lm.in_turn import InTurn
from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import pool_name, worker_name
from dspy_actors.lm.reach import WorkerFinder
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.work import Answer
from dspy_actors.messages import LMRequest, Message
from supervisors.clock import ManualClock
from supervisors.errors import StartFailed
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry


class Pool:
    """Stands for a pool: its answers come when the test gives them."""

    def __init__(self) -> None:
        self.asked: list[Reply[Any]] = []

    def is_alive(self) -> bool:
        return True

    def send_request(self, method: object, config: object) -> Reply[Any]:
        self.asked.append(Reply())
        return self.asked[-1]


class Worker:
    """Stands for a worker: it has `got` these questions, and before each does what it has `to_do`."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.to_do: dict[str, Callable[[], object]] = {}

    def is_alive(self) -> bool:
        return True

    def send_request(self, method: object, call: LMCall) -> Reply[Answer]:
        said = call.request.messages[0].text
        self.to_do.get(said, lambda: None)()
        self.got.append(said)
        return Reply()


class Service:
    """A client, and what it finds by name."""

    def __init__(self) -> None:
        self.pool, self.worker = Pool(), Worker()
        self.names: dict[object, object] = {pool_name("scripted"): self.pool}
        counters, clock = LMCounters(), ManualClock()
        names: Any = self
        self.finder = WorkerFinder(names, clock)
        self.client = LMClient(self.finder, (), InTurn(counters, Telemetry()), counters, clock)

    def whereis(self, name: object) -> object:
        return self.names.get(name)

    def ask(self, said: str, model: str = "scripted/m") -> Reply[Answer]:
        return self.client.submit(LM(model), LMRequest("m", (Message.of("user", said),)), Envelope("c"))

    def publish(self, model: str = "scripted/m") -> None:
        self.names[worker_name(LM(model).config)] = self.worker


def test_a_call_that_finds_the_worker_lets_those_go_first_who_wait_for_it() -> None:
    service = Service()
    service.ask("first")
    service.ask("second")
    service.publish()
    service.ask("third")
    assert service.worker.got == ["first", "second", "third"]
    for answer in service.pool.asked:
        answer.set(service.worker)
    service.ask("fourth")
    assert service.worker.got == ["first", "second", "third", "fourth"]
    assert not service.finder.waited_for


def test_a_call_that_comes_as_those_are_told_who_wait_comes_after_them() -> None:
    service = Service()
    service.worker.to_do["first"] = lambda: service.ask("third")
    service.ask("first")
    service.ask("second")
    service.publish()
    service.pool.asked[1].set(service.worker)
    assert (service.worker.got, len(service.pool.asked)) == (["first", "second", "third"], 2)
    assert not service.finder.waited_for


def test_who_waits_for_another_worker_keeps_nobody() -> None:
    service = Service()
    service.publish()
    service.ask("first", "scripted/other")
    service.ask("second")
    assert service.worker.got == ["second"]


def test_a_worker_that_does_not_start_is_the_end_of_the_call_that_asked_for_it_alone() -> None:
    service = Service()
    first, second = service.ask("first"), service.ask("second")
    service.pool.asked[0].fail(StartFailed("worker", LMConfigurationError("no such model")))
    assert (type(first.exception()), second.done()) == (LMConfigurationError, False)
    service.pool.asked[1].set(service.worker)
    assert (service.worker.got, service.finder.waited_for) == (["second"], {})
    service.ask("third")
    service.pool.asked[2].fail(StartFailed("worker", LMConfigurationError("no such model")))
    assert not service.finder.waited_for


def test_those_behind_one_who_cannot_be_told_are_told() -> None:
    service = Service()

    def broken() -> None:
        raise RuntimeError("broken")

    service.worker.to_do["first"] = broken
    service.ask("first")
    service.ask("second")
    service.publish()
    with pytest.raises(RuntimeError, match="broken"):
        service.ask("third")
    assert (service.worker.got, service.finder.waited_for) == (["second", "third"], {})
