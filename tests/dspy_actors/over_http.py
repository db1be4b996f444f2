"""What the tests of the way to a model share: its address, its key, calls and how they end, actors to kill."""

from __future__ import annotations

from typing import Any

from dspy_actors.errors import (
    DspyActorsError,
)
from dspy_actors.lm.lm import LM
from dspy_actors.lm.pools import worker_name
from dspy_actors.modules.program import Program
from dspy_actors.runtime import Runtime
from supervisors.actor import Ref
from supervisors.clock import SystemClock
from supervisors.exits import Crash
from supervisors.reply import Reply
from tests.dspy_actors.programs import PATIENCE
from tests.server.client import StubServer

KEY = "sk-marker-0123456789abcdef"
KILLED = Crash(RuntimeError("killed by the test"))
CLOCK = SystemClock()


def lm(stub: StubServer, fault: str = "", **options: Any) -> LM:
    return LM("openai/m", base_url=stub.at(fault) if fault else stub.base_url, api_key=KEY, **options)


def submit(program: Program, count: int, question: str = "q{n}") -> list[Reply[Any]]:
    return [program.submit(question=question.format(n=n)) for n in range(count)]


def ends(replies: list[Reply[Any]]) -> list[str]:
    """How each call ended, `ok` or the kind of its error; fails where one does not end."""
    found = []
    for reply in replies:
        assert reply.wait(PATIENCE, CLOCK), "a call did not end"
        error = reply.exception()
        assert error is None or isinstance(error, DspyActorsError), repr(error)
        found.append("ok" if error is None else error.kind)
    return found


def worker(rt: Runtime) -> Ref[Any]:
    assert rt.settings.lm is not None
    found = rt.registry.whereis(worker_name(rt.settings.lm.config))
    assert found is not None
    return found


def of_class(rt: Runtime, cls: type) -> Ref[Any]:
    return next(ref for ref in rt.system.kernel.live() if ref.snapshot()["class"] == cls.__name__)
