"""Many deaths of many kinds from many threads: each is one restart, and nobody is left over."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from supervisors.errors import NotFound, SupervisorsError
from supervisors.exits import Crash, Normal
from supervisors.ref import Ref
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.telemetry import Telemetry
from supervisors.testing import Log
from tests.supervisors.workers import InlineWorker, LoopWorker, OwnThreadWorker, Worker, ids, spec

KINDS = [Worker, InlineWorker, LoopWorker, OwnThreadWorker]
ROUNDS = 25


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads take turns far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def killer(root: Ref[Supervisor], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        try:
            ref = root.within(30).call(Supervisor.which_child, rng.choice("abcd")).ref
            if not isinstance(ref, Ref):
                continue
            way = rng.choice(["exit", "crash", "raise", "fence"])
            if way == "exit":
                ref.exit(Normal())
            elif way == "crash":
                ref.exit(Crash(ValueError("told to")))
            elif way == "fence":
                ref.fence()
            else:
                ref.cast(Worker.fail, SystemExit(1))
        except NotFound:
            raise
        except SupervisorsError:
            continue


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.usefixtures("eager")
def test_every_death_is_one_restart(strategy: Strategy) -> None:
    counts: Counter[str] = Counter()
    telemetry = Telemetry()
    for word in ("terminate", "restart"):
        telemetry.attach("count", ("supervisor", "child", word), lambda event, *_: counts.update([event[-1]]))
    children = [spec(name, Log(), cls) for name, cls in zip("abcd", KINDS, strict=True)]
    with System(telemetry=telemetry, strategy=strategy, max_restarts=10**6, children=children) as system:
        threads = [threading.Thread(target=killer, args=(system.root, seed)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        settle(system)
        refs = [line.ref for line in system.root.call(Supervisor.which_children)]
        said = [ref.call(Worker.hello) for ref in refs if isinstance(ref, Ref)]
        deaths, restarts = counts["terminate"], counts["restart"]

        assert said == ["a", "b", "c", "d"]
        assert deaths == restarts == system.restarts
        assert sorted(map(id, system.kernel.live())) == sorted(map(id, [system.root, *refs]))


def settle(system: System) -> None:
    """Wait until the deaths that were caused have been handled: two looks at the children that are the same."""
    before: object = None
    while (now := [line.ref for line in system.root.within(30).call(Supervisor.which_children)]) != before or not all(
        isinstance(ref, Ref) and ref.is_alive() and not ref.snapshot()["queue"] for ref in now
    ):
        before = now
        ids(system.root)
